//! What is planned on machines that are not this one: recorded trees of `/proc` and `/sys` (tests/hosts), and beside
//! each what `--explain` says there. `RCON_BLESS=1 cargo test --test explain` writes it anew: read the difference.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use rcon::cli::{self, Args, Format, Request};
use rcon::host::Host;
use rcon::{explain, plan};

const LINES: [&str; 8] = [
    "-- make",
    "--cpu 30% --mem 256M --pids 64 -- make",
    "--cpu-weight 200 --mem 25% --swap 0 -- make -j 4",
    "--cpuset 0-1 --io-write 8:1:10M --io-read-iops 8:0:100 -- make",
    "--mem-high 200M --pids 64 -- make",
    "--io-weight 50 -- make",
    "--group batch --pids 10 -- make",
    "--group batch -- make",
];

fn args(line: &str) -> Args {
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    match cli::parse(&words, false) {
        Ok(Request::Run(args)) => *args,
        other => panic!("{line}: {other:?}"),
    }
}

/// The plan, and in front of it why a run would be refused.
fn told(root: &Path, line: &str) -> String {
    let args = Args { explain: Some(Format::Text), ..args(line) };
    let mut out = format!("$ rcon {line}\n");
    let host = match Host::read(root, &args) {
        // What differs from run to run, and with who runs it.
        Ok(host) => Host { pid: 4321, nonce: 0xabc << 10, weaker: None, ..host },
        Err(error) => return format!("{out}{error}\n\n"),
    };
    if let Err(error) = plan::plan(&args, &host) {
        writeln!(out, "{error}").expect("a string");
    }
    let lenient = Args { best_effort: true, ..args };
    match plan::plan(&lenient, &host) {
        Ok(plan) => out + &explain::text(&plan, &host) + "\n",
        Err(error) => format!("{out}even so: {error}\n\n"),
    }
}

#[test]
fn plans_for_recorded_machines() {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let mut names: Vec<_> =
        fs::read_dir(&hosts).expect("tests/hosts").map(|entry| entry.expect("entry").path()).collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    let mut wrong = Vec::new();
    for host in names {
        let now: String = LINES.iter().map(|line| told(&host, line)).collect();
        let now = now.replace(&host.display().to_string(), "");
        let file = host.join("explain.txt");
        if std::env::var_os("RCON_BLESS").is_some() {
            fs::write(&file, now).expect("write");
            continue;
        }
        let then = fs::read_to_string(&file).unwrap_or_default();
        for (number, (then, now)) in then.lines().zip(now.lines()).enumerate() {
            if then != now {
                wrong.push(format!("{}:{}\n  then: {then}\n  now:  {now}", file.display(), number + 1));
                break;
            }
        }
        if then.lines().count() != now.lines().count() {
            wrong.push(format!(
                "{}: {} lines, now {}",
                file.display(),
                then.lines().count(),
                now.lines().count()
            ));
        }
    }
    assert!(wrong.is_empty(), "RCON_BLESS=1 writes them anew\n{}", wrong.join("\n"));
}
