//! What is pure: reading a line, the table of mounts, and planning. Nanoseconds each, the smallest of many batches.
//!
//! `cargo bench --bench micro`.

use std::ffi::OsString;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use rcon::cgroup::layout::Layout;
use rcon::cli::{self, Args, Request};
use rcon::host::Host;

fn main() {
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    let plain = words("--cpu 30% --mem 256M --pids 64 -- make -j8 test");
    // A short option makes clap read the whole line.
    let by_clap = words("-q --cpu 30% --mem 256M --pids 64 -- make -j8 test");
    let many = words(
        "--cpu 30% --cpu-weight 50 --mem 256M --swap 0 --pids 64 --timeout 1m --kill-after 5s --env A=b --env C=d \
         --unset E --nice 5 --chdir / --quiet --report=json -- make -j8 test",
    );
    assert!(
        [&plain, &by_clap, &many].iter().all(|line| cli::parse(line, false).is_ok()),
        "a line is refused"
    );
    println!("{:<44} {:>10}", "", "ns");
    time("read: three limits", || cli::parse(black_box(&plain), false));
    time("read: fourteen options", || cli::parse(black_box(&many), false));
    time("read: three limits, by clap", || cli::parse(black_box(&by_clap), false));
    let (mounts, groups) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
    time("the table of mounts of this machine", || Layout::parse(black_box(&mounts), black_box(&groups)));
    let Ok(Request::Run(args)) = cli::parse(&plain, false) else { return };
    time("look at this machine: three limits", || Host::read(Path::new("/"), black_box(&args)));
    match Host::read(Path::new("/"), &args) {
        Ok(host) => time("plan: three limits", || rcon::plan::plan(black_box(&args), black_box(&host))),
        Err(error) => println!("plan: left out: {error}"),
    }
    let nothing = Args { command: vec!["true".into()], ..Args::default() };
    if let Ok(host) = Host::read(Path::new("/"), &nothing) {
        time("plan: no option", || rcon::plan::plan(black_box(&nothing), black_box(&host)));
    }
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

fn time<T>(what: &str, mut work: impl FnMut() -> T) {
    const BATCH: u32 = 50;
    let batch = |work: &mut dyn FnMut() -> T| {
        let start = Instant::now();
        for _ in 0..BATCH {
            black_box(work());
        }
        start.elapsed().as_nanos() / u128::from(BATCH)
    };
    let least = (0..200).map(|_| batch(&mut work)).min();
    println!("{what:<44} {:>10}", least.unwrap_or_default());
}
