//! Where systemd is init: a run lives in a scope of its own, which systemd knows of, shows and can stop, and which
//! is gone when the run is. No limit of a service is left for it.

use crate::{
    anywhere::{gone, keeper},
    case::Case,
    groups::{command_of, group_of},
    needs::Need,
    place::users,
    support::{RCON, Run, Started, rcon, run, slow, victim_line},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("systemd::a_scope_of_its_own", &[Need::Scope], a_scope_of_its_own),
        Case::new("systemd::a_controller_more", &[Need::Scope], || a_controller_more(&[RCON])),
        Case::new("systemd::a_controller_more_by_root", &[Need::Scope, Need::Sudo { pty: false }], || {
            a_controller_more(&["sudo", "-n", RCON]);
        }),
        Case::new("systemd::explain_makes_none", &[Need::Scope], explain_makes_none),
        Case::new("systemd::stopping_the_scope_stops_us", &[Need::Scope], stopping_the_scope_stops_us),
        Case::new("systemd::stopped_with_its_service", &[Need::Scope], stopped_with_its_service),
        Case::new("systemd::killed_front", &[Need::Scope], || killed(|front| front)),
        Case::new("systemd::killed_keeper", &[Need::Scope], || {
            killed(|front| keeper(front.as_raw() as u32).expect("a keeper"))
        }),
        Case::new("systemd::within_itself", &[Need::Scope], within_itself),
        Case::new("systemd::a_shared_group_is_refused", &[Need::Scope], a_shared_group_is_refused),
        Case::new("systemd::names", &[Need::Scope], names),
        Case::new(
            "systemd::one_socket_is_enough",
            &[Need::Scope, Need::Root, Need::Tool("unshare")],
            one_socket_is_enough,
        ),
        Case::new("systemd::a_delegated_scope_is_used", &[Need::Systemd], a_delegated_scope_is_used),
        Case::new(
            "systemd::the_journal_has_it",
            &[Need::Systemd, Need::Root, Need::V2("pids")],
            the_journal_has_it,
        ),
        Case::new(
            "systemd::a_wrapped_systemd_run",
            &[Need::Systemd, Need::V2("pids")],
            a_wrapped_systemd_run,
        ),
        Case::new(
            "systemd::a_services_limit_is_not_left",
            &[Need::Systemd, Need::Root],
            a_services_limit_is_not_left,
        ),
        Case::new(
            "systemd::a_delegated_services_limit_holds",
            &[Need::Systemd, Need::Root],
            a_delegated_services_limit_holds,
        ),
    ]
}

fn systemctl(words: &[&str]) -> String {
    let out = run("systemctl").args(users()).args(words).run();
    out.stdout.trim().to_owned()
}

/// The scope that the process is in.
fn scope_of(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    let scope = text.trim().split('/').find(|part| part.starts_with("rcon-") && part.ends_with(".scope"));
    scope.unwrap_or_else(|| panic!("no scope of ours in {text}")).to_owned()
}

/// systemd has forgotten it; a unit that it has loaded, or failed, is seen.
fn forgotten(unit: &str) {
    let deadline = Instant::now() + slow(Duration::from_secs(5));
    while systemctl(&["show", "-p", "LoadState", "--value", unit]) != "not-found" {
        assert!(Instant::now() < deadline, "{}", systemctl(&["status", unit]));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(systemctl(&["list-units", "--all", "--plain", "--no-legend", "rcon-*.scope"]), "");
}

fn sleeping(options: &[&str]) -> (Started, String) {
    let mut started = rcon(options).args(["--", "sh", "-c", "echo up; sleep 12345; :"]).start();
    started.wait_for("up");
    let unit = scope_of(started.child.id());
    (started, unit)
}

fn a_scope_of_its_own() {
    let (started, unit) = sleeping(&["--mem", "64M", "--pids", "16"]);
    let front = started.child.id();
    assert!(unit.starts_with(&format!("rcon-{front}-")), "{unit}");
    assert_eq!(systemctl(&["show", "-p", "Delegate", "--value", &unit]), "yes");
    let status = systemctl(&["status", &unit]);
    assert!(status.contains("sh -c echo up; sleep 12345") && status.contains("active (running)"), "{status}");
    // The command is in its tree, not only in the description.
    assert!(status.matches("sleep 12345").count() >= 2, "{status}");
    let tree = run("systemd-cgls").args(["--no-pager", "--full"]).run().stdout;
    let below = tree.split(&unit).nth(1).unwrap_or_else(|| panic!("no {unit} in {tree}"));
    assert!(below.contains("sleep 12345"), "{tree}");
    kill(Pid::from_raw(front as i32), Signal::SIGTERM).expect("kill");
    let out = started.finish();
    assert_eq!((out.shell_status(), out.stderr.as_str()), (143, ""), "{out}");
    forgotten(&unit);
}

/// The scope has only the controllers that the run asked for; one that `set` needs later is had from systemd.
fn a_controller_more(rcon_set: &[&str]) {
    let mut started = rcon(["--pids", "16", "--", "sh", "-c", "echo up; while :; do :; done"]).start();
    started.wait_for("up");
    let unit = scope_of(started.child.id());
    let name = unit.trim_start_matches("rcon-").trim_end_matches(".scope");
    let given = systemctl(&["show", "-p", "DelegateControllers", "--value", &unit]);
    assert_eq!(given, "pids");
    let [program, words @ ..] = rcon_set else { panic!("no program") };
    let out = run(program).args(words).args(["set", name, "--cpu", "10%"]).run();
    assert_eq!(out.shell_status(), 0, "{out}");
    let stat = group_of(command_of(started.child.id()), "cpu").join("cpu.stat");
    let throttled = || {
        let text = fs::read_to_string(&stat).expect("cpu.stat");
        let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).map(str::parse::<u64>);
        line.expect("it is limited").expect("a number")
    };
    let deadline = Instant::now() + slow(Duration::from_secs(5));
    while throttled() == 0 {
        assert!(Instant::now() < deadline, "never throttled");
        thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(started.child.id() as i32), Signal::SIGTERM).expect("kill");
    let out = started.finish();
    assert_eq!((out.shell_status(), out.stderr.as_str()), (143, ""), "{out}");
    forgotten(&unit);
}

fn explain_makes_none() {
    let out = rcon(["--explain", "--mem", "64M", "--", "true"]).run();
    assert_eq!(out.status.code(), Some(0), "{out}");
    for words in ["in a scope that systemd makes for it: ", "has not delegated it", "put rcon itself into"] {
        assert!(out.stdout.contains(words), "{words:?} is missing: {out}");
    }
    assert_eq!(systemctl(&["list-units", "--all", "--plain", "--no-legend", "rcon-*.scope"]), "");
}

fn stopping_the_scope_stops_us() {
    let (started, unit) = sleeping(&["--mem", "64M"]);
    let out = run("systemctl").args(users()).args(["stop", &unit]).run();
    assert!(out.status.success(), "{out}");
    let front = started.child.id();
    let out = started.finish();
    assert_eq!(out.shell_status(), 143, "{out}");
    gone(front, "12345");
    forgotten(&unit);
}

fn killed(whom: fn(Pid) -> Pid) {
    let (started, unit) = sleeping(&["--mem", "64M", "--pids", "16"]);
    let front = started.child.id();
    kill(whom(Pid::from_raw(front as i32)), Signal::SIGKILL).expect("kill");
    assert_eq!(started.finish().shell_status(), 137);
    gone(front, "12345");
    forgotten(&unit);
}

/// The inner run finds the outer one's group to be its own, and asks nobody.
fn within_itself() {
    let out = rcon(["--pids", "40", "--", RCON, "--pids", "12", "--"]).victim("forks:40").run();
    assert_eq!(out.stdout, "forks ok=11 err=EAGAIN\n", "{out}");
    let line = "cat /proc/self/cgroup";
    let out = rcon(["--pids", "40", "--", RCON, "--pids", "30", "--", "sh", "-c", line]).run();
    assert_eq!(out.stdout.matches(".scope/rcon-").count(), 1, "{out}");
}

fn a_shared_group_is_refused() {
    let out = rcon(["--group", "both", "--mem", "64M", "--", "echo", "ran"]).run();
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(125), ""), "{out}");
    assert!(out.stderr.contains("\ntry: systemd-run"), "{out}");
    assert_eq!(out.stderr.lines().count(), 2, "{out}");
}

fn names() {
    let (started, unit) = sleeping(&["--mem", "64M", "--name", "na+me"]);
    assert_eq!(unit, "rcon-na_me.scope");
    let second = rcon(["--mem", "64M", "--name", "na+me", "--", "echo", "ran"]).run();
    assert_eq!((second.status.code(), second.stdout.as_str()), (Some(125), ""), "{second}");
    assert_eq!(rcon(["kill", "na+me"]).run().status.code(), Some(0));
    started.finish();
    forgotten(&unit);
}

/// Either may be down, or not reach into a mount namespace: the other serves. With neither it is said.
fn one_socket_is_enough() {
    let without = |sockets: &[&str]| {
        let gone: String =
            sockets.iter().map(|socket| format!("mount --bind /dev/null {socket} && ")).collect();
        let line = format!("{gone}exec \"$0\" \"$@\"");
        run("unshare")
            .args(["--mount", "sh", "-c", &line, RCON, "--pids", "12", "--"])
            .victim("forks:40")
            .run()
    };
    let (own, bus) = ("/run/systemd/private", "/run/dbus/system_bus_socket");
    for one in [own, bus] {
        let out = without(&[one]);
        assert_eq!(out.stdout, "forks ok=11 err=EAGAIN\n", "without {one}: {out}");
    }
    let out = without(&[own, bus]);
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(125), ""), "{out}");
    assert!(out.stderr.contains("systemd's bus cannot be reached"), "{out}");
    assert_eq!(out.stderr.lines().count(), 2, "{out}");
}

/// A service of 100 MB in which rcon is told to give 1 GB.
fn service(more: &[&str]) -> crate::support::Output {
    let [program, role] = victim_line("alloc:200M");
    service_of(more, &["--mem", "1G"]).args([program, role]).run()
}

fn service_of(more: &[&str], options: &[&str]) -> Run {
    run("systemd-run")
        .args(["--quiet", "--wait", "--pipe", "--collect", "-p", "MemoryMax=100M", "-p", "MemorySwapMax=0"])
        .args(more)
        .args(["--", RCON])
        .args(options)
        .args(["--swap", "0", "--"])
}

fn a_services_limit_is_not_left() {
    let out = service(&[]);
    assert_eq!((out.status.code(), out.stdout.as_str()), (Some(125), ""), "{out}");
    for words in ["--mem 1G: ", "memory.max=104857600", "Delegate=yes", "--allow-escape"] {
        assert!(out.stderr.contains(words), "{words:?} is missing: {out}");
    }
    assert_eq!(out.stderr.lines().count(), 2, "{out}");
    // Asked for, it is left: ours alone holds then.
    let [program, role] = victim_line("alloc:200M");
    let escape = service_of(&[], &["--mem", "100M", "--allow-escape"]).args([&program, &role]).run();
    assert!(escape.stderr.contains("out of memory") && !escape.stdout.contains("done"), "{escape}");
    let escape = service_of(&[], &["--mem", "1G", "--allow-escape"]).args([&program, &role]).run();
    assert_eq!((escape.status.code(), escape.stdout.as_str()), (Some(0), "alloc done\n"), "{escape}");
}

/// The scope stands beside the service, and ends with it all the same.
fn stopped_with_its_service() {
    let (unit, tag) = (format!("lab-around-{}", std::process::id()), crate::anywhere::tag(31));
    let service = ["--quiet", "--collect", "--unit", &unit, "--", RCON, "--pids", "40", "--", "sleep", &tag];
    let out = run("systemd-run").args(users()).args(service).run();
    assert!(out.status.success(), "{out}");
    let command = crate::groups::until("it does not sleep", || {
        let own = |pid: &Pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name == "sleep\n")
        };
        crate::anywhere::processes(&tag).into_iter().find(own)
    });
    let scope = scope_of(command.as_raw() as u32);
    let front = systemctl(&["show", "-p", "MainPID", "--value", &unit]).parse().expect("a process");
    let out = run("systemctl").args(users()).args(["stop", &unit]).run();
    assert!(out.status.success(), "{out}");
    gone(front, &tag);
    forgotten(&scope);
}

fn a_delegated_services_limit_holds() {
    let out = service(&["-p", "Delegate=yes"]);
    assert!(!out.stdout.contains("done"), "{out}");
    assert!(out.stderr.contains("out of memory"), "{out}");
    // What systemd-run says of a service that was killed.
    assert_eq!(out.shell_status(), 255, "{out}");
}

/// The journal files each line under the unit of the process that wrote it: that of the service where our group is below
/// it (`Delegate=yes`), else of the scope.
fn the_journal_has_it() {
    for delegate in ["yes", "no"] {
        let unit = format!("lab-journal-{}-{delegate}", std::process::id());
        // Who has gone before the journal looks is in no unit any more.
        let line = "echo said-$0-out; echo said-$0-err >&2; journalctl --sync && exit 7";
        let out = run("systemd-run")
            .args(["--quiet", "--wait", "--collect", "--unit", &unit, "-p"])
            .args([format!("Delegate={delegate}")])
            .args(["--", RCON, "--pids", "40", "--", "sh", "-c", line, &unit])
            .run();
        assert_eq!(out.status.code(), Some(7), "{out}");
        assert!(run("journalctl").args(["--sync"]).run().status.success());
        let scopes: &[&str] = if delegate == "no" { &["-u", "rcon-*.scope"] } else { &[] };
        let said = run("journalctl").args(["--no-pager", "-o", "cat", "-u", &unit]).args(scopes).run();
        for word in ["out", "err"] {
            assert!(said.stdout.contains(&format!("said-{unit}-{word}\n")), "Delegate={delegate}: {said}");
        }
    }
}

/// A service is systemd's child and in its own group: its output and status come through, our limits are not its. A scope
/// is our command's child, wherever its group is: it ends with the run.
fn a_wrapped_systemd_run() {
    let wrapped = |kind: &[&str], line: &str| {
        let mut run = rcon(["--pids", "40", "--", "systemd-run"]);
        run.command.args(users());
        run.args(["--quiet", "--collect"]).args(kind).args(["--", "sh", "-c", line]).run()
    };
    let out = wrapped(&["--wait", "--pipe"], "echo in; exit 7");
    assert_eq!((out.status.code(), out.stdout.as_str(), out.stderr.as_str()), (Some(7), "in\n", ""), "{out}");
    let unit = format!("lab-wrapped-{}.scope", std::process::id());
    let tag = crate::anywhere::tag(30);
    let out = wrapped(
        &["--scope", "--unit", &unit],
        &format!("cat /proc/self/cgroup; setsid sleep {tag} >/dev/null 2>&1 & exit 5"),
    );
    assert_eq!(out.status.code(), Some(5), "{out}");
    assert!(out.stdout.trim().ends_with(&format!("/{unit}")), "{out}");
    gone(0, &tag);
    forgotten(&unit);
}

/// As our own messages advise. A limit of the scope holds beside ours, and no second scope is asked for.
fn a_delegated_scope_is_used() {
    let within = |line: &[&str]| {
        let mut run =
            run("systemd-run").args(users()).args(["--scope", "--quiet", "--collect", "-p", "Delegate=yes"]);
        run = run.args(["-p", "MemoryMax=100M", "-p", "MemorySwapMax=0", "--", RCON]);
        run.args(line)
    };
    let out = within(&["--pids", "16", "--", "cat", "/proc/self/cgroup"]).run();
    assert!(out.stdout.contains("/run-r") && out.stdout.contains("/rcon-"), "{out}");
    assert_eq!(out.stdout.matches(".scope").count(), 1, "{out}");
    let [program, role] = victim_line("alloc:200M").map(|word| word.into_string().expect("text"));
    let out = within(&["--mem", "1G", "--swap", "0", "--", &program, &role]).run();
    assert_eq!(out.shell_status(), 137, "{out}");
}
