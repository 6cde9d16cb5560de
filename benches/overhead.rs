//! What the wrapper costs: whole processes, interleaved round by round, as ratios to the floor.
//!
//! `cargo bench --bench overhead [-- ROUNDS] [--only WORD] [--gap-rounds N]`. Each table is measured in two
//! regimes: back to back, and after a pause of 60 ms, which is what a person sees: some ways into a group pay a
//! grace period of 10 ms only then.

#[path = "common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{at, build_floors, find, floor_groups, installed, small_root};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const PAUSE: Duration = Duration::from_millis(60);

struct Contestant {
    name: String,
    argv: Vec<String>,
}

struct Table {
    title: &'static str,
    /// The first is the yardstick.
    rows: Vec<Contestant>,
}

struct Options {
    rounds: usize,
    gap_rounds: usize,
    only: Option<String>,
    /// Build the floors and list them, nothing else.
    floors: bool,
}

fn main() {
    let options = options();
    let rcon = PathBuf::from(env!("CARGO_BIN_EXE_rcon"));
    let floors = build_floors();
    if options.floors {
        floors.iter().for_each(|(_, path)| println!("{}", path.display()));
        return;
    }
    let floors: Vec<_> = floors.iter().map(|(name, path)| (*name, installed(path))).collect();
    for table in tables(&rcon, &floors) {
        if options.only.as_ref().is_some_and(|word| !table.title.contains(word.as_str())) {
            continue;
        }
        run(&table, options.rounds, Duration::ZERO);
        run(&table, options.gap_rounds, PAUSE);
    }
    if options.only.as_ref().is_none_or(|word| ENDING.contains(word.as_str())) {
        ending(&rcon, &floors, options.gap_rounds);
    }
}

const ENDING: &str = "the end of a group of 1,000 processes";

/// From the floor's order, or from the command's end, to the end of all.
fn ending(rcon: &Path, floors: &[(&'static str, PathBuf)], rounds: usize) {
    let groups = floor_groups(&rcon.display().to_string()).filter(|groups| pass_controllers_on(groups));
    let (Some(groups), Some((_, floor))) = (groups, floors.first()) else { return };
    let Some(version) = groups.first() else { return };
    let pids = groups.iter().find_map(|word| word.strip_prefix("pids="));
    let Some(dir) = pids.or(groups.get(1).map(String::as_str).filter(|_| version == "v2")) else { return };
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    let number = |out: &[u8]| String::from_utf8_lossy(out).trim().parse::<f64>().unwrap_or(f64::NAN);
    for _ in 0..rounds {
        let out = Command::new(floor).args(["kill", version, dir, "1000"]).output().expect("the floor runs");
        floors.push(number(&out.stdout));
        let mut run = Command::new(rcon);
        run.args(["--pids", "5000", "--"]).arg(floor).args(["sleepers", "1000", "x"]);
        let out = run.output().expect("rcon runs");
        let end = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
        ours.push(end.num_nanoseconds() as f64 / 1e3 - number(&out.stdout));
    }
    println!("\n{ENDING}");
    let (floor, rcon) = (at(&floors, 50), at(&ours, 50));
    println!("floor {floor:.0} us  rcon {rcon:.0} us  ratio {:.3}", rcon / floor);
}

fn options() -> Options {
    let mut options = Options { rounds: 300, gap_rounds: 40, only: None, floors: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--floors" => options.floors = true,
            "--only" => options.only = words.next(),
            "--gap-rounds" => options.gap_rounds = words.next().and_then(|n| n.parse().ok()).unwrap_or(40),
            // `cargo bench` adds this for harnesses that know it.
            "--bench" => {}
            number => options.rounds = number.parse().unwrap_or(options.rounds),
        }
    }
    options
}

fn contestant(name: &str, words: &[&str]) -> Contestant {
    Contestant { name: name.to_owned(), argv: words.iter().map(|word| (*word).to_owned()).collect() }
}

/// One row for each build of ours.
fn ours(name: &str, builds: &[(&str, String)], words: &[&str]) -> Vec<Contestant> {
    builds
        .iter()
        .map(|(build, path)| contestant(&format!("{name}{build}"), &[&[path.as_str()], words].concat()))
        .collect()
}

fn tables(rcon: &Path, floors: &[(&'static str, PathBuf)]) -> Vec<Table> {
    // The musl build of the same profile, where somebody has made it.
    let musl = PathBuf::from(rcon.to_string_lossy().replace("-unknown-linux-gnu", "-unknown-linux-musl"));
    let mut builds = vec![("", rcon)];
    if musl != rcon && musl.exists() {
        builds.push((" (musl)", &musl));
    }
    let builds: Vec<(&str, String)> =
        builds.into_iter().map(|(name, path)| (name, installed(path).display().to_string())).collect();
    let rcon = rcon.display().to_string();
    let truth = find("true").unwrap_or_else(|| "/bin/true".to_owned());
    let mut out = Vec::new();
    match floor_groups(&rcon).filter(|groups| pass_controllers_on(groups)) {
        Some(groups) => out.push(limits_table(&builds, floors, &groups, &truth)),
        // Where only systemd makes groups there is no floor, and what asks it as we do is the yardstick.
        None => match systemd_run(&truth) {
            Some(yardstick) => {
                let mut rows = vec![yardstick];
                rows.extend(ours("rcon", &builds, &[&LIMITS[..], &["--", &truth]].concat()));
                out.push(Table { title: "scope: --cpu 30% --mem 256M --pids 64 -- true", rows });
            }
            None => println!("limits: left out, because rcon cannot make groups here"),
        },
    }
    let mut plain = Table { title: "no group: -- true", rows: Vec::new() };
    for (name, path) in floors {
        let path = path.display().to_string();
        plain.rows.push(contestant(name, &[&path, "run", "--", &truth]));
        plain.rows.push(contestant(&kept(name), &[&path, "kept", "run", "--", &truth]));
    }
    plain.rows.extend(ours("rcon", &builds, &["--", &truth]));
    plain.rows.push(contestant("true alone", &[&truth]));
    out.push(plain);
    if let Some(timeout) = find("timeout") {
        let mut rows = vec![contestant("timeout(1)", &[&timeout, "60", &truth])];
        rows.extend(ours("rcon", &builds, &["--timeout", "1m", "--", &truth]));
        out.push(Table { title: "time limit: --timeout 1m -- true", rows });
    }
    out.extend(no_capabilities_table(&builds, &truth));
    out.extend(capabilities_table(&builds, &truth));
    if let Some(bwrap) = find("bwrap") {
        out.push(cage_table("cage: --unshare all --root / -- true", &bwrap, &builds, "/", &truth));
        if let Some(root) = small_root() {
            out.push(cage_table("cage: --unshare all --root R -- true", &bwrap, &builds, &root, "/true"));
        }
    }
    out
}

fn cage_table(title: &'static str, bwrap: &str, builds: &[(&str, String)], root: &str, truth: &str) -> Table {
    let theirs = [bwrap, "--unshare-all", "--bind", root, "/", "--proc", "/proc", truth];
    let mut rows = vec![contestant("bwrap", &theirs)];
    rows.extend(ours("rcon", builds, &["--unshare", "all", "--root", root, "--proc", "--", truth]));
    Table { title, rows }
}

/// The floor with a process between the caller's and the command, as rcon has one: what a run can cost at the least
/// that leaves nothing behind whichever of its processes is killed.
fn kept(floor: &str) -> String {
    format!("{floor} kept")
}

/// No capability at all.
fn no_capabilities_table(builds: &[(&str, String)], truth: &str) -> Option<Table> {
    let setpriv = find("setpriv")?;
    let none = ["--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs", truth];
    let mut rows = vec![contestant("setpriv(1)", &[&[setpriv.as_str()], &none[..]].concat())];
    rows.extend(ours("capcon", builds, &["capcon", "--allow", "none", "--", truth]));
    Some(Table { title: "capabilities: --allow none -- true", rows })
}

/// On v2 the floor needs a parent that passes its controllers on already, as most systems have it; in a guest, whose
/// root group is nobody else's, that is done here. (Where it is not so, rcon enables them and takes them back each
/// time, which costs far more than all else.)
fn pass_controllers_on(groups: &[String]) -> bool {
    let [version, parent] = groups else { return true };
    let file = Path::new(parent).join("cgroup.subtree_control");
    if version == "v2" && std::env::var_os("RCON_SLOW").is_some() {
        std::fs::write(&file, "+cpu +memory +pids").is_ok()
    } else {
        // No such file: nothing is passed on.
        let has = std::fs::read_to_string(&file).unwrap_or_default();
        version != "v2"
            || ["cpu", "memory", "pids"].iter().all(|name| has.split_whitespace().any(|one| one == *name))
    }
}

/// One capability and no other, with the set-user-ID way to more closed.
fn capabilities_table(builds: &[(&str, String)], truth: &str) -> Option<Table> {
    let setpriv = find("setpriv")?;
    let only = "-all,+net_bind_service";
    let mut rows = vec![contestant(
        "setpriv(1)",
        &[&setpriv, "--bounding-set", only, "--inh-caps", only, "--no-new-privs", truth],
    )];
    if let Some(capsh) = find("capsh") {
        // All that this process has but that one, as capsh wants them: the names of those to drop.
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?.trim();
        let mask = u64::from_str_radix(mask, 16).ok()? & !(1 << 10);
        let names: Vec<String> = rcon::capabilities::numbers(mask)
            .map(|number| format!("cap_{}", rcon::capabilities::name(number)))
            .collect();
        let drop = format!("--drop={}", names.join(","));
        rows.push(contestant(
            "capsh(1)",
            &[&capsh, &drop, "--no-new-privs", "--", "-c", &format!("exec {truth}")],
        ));
    }
    rows.extend(ours("capcon", builds, &["capcon", "--allow", "net_bind_service", "--", truth]));
    Some(Table { title: "capabilities: --allow net_bind_service -- true", rows })
}

const LIMITS: [&str; 6] = ["--cpu", "30%", "--mem", "256M", "--pids", "64"];

/// The same limits on a scope, where systemd is init. Its own work is not in the CPU time.
fn systemd_run(truth: &str) -> Option<Contestant> {
    let systemd_run = find("systemd-run").filter(|_| Path::new("/run/systemd/system").exists())?;
    let limits = ["-p", "CPUQuota=30%", "-p", "MemoryMax=256M", "-p", "TasksMax=64"];
    Some(contestant(
        "systemd-run --scope",
        &[&[&*systemd_run, "-q", "--scope"], &limits[..], &[truth]].concat(),
    ))
}

fn limits_table(
    builds: &[(&str, String)],
    floors: &[(&'static str, PathBuf)],
    groups: &[String],
    truth: &str,
) -> Table {
    let mut rows = Vec::new();
    for (name, path) in floors {
        let mut argv = vec![path.display().to_string()];
        argv.extend(groups.iter().cloned());
        argv.extend(["--".to_owned(), truth.to_owned()]);
        let mut with_keeper = argv.clone();
        with_keeper.insert(1, "kept".to_owned());
        rows.push(Contestant { name: (*name).to_owned(), argv });
        rows.push(Contestant { name: kept(name), argv: with_keeper });
    }
    rows.extend(ours("rcon", builds, &[&LIMITS[..], &["--", truth]].concat()));
    rows.extend(by_hand(groups, truth));
    rows.extend(systemd_run(truth));
    Table { title: "limits: --cpu 30% --mem 256M --pids 64 -- true", rows }
}

/// What people write where they have no wrapper: a shell script on cgroupfs, and libcgroup's tools.
fn by_hand(groups: &[String], truth: &str) -> Vec<Contestant> {
    const V1: &str = "c=$1 m=$2 p=$3 n=by-hand-$$; shift 3; mkdir $c/$n $m/$n $p/$n
echo 30000 >$c/$n/cpu.cfs_quota_us; echo 268435456 >$m/$n/memory.limit_in_bytes; echo 64 >$p/$n/pids.max
sh -c 'for d in $0; do echo $$ >$d/cgroup.procs; done; exec \"$@\"' \"$c/$n $m/$n $p/$n\" \"$@\"; s=$?
rmdir $c/$n $m/$n $p/$n; exit $s";
    const V2: &str = "g=$1/by-hand-$$; shift; mkdir $g
echo '30000 100000' >$g/cpu.max; echo 268435456 >$g/memory.max; echo 64 >$g/pids.max
sh -c 'echo $$ >$0/cgroup.procs; exec \"$@\"' $g \"$@\"; s=$?; rmdir $g; exit $s";
    // One cgdelete of several controllers leaves groups behind.
    const TOOLS: &str = "n=by-hand-$$ c=cpu:${1#*/cpu}/by-hand-$$ m=memory:${2#*/memory}/by-hand-$$ p=pids:${3#*/pids}/by-hand-$$
shift 3; cgcreate -g $c -g $m -g $p
cgset -r cpu.cfs_quota_us=30000 ${c#*:}; cgset -r memory.limit_in_bytes=256M ${m#*:}; cgset -r pids.max=64 ${p#*:}
cgexec -g $c -g $m -g $p \"$@\"; s=$?; cgdelete -g $c; cgdelete -g $m; cgdelete -g $p; exit $s";
    let parents: Vec<&str> = groups
        .iter()
        .skip(1)
        .map(|group| group.split_once('=').map_or(group.as_str(), |(_, path)| path))
        .collect();
    let script = |name: &str, text: &str| {
        contestant(name, &[&["sh", "-c", text, "sh"], parents.as_slice(), &[truth]].concat())
    };
    match groups.first().map(String::as_str) {
        Some("v1") if parents.len() == 3 => {
            let tools = find("cgexec").map(|_| script("cgcreate ... cgexec", TOOLS));
            [Some(script("shell script", V1)), tools].into_iter().flatten().collect()
        }
        Some("v2") => vec![script("shell script", V2)],
        _ => Vec::new(),
    }
}

struct Sample {
    wall_us: f64,
    cpu_us: f64,
}

fn children_cpu_us() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("RUSAGE_CHILDREN is always there");
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64
}

/// `Err`: why there is nothing to compare.
fn once(contestant: &Contestant) -> Result<Sample, String> {
    let (program, arguments) = contestant.argv.split_first().ok_or("no program")?;
    let cpu = children_cpu_us();
    let start = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("{program}: {error}"))?;
    let wall_us = start.elapsed().as_secs_f64() * 1e6;
    if status.success() {
        Ok(Sample { wall_us, cpu_us: children_cpu_us() - cpu })
    } else {
        Err(status.to_string())
    }
}

fn run(table: &Table, rounds: usize, pause: Duration) {
    let regime =
        if pause.is_zero() { "back to back".to_owned() } else { format!("after {} ms", pause.as_millis()) };
    println!("\n{} ({regime}, {rounds} rounds)", table.title);
    println!(
        "{:<22} {:>9} {:>9} {:>9} {:>8} {:>15} {:>8}",
        "", "wall us", "p95", "cpu us", "ratio", "quartiles", "cpu"
    );
    let mut samples: Vec<Vec<Sample>> = table.rows.iter().map(|_| Vec::new()).collect();
    let mut failed = vec![None; table.rows.len()];
    for round in 0..rounds + 3 {
        for (i, contestant) in table.rows.iter().enumerate() {
            std::thread::sleep(pause);
            match once(contestant) {
                // The first rounds warm the caches.
                Ok(sample) if round >= 3 => samples[i].push(sample),
                Ok(_) => {}
                Err(why) => failed[i] = Some(why),
            }
        }
    }
    let floor_cpu: Vec<f64> = samples[0].iter().map(|sample| sample.cpu_us).collect();
    for (i, contestant) in table.rows.iter().enumerate() {
        if let Some(why) = &failed[i] {
            println!("{:<22} left out, because it fails here: {why}", contestant.name);
            continue;
        }
        let wall: Vec<f64> = samples[i].iter().map(|sample| sample.wall_us).collect();
        let cpu: Vec<f64> = samples[i].iter().map(|sample| sample.cpu_us).collect();
        let ratio: Vec<f64> =
            samples[i].iter().zip(&samples[0]).map(|(own, floor)| own.wall_us / floor.wall_us).collect();
        println!(
            "{:<22} {:>9.0} {:>9.0} {:>9.0} {:>8.3} {:>7.3}-{:<7.3} {:>8.3}",
            contestant.name,
            at(&wall, 50),
            at(&wall, 95),
            at(&cpu, 50),
            at(&ratio, 50),
            at(&ratio, 25),
            at(&ratio, 75),
            at(&cpu, 50) / at(&floor_cpu, 50).max(1.0),
        );
    }
}
