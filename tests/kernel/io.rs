//! I/O limits, by the time that direct I/O on a disk of ours takes.

use crate::{
    case::Case,
    cpu::end,
    facts::boot_word,
    groups::{command_of, group_of, until},
    needs::Need,
    support::{Disk, rcon, run, slow, sometimes, victim},
};
use std::{fs, io::Write, os::unix::fs::MetadataExt, path::Path, time::Duration};

pub(crate) fn tests() -> Vec<Case> {
    const V1: &[Need] = &[Need::V1("blkio"), Need::Disk];
    const V2: &[Need] = &[Need::V2("io"), Need::Disk];
    vec![
        Case::new("io::rates_hold_on_v1", V1, rates_hold),
        Case::new("io::rates_hold_on_v2", V2, rates_hold),
        Case::new("io::operations_hold_on_v1", V1, operations_hold),
        Case::new("io::operations_hold_on_v2", V2, operations_hold),
        Case::new(
            "io::a_path_means_the_disk_below",
            &[Need::Root, Need::Disk, Need::Host, Need::Tool("mkfs.ext4")],
            a_path_means_the_disk_below,
        ),
        Case::new(
            "io::a_partition_means_its_disk",
            &[Need::Root, Need::Disk, Need::Host, Need::Tool("addpart")],
            a_partition_means_its_disk,
        ),
        Case::new("io::no_disk_is_refused_on_v1", &[Need::V1("blkio")], no_disk_is_refused),
        Case::new("io::no_disk_is_refused_on_v2", &[Need::V2("io")], no_disk_is_refused),
        Case::new(
            "io::weights_are_written_or_refused_on_v1",
            &[Need::V1("blkio")],
            weights_are_written_or_refused,
        ),
        Case::new(
            "io::weights_are_written_or_refused_on_v2",
            &[Need::V2("io")],
            weights_are_written_or_refused,
        ),
        Case::new(
            "io::weights_share_a_disk_on_v1",
            &[Need::V1("blkio"), Need::SlowDisk],
            weights_share_a_disk,
        ),
        Case::new("io::weights_share_a_disk_on_v2", &[Need::V2("io"), Need::SlowDisk], weights_share_a_disk),
    ]
}

/// Milliseconds that a victim's I/O takes under these limits.
fn takes(option: &str, rule: &str, role: &str) -> u64 {
    let out = rcon([option, rule, "--"]).victim(role).run();
    assert_eq!(out.status.code(), Some(0), "{out}");
    out.number("io_ms")
}

/// What should take two seconds takes two seconds: never less, and, unless somebody else keeps the disk busy each
/// time, not much more.
fn takes_two_seconds(option: &str, rule: &str, role: &str) {
    sometimes(|| {
        let held = takes(option, rule, role);
        let told = format!("{role} under {option} {rule} took {held} ms in place of 2000");
        assert!(held >= 1700, "{told}");
        (held <= 2300).then_some(()).ok_or(told)
    });
}

/// What nothing holds takes less than that, unless somebody else keeps the disk busy each time.
fn is_free(what: &str, takes: impl Fn() -> u64) {
    sometimes(|| {
        let free = takes();
        (free < 1700).then_some(()).ok_or_else(|| format!("{what} took {free} ms"))
    });
}

fn rates_hold() {
    let disk = Disk::get();
    let place = disk.path.display();
    for (option, other, role) in
        [("--io-write", "--io-read", "write:4M"), ("--io-read", "--io-write", "read:4M")]
    {
        let role = format!("{role}:{place}");
        let unlimited = format!("too slow a disk to tell: {role} without a limit");
        is_free(&unlimited, || victim(&role).run().number("io_ms"));
        takes_two_seconds(option, &format!("{place}:2M"), &role);
        // The other direction is free.
        is_free(&format!("{role} under {other}"), || takes(other, &format!("{place}:1M"), &role));
    }
}

fn operations_hold() {
    let disk = Disk::get();
    let place = disk.path.display();
    // Blocks of 64 KiB: 40 operations.
    for (option, role) in [("--io-write-iops", "write:2560K"), ("--io-read-iops", "read:2560K")] {
        takes_two_seconds(option, &format!("{place}:20"), &format!("{role}:{place}"));
    }
}

/// What `--explain` says the disks of a place are.
fn disks_of(place: &str) -> Vec<String> {
    let out =
        rcon(["--best-effort", "--explain=json", "--io-write", &format!("{place}:1M"), "--", "true"]).run();
    let json: serde_json::Value = serde_json::from_str(&out.stdout).unwrap_or_else(|_| panic!("{out}"));
    let groups = json["groups"].as_array().expect("groups").clone();
    let writes = groups.iter().flat_map(|group| group["writes"].as_array().cloned().unwrap_or_default());
    writes
        .filter_map(|write| write["alternatives"][0][1].as_str()?.split(' ').next().map(str::to_owned))
        .collect()
}

/// The kernel's number of a device node.
fn number(path: &Path) -> String {
    let device = fs::metadata(path).expect("a device").rdev();
    format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device))
}

fn a_path_means_the_disk_below() {
    let disk = Disk::get();
    let made = run("mkfs.ext4").args(["-q", "-F"]).args([&disk.path]).run();
    assert!(made.status.success(), "{made}");
    let place = tempfile::tempdir().expect("temporary directory");
    nix::mount::mount(
        Some(&disk.path),
        place.path(),
        Some("ext4"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .expect("mount");
    let file = place.path().join("file");
    // Written out: what is still in the cache would be written, and paid for, by the victim.
    let filled = fs::File::create(&file).and_then(|mut file| {
        file.write_all(&vec![0; 4 << 20])?;
        file.sync_all()
    });
    let found = filled.map(|()| disks_of(&file.display().to_string()));
    let rule = format!("{}:2M", place.path().display());
    let held = takes("--io-write", &rule, &format!("write:4M:{}", file.display()));
    nix::mount::umount(place.path()).expect("umount");
    assert_eq!(found.expect("write"), [number(&disk.path)]);
    assert!(held >= 1700, "4 MiB at 2 MiB/s took {held} ms in a file");
}

/// A partition that goes with the value; the kernel knows it, the disk does not.
struct Partition(String);

impl Drop for Partition {
    fn drop(&mut self) {
        drop(run("delpart").args([&self.0, "1"]).run());
    }
}

fn a_partition_means_its_disk() {
    let disk = Disk::get();
    let device = disk.path.display().to_string();
    // 32 MiB from 1 MiB on, in sectors. Not every kernel reads partition tables; each takes this.
    let made = run("addpart").args([&device, "1", "2048", "65536"]).run();
    assert!(made.status.success(), "{made}");
    let _partition = Partition(device.clone());
    let name = device.trim_start_matches("/dev/");
    let partition = format!("/sys/class/block/{name}p1/dev");
    let partition = until("there is no partition", || fs::read_to_string(&partition).ok());
    assert_eq!(disks_of(partition.trim()), [number(&disk.path)]);
}

fn no_disk_is_refused() {
    for (place, words) in [
        ("/proc", "is on proc, which no disk is known to hold"),
        ("/nonexistent", "No such file"),
        ("4095:1048575", "there is no block device"),
    ] {
        let option = format!("{place}:1M");
        let out = rcon(["--io-write", &option, "--", "true"]).run();
        assert_eq!(out.status.code(), Some(125), "{out}");
        assert!(out.stderr.starts_with(&format!("rcon: --io-write {option}: ")), "{out}");
        assert!(out.stderr.contains(words), "{out}");
        let out = rcon(["--best-effort", "--io-write", &option, "--", "true"]).run();
        assert_eq!(out.status.code(), Some(0), "{out}");
        assert!(out.stderr.contains("going on without --io-write"), "{out}");
    }
}

/// Weights need a scheduler that knows them, and then act only on disks that use it: what is proved here is
/// that the value arrives where there is a file for it, and that there is an error where there is none.
fn weights_are_written_or_refused() {
    let mut run =
        rcon(["--io-weight", "300", "--"]).victim("sleep:600").limit(Duration::from_secs(5)).start();
    let deadline = std::time::Instant::now() + slow(Duration::from_secs(5));
    while std::time::Instant::now() < deadline {
        if run.child.try_wait().expect("wait").is_some() {
            let out = run.finish();
            assert_eq!(out.status.code(), Some(125), "{out}");
            assert!(out.stderr.starts_with("rcon: --io-weight 300: this kernel has no "), "{out}");
            assert!(out.stderr.contains("try: weights need the bfq scheduler"), "{out}");
            return;
        }
        if crate::groups::keeper_of(run.child.id())
            .is_some_and(|pid| !crate::groups::children(pid).is_empty())
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    let group = group_of(command_of(run.child.id()), "blkio");
    let files = [
        ("io.weight", "300"),
        ("io.bfq.weight", "118"),
        ("blkio.bfq.weight", "118"),
        ("blkio.weight", "118"),
    ];
    let there: Vec<(&str, bool)> = files
        .into_iter()
        .filter_map(|(file, value)| {
            let text = fs::read_to_string(group.join(file)).ok()?;
            Some((file, text.split_whitespace().any(|word| word == value)))
        })
        .collect();
    end(&mut run.child);
    drop(run.finish());
    assert!(!there.is_empty() && there.iter().all(|(_, set)| *set), "{there:?}");
}

/// Two that read the same amount at once from a disk that cannot serve both: the one of more weight has ended when
/// the other is half way.
fn weights_share_a_disk() {
    let disk = boot_word("rcon.slow").expect("a need");
    let name = disk.trim_start_matches("/dev/");
    fs::write(format!("/sys/block/{name}/queue/scheduler"), "bfq").expect("bfq");
    let role = format!("read:6M:{disk}");
    // Not if one starts so late that the other is alone for long.
    sometimes(|| {
        let [light, heavy] =
            ["10", "10000"].map(|weight| rcon(["--io-weight", weight, "--"]).victim(&role).start());
        let (heavy, light) = (heavy.finish(), light.finish());
        let took = [&heavy, &light].map(|out| {
            assert_eq!(out.status.code(), Some(0), "{out}");
            out.number("io_ms")
        });
        // 96 blocks of 64 KiB at 50 a second are 1.9 s for one alone, and 3.8 s for both.
        match took {
            [_, light] if light <= 3000 => Err(format!("the disk is not slow: {took:?} ms")),
            [heavy, light] if heavy * 5 >= light * 4 => Err(format!("the weights did nothing: {took:?} ms")),
            _ => Ok(()),
        }
    });
}
