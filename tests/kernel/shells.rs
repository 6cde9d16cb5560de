//! Completions in the shells themselves, and man pages through the programs that show them.

use crate::{
    case::Case,
    control::{on, own, running},
    needs::Need,
    support::{RCON, rcon, run},
};
use std::{env, ffi::OsString, fs, path::Path, time::Duration};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new(
            "shells::top_in_a_terminal",
            &[Need::Host, Need::Tool("tmux"), Need::Cgroup],
            top_in_a_terminal,
        ),
        Case::new("shells::bash_completes", &[Need::Host, Need::Tool("bash"), Need::Cgroup], bash_completes),
        Case::new("shells::zsh_completes", &[Need::Host, Need::Tool("zsh"), Need::Cgroup], zsh_completes),
        Case::new("shells::fish_completes", &[Need::Host, Need::Tool("fish"), Need::Cgroup], fish_completes),
        Case::new(
            "shells::bash_runs_nothing_that_a_name_says",
            &[Need::Host, Need::Root, Need::Tool("bash"), Need::Cgroup],
            bash_runs_nothing,
        ),
        Case::new(
            "shells::man_pages_render",
            &[Need::Host, Need::Tool("man"), Need::Tool("groff")],
            man_pages_render,
        ),
    ]
}

/// PATH with our rcon in front.
fn path() -> OsString {
    let own = Path::new(RCON).parent().expect("directory").as_os_str().to_owned();
    let rest = env::var_os("PATH").unwrap_or_default();
    [own, rest].join(":".as_ref())
}

/// What bash offers for the last of these words.
fn bash(words: &[&str]) -> Vec<String> {
    let script = "source <(rcon completions bash) || exit 9\n\
        tool() { :; }; _tool() { COMPREPLY=(\"tool:$COMP_CWORD:$2\"); }; complete -F _tool tool\n\
        COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_LINE=\"$*\"; COMP_POINT=${#COMP_LINE}\n\
        compopt() { :; }\n\
        _rcon; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let out = run("bash").args(["--norc", "-c", script, "bash"]).args(words).env("PATH", path()).run();
    assert!(out.status.success() && out.stderr.is_empty(), "{words:?}: {out}");
    out.stdout.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

fn bash_completes() {
    let started = running(&[], "shell", "exec sleep 60");
    let name = own("shell");
    assert_eq!(bash(&["rcon", "--wait-"]), ["--wait-all"]);
    assert_eq!(bash(&["rcon", "freez"]), ["freeze"]);
    assert_eq!(bash(&["rcon", "kill", &name]), [name.as_str()]);
    assert_eq!(bash(&["rcon", "kill", "--signal", "US"]), ["USR1", "USR2"]);
    assert_eq!(bash(&["rcon", "--allow", "chown,net_b"]), ["chown,net_bind_service", "chown,net_broadcast"]);
    assert_eq!(bash(&["rcon", "--allow", "=", "net_r"]), ["net_raw"]);
    assert_eq!(bash(&["capcon", "--drop", "sys_adm"]), ["sys_admin"]);
    // The wrapped command and what it completes itself.
    assert!(bash(&["rcon", "--mem", "1G", "slee"]).contains(&"sleep".to_owned()));
    assert_eq!(bash(&["rcon", "--mem", "1G", "--", "tool", "a", "b"]), ["tool:2:b"]);
    assert_eq!(bash(&["rcon", "--mem=1G", "tool", "x"]), ["tool:1:x"]);
    assert_eq!(bash(&["rcon", "exec", &name, "tool", "x"]), ["tool:1:x"]);
    assert!(on(&["kill"], "shell").status.success());
    started.finish();
}

/// A group that somebody called `$(touch ...)` is not offered, and not run.
fn bash_runs_nothing() {
    let started = running(&[], "bait", "exec sleep 60");
    let place = rcon(["ls", "--format", "{name} {path}"]).run().stdout;
    let path =
        place.lines().find_map(|line| line.strip_prefix(&own("bait"))).expect("path").trim().to_owned();
    let trap = Path::new("/tmp").join(format!("rcon-trap-{}", std::process::id()));
    let group = Path::new(&path).with_file_name("rcon-$(touch ${TRAP})`touch ${TRAP}`");
    fs::create_dir(&group).expect("mkdir");
    fs::set_permissions(&group, std::os::unix::fs::PermissionsExt::from_mode(0o1755)).expect("chmod");
    let script = "export TRAP=$1; source <(rcon completions bash); COMP_WORDS=(rcon kill ''); COMP_CWORD=2; _rcon; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let out =
        run("bash").args(["--norc", "-c", script, "bash"]).args([&trap]).env("PATH", self::path()).run();
    fs::remove_dir(&group).expect("rmdir");
    assert!(!trap.exists(), "{out}");
    assert!(out.stdout.contains(&own("bait")) && !out.stdout.contains("touch"), "{out}");
    assert!(on(&["kill"], "bait").status.success());
    started.finish();
}

fn fish(line: &str) -> String {
    let script =
        format!("rcon completions fish | source; complete -c tool -x -a toolword; complete -C '{line}'");
    let home = tempfile::tempdir().expect("directory");
    let out =
        run("fish").args(["--no-config", "-c", &script]).env("PATH", path()).env("HOME", home.path()).run();
    assert!(out.status.success(), "{out}");
    out.stdout
}

fn fish_completes() {
    let started = running(&[], "shell", "exec sleep 60");
    let offers = |line: &str, word: &str| {
        let out = fish(line);
        assert!(out.lines().any(|one| one.split('\t').next() == Some(word)), "{line}: no {word} in {out}");
    };
    offers("rcon --wait-", "--wait-all");
    offers("rcon free", "freeze");
    offers("rcon kill ", &own("shell"));
    offers("rcon kill --signal US", "USR1");
    offers("capcon --allow net_r", "net_raw");
    offers("rcon --mem 1G slee", "sleep");
    offers("rcon --mem 1G -- tool too", "toolword");
    offers(&format!("rcon exec {} tool too", own("shell")), "toolword");
    assert!(on(&["kill"], "shell").status.success());
    started.finish();
}

/// What zsh makes of the line when Tab is pressed at its end, in a terminal.
fn zsh(line: &str) -> String {
    let home = tempfile::tempdir().expect("directory");
    fs::write(home.path().join("_rcon"), rcon(["completions", "zsh"]).run().stdout).expect("write");
    let script = r#"
zmodload zsh/zpty
zpty -b z zsh -f -i
zpty -w z "PS1=; fpath=($HOME \$fpath); autoload -Uz compinit; compinit -u -D; bindkey '^I' complete-word; setopt no_beep; LISTMAX=1000; stty cols 200 rows 100; print ready-now"
collect() { # until $1 shows, or nothing comes for long
    local all= part
    repeat 600; do
        if zpty -r -t z part; then all+=$part; [[ $all == *$1* ]] && break; else sleep 0.05; fi
    done
    print -r -- $all
}
collect "ready-now"$'\r' >/dev/null
zpty -w -n z "$1"$'\t\t'
sleep ${RCON_SLOW:-1}; sleep 1
zpty -w -n z $'\C-uprint all-said\r'
collect all-said$'\r'
zpty -d z
"#;
    let out = run("zsh")
        .args(["-f", "-c", script, "zsh", line])
        .env("PATH", path())
        .env("HOME", home.path())
        .env("TERM", "dumb")
        .limit(Duration::from_secs(60))
        .run();
    out.stdout
}

fn zsh_completes() {
    let started = running(&[], "shell", "exec sleep 60");
    let offers = |line: &str, word: &str| {
        let out = zsh(line);
        assert!(out.contains(word), "{line}: no {word} in {out:?}");
    };
    offers("rcon --wait-a", "--wait-all");
    offers("rcon free", "freeze");
    offers(&format!("rcon kill {}", own("she")), &own("shell"));
    offers("rcon kill --signal USR", "USR1");
    offers("capcon --allow net_ra", "net_raw");
    offers("rcon --mem 1G mkfif", "mkfifo");
    assert!(on(&["kill"], "shell").status.success());
    started.finish();
}

fn man_pages_render() {
    for page in ["rcon", "capcon", "profile"] {
        let text = rcon(["man", page]).run().stdout;
        let groff = run("groff").args(["-ww", "-man", "-Tutf8"]).input(text.as_bytes()).run();
        assert_eq!((groff.status.code(), groff.stderr.as_str()), (Some(0), ""), "{page}");
        let file = tempfile::NamedTempFile::new().expect("file");
        fs::write(file.path(), &text).expect("write");
        let man = run("man").args(["--warnings", "-l"]).args([file.path()]).env("MANPAGER", "cat").run();
        assert_eq!((man.status.code(), man.stderr.as_str()), (Some(0), ""), "{page}");
        assert!(man.stdout.contains("NAME") && man.stdout.contains("SEE ALSO"), "{page}: {man}");
    }
}

/// What stands on the screen at two sizes, after keys, and after the end.
fn top_in_a_terminal() {
    let started = running(&[], "shown", "exec sleep 60");
    let name = own("shown");
    let socket = own("tmux");
    let tmux = |words: &[&str]| {
        let out = run("tmux").args(["-L", &socket, "-f", "/dev/null"]).args(words).env("TERM", "xterm").run();
        assert!(out.status.success(), "{out}");
        out.stdout
    };
    let screen = |has: &str| {
        for _ in 0..200 {
            let shown = tmux(&["capture-pane", "-p"]);
            if shown.contains(has) {
                return shown;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("never {has:?}: {}", tmux(&["capture-pane", "-p"]));
    };
    tmux(&["new-session", "-d", "-x", "80", "-y", "24", "sh"]);
    tmux(&["send-keys", &format!("echo before; {RCON} top --interval 200ms; echo after $?"), "Enter"]);
    let small = screen("q: quit");
    assert_eq!(small.lines().count(), 24, "{small}");
    assert!(small.lines().next().is_some_and(|line| line.starts_with("rcon top: ")), "{small}");
    assert!(small.contains(&name), "{small}");
    assert!(small.lines().last().is_some_and(|line| line.ends_with("q: quit")), "{small}");
    assert!(small.lines().all(|line| line.chars().count() <= 80), "{small}");
    tmux(&["send-keys", "n"]);
    screen("sorted by name");
    tmux(&["resize-window", "-x", "200", "-y", "50"]);
    let mut large = String::new();
    for _ in 0..200 {
        large = screen("sorted by name");
        if large.lines().count() == 50 && large.lines().last().is_some_and(|line| line.ends_with("q: quit")) {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    assert!(large.lines().count() == 50 && large.contains(&name), "{large}");
    tmux(&["send-keys", "q"]);
    let after = screen("after 0");
    assert!(after.contains("echo before") && !after.contains("q: quit"), "the old screen is back: {after}");
    tmux(&["kill-server"]);
    assert!(on(&["kill"], "shown").status.success());
    started.finish();
    let out = rcon(["top"]).run();
    assert_eq!(out.status.code(), Some(125), "no terminal: {out}");
}
