//! The receipt from outside: what any user may see, without any right. Figures have their tests in `kernel`.

#[path = "kernel/schema.rs"]
mod schema;

use serde_json::Value;
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::{Command, Output, Stdio},
};

fn rcon(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcon"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    rcon(args).output().expect("rcon runs")
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Valid by the schema that the same program prints.
#[track_caller]
fn parse(text: &str) -> Value {
    let report: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let rules: Value = serde_json::from_slice(&run(&["report-schema"]).stdout).expect("the schema is JSON");
    assert_eq!(schema::violations(&report, &rules), Vec::<String>::new(), "{report:#}");
    report
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let rules: Value = serde_json::from_slice(&run(&["report-schema"]).stdout).expect("the schema is JSON");
    let right = parse(&stderr(&run(&["--report=json", "--", "true"])));
    let wrong = |change: fn(&mut Value)| {
        let mut report = right.clone();
        change(&mut report);
        !schema::violations(&report, &rules).is_empty()
    };
    assert!(wrong(|report| report["status"] = "0".into()));
    assert!(wrong(|report| report["status"] = 256.into()));
    assert!(wrong(|report| report["reason"] = "bored".into()));
    assert!(wrong(|report| report["news"] = 1.into()));
    assert!(wrong(|report| report["cpu"]["used_seconds"] = (-1).into()));
    assert!(wrong(|report| report["schema_version"] = 2.into()));
    assert!(wrong(|report| drop(report.as_object_mut().expect("an object").remove("host"))));
}

#[test]
fn nothing_is_told_unless_asked() {
    let out = run(&["--timeout", "10m", "--", "true"]);
    assert_eq!((out.status.code(), stderr(&out).as_str()), (Some(0), ""));
}

#[test]
fn the_text_goes_to_stderr_after_the_commands_own() {
    let out = run(&["--report", "--", "sh", "-c", "echo out; echo own >&2; exit 3"]);
    assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(3), &b"out\n"[..]));
    let told = stderr(&out);
    assert!(told.starts_with("own\nrcon: sh ended with status 3 after "), "{told}");
    assert!(told.ends_with('\n') && told.lines().skip(2).all(|line| line.starts_with("  ")), "{told}");
}

#[test]
fn reasons() {
    let reason = |args: &[&str]| {
        let out = run(&[&["--report=json"], args].concat());
        let text = stderr(&out);
        let line =
            text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no report: {text}"));
        let report = parse(line);
        let status = out.status.code().unwrap_or_else(|| 128 + out.status.signal().expect("ended"));
        assert_eq!(report["status"], status, "{report:#}");
        (report["reason"].as_str().expect("text").to_owned(), report)
    };
    assert_eq!(reason(&["--", "true"]).0, "exited");
    let (why, report) = reason(&["--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(
        (why.as_str(), &report["signal"], &report["exit_code"]),
        ("signaled", &"TERM".into(), &Value::Null)
    );
    let (why, report) = reason(&["--timeout", "100ms", "--", "sleep", "600"]);
    assert_eq!((why.as_str(), &report["ended_by"]["what"]), ("timed-out", &"--timeout 100ms".into()));
    assert_eq!(report["ended_by"]["killed"], false);
    let (why, report) =
        reason(&["--timeout", "100ms", "--kill-after", "0", "--preserve-status", "--", "sleep", "9"]);
    assert_eq!(
        (why.as_str(), &report["status"], &report["ended_by"]["killed"]),
        ("timed-out", &137.into(), &true.into())
    );
    let (why, report) = reason(&["--", "/nonexistent/x"]);
    assert_eq!((why.as_str(), &report["status"]), ("not-started", &127.into()));
    assert!(report["error"].as_str().is_some_and(|text| text.contains("/nonexistent/x")), "{report:#}");
    assert_eq!(reason(&["--cgroup-parent", "/no/such/group", "--", "true"]).0, "wrapper-error");
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("r.json");
    fs::write(&file, "x".repeat(100_000)).expect("write");
    let out = run(&[&format!("--report=json:{}", file.display()), "--", "sh", "-c", "exit 4"]);
    assert_eq!((out.status.code(), stderr(&out).as_str()), (Some(4), ""));
    assert_eq!(parse(&fs::read_to_string(&file).expect("read"))["exit_code"], 4);
    let names: Vec<_> =
        fs::read_dir(dir.path()).expect("list").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["r.json"], "nothing else is left");
}

#[test]
fn a_report_that_cannot_be_written_costs_nothing_unless_strict() {
    for target in ["--report=json:/nonexistent/r.json", "--report=json:/"] {
        let out = run(&[target, "--", "sh", "-c", "exit 5"]);
        assert_eq!(out.status.code(), Some(5), "{target}: {}", stderr(&out));
        assert!(stderr(&out).starts_with("rcon: "), "{target}: {}", stderr(&out));
        let out = run(&[target, "--report-strict", "--", "sh", "-c", "exit 5"]);
        assert_eq!(out.status.code(), Some(125), "{target}: {}", stderr(&out));
    }
    let out = run(&["--report-append", "/nonexistent/h", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(out.status.signal(), Some(9), "{}", stderr(&out));
}

#[test]
fn links_and_devices_are_not_replaced() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (link, aim) = (dir.path().join("link"), dir.path().join("aim"));
    fs::write(&aim, "precious").expect("write");
    std::os::unix::fs::symlink(&aim, &link).expect("link");
    let out = run(&[&format!("--report=json:{}", link.display()), "--", "true"]);
    assert!(stderr(&out).contains("link"), "{}", stderr(&out));
    assert_eq!(fs::read_to_string(&aim).expect("read"), "precious");
    assert!(link.is_symlink());
    // As /dev/stdout is; not that itself, which a mistake here would replace for the whole machine.
    let link = dir.path().join("stdout");
    std::os::unix::fs::symlink("/proc/self/fd/1", &link).expect("link");
    let out = run(&[&format!("--report=json:{}", link.display()), "--", "true"]);
    parse(&String::from_utf8(out.stdout).expect("text"));
    assert!(link.is_symlink());
}

#[test]
fn a_descriptor_is_ours_and_not_the_commands() {
    let line = r#"exec 3>&1 >&2; "$0" --report=json:fd=3 -- sh -c 'echo x 2>/dev/null >&3 && echo open || echo closed'"#;
    let out = Command::new("bash").args(["-c", line, env!("CARGO_BIN_EXE_rcon")]).output().expect("bash");
    assert!(stderr(&out).contains("closed"), "{}", stderr(&out));
    parse(&String::from_utf8(out.stdout).expect("text"));
    let out = run(&["--report=json:fd=77", "--", "echo", "ran"]);
    assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(125), &b""[..]), "{}", stderr(&out));
}

#[test]
fn fifty_at_once_append_fifty_whole_lines() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("history");
    // Half a line that somebody left.
    fs::write(&file, "{\"half\":").expect("write");
    let path = file.display().to_string();
    let jobs: Vec<_> = (0..50)
        .map(|n| {
            rcon(&["--report-append", &path, "--", "sh", "-c", &format!("exit {n}")]).spawn().expect("rcon")
        })
        .collect();
    for (n, mut job) in jobs.into_iter().enumerate() {
        assert_eq!(job.wait().expect("wait").code(), i32::try_from(n).ok());
    }
    let text = fs::read_to_string(&file).expect("read");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("{\"half\":"));
    let mut codes: Vec<u64> =
        lines.map(|line| parse(line)["exit_code"].as_u64().expect("a number")).collect();
    codes.sort_unstable();
    assert_eq!(codes, (0..50).collect::<Vec<u64>>());
}

/// flock(1) runs one at a time; both orders, with its own status and ours.
#[test]
fn composes_with_flock() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let lock = dir.path().join("lock").display().to_string();
    let rcon_path = env!("CARGO_BIN_EXE_rcon");
    let inside = Command::new("flock")
        .args(["-n", &lock, rcon_path, "--timeout", "10m", "--", "sh", "-c", "exit 6"])
        .output();
    let Ok(inside) = inside else {
        println!("skipped, because flock(1) is not installed");
        return;
    };
    assert_eq!(inside.status.code(), Some(6), "{}", stderr(&inside));
    let outside = run(&["--timeout", "10m", "--", "flock", "-n", &lock, "sh", "-c", "exit 7"]);
    assert_eq!(outside.status.code(), Some(7), "{}", stderr(&outside));
    // Held: flock's own 1, in both orders; free again after a time limit, also if flock's child lived on.
    let out = run(&["--timeout", "200ms", "--", "flock", &lock, "sh", "-c", "sleep 600; :"]);
    assert_eq!(out.status.code(), Some(124), "{}", stderr(&out));
    let free = run(&["--", "flock", "-n", &lock, "true"]);
    assert_eq!(free.status.code(), Some(0), "the lock is held: {}", stderr(&free));
    let out = Command::new("flock")
        .args([&lock, rcon_path, "--timeout", "200ms", "--", "sleep", "600"])
        .output()
        .expect("flock");
    assert_eq!(out.status.code(), Some(124), "{}", stderr(&out));
}

/// chronic(1) is quiet unless its command fails: here a script that does the same.
#[test]
fn composes_with_chronic() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let chronic = dir.path().join("chronic");
    fs::write(&chronic, "#!/bin/sh\nout=$(\"$@\" 2>&1) || { s=$?; printf '%s\\n' \"$out\"; exit $s; }\n")
        .expect("write");
    fs::set_permissions(&chronic, fs::Permissions::from_mode(0o755)).expect("chmod");
    let chronic = chronic.display().to_string();
    let rcon_path = env!("CARGO_BIN_EXE_rcon");
    let outer = |line: &str| {
        let args = [rcon_path, "--report", "--timeout", "10m", "--", "sh", "-c", line];
        Command::new(&chronic).args(args).output().expect("chronic")
    };
    let quiet = outer("echo noise");
    assert_eq!((quiet.status.code(), quiet.stdout.len() + quiet.stderr.len()), (Some(0), 0));
    let loud = outer("echo noise; exit 8");
    let said = String::from_utf8_lossy(&loud.stdout).into_owned();
    assert_eq!(loud.status.code(), Some(8));
    assert!(said.starts_with("noise\nrcon: sh ended with status 8"), "{said}");
    let inner = |line: &str| run(&["--timeout", "10m", "--", &chronic, "sh", "-c", line]);
    assert_eq!(inner("echo noise").stdout, b"");
    let loud = inner("echo noise; exit 9");
    assert_eq!((loud.status.code(), loud.stdout.as_slice()), (Some(9), &b"noise\n"[..]));
}

#[test]
fn options_that_contradict_are_refused() {
    for (args, word) in [
        (&["--signal", "INT"][..], "--signal"),
        (&["--preserve-status"], "--preserve-status"),
        (&["--timeout", "1s", "--preserve-status", "--timeout-status", "3"], "--timeout-status"),
        (&["--report-strict"], "--report-strict"),
        (&["--timeout", "0s"], "zero"),
        (&["--timeout", "5"], "unit"),
        (&["--timeout", "1M"], "month"),
        (&["--timeout-status", "256", "--timeout", "1s"], "255"),
        (&["--report=xml"], "json"),
        (&["--report=json:"], "json:FILE"),
    ] {
        let out = run(&[args, &["--", "echo", "ran"]].concat());
        assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(125), &b""[..]), "{args:?}");
        assert!(stderr(&out).contains(word), "{args:?}: {}", stderr(&out));
    }
}

#[test]
fn a_record_is_drawn() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("run.json").display().to_string();
    let out = run(&["--record", &format!("{file}:20ms"), "--", "sh", "-c", "sleep 0.5; exit 4"]);
    assert_eq!((out.status.code(), stderr(&out).as_str()), (Some(4), ""));
    let record: Value = serde_json::from_str(&fs::read_to_string(&file).expect("a record")).expect("JSON");
    let seconds: Vec<f64> =
        record["seconds"].as_array().expect("a column").iter().filter_map(Value::as_f64).collect();
    assert!(seconds.len() >= 5 && seconds.is_sorted(), "{record:#}");
    assert!(seconds.last().is_some_and(|last| *last >= 0.5), "{record:#}");
    let text = rcon(&["plot", &file]).env("COLUMNS", "60").env("LC_ALL", "C").output().expect("rcon");
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(
        text.is_ascii() && text.contains("memory: ") && text.lines().all(|line| line.len() <= 60),
        "{text}"
    );
    let wide = rcon(&["plot", "--width", "200", &file]).env("LC_ALL", "C.UTF-8").output().expect("rcon");
    assert!(String::from_utf8_lossy(&wide.stdout).lines().all(|line| line.chars().count() <= 200));
    let svg = String::from_utf8(run(&["plot", "--svg", &file]).stdout).expect("text");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    let html = String::from_utf8(run(&["plot", "--html", &file]).stdout).expect("text");
    assert!(
        html.starts_with("<!DOCTYPE html>") && html.contains("<svg ") && !html.contains("src="),
        "{html}"
    );
    for wrong in [
        "{}",
        "nonsense",
        r#"{"record_version":1,"command":[],"started_at":"","limits":{},"seconds":[2,1],"cpu_seconds":[],"memory_bytes":[],"pids":[],"read_bytes":[],"written_bytes":[]}"#,
    ] {
        fs::write(&file, wrong).expect("write");
        let out = run(&["plot", &file]);
        assert_eq!(out.status.code(), Some(125), "{wrong}: {}", stderr(&out));
        assert!(stderr(&out).contains("is no record"), "{wrong}: {}", stderr(&out));
    }
}

#[test]
fn a_history_is_a_table_with_advice() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("history").display().to_string();
    for line in ["exit 0", "exit 0", "exit 3"] {
        run(&["--report-append", &file, "--", "sh", "-c", line]);
    }
    // Half a line of somebody else's.
    let text = fs::read_to_string(&file).expect("read");
    fs::write(&file, format!("{text}{{\"half\":\n")).expect("write");
    let out = run(&["history", &file]);
    let told = String::from_utf8(out.stdout.clone()).expect("text");
    let rows: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{told}");
    assert_eq!(
        (&rows[1][..6], &rows[2][..6]),
        (&["sh", "-c", "exit", "0", "2", "0"][..], &["sh", "-c", "exit", "3", "1", "1"][..]),
        "{told}"
    );
    assert_eq!(stderr(&out), "rcon: 1 line is no report and left out\n");
}
