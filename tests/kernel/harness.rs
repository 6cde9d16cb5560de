//! The harness itself, tested: it would notice what it claims to notice. None of these needs rcon.

use crate::{
    case::Case,
    fixture::{State, clear},
    needs::Need,
    place,
    support::{run, slow, victim, victim_line},
};
use nix::{
    mount::{MsFlags, mount, umount},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, panic::catch_unwind, process, time::Duration};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("harness::sees_a_leaked_group", &[Need::Cgroup], sees_a_leaked_group),
        Case::new("harness::sees_a_leaked_mount", &[Need::Root], sees_a_leaked_mount),
        Case::new("harness::sees_a_leaked_process", &[], sees_a_leaked_process),
        Case::new("harness::clears_what_was_left", &[Need::Cgroup], clears_what_was_left),
        Case::new("harness::ends_what_hangs", &[], ends_what_hangs),
        Case::new("harness::needs_do_not_contradict", &[], needs_do_not_contradict),
        Case::new("harness::victims_do_as_asked", &[], victims_do_as_asked),
    ]
}

fn sees_a_leaked_group() {
    let before = State::now();
    let group = place::any().expect("a place").join(format!("rcon-{}-0", process::id()));
    fs::create_dir(&group).expect("mkdir");
    let leak = State::now().since(&before);
    fs::remove_dir(&group).expect("rmdir");
    assert!(leak.as_deref().is_some_and(|text| text.contains(&group.display().to_string())), "{leak:?}");
    assert_eq!(State::now().since(&before), None);
}

fn sees_a_leaked_mount() {
    let before = State::now();
    let place = tempfile::tempdir().expect("temporary directory");
    mount(Some("leak"), place.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount");
    let leak = State::now().since(&before);
    umount(place.path()).expect("umount");
    assert!(leak.as_deref().is_some_and(|text| text.contains("mount")), "{leak:?}");
}

fn sees_a_leaked_process() {
    let before = State::now();
    let out = victim("daemonize:60").run();
    let pid = out.number("daemon");
    let leak = State::now().since(&before);
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("kill");
    assert!(leak.as_deref().is_some_and(|text| text.contains(&format!("process {pid}"))), "{leak:?}");
}

fn clears_what_was_left() {
    let before = State::now();
    let group = place::any().expect("a place").join(format!("rcon-{}-0", process::id()));
    fs::create_dir_all(group.join("rcon-below")).expect("mkdir");
    let out = run("sh").args(["-c", "(sleep 60 & sleep 60) &"]).run();
    assert!(out.status.success(), "{out}");
    assert!(
        State::now().since(&before).is_some_and(|leak| leak.contains("process") && leak.contains("group"))
    );
    clear(&before);
    assert_eq!(State::now().since(&before), None);
}

fn ends_what_hangs() {
    let hung = catch_unwind(|| {
        victim("sleep:600").limit(Duration::from_millis(200)).run();
    });
    assert!(hung.is_err(), "a command that never ends was waited for");
}

fn needs_do_not_contradict() {
    let met = |need: Need| need.unmet().is_none();
    assert_ne!(met(Need::Root), met(Need::NonRoot));
    assert_ne!(met(Need::Lab), met(Need::Host));
    assert!(!(met(Need::NoCgroupfs) && met(Need::Cgroup)));
    assert!(!(met(Need::ReadOnlyCgroupfs) && met(Need::Cgroup)));
    for name in ["cpu", "memory", "pids", "cpuset", "io", "blkio", "freezer", "hugetlb", "misc"] {
        // a controller is in one hierarchy at a time (cgroups(7), "Cgroups version 1 and 2")
        assert!(!(met(Need::V1(name)) && met(Need::V2(name))), "{name} is on both");
        assert!(!(met(Need::V2(name)) && met(Need::NoPlace(name))), "{name} has a place and has none");
        assert!(!(met(Need::V2(name)) && met(Need::NoV2(name))), "{name} is on v2 and is not");
        let anywhere = met(Need::V1(name)) || met(Need::V2(name));
        assert_eq!(met(Need::Controller(name)), anywhere, "{name}");
        assert!(!(anywhere && met(Need::NoController(name))), "{name} is there and is not");
    }
}

fn victims_do_as_asked() {
    let play = |role| victim(role).run();
    assert_eq!(play("exit:37").shell_status(), 37);
    assert_eq!(play("raise:15").shell_status(), 128 + 15);
    assert_eq!(play("forks:3").stdout, "forks ok=3 err=none\n");
    assert_eq!(play("alloc:8M").stdout, "alloc done\n");
    assert!(play("burn:0.2").number("wall_ms") >= 200);
    let [program, role] = victim_line("exit:3");
    assert_eq!(run("sh").args(["-c", "\"$0\" \"$1\""]).args([program, role]).run().shell_status(), 3);
    assert!(slow(Duration::from_secs(1)) >= Duration::from_secs(1));
}
