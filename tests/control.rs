//! Control from outside, where no privilege is needed: doctor, profiles, completions, man pages.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const RCON: &str = env!("CARGO_BIN_EXE_rcon");

fn rcon(words: &[&str], config: &Path) -> Output {
    let mut command = Command::new(RCON);
    command.args(words).env("XDG_CONFIG_HOME", config).stdin(Stdio::null());
    command.output().expect("rcon starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory of profiles below one that only its owner can write.
struct Profiles(tempfile::TempDir);

impl Profiles {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let profiles = dir.path().join("rcon/profiles");
        fs::create_dir_all(&profiles).expect("mkdir");
        for (name, content) in files {
            fs::write(profiles.join(format!("{name}.toml")), content).expect("write");
        }
        Self(dir)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(format!("rcon/profiles/{name}.toml"))
    }

    /// Standard output and error, and the status.
    fn run(&self, words: &[&str]) -> (String, String, Option<i32>) {
        let out = rcon(words, self.0.path());
        (text(&out.stdout), text(&out.stderr), out.status.code())
    }
}

#[test]
fn a_profile_gives_options_and_the_line_wins() {
    let profiles = Profiles::new(&[
        ("base", "env = [\"A=base\", \"B=base\"]\n"),
        ("ci", "extends = \"base\"\nenv = \"A=ci\"\nunset = \"HOME\"\n"),
    ]);
    let (out, err, status) =
        profiles.run(&["--profile", "ci", "--env", "C=line", "--", "sh", "-c", "echo $A $B $C ${HOME-none}"]);
    assert_eq!((out.as_str(), err.as_str(), status), ("ci base line none\n", "", Some(0)));
    let (out, ..) = profiles.run(&["--profile", "ci", "--env", "A=line", "--", "sh", "-c", "echo $A"]);
    assert_eq!(out, "line\n");
    // Wherever it stands on the line.
    let (out, ..) = profiles.run(&["--env", "A=line", "--profile=ci", "--", "sh", "-c", "echo $A"]);
    assert_eq!(out, "line\n");
    let (out, _, status) = profiles.run(&["profile", "show", "ci"]);
    assert_eq!(status, Some(0));
    let words: Vec<&str> = out.lines().filter_map(|line| line.split(" #").next()).map(str::trim).collect();
    assert_eq!(words, ["--env A=base", "--env B=base", "--env A=ci", "--unset HOME"]);
    let (out, ..) = profiles.run(&["profile", "ls"]);
    assert!(out.lines().any(|line| line == format!("ci\t{}", profiles.file("ci").display())), "{out}");
}

#[test]
fn mistakes_in_a_profile_name_the_place_and_run_nothing() {
    let profiles = Profiles::new(&[
        ("unit", "pids = 5\n\nmem = \"12Q\"\n"),
        ("key", "# x\nmemm = \"1G\"\n"),
        ("toml", "mem = \n"),
        ("loop", "extends = \"loop2\"\n"),
        ("loop2", "extends = \"loop\"\n"),
        ("gone", "extends = \"nowhere\"\n"),
        ("good", "pids = 5\n"),
    ]);
    for (name, says) in [
        ("unit", "unit.toml:3"),
        ("key", "key.toml:2: memm"),
        ("toml", "toml.toml:1"),
        ("loop", "without end"),
        ("gone", "no nowhere.toml"),
        ("none", "no none.toml"),
        ("../key", "give the name of a profile"),
    ] {
        let (out, err, status) = profiles.run(&["--profile", name, "--", "echo", "ran"]);
        assert_eq!((out.as_str(), status), ("", Some(125)), "{name}: {err}");
        assert!(err.contains(says), "{name}: {err}");
    }
    let (_, err, status) = profiles.run(&["profile", "check"]);
    assert_eq!(status, Some(1));
    for says in ["unit.toml:3", "key.toml:2", "toml.toml:1", "without end", "nowhere"] {
        assert!(err.contains(says), "{says}: {err}");
    }
    let (_, err, status) = profiles.run(&["profile", "check", "good"]);
    assert_eq!((err.as_str(), status), ("", Some(0)));
}

/// What it says of the run is what happens to it.
#[test]
fn doctor_tells_what_a_run_does() {
    let home = Path::new("/nonexistent");
    let doctor = rcon(&["doctor"], home);
    let run = rcon(&["--cpu", "50%", "--mem", "64M", "--pids", "16", "--", "true"], home);
    let works = run.status.success();
    assert_eq!(doctor.status.code(), Some(i32::from(!works)), "{}", text(&doctor.stdout));
    let line = if works { "--pids 16 -- true   works" } else { "does not work" };
    assert!(text(&doctor.stdout).contains(line), "{}", text(&doctor.stdout));
    assert!(text(&doctor.stdout).lines().count() <= 50, "one screen: {}", text(&doctor.stdout));
    let json: serde_json::Value =
        serde_json::from_slice(&rcon(&["doctor", "--format", "json"], home).stdout).expect("JSON");
    assert_eq!(json["run"]["works"], works);
    for check in json["checks"].as_array().expect("checks") {
        assert!(check["name"].is_string() && check["works"].is_boolean(), "{check}");
    }
}

#[test]
fn subcommands_are_words_only_in_the_first_place() {
    let home = Path::new("/nonexistent");
    let out = rcon(&["--", "ls", "/dev/null"], home);
    assert_eq!(text(&out.stdout), "/dev/null\n");
    let out = rcon(&["--env", "A=1", "ls", "/dev/null"], home);
    assert_eq!(text(&out.stdout), "/dev/null\n");
    let out = rcon(&["ls", "--format", "{nothing}"], home);
    assert_eq!(out.status.code(), Some(125), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("no field is called"), "{}", text(&out.stderr));
}
