//! And back.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use proptest::prelude::*;
use rcon::image::{self, Form, UnpackOptions};

use crate::archives::{Member, docker_save, tar};
use crate::tree::{Playground, describe, output, rcon, text, unpack};

#[test]
fn pack_and_unpack_again() {
    let ground = Playground::new();
    let from = ground.path("from");
    fs::create_dir_all(from.join("d/empty")).unwrap();
    fs::write(from.join("d/file"), "text").unwrap();
    fs::set_permissions(from.join("d/file"), PermissionsExt::from_mode(0o604)).unwrap();
    fs::hard_link(from.join("d/file"), from.join("hard")).unwrap();
    symlink("x".repeat(250), from.join("link")).unwrap();
    let long = "l".repeat(200);
    fs::write(from.join(&long), "long").unwrap();
    fs::write(from.join(OsString::from_vec_lossless(b"\xff\n")), "odd").unwrap();
    nix::unistd::mkfifo(&from.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    {
        use std::os::fd::AsFd;
        let file = fs::File::open(from.join("d/file")).unwrap();
        rcon::sys::xattr::set(file.as_fd(), c"user.rcon", b"a\nb").unwrap();
    }
    let mut archive = Vec::new();
    let left = image::pack(&from, &mut archive).unwrap();
    let lines: Vec<String> = left.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains("socket"), "{lines:?}");
    let mut again = Vec::new();
    image::pack(&from, &mut again).unwrap();
    assert!(archive == again, "the same tree gives the same bytes");
    ground.unpack(&archive).unwrap();
    fs::remove_file(from.join("socket")).unwrap();
    drop(socket);
    assert_eq!(describe(&ground.target()), describe(&from));
    let file = fs::File::open(ground.target().join("hard")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 2);
    {
        use std::os::fd::AsFd;
        assert_eq!(rcon::sys::xattr::read(file.as_fd(), c"user.rcon").unwrap(), b"a\nb");
    }

    // The command line does the same, and tar(1) reads it.
    let out = ground.path("out.tar");
    let packed = output(&mut rcon(["pack".as_ref(), from.as_os_str(), "-o".as_ref(), out.as_os_str()]));
    assert!(packed.status.success(), "{}", text(&packed));
    let piped = output(&mut rcon(["pack".as_ref(), from.as_os_str()]));
    assert!(fs::read(&out).unwrap() == piped.stdout, "{}", text(&piped));
    let listed = output(Command::new("tar").arg("-tf").arg(&out));
    assert!(listed.status.success(), "{}", text(&listed));
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 9, "{}", text(&listed));
}

trait Lossless {
    fn from_vec_lossless(bytes: &[u8]) -> OsString;
}

impl Lossless for OsString {
    fn from_vec_lossless(bytes: &[u8]) -> OsString {
        OsStr::from_bytes(bytes).to_owned()
    }
}

#[test]
fn pack_stays_on_its_file_system_and_follows_nothing() {
    let ground = Playground::new();
    let from = ground.path("from");
    fs::create_dir(&from).unwrap();
    symlink(ground.path("outside"), from.join("out")).unwrap();
    symlink("/proc", from.join("proc")).unwrap();
    let mut archive = Vec::new();
    image::pack(&from, &mut archive).unwrap();
    ground.unpack(&archive).unwrap();
    assert_eq!(describe(&ground.target()), describe(&from));
    let error = image::pack(&ground.path("nothing"), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = output(rcon(["pack".as_ref(), from.as_os_str()]).stdout(full));
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("No space left"), "{}", text(&output));
}

fn any_name() -> impl Strategy<Value = String> {
    prop::string::string_regex("[a-c.]{1,3}|[x-z]{90,120}")
        .unwrap()
        .prop_filter("special", |name| name != "." && name != "..")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any tree comes back as it was.
    #[test]
    fn any_tree_survives(
        files in prop::collection::vec((prop::collection::vec(any_name(), 1..4), 0..4_u8, 0..0o1000_u32), 0..12)
    ) {
        let ground = Playground::new();
        let from = ground.path("from");
        fs::create_dir(&from).unwrap();
        for (parts, kind, mode) in files {
            let path = parts.iter().fold(from.clone(), |path, part| path.join(part));
            // Where a file is in the way of a directory, that one is left out.
            if path.symlink_metadata().is_ok() || fs::create_dir_all(path.parent().unwrap()).is_err() {
                continue;
            }
            match kind {
                0 => fs::create_dir(&path).unwrap(),
                1 => symlink("../anywhere", &path).unwrap(),
                _ => {
                    fs::write(&path, mode.to_string().repeat(usize::from(kind) * 300)).unwrap();
                    fs::set_permissions(&path, PermissionsExt::from_mode(mode | 0o400)).unwrap();
                }
            }
        }
        let mut archive = Vec::new();
        image::pack(&from, &mut archive).unwrap();
        unpack(&UnpackOptions { form: Form::Rootfs, ..ground.options(&archive) }).unwrap();
        prop_assert_eq!(describe(&ground.target()), describe(&from));
    }

    /// Any order of hostile steps leaves what is outside alone.
    #[test]
    fn nothing_leaves_the_root(
        steps in prop::collection::vec((0..5_u8, 0..8_usize, 0..8_usize), 1..12), layered in any::<bool>()
    ) {
        const NAMES: [&str; 8] = ["a", "b", "a/b", "b/a", "a/secret", "b/.wh.a", "a/.wh..wh..opq", "a/b/secret"];
        let ground = Playground::new();
        let outside = ground.path("outside").display().to_string();
        let targets = ["../outside", "..", outside.as_str(), "b", "a", "/", "../outside/secret", "a/../../outside"];
        let mut archive = tar();
        for (kind, name, link) in steps {
            archive = match kind {
                0 => archive.dir(NAMES[name]),
                1 => archive.file(NAMES[name], "harm"),
                2 => archive.symlink(NAMES[name], targets[link]),
                3 => archive.hardlink(NAMES[name], targets[link]),
                _ => archive.member(&Member { kind: b'6', name: NAMES[name].as_bytes(), ..Member::default() }),
            };
        }
        let bytes = if layered { docker_save(&[tar().dir("a").dir("b").done(), archive.done()]) } else { archive.done() };
        drop(ground.unpack(&bytes));
        ground.unharmed();
    }
}
