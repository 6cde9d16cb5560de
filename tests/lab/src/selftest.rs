//! The lab itself, tested: guests that break are reported, and limits that do not hold turn it red where they
//! should and nowhere else. `cargo xtask lab --selftest`.

use crate::{
    Result,
    guests::Guest,
    lab::{Order, run},
    prepare::{Places, make},
    results::Verdict,
    shell::capture,
};
use std::{fs, process::Command, time::Duration};

/// A way to break a guest: (what, sabotage in tests/kernel/sabotage.rs, words for its kernel, what must be in the
/// report of it).
type Wreck = (&'static str, &'static str, &'static str, &'static str);

const WRECKS: &[Wreck] = &[
    ("a test crashes init", "init", "", "Attempted to kill init"),
    ("a test never ends", "hang", "", "still running after"),
    ("a test fills the memory", "fill", "", "status 137"),
    // busybox's cat waits for input that never comes
    ("a guest prints nothing", "hang", "rdinit=/bin/cat", "still running after"),
    ("a guest has no init", "hang", "rdinit=/nothing init=/nothing", "Kernel panic"),
];

/// A limit broken in the source.
struct Mutation {
    file: &'static str,
    from: &'static str,
    to: &'static str,
    /// The case that must notice.
    case: &'static str,
    red: &'static [&'static str],
    green: &'static [&'static str],
}

const MUTATIONS: &[Mutation] = &[
    Mutation {
        file: "src/limits.rs",
        from: "one(\"memory.max\", v2_or_max(ask.size(ask.value)?))",
        to: "one(\"memory.max\", v2_or_max(ask.size(ask.value)?.map(|size| size * 8)))",
        case: "basics::mem",
        red: &["6.1-v2", "6.12-v2"],
        green: &["6.1-v1", "6.1-mixed"],
    },
    Mutation {
        file: "src/limits.rs",
        from: "line(\"cpu.cfs_quota_us\", quota_us(ask)?)",
        to: "line(\"cpu.cfs_quota_us\", 80_000)",
        case: "basics::cpu",
        red: &["6.1-v1", "6.1-hybrid"],
        green: &["6.1-v2", "6.1-mixed"],
    },
];

pub(crate) fn main(places: &Places) -> Result<bool> {
    let mut findings = Vec::new();
    for wreck in WRECKS {
        findings.push((wreck.0.to_owned(), wrecked(places, wreck)));
    }
    for mutation in MUTATIONS {
        findings.push((format!("{} becomes {}", mutation.from, mutation.to), mutated(places, mutation)));
    }
    println!();
    for (what, finding) in &findings {
        match finding {
            Ok(()) => println!("ok: {what}"),
            Err(why) => println!("FAILED: {what}: {why}"),
        }
    }
    let failed = findings.iter().filter(|(_, finding)| finding.is_err()).count();
    println!("{} passed, {failed} failed, 0 skipped", findings.len() - failed);
    Ok(failed == 0)
}

/// The guest must be reported as failed, with its last output, and so must the case that did it.
fn wrecked(places: &Places, (what, sabotage, words, sign): &Wreck) -> Result<()> {
    println!("\nselftest: {what}");
    let order = Order {
        all: true,
        guests: vec![Guest::named("6.1-v2").ok_or("no such guest")?],
        jobs: 1,
        time_limit: Duration::from_secs(if *sabotage == "hang" { 20 } else { 120 }),
        words,
        environment: vec![("RCON_SABOTAGE".to_owned(), (*sabotage).to_owned())],
        filter: None,
        bench: false,
    };
    let results = run(places, &order)?;
    let [result] = &results[..] else { return Err("no result".to_owned()) };
    let Some(trouble) = &result.trouble else { return Err("the guest was not reported".to_owned()) };
    if !trouble.contains(sign) {
        return Err(format!("the report does not say {sign:?}"));
    }
    if words.is_empty() {
        let case = format!("sabotage::{sabotage}");
        if result.verdict("sabotage::before") != Some(&Verdict::Passed) {
            return Err("the case before it is not reported as passed".to_owned());
        }
        if !matches!(result.verdict(&case), Some(Verdict::Failed(_))) {
            return Err(format!("{case} is not reported as failed"));
        }
    }
    Ok(())
}

/// Builds a copy of the project with a broken limit and runs the basic cases on it.
fn mutated(places: &Places, mutation: &Mutation) -> Result<()> {
    let Mutation { file, from, to, case, red, green } = mutation;
    println!("\nselftest: {from} becomes {to}");
    let copy = places.lab.join("mutant");
    fs::remove_dir_all(copy.join("project")).ok();
    make(&copy.join("project"))?;
    for part in [
        ".cargo",
        "Cargo.toml",
        "Cargo.lock",
        "build.rs",
        "link.txt",
        "src",
        "tests",
        "benches",
        "completions",
        "README.md",
    ] {
        if places.project.join(part).exists() {
            capture(Command::new("cp").arg("-a").arg(places.project.join(part)).arg(copy.join("project")))?;
        }
    }
    let path = copy.join("project").join(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if text.matches(from).count() != 1 {
        return Err(format!("{file} has no single {from:?} any more: adapt {}", file!()));
    }
    fs::write(&path, text.replace(from, to)).map_err(|error| format!("{}: {error}", path.display()))?;

    // What it depends on is built already; its own results stay apart from the real ones.
    let mutant = Places {
        project: copy.join("project"),
        target: copy.join("target"),
        build: places.build.clone(),
        lab: places.lab.clone(),
    };
    let order = Order {
        guests: red.iter().chain(*green).filter_map(|name| Guest::named(name)).collect(),
        jobs: 2,
        time_limit: Duration::from_secs(300),
        filter: Some(case),
        ..Order::default()
    };
    let results = run(&mutant, &order)?;
    let failed = |name: &&&str| results.iter().any(|result| result.guest == **name && result.failed());
    let pale: Vec<_> = red.iter().filter(|name| !failed(name)).collect();
    let flushed: Vec<_> = green.iter().filter(failed).collect();
    let absent = order.guests.len() != results.len() || results.iter().any(|result| result.cases.is_empty());
    match (absent, &pale[..], &flushed[..]) {
        (false, [], []) => Ok(()),
        (true, ..) => Err("some guests did not run".to_owned()),
        (_, pale, flushed) => Err(format!("should be red: {pale:?}; should be green: {flushed:?}")),
    }
}
