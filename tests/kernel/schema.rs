//! As much of JSON Schema as a report's schema uses: `type`, `enum`, `const`, `minimum`, `maximum`, `properties`,
//! `required`, `additionalProperties` and `items`. Stricter than the standard in one thing: a field that the schema
//! does not name is wrong.

use serde_json::Value;

/// What is wrong with `value`, each with its place.
pub(crate) fn violations(value: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(value, schema, "report", &mut found);
    found
}

fn check(value: &Value, schema: &Value, place: &str, found: &mut Vec<String>) {
    let mut wrong = |what: String| found.push(format!("{place}: {what}: {value}"));
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{place}: the schema says {other}"),
    };
    match &schema["type"] {
        Value::String(name) if !is(name) => wrong(format!("no {name}")),
        Value::Array(names) if !names.iter().any(|name| is(name.as_str().expect("a name"))) => {
            wrong(format!("none of {names:?}"));
        }
        _ => {}
    }
    if let Value::Array(values) = &schema["enum"]
        && !values.contains(value)
    {
        wrong(format!("none of {values:?}"));
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        wrong(format!("not {}", schema["const"]));
    }
    if let (Some(number), Some(least)) = (value.as_f64(), schema["minimum"].as_f64())
        && number < least
    {
        wrong(format!("less than {least}"));
    }
    if let (Some(number), Some(most)) = (value.as_f64(), schema["maximum"].as_f64())
        && number > most
    {
        wrong(format!("more than {most}"));
    }
    if let (Some(items), true) = (value.as_array(), schema["items"].is_object()) {
        for (at, item) in items.iter().enumerate() {
            check(item, &schema["items"], &format!("{place}[{at}]"), found);
        }
    }
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            found.push(format!("{place}.{name} is not there"));
        }
    }
    for (name, field) in fields {
        let (own, other) = (&schema["properties"][name], &schema["additionalProperties"]);
        match (own.is_object(), other.is_object()) {
            (true, _) => check(field, own, &format!("{place}.{name}"), found),
            (false, true) => check(field, other, &format!("{place}.{name}"), found),
            (false, false) => found.push(format!("{place}.{name} is not in the schema")),
        }
    }
}
