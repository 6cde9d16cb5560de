//! The built binary from outside, as any user, without a cgroup: statuses, streams, signals, descriptors and
//! environment are the command's own. Each is compared with the same command line that is not wrapped.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const RCON: &str = env!("CARGO_BIN_EXE_rcon");

fn rcon<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    Command::new(RCON).args(args).stdin(Stdio::null()).output().expect("rcon starts")
}

/// A shell line; `$RCON` is the binary.
fn sh(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).env("RCON", RCON).stdin(Stdio::null()).output().expect("sh")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a shell would show in `$?`.
fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| 128 + output.status.signal().expect("ended"))
}

/// The same line wrapped (`$WRAP` is `rcon --`) and bare (`$WRAP` is nothing) must end and say the same.
#[track_caller]
fn same(line: &str) -> Output {
    let run = |wrap: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("WRAP", wrap).stdin(Stdio::null());
        command.output().expect("sh")
    };
    let (bare, wrapped) = (run(""), run(&format!("{RCON} --")));
    // The variable itself is part of the environment that a line may print.
    let strip = |output: &Output| out(output).replace(&format!("WRAP={RCON} --"), "WRAP=");
    assert_eq!(strip(&wrapped), out(&bare), "stdout of: {line}\nstderr: {}", err(&wrapped));
    assert_eq!(err(&wrapped), err(&bare), "stderr of: {line}");
    assert_eq!(wrapped.status, bare.status, "status of: {line}");
    wrapped
}

#[test]
fn the_status_says_why_there_was_no_command() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
        path.display().to_string()
    };
    let no_exec = file("no-exec", "#!/bin/sh\n", 0o644);
    let no_interpreter = file("no-interpreter", "#!/nonexistent/sh\n", 0o755);
    let no_line = file("no-line", "echo hello\n", 0o755);
    let directory = dir.path().display().to_string();
    let through_file = format!("{no_exec}/x");
    for (command, expected, words) in [
        ("/nonexistent/program", 127, "No such file"),
        ("nonexistent-program-of-no-name", 127, "was not found in PATH"),
        ("", 127, "No such file"),
        (&through_file, 127, "Not a directory"),
        (&directory, 126, "Permission denied"),
        (&no_exec, 126, "chmod +x"),
        (&no_interpreter, 127, "the interpreter that"),
        (&no_line, 126, "it has no #! line"),
    ] {
        let output = rcon(["--", command]);
        assert_eq!(status(&output), expected, "{command:?}: {}", err(&output));
        assert!(err(&output).starts_with("rcon: "), "{command:?}: {}", err(&output));
        assert!(err(&output).contains(words), "{command:?}: {}", err(&output));
        assert_eq!(out(&output), "");
    }
    // The same by PATH: a name without the x bit, and one whose interpreter is missing, are found.
    for (name, expected, words) in [
        ("no-exec", 126, "chmod +x"),
        ("no-interpreter", 127, "the interpreter that"),
        ("absent", 127, "PATH"),
    ] {
        let path = format!("/nonexistent:{directory}");
        let output = Command::new(RCON).args(["--", name]).env("PATH", path).output().expect("rcon");
        assert_eq!(status(&output), expected, "{name}: {}", err(&output));
        assert!(err(&output).contains(words), "{name}: {}", err(&output));
    }
}

#[test]
fn every_status_of_the_command_passes_through() {
    for expected in [0, 1, 2, 64, 77, 123, 124, 125, 126, 127, 128, 137, 255] {
        let output = rcon(["--", "sh", "-c", &format!("exit {expected}")]);
        assert_eq!(output.status.code(), Some(expected));
        assert_eq!(err(&output), "");
    }
}

#[test]
fn a_fatal_signal_is_ours_too() {
    // Standard signals whose default is to end a process, and the first, a middle and the last real-time one.
    for signal in
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31, 34, 50, 64]
    {
        let line = format!("ulimit -c 0; kill -{signal} $$; sleep 5");
        // nohup(1) may have ignored one for these tests
        let mut ours = Command::new("env");
        let output = ours.args(["--default-signal", RCON, "--", "sh", "-c", &line]).output().expect("env");
        assert_eq!(output.status.signal(), Some(signal), "{:?} {}", output.status, err(&output));
        assert!(!output.status.core_dumped(), "a core of ours beside the command's");
        assert_eq!(err(&output), "");
    }
}

#[test]
fn our_own_failures_are_125_and_say_what_to_do() {
    for (args, words) in [
        (&["--cpu"][..], "--cpu"),
        (&["--cpu", "30", "--", "true"], "30% (of one CPU) or 30cpus"),
        (&["--cpu", "0%", "--", "true"], "30%"),
        (&["--cpu", "-5%", "--", "true"], "30%"),
        (&["--cpu", "", "--", "true"], "empty"),
        (&["--cpu", "99999999999999999999%", "--", "true"], "30%"),
        (&["--cpu", "0.5%", "--", "true"], "--cpu-period"),
        (&["--cpu", "50%", "--cpu-period", "1s1ns", "--", "true"], "1ms to 1s"),
        (&["--cpu", "50%", "--cpu-period", "2000", "--", "true"], "20ms"),
        (&["--cpu-burst", "1ms", "--", "true"], "--cpu"),
        (&["--cpu", "10%", "--cpu-burst", "1s", "--", "true"], "more than the quota"),
        (&["--cpu-weight", "0", "--", "true"], "1 to 10000"),
        (&["--cpu-weight", "10001", "--", "true"], "1 to 10000"),
        (&["--cpuset", "3-1", "--", "true"], "0-1,3"),
        (&["--cpuset", "a", "--", "true"], "0-1,3"),
        (&["--mems", "", "--", "true"], "empty"),
        (&["--mem", "0", "--", "true"], "256M"),
        (&["--mem", "-1", "--", "true"], "256M"),
        (&["--mem", "lots", "--", "true"], "256M"),
        (&["--mem", "5Q", "--", "true"], "unknown unit"),
        (&["--mem", "101%", "--", "true"], "100%"),
        (&["--mem", "9E", "--", "true"], "unit"),
        (&["--mem", "9000P", "--", "true"], "8 EiB"),
        (&["--mem", "1K", "--", "true"], "one page"),
        (&["--swap", "1.5", "--", "true"], "byte"),
        (&["--pids", "0", "--", "true"], "64"),
        (&["--pids", "-1", "--", "true"], "64"),
        (&["--pids", "1e3", "--", "true"], "64"),
        (&["--pids", "18446744073709551616", "--", "true"], "64"),
        (&["--io-write", ":10M", "--", "true"], "WHERE:RATE"),
        (&["--io-write", "/:0", "--", "true"], "10M"),
        (&["--io-write", "/nonexistent:1M", "--", "true"], "No such file"),
        (&["--io-write-iops", "/:x", "--", "true"], "64"),
        (&["--group", "../x", "--", "true"], "letters"),
        (&["--group", "123", "--", "true"], "number of a process"),
        (&["--dev", "/dev", "--", "true"], "--dev minimal"),
        (&["--dev", "7:0", "--io-read", "7:0:1M", "true"], "--dev 7:0: names the disk"),
        (&["--show", "true"], "--show: prints capabilities and runs nothing"),
        (&["--show", "--mem", "64M"], "--show: prints capabilities and runs nothing: what else"),
        (&["--format", "json", "--", "true"], "runs nothing"),
        (&["--format", "text", "--mem", "64M", "true"], "runs nothing"),
        (&["--pid", "1", "--", "true"], "runs nothing"),
        (&["--cgroup-parent", "/a/../b", "--", "true"], "absolute"),
        (&["--env", "x", "--", "true"], "NAME=VALUE"),
        (&["--explain=xml", "--", "true"], "json"),
        (&["--no-such-option", "--", "true"], "--no-such-option"),
        (&["--mme", "5M", "--", "true"], "--mem"),
        (&["--quiet=yes", "--", "true"], "--quiet"),
        (&["-Z", "--", "true"], "-Z"),
        (&[], "no command"),
        (&["--"], "no command"),
        (&["--command", "echo x", "--", "true"], "one of them"),
    ] {
        let output = rcon(args);
        let said = err(&output);
        assert_eq!(status(&output), 125, "{args:?}: {said}");
        assert!(said.starts_with("rcon: ") && said.contains(words), "{args:?}: {said}");
        assert_eq!(out(&output), "", "{args:?}");
        // An option's mistake begins with the option as it was typed.
        if let [option, value, "--", ..] = args
            && !said.contains("Usage")
            && !said.contains("no command")
            && *option != "--command"
        {
            assert!(said.starts_with(&format!("rcon: {option}")), "{args:?}: {said}");
            assert!(value.is_empty() || said.contains(*value) || args.len() > 4, "{args:?}: {said}");
        }
    }
    let output = rcon([OsStr::new("--mem"), OsStr::from_bytes(b"5\xffM"), OsStr::new("true")]);
    assert_eq!(err(&output), "rcon: --mem 5\\xffM: the value is not UTF-8\n");
    // What is typed is not obeyed by the terminal that shows it.
    for hostile in ["--\u{1b}[31m", "--mem=\u{1b}[31m"] {
        let output = rcon([hostile, "true"]);
        assert!(status(&output) == 125 && !output.stderr.contains(&0x1b), "{}", err(&output));
    }
}

#[test]
fn help_and_version_are_asked_for_and_so_go_to_stdout() {
    for args in [&["--help"][..], &["-h"], &["--cpu", "5%", "--help"], &["-qh"]] {
        let output = rcon(args);
        assert_eq!((status(&output), err(&output).as_str()), (0, ""), "{args:?}");
        for word in
            ["--cpu <SHARE>", "--mem <SIZE>", "--pids <N>", "Limits:", "Exit status:", "125", "126", "127"]
        {
            assert!(out(&output).contains(word), "{args:?} lacks {word}: {}", out(&output));
        }
        assert!(!out(&output).contains("--memory"), "the original's spellings are for the manual page");
    }
    let version = rcon(["--version"]);
    assert_eq!(out(&version), format!("rcon {}\n", env!("CARGO_PKG_VERSION")));
    // After the command's name everything is the command's.
    assert_eq!(out(&rcon(["echo", "--help", "-h", "--cpu", "x"])), "--help -h --cpu x\n");
    assert_eq!(out(&rcon(["--", "echo", "--", "-q"])), "-- -q\n");
    // A subcommand's name is one only as the first word.
    assert_eq!(status(&rcon(["--", "gc"])), 127);
    assert_eq!(status(&rcon(["--quiet", "gc"])), 127);
    assert_eq!(status(&rcon(["gc", "--dry-run", "--no-such"])), 125);
}

#[test]
fn the_environment_is_untouched_but_for_what_is_asked() {
    same("exec env -i A=1 EMPTY= 'odd name=x' PATH=/bin:/usr/bin WRAP=\"$WRAP\" sh -c '$WRAP env'");
    same("unset PATH; $WRAP /usr/bin/env");
    let lines = |args: &[&str]| {
        let output =
            Command::new(RCON).args(args).env_clear().env("A", "1").env("PATH", "/bin:/usr/bin").output();
        out(&output.expect("rcon")).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&["--env", "B=2", "--unset", "A", "--", "env"]), ["PATH=/bin:/usr/bin", "B=2"]);
    assert_eq!(lines(&["--clear-env", "--env", "X=a=b", "--", "/usr/bin/env"]), ["X=a=b"]);
    // A variable that is named wins over files, whatever the order.
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), "A=file\nB=file\n").expect("write");
    let file = file.path().to_str().expect("UTF-8");
    let said = ["--env", "A=named", "--env-file", file, "--unset", "PATH", "--", "/usr/bin/env"];
    assert_eq!(lines(&said), ["B=file", "A=named"]);
}

#[test]
fn profiles_and_what_stands_on_top_of_them() {
    let home = tempfile::tempdir().expect("temporary directory");
    let dir = home.path().join("rcon/profiles");
    std::fs::create_dir_all(&dir).expect("mkdir");
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("write");
    let with = |args: &[&str]| {
        let mut command = Command::new(RCON);
        command.args(args).env("XDG_CONFIG_HOME", home.path()).env("KEPT", "yes").output().expect("rcon")
    };
    write("base.toml", "clear-env = true\nenv = \"A=base\"\n");
    write("child.toml", "extends = \"base\"\nclear-env = false\n");
    let kept = |name: &str| out(&with(&["--profile", name, "--", "/usr/bin/env"])).contains("KEPT=yes");
    assert!(!kept("base") && kept("child"), "false takes back what the base has switched on");
    let shown = out(&with(&["profile", "show", "child"]));
    assert!(shown.contains("--env A=base") && !shown.contains("--clear-env"), "{shown}");

    // A file wins over a variable that is named below it.
    write("file", "A=file\n");
    let file = dir.join("file").display().to_string();
    write("filed.toml", &format!("extends = \"base\"\nenv-file = {file:?}\n"));
    let said = |args: &[&str]| out(&with(&[args, &["--", "/usr/bin/env"]].concat()));
    assert_eq!(said(&["--profile", "base"]), "A=base\n");
    assert_eq!(said(&["--profile", "filed"]), "A=file\n");
    assert_eq!(said(&["--profile", "base", "--env-file", &file]), "A=file\n");
    assert_eq!(said(&["--profile", "filed", "--env", "A=line"]), "A=line\n");

    // The disk and the rate may come from either side; a disk for nothing is refused as on the line.
    write("dev.toml", "dev = \"7:0\"\n");
    write("rate.toml", "write = \"5M\"\n");
    for line in [["--profile", "dev", "--write", "5M"], ["--profile", "rate", "--dev", "7:0"]] {
        let output = with(&[&line[..], &["--best-effort", "--explain", "--", "true"]].concat());
        assert!(!err(&output).contains("--dev"), "{line:?}: {}", err(&output));
    }
    let output = with(&["--profile", "dev", "--", "true"]);
    assert!(status(&output) == 125 && err(&output).contains("--dev minimal"), "{}", err(&output));

    write("format.toml", "format = \"json\"\n");
    let output = with(&["--profile", "format", "--", "echo", "ran"]);
    assert!(status(&output) == 125 && err(&output).contains("format: no option"), "{}", err(&output));

    // All mistakes at once.
    write("wrong.toml", "memm = \"1G\"\npids = \"x\"\nwait-all = \"yes\"\nextends = \"../x\"\n");
    let output = with(&["profile", "check", "wrong"]);
    let said = err(&output);
    assert!(output.status.code() == Some(1) && said.lines().count() >= 4, "{said}");
    for word in [":1: memm", ":2: ", ":3: wait-all", ":4: extends"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn what_cannot_be_written_is_no_success() {
    for line in [
        "--explain -- true",
        "--explain=json -- true",
        "--help",
        "--show",
        "ls",
        "ls --help",
        "ls --format json",
        "man",
        "completions bash",
        "report-schema",
    ] {
        let output = sh(&format!("$RCON {line} >/dev/full"));
        assert_eq!(status(&output), 125, "{line}: {}", err(&output));
        assert!(err(&output).contains("cannot write to standard output: No space left"), "{}", err(&output));
        // A reader that has gone has had enough, also where no signal says so.
        let (reader, writer) = std::io::pipe().expect("pipe");
        drop(reader);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("trap '' PIPE; exec $RCON {line}")]).env("RCON", RCON).stdout(writer);
        let output = command.output().expect("sh");
        assert_eq!((status(&output), err(&output).as_str()), (0, ""), "{line}");
    }
}

#[test]
fn streams_and_descriptors_are_the_commands_own() {
    same("printf 'a\\0b\\377' | $WRAP cat; printf x | $WRAP sh -c 'cat >&2; exit 3'");
    // Passed on purpose, and nothing more: what `ls` opens itself comes last.
    same("$WRAP ls /proc/self/fd; exec 7</dev/null 9>&1; $WRAP ls /proc/self/fd; $WRAP sh -c 'echo to9 >&9'");
    same("cd /; umask 027; ulimit -n 99; $WRAP sh -c 'pwd; umask; ulimit -n'; $WRAP nice");
    // Offsets are shared, as after a bare exec.
    same(
        "f=$(mktemp); { $WRAP echo 1; $WRAP echo 2; } >$f; cat $f; rm $f; $WRAP sh -c 'read a; read b; echo $b' <<E\n1\n2\nE",
    );
}

#[test]
fn closed_streams_stay_closed() {
    for (closed, fd) in [("<&-", 0), (">&-", 1), ("2>&-", 2)] {
        let line = format!(
            "exec 5>&1; $WRAP sh -c '[ -e /proc/self/fd/{fd} ]; echo $? >&5; [ -e /proc/self/fd/5 ]' {closed}"
        );
        // `[` is the shell's own: no program starts that could reuse the number.
        let output = same(&line);
        assert_eq!(out(&output), "1\n", "{line}");
    }
    // All three, and a failure of ours: nobody hears it, the status tells.
    assert_eq!(status(&sh("exec $RCON -- /nonexistent <&- >&- 2>&-")), 127);
    assert_eq!(status(&sh("exec $RCON --mem x -- true <&- >&- 2>&-")), 125);
    assert_eq!(status(&sh("exec $RCON -- sh -c 'exit 9' <&- >&- 2>&-")), 9);
}

#[test]
fn a_reader_who_has_gone_does_not_end_us() {
    let output = sh("d=$(mktemp -d); mkfifo $d/p; \
        sh -c \"exec <$d/p\" & exec 4>$d/p; wait; \
        $RCON -- /nonexistent 2>&4; echo $?; rm -r $d");
    assert_eq!(out(&output), "127\n", "{}", err(&output));
}

#[test]
fn signal_dispositions_and_mask_reach_the_command() {
    let show = "$WRAP grep -E '^Sig(Blk|Ign|Cgt)|^ShdPnd' /proc/self/status";
    same(show);
    for setup in ["trap '' CHLD", "trap '' INT QUIT", "trap '' HUP PIPE TSTP USR1"] {
        same(&format!("{setup}; {show}"));
        same(&format!("{setup}; $WRAP sh -c 'exit 7'"));
    }
    if sh("env --block-signal=USR1 true").status.success() {
        same(
            "for s in USR1 TERM CHLD WINCH; do WRAP=\"env --block-signal=$s $WRAP\"; done; \
            $WRAP grep SigBlk /proc/self/status",
        );
    }
    // Ignored by whoever started us (nohup, cron): the command goes on, and ends as it likes.
    let output = sh("trap '' INT; $RCON -- sh -c 'kill -INT $$; echo alive; exit 3' & wait $!");
    assert_eq!((out(&output).as_str(), status(&output)), ("alive\n", 3));
}

#[test]
fn signals_sent_to_us_reach_the_command() {
    let names = "HUP INT QUIT USR1 USR2 WINCH ALRM TERM CONT URG IO PWR XCPU TSTP TTIN 35";
    for name in names.split(' ') {
        // In a session of its own: nothing but us can send the command anything.
        let line = format!("trap 'echo got; exit 5' {name}; echo ready; while :; do sleep 0.05; done");
        // What nohup(1) has ignored for these tests, a shell would not trap.
        let mut child = Command::new("env")
            .args(["--default-signal", "setsid", "--wait", RCON, "--", "bash", "-c", &line])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setsid");
        let mut reader = std::io::BufReader::new(child.stdout.take().expect("piped"));
        let mut said = String::new();
        std::io::BufRead::read_line(&mut reader, &mut said).expect("ready");
        let program = std::fs::read_link(format!("/proc/{}/exe", child.id())).expect("it runs");
        assert_eq!(program, std::fs::canonicalize(RCON).expect("it is there"), "setsid(1) forked");
        let sent = sh(&format!("kill -{name} {}", child.id()));
        assert!(sent.status.success(), "{name}: {}", err(&sent));
        std::io::Read::read_to_string(&mut reader, &mut said).expect("end");
        let ended = child.wait().expect("wait");
        assert_eq!((said.as_str(), ended.code()), ("ready\ngot\n", Some(5)), "{name}");
    }
}

#[test]
fn what_the_command_sends_to_its_own_group_it_gets_once() {
    let line = "n=0; trap 'n=$((n+1))' USR1; kill -USR1 0; sleep 0.3; echo $n";
    let output = sh(&format!("exec setsid --wait $RCON -- bash -c '{line}'"));
    assert_eq!(out(&output), "1\n", "{}", err(&output));
}

#[test]
fn what_the_command_leaves_behind_is_ended() {
    let start = Instant::now();
    // A daemon in a session of its own, orphaned twice, and a grandchild that holds stdout open.
    let output = rcon(["--", "sh", "-c", "(setsid sleep 60 & echo $!) ; sleep 61 & echo $!; exit 4"]);
    assert_eq!(status(&output), 4);
    assert!(start.elapsed() < Duration::from_secs(30), "it was waited for");
    for pid in out(&output).split_whitespace() {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
    }
    assert_eq!(out(&output).lines().count(), 2);
}

#[test]
fn wait_all_waits() {
    let output = rcon(["--wait-all", "--", "sh", "-c", "(setsid sh -c 'sleep 0.3; echo later') & exit 6"]);
    assert_eq!((out(&output).as_str(), status(&output)), ("later\n", 6));
}

#[test]
fn children_from_before_us_are_not_the_commands() {
    // A shell that had children and became us: `exec > >(tee log); exec rcon ...` is a common one.
    let output = Command::new("bash")
        .args(["-c", "exec > >(sleep 0.3; cat; echo end); exec \"$RCON\" \"$@\"", "bash"])
        .args(["--", "sh", "-c", "sleep 60 >/dev/null & echo $! >&2; echo from the command; exit 3"])
        .env("RCON", RCON)
        .output()
        .expect("bash");
    assert_eq!(status(&output), 3);
    assert_eq!(out(&output), "from the command\nend\n");
    let left = err(&output);
    assert!(!Path::new(&format!("/proc/{}", left.trim())).exists(), "{left} is still there");
    let start = Instant::now();
    let output = sh("sleep 60 >/dev/null 2>&1 & echo $!; exec $RCON --wait-all -- true");
    assert!(
        output.status.success() && start.elapsed() < Duration::from_secs(30),
        "a stranger was waited for"
    );
    let stranger = out(&output);
    assert!(sh(&format!("kill {stranger}")).status.success(), "a stranger was killed");
}

#[test]
fn the_originals_spellings_are_understood() {
    assert_eq!(out(&rcon(["--command", "echo $((1+1)); exit 0"])), "2\n");
    let explained = rcon(["--dry-run", "--memory", "64M", "--", "true"]);
    let same = rcon(["--explain", "--mem", "64M", "--", "true"]);
    let normal = |output: &Output| {
        let mut text = out(output).replace("--memory 64M", "--mem 64M");
        // Generated names differ from run to run.
        while let Some(at) = text.find("/rcon-") {
            let end = text[at..].find([' ', '\n']).map_or(text.len(), |end| at + end);
            text.replace_range(at..end, "");
        }
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(normal(&explained), normal(&same));
    let plain = rcon(["--explain=json", "--io-write", "7:0:5M", "--io-read", "7:0:6M", "--", "true"]);
    let orig = rcon(["--explain=json", "--dev", "7:0", "--write", "5M", "--read", "6M", "--", "true"]);
    let writes = |output: &Output| {
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
        let groups = json["groups"].as_array().expect("groups").clone();
        let writes = groups.iter().flat_map(|group| group["writes"].as_array().cloned().unwrap_or_default());
        writes.map(|write| write["alternatives"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(writes(&plain), writes(&orig));
}

#[test]
fn explain_does_nothing_and_is_one_json_value() {
    let marker = tempfile::tempdir().expect("temporary directory");
    let touched = marker.path().join("touched");
    let touch = ["--explain=json", "--", "touch", touched.to_str().expect("UTF-8")];
    let output = rcon(touch);
    assert!(output.status.success() && !touched.exists(), "{}", err(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(json["schema_version"], 1);
    let quoted = rcon(["--explain", "--", "printf", "it's", "\u{1b}[31m", ""]);
    assert!(out(&quoted).contains("execute printf 'it'\\''s' '\\u{1b}[31m' ''"), "{}", out(&quoted));
}

#[test]
fn a_large_command_line_is_the_kernels_to_refuse() {
    // One argument above 128 KiB is too long for execve(2) (MAX_ARG_STRLEN); nothing of ours limits it before.
    let mut child = Command::new("xargs");
    child.args(["-0", "-s", "4000000", RCON, "--", "true"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("xargs");
    let words = [b"x".repeat(100_000), b"y".repeat(100_000)].join(&0);
    child.stdin.take().expect("piped").write_all(&words).expect("write");
    let output = child.wait_with_output().expect("wait");
    assert!(output.status.success(), "{}", err(&output));
}

/// The README names the options that there are, and all of the limits.
#[test]
fn the_readme_and_the_help_agree() {
    let readme = include_str!("../README.md");
    let help = out(&rcon(["--help"]));
    let name = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(text.len());
        text[..end].to_owned()
    };
    let mut named = 0;
    // Other tables name options of subcommands, and those that only the manual page shows.
    let table =
        readme.split("\n## Limits\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a heading");
    for (at, _) in table.match_indices("`--") {
        let option = name(&table[at + 1..]);
        assert!(
            help.contains(&format!("{option} <"))
                || help.contains(&format!("{option} "))
                || help.contains(&format!("{option}[")),
            "the README's {option} is no option"
        );
        named += 1;
    }
    assert!(named > 15, "the search finds nothing");
    let limits =
        help.split("\nLimits:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a heading");
    let mut listed = 0;
    for line in limits.lines().filter_map(|line| line.trim_start().strip_prefix("--")) {
        let option = format!("`--{}", name(line));
        assert!(readme.contains(&option), "{option} is not in the README");
        listed += 1;
    }
    assert!(listed >= 15, "the search finds nothing");
}
