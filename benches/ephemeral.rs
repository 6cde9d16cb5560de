//! What throwing writes away costs: the start of a run in a root of 200 MB with and without `--ephemeral`, in
//! turns; and that the root is byte for byte what it was, also after `kill -9`.
//!
//! `cargo bench --bench ephemeral [-- ROUNDS]`, as root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

const RCON: &str = env!("CARGO_BIN_EXE_rcon");

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(100);
    let dir = tempfile::tempdir_in("/var/tmp").expect("temporary directory");
    let (root, place) = (dir.path().join("root"), dir.path().join("place"));
    fs::create_dir(&place).expect("mkdir");
    build(&root);
    let before = fingerprint(&root);
    let in_place = format!("--ephemeral={}", place.display());
    let ways =
        [("without", None), ("--ephemeral", Some("--ephemeral")), ("--ephemeral=DIR", Some(&*in_place))];
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for ((_, option), times) in ways.iter().zip(&mut times) {
            times.push(start(&root, *option));
        }
    }
    println!("start and end of `true` in a root of 200 MB, median of {rounds}:");
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    for ((name, _), median) in ways.iter().zip(&medians) {
        println!("  {name:<16} {median:>9.1?}  (+ {:.1?})", median.saturating_sub(medians[0]));
    }
    println!("killed in the middle of writing:");
    for option in [Some("--ephemeral"), Some(&*in_place)] {
        let script = "cd /data && for f in *; do echo changed >$f; done; /bin/busybox rm -r /data";
        let mut run =
            command(&root, option).args(["/bin/busybox", "sh", "-c", script]).spawn().expect("rcon");
        std::thread::sleep(Duration::from_millis(200));
        run.kill().expect("SIGKILL");
        run.wait().expect("wait");
    }
    // Who goes on after the front needs a moment.
    let left = || fs::read_dir(&place).expect("list").count();
    let deadline = Instant::now() + Duration::from_secs(60);
    while left() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = left();
    let same = fingerprint(&root) == before;
    println!(
        "  the tree is {}; {left} left in DIR",
        if same { "the same: ".to_owned() + &before } else { "CHANGED".to_owned() }
    );
    assert!(same && left == 0);
}

/// 2000 files of 100 KiB, and busybox.
fn build(root: &Path) {
    for name in ["bin", "data"] {
        fs::create_dir_all(root.join(name)).expect("mkdir");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox is installed");
    let mut block = vec![0; 100 << 10];
    for number in 0..2000_u32 {
        block[..4].copy_from_slice(&number.to_le_bytes());
        fs::write(root.join(format!("data/{number}")), &block).expect("write");
    }
}

fn command(root: &Path, option: Option<&str>) -> Command {
    let mut command = Command::new(RCON);
    command.arg("--root").arg(root).args(option).arg("--").stdin(Stdio::null());
    command
}

fn start(root: &Path, option: Option<&str>) -> Duration {
    let start = Instant::now();
    let status = command(root, option).args(["/bin/busybox", "true"]).status().expect("rcon");
    assert!(status.success());
    start.elapsed()
}

/// Every name, owner, mode and byte.
fn fingerprint(root: &Path) -> String {
    let mut todo = vec![root.to_owned()];
    let mut hash = Sha256::new();
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("stat");
        hash.update(format!(
            "{path:?} {} {} {} {}",
            meta.mode(),
            meta.uid(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
        if meta.is_dir() {
            let mut inside: Vec<_> =
                fs::read_dir(&path).expect("list").flatten().map(|one| one.path()).collect();
            inside.sort();
            todo.extend(inside);
        } else {
            hash.update(fs::read(&path).expect("read"));
        }
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
