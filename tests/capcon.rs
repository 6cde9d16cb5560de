//! capcon as anybody may use it: nothing here needs a privilege. Run as root, the commands run as an ordinary
//! user all the same.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::RwLock;

const RCON: &str = env!("CARGO_BIN_EXE_rcon");

/// Taken for writing while a copy of the binary is written, and for reading while a process is started: a fork
/// at the wrong moment would hold the copy open for writing, and then nobody can execute it.
static COPYING: RwLock<()> = RwLock::new(());

/// The binary under its other name, where an ordinary user can reach it.
struct Capcon(tempfile::TempDir);

impl Capcon {
    fn new() -> Self {
        let _alone = COPYING.write().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(RCON, dir.path().join("rcon")).unwrap();
        std::fs::set_permissions(dir.path().join("rcon"), std::fs::Permissions::from_mode(0o755)).unwrap();
        symlink("rcon", dir.path().join("capcon")).unwrap();
        Self(dir)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.0.path().join("capcon"));
        command.args(args).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        output(&mut self.command(args))
    }

    fn says(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn refuses(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert_eq!((out.status.code(), out.stdout.len()), (Some(125), 0), "{args:?}: {out:?}");
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(text.starts_with("capcon: "), "{args:?}: {text}");
        text
    }
}

fn start(command: &mut Command) -> Child {
    let _no_copy = COPYING.read().unwrap();
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn output(command: &mut Command) -> Output {
    start(command).wait_with_output().unwrap()
}

#[test]
fn it_has_a_help_of_its_own_and_takes_rcons_options() {
    let capcon = Capcon::new();
    let help = capcon.says(&["--help"]);
    assert!(help.contains("capcon --user www --allow net_bind_service") && help.contains("--securebits"));
    assert!(!help.contains("--mem ") && !help.contains("--cap-chown"), "{help}");
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    assert!(capcon.says(&["--version"]).starts_with("capcon "));
    // Its user may make no group here; what it would do it can say.
    let explained = capcon.says(&["--mem", "1G", "--pids", "9", "--best-effort", "--explain", "true"]);
    assert!(explained.contains("execute true"), "{explained}");
    let out = output(Command::new(RCON).args(["capcon", "--help"]));
    assert_eq!(String::from_utf8(out.stdout).unwrap(), help);
    let out = output(Command::new(RCON).arg("--help"));
    let rcons = String::from_utf8(out.stdout).unwrap();
    assert!(rcons.contains("--allow") && !rcons.contains("--securebits"), "{rcons}");
}

#[test]
fn group_is_the_commands_group_here_and_a_shared_budget_in_rcon() {
    let capcon = Capcon::new();
    let me = nix::unistd::getegid();
    let gid = if nix::unistd::geteuid().is_root() { "65534".to_owned() } else { me.to_string() };
    for option in ["--group", "--gid"] {
        assert_eq!(capcon.says(&[option, &gid, "id", "-g"]).trim(), gid);
    }
    let text = capcon.refuses(&["--group", "no:name", "true"]);
    assert!(text.contains("no name of a user or group"), "{text}");
}

#[test]
fn dropping_works_for_anybody() {
    let capcon = Capcon::new();
    for args in [&["--allow", "none"][..], &["--drop", "all"], &["--drop", "all", "--allow", "none"]] {
        let status = capcon.says(&[args, &["cat", "/proc/self/status"]].concat());
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
}

#[test]
fn what_cannot_be_granted_is_an_error_that_says_why() {
    let capcon = Capcon::new();
    let text = capcon.refuses(&["--allow", "net_raw,chown", "true"]);
    assert!(text.contains("chown,net_raw are not in the caller's permitted set"), "{text}");
    assert!(text.contains("--allow") && text.contains("--unshare user"), "{text}");
    let text = capcon.refuses(&["--user", "1", "--gid", "1", "true"]);
    assert!(text.contains("setgid is not in the caller's effective set"), "{text}");
    let text = capcon.refuses(&["--securebits", "noroot", "true"]);
    assert!(text.contains("setpcap is not in the caller's effective set"), "{text}");
    let text = capcon.refuses(&["--no-new-privs=no", "--allow", "none", "true"]);
    assert!(text.contains("bounding set cannot be narrowed") && text.contains("--no-new-privs"), "{text}");
    let text = capcon.refuses(&["--bounding", "none", "true"]);
    assert!(text.contains("bounding set cannot be narrowed"), "{text}");
}

#[test]
fn mistakes_are_named() {
    let capcon = Capcon::new();
    for (args, word) in [
        (&["--allow", "net_bind_servce", "true"][..], "did you mean net_bind_service?"),
        (&["--allow", "63", "true"], "this kernel has no capability 63"),
        (&["--allow", "64", "true"], "numbered from 0 to 63"),
        (&["--allow", "", "true"], "the value is empty"),
        (&["--allow", "none,chown", "true"], "stands alone"),
        (&["--user", "no-such-user-here", "true"], "no user is called no-such-user-here in /etc/passwd"),
        (&["--user", "4294967295", "true"], "is no user or group number"),
        (&["--user", "1x", "true"], "no user is called 1x"),
        (&["--user", "4000000000", "true"], "--user 4000000000:GROUP"),
        (&["--groups", "no-such-group-here", "true"], "no group is called no-such-group-here"),
        (&["--securebits", "noroot-locked", "true"], "lock it off"),
        (&["--no-new-privs=maybe", "true"], "give yes or no"),
        (&["--ambient", "chown", "true"], "chown must be in the permitted set too"),
        (&["--allow", "none"], "no command given"),
        (&["--show", "--pid", "0"], "give the number of a process"),
        (&["--show", "--pid", "4194304"], "there is no such process"),
    ] {
        let text = capcon.refuses(args);
        assert!(text.contains(word), "{args:?}: {text}");
    }
}

#[test]
fn it_becomes_the_command() {
    let capcon = Capcon::new();
    let child = start(&mut capcon.command(&["sh", "-c", "echo $$"]));
    let pid = child.id();
    let out = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap().trim(), pid.to_string());
    assert_eq!(capcon.run(&["sh", "-c", "exit 37"]).status.code(), Some(37));
    assert_eq!(capcon.run(&["--command", "exit 38"]).status.code(), Some(38));
    assert_eq!(capcon.run(&["--", "no-such-command-here"]).status.code(), Some(127));
    assert_eq!(capcon.run(&["--", "/"]).status.code(), Some(126));
}

#[test]
fn the_users_variables_come_with_the_user() {
    let capcon = Capcon::new();
    let root = nix::unistd::geteuid().is_root();
    let uid = if root { 65534 } else { nix::unistd::geteuid().as_raw() };
    let gid = if root { 65534 } else { nix::unistd::getegid().as_raw() };
    let asked = [&format!("--user={uid}:{gid}")[..], "--groups=none"];
    let mut args = asked.to_vec();
    if !root {
        // An ordinary user may not change its groups, only name itself.
        args.pop();
    }
    let explained = capcon.run(&[&args[..], &["--explain=json", "true"]].concat());
    if explained.status.code() == Some(125) {
        // This user has further groups, which it cannot leave.
        assert!(String::from_utf8_lossy(&explained.stderr).contains("--groups"), "{explained:?}");
        return;
    }
    let print = ["sh", "-c", "echo $HOME/$USER/$LOGNAME/$SHELL"];
    let line = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = line.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    let expected = line.map_or_else(
        || format!("//{uid}/{uid}//bin/sh"),
        |line| {
            let fields: Vec<&str> = line.split(':').collect();
            format!("{}/{}/{}/{}", fields[5], fields[0], fields[0], fields[6])
        },
    );
    assert_eq!(capcon.says(&[&args[..], &print].concat()).trim(), expected);
    let mine = [&args[..], &["--env", "HOME=/mine"], &print].concat();
    assert!(capcon.says(&mine).starts_with("/mine/"));
    let kept = output(capcon.command(&[&args[..], &["--keep-env"], &print].concat()).env("HOME", "/kept"));
    assert!(kept.stdout.starts_with(b"/kept/"), "{kept:?}");
}

#[test]
fn what_a_process_has_is_shown() {
    let capcon = Capcon::new();
    let plain = capcon.says(&[]);
    assert_eq!(plain, capcon.says(&["--show"]));
    for word in
        ["bounding", "permitted", "effective", "inheritable", "ambient", "securebits", "no_new_privs no"]
    {
        assert!(plain.contains(word), "{plain}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&capcon.says(&["--show", "--format", "json"])).unwrap();
    assert_eq!(json["capabilities"]["effective"], serde_json::json!([]));
    assert_eq!(json["securebits"], serde_json::json!([]));
    assert_eq!(json["no_new_privs"], false);
    let pid = std::process::id().to_string();
    let other: serde_json::Value =
        serde_json::from_str(&capcon.says(&["--pid", &pid, "--format", "json"])).unwrap();
    assert_eq!(other["pid"].to_string(), pid);
    assert_eq!(other["securebits"], serde_json::Value::Null);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    let bounding = u64::from_str_radix(bounding, 16).unwrap();
    let shown = other["capabilities"]["bounding"].as_array().unwrap().len();
    assert_eq!(shown, bounding.count_ones() as usize);
}

#[test]
fn explained_in_order() {
    let capcon = Capcon::new();
    let text = capcon.says(&["--allow", "none", "--explain", "true"]);
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    assert!(at("set permitted and effective: none") < at("set no_new_privs"), "{text}");
    assert!(at("set no_new_privs") < at("execute true"), "{text}");
}
