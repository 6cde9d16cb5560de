//! Capabilities and identity: what a command has is what the kernel then lets it do.

use crate::{
    case::Case,
    needs::Need,
    support::{Output, RCON, Run, run, victim},
    victim::program,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

pub(crate) fn tests() -> Vec<Case> {
    const ROOT: &[Need] = &[Need::Root];
    const LEARN: &[Need] = &[Need::Root, Need::Tracing];
    vec![
        Case::new("privileges::sets_are_exact_for_root", ROOT, sets_are_exact_for_root),
        Case::new(
            "privileges::sets_are_exact_for_an_ordinary_user",
            ROOT,
            sets_are_exact_for_an_ordinary_user,
        ),
        Case::new("privileges::every_capability_alone", ROOT, every_capability_alone),
        Case::new("privileges::a_set_user_id_program_stays_within", ROOT, a_set_user_id_program_stays_within),
        Case::new("privileges::file_capabilities_stay_within", ROOT, file_capabilities_stay_within),
        Case::new("privileges::a_user_without_any_has_none", ROOT, a_user_without_any_has_none),
        Case::new("privileges::groups_are_exact", ROOT, groups_are_exact),
        Case::new("privileges::no_supervisor_where_none_is_needed", ROOT, no_supervisor_where_none_is_needed),
        Case::new("privileges::with_a_budget", &[Need::Root, Need::Controller("pids")], with_a_budget),
        Case::new("privileges::a_server_on_port_80", ROOT, a_server_on_port_80),
        Case::new("privileges::deeds_need_their_capability", ROOT, deeds_need_their_capability),
        Case::new("privileges::the_clock", &[Need::Root, Need::Lab], the_clock),
        Case::new("privileges::securebits_hold", ROOT, securebits_hold),
        Case::new("privileges::without_setpcap", ROOT, without_setpcap),
        Case::new("privileges::in_a_user_namespace", &[Need::Root, Need::Userns], in_a_user_namespace),
        Case::new("privileges::users_of_the_new_root", ROOT, users_of_the_new_root),
        Case::new("privileges::learn_answers_exactly", LEARN, learn_answers_exactly),
        Case::new("privileges::learn_verifies", LEARN, learn_verifies),
        Case::new(
            "privileges::learn_in_an_overlay",
            &[Need::Root, Need::Tracing, Need::Overlay],
            learn_in_an_overlay,
        ),
        Case::new("privileges::learn_leaves_nothing", LEARN, learn_leaves_nothing),
        Case::new("privileges::any_combination_obeys", ROOT, any_combination_obeys),
    ]
}

/// A directory that everybody can reach, with a copy of the victim in it.
struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        set_mode(dir.path(), 0o755);
        fs::copy(program(), dir.path().join("victim")).expect("copy of the victim");
        set_mode(&dir.path().join("victim"), 0o755);
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        fs::write(self.path(name), "").expect("file");
        self.path(name)
    }

    fn subdir(&self, name: &str) -> PathBuf {
        fs::create_dir(self.path(name)).expect("directory");
        self.path(name)
    }

    /// Another copy of the victim.
    fn copy(&self, name: &str, mode: u32) -> PathBuf {
        fs::copy(self.path("victim"), self.path(name)).expect("copy of the victim");
        set_mode(&self.path(name), mode);
        self.path(name)
    }

    /// `capcon ARGS -- victim DEED`.
    fn capcon(&self, args: &str, deed: &str) -> Run {
        run(RCON)
            .args(["capcon"])
            .args(args.split_whitespace())
            .args(["--".as_ref(), self.path("victim").as_os_str()])
            .args([format!("--victim=may:{deed}")])
    }

    /// The sets after `capcon ARGS`.
    fn status(&self, args: &str) -> Status {
        Status::of(&self.capcon(args, "status").run())
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// What a process said of itself.
#[derive(Debug)]
struct Status(BTreeMap<String, String>);

impl Status {
    fn of(out: &Output) -> Self {
        assert!(out.status.success(), "{out}");
        Self(
            out.stdout
                .lines()
                .filter_map(|line| line.split_once('='))
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
        )
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("no {key} in {self:?}"))
    }

    fn set(&self, key: &str) -> u64 {
        u64::from_str_radix(self.get(key), 16).expect("a mask")
    }

    /// Permitted, effective, bounding; inheritable, ambient.
    fn sets(&self) -> [u64; 5] {
        ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"].map(|key| self.set(key))
    }
}

/// What this process has, which is the ceiling of everything here.
fn own() -> Status {
    Status::of(&victim("may:status").run())
}

/// The kernel's last capability.
fn last() -> u8 {
    let text = fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("cap_last_cap");
    text.trim().parse().expect("a number")
}

fn sets_are_exact_for_root() {
    let stage = Stage::new();
    let status = stage.status("--allow net_bind_service");
    assert_eq!(status.sets(), [0x400, 0x400, 0x400, 0, 0]);
    assert_eq!((status.get("NoNewPrivs"), status.get("Uid")), ("1", "0,0,0,0"));
    assert_eq!(
        stage.status("--no-new-privs=no --allow net_bind_service").sets(),
        [0x400, 0x400, 0x400, 0, 0]
    );
    assert_eq!(stage.status("--allow none").sets(), [0; 5]);
    let all = own();
    assert_eq!(stage.status("--drop chown").sets()[..3], [all.set("CapBnd") & !1; 3]);
    assert_eq!(stage.status("--allow all").sets()[..3], [all.set("CapBnd"); 3]);
    assert_eq!(stage.status("--cap-net-bind-service --cap-chown").sets()[..3], [0x401; 3]);
    let both = stage.capcon("--allow chown,kill --drop kill", "status").run();
    assert_eq!(Status::of(&both).sets()[..3], [1; 3]);
    assert!(both.stderr.contains("kill is in --allow and in --drop"), "{both}");
}

fn sets_are_exact_for_an_ordinary_user() {
    let stage = Stage::new();
    for nnp in ["yes", "no"] {
        let status =
            stage.status(&format!("--user 65534:65534 --allow net_bind_service --no-new-privs={nnp}"));
        assert_eq!(status.sets(), [0x400; 5]);
        assert_eq!(
            (status.get("Uid"), status.get("Gid")),
            ("65534,65534,65534,65534", "65534,65534,65534,65534")
        );
        assert_eq!(status.get("Groups"), "65534");
    }
}

fn every_capability_alone() {
    let stage = Stage::new();
    let ceiling = own().set("CapBnd");
    let last = last();
    for number in 0..=last {
        let mask = 1 << number;
        if ceiling & mask == 0 {
            // The caller does not have it: nothing weaker is run.
            for user in ["", "--user 65534:65534"] {
                let out = stage.capcon(&format!("{user} --allow {number}"), "status").run();
                assert_eq!(out.shell_status(), 125, "{out}");
                assert!(
                    out.stderr.contains("not in the caller's bounding set") && out.stdout.is_empty(),
                    "{out}"
                );
            }
            continue;
        }
        // In an emulated guest each of them once, as root or as a user in turns.
        let turns = Need::Lab.unmet().is_none();
        if !turns || number % 2 == 0 {
            let sets = stage.status(&format!("--allow {number}")).sets();
            assert_eq!(sets, [mask, mask, mask, 0, 0], "{number}");
        }
        if !turns || number % 2 == 1 {
            let sets = stage.status(&format!("--user 65534:65534 --allow {number}")).sets();
            assert_eq!(sets, [mask; 5], "{number}");
        }
    }
    let out = stage.capcon(&format!("--allow {}", last + 1), "status").run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains(&format!("this kernel has no capability {}", last + 1)), "{out}");
}

fn a_set_user_id_program_stays_within() {
    let stage = Stage::new();
    let root = stage.copy("root", 0o4755);
    let deed = format!("exec:{}:status", root.display());
    let free = Status::of(&stage.capcon("--no-new-privs=no --user 65534:65534", &deed).run());
    assert_eq!(
        free.get("Uid"),
        "65534,0,0,0",
        "the file system must honour set-user-ID for this to prove anything"
    );
    assert_eq!(free.set("CapEff"), own().set("CapBnd"));
    let bound =
        Status::of(&stage.capcon("--no-new-privs=no --user 65534:65534 --allow net_raw", &deed).run());
    assert_eq!(bound.get("Uid"), "65534,0,0,0");
    assert_eq!(bound.sets()[..3], [0x2000; 3]);
    let still = Status::of(&stage.capcon("--user 65534:65534 --allow net_raw", &deed).run());
    assert_eq!((still.get("Uid"), still.set("CapEff")), ("65534,65534,65534,65534", 0x2000));
}

/// The attribute's version 2: magic with the effective bit, then permitted and inheritable (linux/capability.h).
#[allow(unsafe_code, reason = "no crate here sets extended attributes, and guests have no setcap")]
fn give_file_capabilities(path: &Path, mask: u64) {
    let words = [0x0200_0001_u32, mask as u32, 0, (mask >> 32) as u32, 0];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: two C strings, and a buffer with its length.
    let answer = unsafe {
        libc::setxattr(name.as_ptr(), c"security.capability".as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0)
    };
    assert_eq!(answer, 0, "setxattr: {}", std::io::Error::last_os_error());
}

fn file_capabilities_stay_within() {
    let stage = Stage::new();
    let (netted, plain) = (stage.copy("netted", 0o755), stage.copy("plain", 0o755));
    give_file_capabilities(&netted, 0x2000);
    give_file_capabilities(&plain, 0x1000);
    let exec = |path: &Path, args: &str| {
        let deed = format!("exec:{}:status", path.display());
        stage.capcon(&format!("--no-new-privs=no --user 65534:65534 {args}"), &deed).run()
    };
    let free = Status::of(&exec(&netted, ""));
    assert_eq!(
        free.set("CapEff"),
        0x2000,
        "the file system must honour file capabilities for this to prove anything"
    );
    // Within what is allowed, the file gets its own...
    assert_eq!(Status::of(&exec(&netted, "--allow net_raw,chown")).sets()[..3], [0x2000, 0x2000, 0x2001]);
    // ...and what is not allowed, it does not get: the kernel refuses to run it half armed.
    let out = exec(&plain, "--allow net_raw,chown");
    assert!(!out.status.success() && out.stdout.contains("Operation not permitted"), "{out}");
}

fn a_user_without_any_has_none() {
    let stage = Stage::new();
    assert_eq!(stage.status("--user 65534:65534").sets()[..2], [0; 2]);
    let out = run(RCON)
        .args(["--user", "65534:65534", "--"])
        .args([stage.path("victim")])
        .args(["--victim=may:status"])
        .run();
    let status = Status::of(&out);
    assert_eq!((status.sets()[..2].to_vec(), status.get("NoNewPrivs")), (vec![0; 2], "0"));
}

fn groups_are_exact() {
    let stage = Stage::new();
    let status = stage.status("--user 65534:12 --groups 5,3,4");
    assert_eq!((status.get("Gid"), status.get("Groups")), ("12,12,12,12", "3,4,5"));
    let status = stage.status("--user 65534:12 --groups none");
    assert_eq!((status.get("Gid"), status.get("Groups")), ("12,12,12,12", ""));
    let status = stage.status("--group 12");
    assert_eq!((status.get("Uid"), status.get("Gid")), ("0,0,0,0", "12,12,12,12"));
    let many: Vec<String> = (1000..1400).map(|gid: u32| gid.to_string()).collect();
    let status = stage.status(&format!("--groups {}", many.join(",")));
    assert_eq!(status.get("Groups").split(',').count(), 400);
}

fn no_supervisor_where_none_is_needed() {
    let stage = Stage::new();
    let started = stage.capcon("--user 65534:65534 --allow net_raw", "status").start();
    let pid = started.child.id();
    assert_eq!(Status::of(&started.finish()).get("Pid"), pid.to_string());
    for (command, status) in [("/nonexistent/command", 127), ("/", 126)] {
        let out = run(RCON).args(["capcon", "--allow", "none", "--", command]).run();
        assert_eq!(out.shell_status(), status, "{out}");
    }
}

fn with_a_budget() {
    let stage = Stage::new();
    let started = stage.capcon("--pids 16 --user 65534:65534 --allow net_bind_service", "status").start();
    let pid = started.child.id();
    let status = Status::of(&started.finish());
    assert_ne!(status.get("Pid"), pid.to_string());
    assert_eq!(status.sets(), [0x400; 5]);
    let out = run(RCON).args(["--pids", "16", "--user", "65534:65534", "--allow", "net_raw", "--"]);
    let out = out.args([stage.path("victim")]).args(["--victim=forks:40"]).run();
    assert!(out.stdout.contains("err=EAGAIN"), "{out}");
}

/// In a guest nobody has turned the loopback device on.
fn loopback() {
    if Need::Lab.unmet().is_none() {
        let out = run("ip").args(["link", "set", "lo", "up"]).run();
        assert!(out.status.success(), "{out}");
    }
}

fn a_server_on_port_80() {
    loopback();
    let stage = Stage::new();
    let served = |args: &str| stage.capcon(args, "bind:80").run().stdout;
    assert_eq!(served("--user 65534:65534 --allow net_bind_service"), "done\n");
    assert_eq!(served("--user 65534:65534 --allow chown,net_raw"), "EACCES\n");
    assert_eq!(served("--user 65534:65534"), "EACCES\n");
    assert_eq!(served("--allow net_bind_service"), "done\n");
    assert_eq!(served("--drop net_bind_service"), "EACCES\n");
}

fn deeds_need_their_capability() {
    loopback();
    let stage = Stage::new();
    let file = stage.file("file");
    let (mountpoint, root) = (stage.subdir("mountpoint"), stage.subdir("root"));
    let deeds = [
        ("chown", format!("chown:{}", file.display())),
        ("net_raw", "ping".to_owned()),
        ("sys_admin", format!("mount:{}", mountpoint.display())),
        ("sys_chroot", format!("chroot:{}", root.display())),
    ];
    for (capability, deed) in &deeds {
        for user in ["", "--user 65534:65534"] {
            let may = stage.capcon(&format!("{user} --allow {capability}"), deed).run();
            assert_eq!(may.stdout, "done\n", "{may}");
            let may_not = stage.capcon(&format!("{user} --allow all --drop {capability}"), deed).run();
            assert_eq!(may_not.stdout, "EPERM\n", "{may_not}");
        }
    }
    assert_eq!(fs::metadata(&file).expect("file").uid(), 12);
    let kill = |args: &str| {
        let mut sleeper = victim("sleep:600").start();
        let out = stage.capcon(args, &format!("kill:{}", sleeper.child.id())).run();
        // Of no use any more, dead or alive.
        drop(sleeper.child.kill());
        drop(sleeper.child.wait());
        out.stdout
    };
    assert_eq!(kill("--user 65534:65534 --allow kill"), "done\n");
    assert_eq!(kill("--user 65534:65534 --drop kill"), "EPERM\n");
}

fn the_clock() {
    let stage = Stage::new();
    for user in ["", "--user 65534:65534"] {
        assert_eq!(stage.capcon(&format!("{user} --allow sys_time"), "clock").run().stdout, "done\n");
        assert_eq!(stage.capcon(&format!("{user} --drop sys_time"), "clock").run().stdout, "EPERM\n");
    }
}

fn securebits_hold() {
    let stage = Stage::new();
    // Root that is not special: an exec gives it nothing.
    let plain = stage.status("--no-new-privs=no --securebits noroot,noroot-locked --bounding all");
    assert_eq!(plain.sets()[..2], [0; 2]);
    let kept = stage.status("--no-new-privs=no --securebits noroot,noroot-locked --allow chown,kill");
    assert_eq!(kept.sets(), [0x21; 5]);
    // ...nor does a set-user-ID program, with the full bounding set.
    let root = stage.copy("root", 0o4755);
    let deed = format!("exec:{}:status", root.display());
    let args = "--no-new-privs=no --user 65534:65534 --securebits noroot,noroot-locked";
    let status = Status::of(&stage.capcon(args, &deed).run());
    assert_eq!((status.get("Uid"), status.set("CapEff")), ("65534,0,0,0", 0));
    // Locked is locked.
    let again = format!("{RCON} capcon --securebits none -- true");
    let out = run(RCON)
        .args(
            "capcon --no-new-privs=no --securebits no-cap-ambient-raise,no-cap-ambient-raise-locked -- sh -c"
                .split(' '),
        )
        .args([again])
        .run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains("locked: no-cap-ambient-raise,no-cap-ambient-raise-locked"), "{out}");
}

fn without_setpcap() {
    let stage = Stage::new();
    // A caller that may not narrow the bounding set: no_new_privs keeps every exec within, and is demanded.
    let nested = |args: &str| {
        let line = format!("{RCON} capcon {args} -- {} --victim=may:status", stage.path("victim").display());
        run(RCON).args(["capcon", "--no-new-privs=no", "--drop", "setpcap", "--", "sh", "-c", &line]).run()
    };
    let out = nested("--allow chown");
    let status = Status::of(&out);
    assert_eq!(status.sets()[..2], [1, 1], "{out}");
    assert_ne!(status.set("CapBnd"), 1);
    let out = nested("--allow chown --no-new-privs=no");
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains("setpcap is not in the caller's effective set"), "{out}");
    let out = nested("--user 65534:65534 --allow chown --no-new-privs=no");
    assert_eq!(out.shell_status(), 125, "{out}");
}

fn in_a_user_namespace() {
    use std::os::unix::process::CommandExt;
    let stage = Stage::new();
    let rcon = stage.path("rcon");
    fs::copy(RCON, &rcon).expect("copy of rcon");
    set_mode(&rcon, 0o755);
    let ordinary = |args: &str| {
        let mut run = run(&rcon).args(["capcon"]).args(args.split_whitespace());
        run.command.uid(65534).gid(65534);
        run.args([stage.path("victim")]).args(["--victim=may:status"]).run()
    };
    let refused = ordinary("--allow net_raw --");
    assert_eq!(refused.shell_status(), 125, "{refused}");
    assert!(refused.stderr.contains("net_raw is not in the caller's permitted set"), "{refused}");
    assert!(refused.stderr.contains("--unshare user"), "{refused}");
    let given = Status::of(&ordinary("--unshare user --allow net_raw --"));
    assert_eq!((given.sets(), given.get("Uid")), ([0x2000; 5], "65534,65534,65534,65534"));
    let root = Status::of(&ordinary("--unshare user --map-root --allow net_raw,chown --"));
    assert_eq!((root.sets(), root.get("Uid")), ([0x2001, 0x2001, 0x2001, 0, 0], "0,0,0,0"));
    // Root has there what the bounding set of its own namespace lacks, and can be anybody.
    let all = (2 << last()) - 1;
    assert_eq!(stage.status("--unshare user --allow all").sets(), [all, all, all, 0, 0]);
    let user = stage.status("--unshare user --user 65534:12 --groups 7 --allow sys_resource");
    assert_eq!((user.sets(), user.get("Gid"), user.get("Groups")), ([1 << 24; 5], "12,12,12,12", "7"));
    assert_eq!(stage.status("--unshare user,pid --user 65534:12 --allow kill").sets(), [0x20; 5]);
}

fn users_of_the_new_root() {
    let stage = Stage::new();
    let root = stage.subdir("root");
    fs::create_dir(root.join("etc")).expect("etc");
    fs::write(root.join("etc/passwd"), "inside:x:4321:4322::/in:/bin/in\n").expect("passwd");
    fs::write(root.join("etc/group"), "inside:x:4322:\nmore:x:4323:inside\n").expect("group");
    fs::create_dir(root.join("proc")).expect("proc");
    fs::copy(stage.path("victim"), root.join("victim")).expect("copy of the victim");
    set_mode(&root, 0o755);
    let out = run(RCON)
        .args(["capcon", "--root"])
        .args([&root])
        .args("--proc --user inside --allow net_raw -- /victim --victim=may:status".split(' '))
        .run();
    let status = Status::of(&out);
    assert_eq!((status.get("Uid"), status.get("Groups")), ("4321,4321,4321,4321", "4322,4323"));
    assert_eq!(status.sets(), [0x2000; 5]);
    let out = run(RCON).args(["capcon", "--root"]).args([&root]).args(["--user", "daemon", "/victim"]).run();
    assert_eq!(out.shell_status(), 125, "{out}");
    assert!(out.stderr.contains("no user is called daemon in /etc/passwd"), "{out}");
}

fn learn_answers_exactly() {
    loopback();
    let stage = Stage::new();
    for args in ["--learn", "--learn --user 65534:65534", "--learn --no-new-privs=no --user 65534:65534"] {
        let file = stage.file("file");
        let out = stage.capcon(args, &format!("both:80:{}", file.display())).run();
        assert_eq!((out.shell_status(), out.stdout.as_str()), (0, "done\n"), "{out}");
        assert!(out.stderr.contains("it needs: --allow chown,net_bind_service\n"), "{out}");
        assert!(out.stderr.contains("  chown: victim, once\n"), "{out}");
        assert!(!out.stderr.contains("refused") && !out.stderr.contains("lost"), "{out}");
    }
    let out = stage.capcon("--learn", "status").run();
    assert!(out.stderr.contains("it needs: --allow none\n"), "{out}");
    // Children are followed, and what is refused is told apart.
    let deed = format!("exec:{}:ping", stage.path("victim").display());
    let out = stage.capcon("--learn --allow chown", &deed).run();
    assert_eq!(out.stdout, "EPERM\n", "{out}");
    assert!(out.stderr.contains("it needs: --allow none\n"), "{out}");
    assert!(out.stderr.contains("refused: net_raw: victim"), "{out}");
}

fn learn_verifies() {
    let stage = Stage::new();
    let file = stage.file("file");
    let out = stage.capcon("--learn --verify", &format!("chown:{}", file.display())).run();
    assert!(
        out.stderr.contains("verified: with --allow chown alone it ended the same way, with status 0"),
        "{out}"
    );
    assert_eq!(out.stdout, "done\ndone\n", "{out}");
    let line = format!("test -e {0}/twice && exit 9; echo > {0}/twice", stage.dir.path().display());
    let out = run(RCON).args(["capcon", "--learn", "--verify", "--", "sh", "-c", &line]).run();
    assert_eq!(out.shell_status(), 0, "the status is the first run's: {out}");
    assert!(out.stderr.contains("NOT verified: with --allow none alone it ended with status 9"), "{out}");
}

/// A change of owner in an overlay: what the kernel asks about it of the command is chown; that the file is copied up,
/// and all that overlayfs notes of it, it asks of who mounted the overlay. That is told apart, and the advice is enough.
fn learn_in_an_overlay() {
    let stage = Stage::new();
    let lower = stage.subdir("lower");
    set_mode(&lower, 0o755);
    for name in ["first", "second"] {
        fs::write(lower.join(name), "").expect("file");
    }
    // Memory: the directory for temporary files may be on an overlay, which cannot hold another one's writes.
    let memory = stage.subdir("memory");
    nix::mount::mount(None::<&str>, &memory, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
        .expect("tmpfs");
    let (upper, place) = (memory.join("upper"), stage.subdir("place"));
    let overlay = format!("{}:{}", lower.display(), place.display());
    let chown = |name: &str, args: &[&str]| {
        let deed = format!("--victim=may:chown:{}", place.join(name).display());
        run(RCON)
            .args(["capcon", "--overlay", &overlay, "--upper"])
            .args([&upper])
            .args(args)
            .args(["--".as_ref(), stage.path("victim").as_os_str()])
            .args([deed])
            .run()
    };
    let learned = chown("first", &["--learn"]);
    let enough = chown("second", &["--allow", "chown"]);
    let less = chown("second", &["--drop", "chown"]);
    nix::mount::umount(&memory).expect("umount");
    assert_eq!(learned.stdout, "done\n", "{learned}");
    assert!(learned.stderr.contains("it needs: --allow chown\n"), "{learned}");
    assert!(learned.stderr.contains("asked of who mounted the overlay"), "{learned}");
    assert!(
        learned.stderr.lines().any(|line| line.contains("not counted") && line.contains("sys_admin")),
        "{learned}"
    );
    assert_eq!((enough.stdout.as_str(), less.stdout.as_str()), ("done\n", "EPERM\n"), "{enough}{less}");
}

/// Tracing instances and probes of ours that are there now.
fn traces(stage: &Stage) -> Vec<String> {
    let place = stage.path("tracefs");
    fs::create_dir_all(&place).expect("directory");
    nix::mount::mount(Some("tracefs"), &place, Some("tracefs"), nix::mount::MsFlags::empty(), None::<&str>)
        .expect("mount tracefs");
    let mut found: Vec<String> = fs::read_dir(place.join("instances"))
        .expect("instances")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("rcon-learn-"))
        .collect();
    let probes = fs::read_to_string(place.join("kprobe_events")).unwrap_or_default();
    found.extend(probes.lines().filter(|line| line.contains(":rcon_")).map(str::to_owned));
    nix::mount::umount(&place).expect("umount");
    found
}

fn learn_leaves_nothing() {
    let stage = Stage::new();
    assert_eq!(traces(&stage), Vec::<String>::new());
    let out = stage.capcon("--learn", "status").run();
    assert_eq!((out.shell_status(), traces(&stage)), (0, Vec::new()), "{out}");
    let out = run(RCON).args(["--learn", "--", "/nonexistent/command"]).run();
    assert_eq!((out.shell_status(), traces(&stage)), (127, Vec::new()), "{out}");
    use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
    for (keeper, signal) in [(false, SIGTERM), (false, SIGKILL), (true, SIGKILL)] {
        let mut running = run(RCON).args(["--learn", "--", "sh", "-c", "echo ready; exec sleep 600"]).start();
        running.wait_for("ready");
        assert!(!traces(&stage).is_empty(), "it is there while the command runs");
        let front = running.child.id();
        let children = fs::read_to_string(format!("/proc/{front}/task/{front}/children")).expect("children");
        let victim = if keeper { children.trim().parse().expect("one child") } else { front as i32 };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim), signal).expect("kill");
        running.finish();
        // Whoever goes on without us needs a moment.
        for _ in 0..250 {
            if traces(&stage).is_empty() {
                break;
            }
            std::thread::sleep(crate::support::slow(std::time::Duration::from_millis(20)));
        }
        assert_eq!(traces(&stage), Vec::<String>::new(), "after {signal}, keeper: {keeper}");
    }
    // Both at once: nobody is left to remove it but whoever comes next.
    for next in [&["gc"][..], &["--learn", "--", "true"]] {
        let mut running = run(RCON).args(["--learn", "--", "sh", "-c", "echo ready; exec sleep 600"]).start();
        running.wait_for("ready");
        crate::groups::kill_both(running.child.id());
        running.finish();
        assert!(!traces(&stage).is_empty(), "it is left when both are killed");
        let dry = run(RCON).args(["gc", "--dry-run"]).run();
        assert!(dry.stdout.contains("would remove tracing instance rcon-learn-"), "{dry}");
        let out = run(RCON).args(next).run();
        assert_eq!((out.shell_status(), traces(&stage)), (0, Vec::new()), "{out}");
    }
}

/// Options drawn from all that there are.
fn combination() -> impl Strategy<Value = Vec<String>> {
    let list = || {
        prop_oneof![
            Just("none".to_owned()),
            Just("all".to_owned()),
            proptest::collection::btree_set(0_u8..41, 1..5).prop_map(|set| set
                .iter()
                .map(u8::to_string)
                .collect::<Vec<_>>()
                .join(",")),
        ]
    };
    let option = |name: &'static str| list().prop_map(move |list| format!("--{name}={list}"));
    let bits = prop_oneof![
        Just("--securebits=noroot"),
        Just("--securebits=no-setuid-fixup"),
        Just("--securebits=no-cap-ambient-raise,no-cap-ambient-raise-locked"),
        Just("--securebits=noroot,no-setuid-fixup,keep-caps"),
    ];
    let user = prop_oneof![Just("--user=65534:65534"), Just("--user=0:0"), Just("--user=12:12")];
    let nnp = prop_oneof![Just("--no-new-privs=yes"), Just("--no-new-privs=no")];
    let words = |word: &str| word.to_owned();
    (
        proptest::option::of(option("allow")),
        proptest::option::weighted(0.3, option("drop")),
        proptest::collection::vec(
            prop_oneof![
                option("bounding"),
                option("permitted"),
                option("effective"),
                option("inheritable"),
                option("ambient")
            ],
            0..3,
        ),
        proptest::option::weighted(0.3, bits.prop_map(words)),
        proptest::option::of(user.prop_map(words)),
        proptest::option::of(nnp.prop_map(words)),
    )
        .prop_map(|(allow, drop, sets, bits, user, nnp)| {
            allow.into_iter().chain(drop).chain(sets).chain(bits).chain(user).chain(nnp).collect()
        })
}

fn any_combination_obeys() {
    let stage = Stage::new();
    let lab = Need::Lab.unmet().is_none();
    let cases = if lab { 20 } else { 300 };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let (ran, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let outcome = runner.run(&combination(), |options| {
        let args = options.join(" ");
        let out = stage.capcon(&args, "status").run();
        if out.shell_status() == 125 {
            // Refused before anything ran, by a rule that is named: not by the kernel.
            prop_assert!(out.stdout.is_empty() && out.stderr.starts_with("capcon: "), "{}", out);
            prop_assert!(!out.stderr.contains("the child failed"), "{}", out);
            refused.set(refused.get() + 1);
            return Ok(());
        }
        ran.set(ran.get() + 1);
        let [permitted, effective, bounding, inheritable, ambient] = Status::of(&out).sets();
        prop_assert_eq!(effective & !permitted, 0, "effective within permitted: {}", out);
        prop_assert_eq!(ambient & !(permitted & inheritable), 0, "ambient within both: {}", out);
        prop_assert_eq!(permitted & !(bounding | inheritable | ambient), 0, "nothing from nowhere: {}", out);
        let explained = stage.capcon(&format!("{args} --explain=json"), "status").run();
        let json: serde_json::Value = serde_json::from_str(&explained.stdout).expect("JSON");
        if let Some(sets) = json["capabilities"].as_object() {
            for (name, real) in [
                ("permitted", permitted),
                ("effective", effective),
                ("bounding", bounding),
                ("inheritable", inheritable),
                ("ambient", ambient),
            ] {
                let names: Vec<&str> =
                    sets[name].as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
                let told = rcon::capabilities::list(&if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(",")
                });
                prop_assert_eq!(
                    told.map(|list| list.named),
                    Ok(real),
                    "{} is not as told: {}\n{}",
                    name,
                    out,
                    explained
                );
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    // About one in four is refused: of 20 it may be none.
    let both = ran.get() > cases / 8 && (lab || refused.get() > 0);
    assert!(both, "ran {}, refused {}", ran.get(), refused.get());
}
