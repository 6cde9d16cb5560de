//! Where it goes.

use std::fs;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rcon::image::{self, Config, UnpackOptions};

use crate::archives::{
    Member, configuration, docker_save, expected_config, gzip, oci, oci_archive, sha256, tar,
};
use crate::tree::{Playground, listed, no_forks, output, rcon, start, text, two_layers, unpack};

#[test]
fn a_directory_in_use_is_left_alone() {
    let ground = Playground::new();
    let archive = tar().file("a", "a").done();
    fs::create_dir(ground.target()).unwrap();
    ground.unpack(&archive).unwrap();
    let error = ground.unpack(&archive).unwrap_err().to_string();
    assert!(error.contains("is not empty") && error.contains("--deploy"), "{error}");
    let over_link = ground.path("outside/link");
    symlink(ground.target(), &over_link).unwrap();
    let options = UnpackOptions { target: over_link.clone(), ..ground.options(&archive) };
    assert!(unpack(&options).unwrap_err().to_string().contains("File exists"));
    fs::remove_file(over_link).unwrap();
    for bad in ["/", ".."] {
        let options = UnpackOptions { target: bad.into(), ..ground.options(&archive) };
        assert!(unpack(&options).unwrap_err().to_string().contains("has no name"));
    }
}

#[test]
fn a_stale_configuration_does_not_speak_for_a_new_tree() {
    let ground = Playground::new();
    ground.unpack(&docker_save(&two_layers())).unwrap();
    fs::remove_dir_all(ground.target()).unwrap();
    ground.unpack(&tar().file("a", "a").done()).unwrap();
    assert_eq!(Config::beside(&ground.target()).unwrap().config, None);
}

#[test]
fn releases() {
    let ground = Playground::new();
    let layer = |text: &str| vec![tar().file("version", text).done()];
    let deploy = |archive: &[u8], keep: u32| {
        let _alone = no_forks();
        unpack(&UnpackOptions { deploy: true, keep: NonZeroU32::new(keep), ..ground.options(archive) })
    };
    let current = ground.target().join("current");
    for number in 1..=4 {
        let layers = layer(&number.to_string());
        let report = deploy(&docker_save(&layers), 3).unwrap();
        assert_eq!(fs::read_to_string(current.join("version")).unwrap(), number.to_string());
        let digest = sha256(configuration(&layers).as_bytes());
        let name = format!("{number:04}-{}", &digest[7..19]);
        assert_eq!(fs::read_link(&current).unwrap(), Path::new("releases").join(&name));
        assert_eq!(report.root, ground.target().join("releases").join(&name));
        let found = Config::beside(&current).unwrap();
        assert_eq!(found.config, Some(expected_config(&digest)));
        assert_eq!(found.root, fs::canonicalize(&report.root).unwrap());
        assert_eq!(report.removed.len(), usize::from(number > 3));
    }
    let releases = ground.target().join("releases");
    let names = listed(&releases);
    assert_eq!(names.iter().filter(|name| !name.ends_with(".json")).count(), 3, "{names:?}");
    assert_eq!(names.len(), 6, "{names:?}");
    // One that fails changes nothing.
    deploy(&docker_save(&[tar().file("../x", "").done()]), 1).unwrap_err();
    // Nor does one that brings nothing: the writer at the other end of the pipe failed.
    for nothing in [Vec::new(), tar().done(), gzip(b""), tar().pax(&[("comment", b"x")]).done()] {
        let error = deploy(&nothing, 1).unwrap_err().to_string();
        assert!(error.contains("empty archive") || error.contains("in the middle"), "{error}");
    }
    assert_eq!(listed(&releases), names);
    assert_eq!(fs::read_to_string(current.join("version")).unwrap(), "4");
    // A plain archive has no configuration; the one that is kept is the new one.
    deploy(&tar().file("version", "5").done(), 1).unwrap();
    assert_eq!(listed(&releases).len(), 1);
    assert_eq!(Config::beside(&current).unwrap().config, None);
    ground.unharmed();
    // Somebody's own directory is not taken over.
    fs::remove_file(&current).unwrap();
    fs::create_dir(&current).unwrap();
    assert!(deploy(&tar().done(), 1).unwrap_err().to_string().contains("is no symbolic link"));
}

#[test]
fn two_at_once_do_not_mix() {
    let ground = Playground::new();
    let options = UnpackOptions { deploy: true, ..ground.options(&tar().file("a", "a").done()) };
    let seen = std::cell::Cell::new(None);
    image::unpack(&options, &|| {
        if seen.take().is_none() {
            seen.set(Some(unpack(&options).unwrap_err().to_string()));
        }
        false
    })
    .unwrap();
    assert!(seen.take().unwrap().contains("another rcon image unpack is at work"));
}

/// Killed in the middle: a signal that can be caught leaves nothing; after one that cannot, the next one cleans up.
#[test]
fn killed_in_the_middle() {
    for (signal, leaves) in [(libc::SIGTERM, false), (libc::SIGINT, false), (libc::SIGKILL, true)] {
        let ground = Playground::new();
        let target = ground.target();
        let mut command = rcon(["unpack".as_ref(), "-".as_ref(), target.as_os_str()]);
        let mut child = start(command.stdin(Stdio::piped()).stderr(Stdio::piped()));
        let mut stdin = child.stdin.take().unwrap();
        let whole = tar().file("a", "a").file("b", &"b".repeat(300_000)).done();
        stdin.write_all(&whole[..200_000]).unwrap();
        let staging =
            || listed(ground.dir.path()).into_iter().find(|name| name.starts_with(".rcon-unpacking-"));
        while staging().is_none_or(|name| !ground.path(&name).join("root/b").exists()) {
            assert!(child.try_wait().unwrap().is_none(), "ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(signal).unwrap()).unwrap();
        if !leaves {
            // The signal is seen at the next piece of the archive.
            drop(stdin.write_all(&whole[200_000..]));
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(signal), "{}", text(&output));
        assert!(!target.exists());
        assert_eq!(staging().is_some(), leaves);
        ground.unpack(&whole).unwrap();
        ground.unharmed();
    }
}

/// A layer of 32 MiB in 24 MiB of address space: nothing is kept.
#[test]
fn memory_does_not_grow_with_the_archive() {
    let ground = Playground::new();
    let mut noise = 1_u64;
    let data: Vec<u8> = (0..32 << 20)
        .map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        })
        .collect();
    let layer = tar().member(&Member { name: b"big", data: &data, ..Member::default() }).done();
    let (files, _) = oci(std::slice::from_ref(&layer), &|_, layer| layer.to_vec());
    fs::write(ground.path("archive"), oci_archive(&files)).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 24576; exec \"$0\" image unpack --no-sync \"$1\" \"$2\""]);
    command.arg(env!("CARGO_BIN_EXE_rcon")).args([ground.path("archive"), ground.target()]);
    let output = output(&mut command);
    assert!(output.status.success(), "{}", text(&output));
    assert!(fs::read(ground.target().join("big")).unwrap() == data, "the same bytes");
}
