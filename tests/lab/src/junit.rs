//! The results as a JUnit file, for other people's CI.

use crate::results::{GuestResult, Verdict};
use std::fmt::Write;

pub(crate) fn write(results: &[GuestResult]) -> String {
    let mut text =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"kernel lab\">\n");
    for result in results {
        // Writing to a string cannot fail.
        suite(&mut text, result).expect("writing to a string");
    }
    text + "</testsuites>\n"
}

fn suite(text: &mut String, result: &GuestResult) -> std::fmt::Result {
    let counts = result.counts();
    let errors = usize::from(result.trouble.is_some());
    let tests = result.cases.len() + errors;
    let (name, took) = (escape(result.guest), result.took.as_secs_f64());
    let (failures, skipped) = (counts.failed, counts.skipped);
    writeln!(
        text,
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" \
         skipped=\"{skipped}\" time=\"{took:.3}\">"
    )?;
    for case in &result.cases {
        let took = case.took.as_secs_f64();
        let open =
            format!("    <testcase classname=\"{name}\" name=\"{}\" time=\"{took:.3}\"", escape(&case.name));
        match &case.verdict {
            Verdict::Passed => writeln!(text, "{open}/>")?,
            // As Maven writes them, and others read.
            Verdict::Unsteady(why) => {
                writeln!(text, "{open}><flakyFailure>{}</flakyFailure></testcase>", escape(why))?
            }
            Verdict::Failed(why) => writeln!(text, "{open}><failure>{}</failure></testcase>", escape(why))?,
            Verdict::Skipped(why) => {
                writeln!(text, "{open}><skipped message=\"{}\"/></testcase>", escape(why))?
            }
        }
    }
    if let Some(trouble) = &result.trouble {
        let trouble = escape(trouble);
        writeln!(
            text,
            "    <testcase classname=\"{name}\" name=\"(guest)\"><error>{trouble}</error></testcase>"
        )?;
    }
    writeln!(text, "  </testsuite>")
}

/// XML 1.0 has no way to write most control characters at all.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(letter),
            letter if letter.is_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let mut result = GuestResult::new("a<b");
        result.report("fail\tx\t5\t</failure>&\u{1b}[0m\"").expect("a line");
        let text = write(&[result]);
        assert!(text.contains("<failure>&lt;/failure&gt;&amp;\u{fffd}[0m&quot;</failure>"), "{text}");
        assert!(text.contains("name=\"a&lt;b\""), "{text}");
    }
}
