//! What means harm by its names, links, devices and attributes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rcon::image::{Devices, UnpackOptions};

use crate::archives::{Member, tar};
use crate::tree::{Playground, describe, unpack};

#[test]
fn hostile_01_absolute_name_stays_inside() {
    let ground = Playground::new();
    ground.unpack(&tar().file("/etc/passwd", "mine").done()).unwrap();
    assert_eq!(describe(&ground.target()), " d 755\netc d 755\netc/passwd f 644 mine");
    ground.unharmed();
}

#[test]
fn hostile_02_name_that_goes_up() {
    let ground = Playground::new();
    for name in ["../outside/secret", "a/../../outside/secret", "..", "a/..", "/../x", "./../x"] {
        ground.refuses(&tar().file(name, "harm").done(), &[&format!("entry {name}:"), "goes up"]);
    }
    let long = [b"d/".repeat(60), b"../".repeat(70), b"outside/secret".to_vec()].concat();
    ground.refuses(&tar().pax(&[("path", &long)]).file("x", "harm").done(), &["entry d/d/", "goes up"]);
}

#[test]
fn hostile_03_link_then_write_through_it() {
    let ground = Playground::new();
    let outside = ground.path("outside").display().to_string();
    for link in [outside.as_str(), "../outside", "../../../../../../../..", "/", "."] {
        let archive = tar().symlink("evil", link).file("evil/pwned", "harm").done();
        if matches!(link, "/" | "." | "../../../../../../../..") {
            // The root of the tree, for whoever lives in it.
            ground.unpack(&archive).unwrap();
            assert_eq!(fs::read_to_string(ground.target().join("pwned")).unwrap(), "harm");
            ground.unharmed();
            fs::remove_dir_all(ground.target()).unwrap();
        } else {
            ground.refuses(&archive, &["entry evil/pwned:", "evil is a symbolic link that leads nowhere"]);
        }
    }
    // What the link names exists in the tree too: that one is meant.
    let inner = outside.trim_start_matches('/');
    let long = format!("{inner}/");
    let archive = tar()
        .pax(&[("path", long.as_bytes())])
        .dir("x")
        .symlink("evil", &outside)
        .file("evil/secret", "harm")
        .done();
    ground.unpack(&archive).unwrap();
    assert_eq!(fs::read_to_string(ground.target().join(inner).join("secret")).unwrap(), "harm");
    ground.unharmed();
}

#[test]
fn hostile_04_chain_and_loop_of_links() {
    let ground = Playground::new();
    let chain = tar().symlink("a", "b/x").symlink("b", "../outside").file("a/pwned", "harm").done();
    ground.refuses(&chain, &["entry a/pwned:"]);
    let ring = tar().symlink("a", "b").symlink("b", "a").file("a/pwned", "harm").done();
    ground.refuses(&ring, &["entry a/pwned:", "loop"]);
    let magic = tar().symlink("a", "/proc/self/cwd").file("a/pwned", "harm").done();
    ground.refuses(&magic, &["entry a/pwned:"]);
}

#[test]
fn hostile_05_file_over_a_link() {
    let ground = Playground::new();
    let archive = tar().symlink("evil", "../outside/secret").file("evil", "harm").done();
    ground.unpack(&archive).unwrap();
    assert_eq!(describe(&ground.target()), " d 755\nevil f 644 harm");
    ground.unharmed();
}

#[test]
fn hostile_06_directory_over_a_link() {
    let ground = Playground::new();
    let archive = tar()
        .symlink("evil", "../outside")
        .member(&Member { kind: b'5', name: b"evil", mode: 0o777, ..Member::default() })
        .file("evil/secret", "harm")
        .done();
    ground.unpack(&archive).unwrap();
    assert_eq!(describe(&ground.target()), " d 755\nevil d 777\nevil/secret f 644 harm");
    ground.unharmed();
}

#[test]
fn hostile_07_hard_link_out() {
    let ground = Playground::new();
    let secret = ground.path("outside/secret").display().to_string();
    ground.refuses(
        &tar().hardlink("h", "../outside/secret").done(),
        &["entry h:", "../outside/secret", "goes up"],
    );
    ground.refuses(
        &tar().pax(&[("linkpath", secret.as_bytes())]).hardlink("h", "x").done(),
        &["entry h:", "secret", "not in the archive"],
    );
    let through = tar().symlink("evil", "../outside").hardlink("h", "evil/secret").done();
    ground.refuses(&through, &["entry h:", "not in the archive"]);
}

#[test]
fn hostile_08_hard_link_to_a_link_then_write() {
    let ground = Playground::new();
    let archive = tar().symlink("l", "../outside/secret").hardlink("h", "l").file("h", "harm").done();
    ground.unpack(&archive).unwrap();
    assert_eq!(describe(&ground.target()), " d 755\nh f 644 harm\nl -> ../outside/secret");
    ground.unharmed();
}

#[test]
fn hostile_09_hard_link_to_itself_and_to_directories() {
    let ground = Playground::new();
    ground.refuses(&tar().file("a", "a").hardlink("./a", "a").done(), &["entry ./a:", "itself"]);
    ground.refuses(&tar().dir("d").hardlink("h", "d").done(), &["entry h:", "a directory"]);
    ground.refuses(&tar().hardlink("h", "/").done(), &["entry h:", "the root"]);
}

#[test]
fn hostile_10_devices() {
    let ground = Playground::new();
    for kind in [b'3', b'4'] {
        let archive = tar()
            .file("a", "a")
            .member(&Member { kind, name: b"dev/mem", mode: 0o666, ..Member::default() })
            .done();
        ground.refuses(&archive, &["entry dev/mem:", "device", "--devices skip"]);
        let skipped = unpack(&UnpackOptions { devices: Devices::Skip, ..ground.options(&archive) }).unwrap();
        assert_eq!(describe(&ground.target()), " d 755\na f 644 a");
        assert!(skipped.notes.lines().any(|line| line.contains("dev/mem")), "{:?}", skipped.notes);
        fs::remove_dir_all(ground.target()).unwrap();
        let kept = UnpackOptions { devices: Devices::Keep, ..ground.options(&archive) };
        match unpack(&kept) {
            Ok(_) => {
                let stat = fs::metadata(ground.target().join("dev/mem")).unwrap();
                assert_eq!((stat.rdev(), stat.mode() & 0o777), (nix::sys::stat::makedev(1, 3), 0o666));
                fs::remove_dir_all(ground.target()).unwrap();
            }
            // mknod needs a privilege that even root may lack.
            Err(error) => {
                assert!(
                    error.to_string().contains("entry dev/mem: this device node cannot be made"),
                    "{error}"
                );
                unpack(&UnpackOptions { best_effort: true, ..kept }).unwrap();
                fs::remove_dir_all(ground.target()).unwrap();
            }
        }
        ground.unharmed();
    }
}

#[test]
fn hostile_11_set_user_id() {
    let ground = Playground::new();
    let archive = tar()
        .member(&Member { name: b"su", mode: 0o6755, ..Member::default() })
        .member(&Member { kind: b'5', name: b"shared", mode: 0o2775, ..Member::default() })
        .done();
    let report = ground.unpack(&archive).unwrap();
    // On a directory the bit gives no privilege.
    assert_eq!(describe(&ground.target()), " d 755\nshared d 2775\nsu f 755 ");
    let notes: Vec<String> = report.notes.lines().collect();
    assert!(notes.len() == 1 && notes[0].contains("su"), "{notes:?}");
}

#[test]
fn hostile_12_file_capabilities_and_overlay_attributes() {
    let ground = Playground::new();
    // cap_setuid=ep, as vfs_cap_data of revision 2.
    let capability = [1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let archive = tar()
        .pax(&[("SCHILY.xattr.security.capability", &capability)])
        .file("ping", "")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ])
        .dir("d")
        .done();
    let value = || {
        use std::os::fd::AsFd;
        let file = fs::File::open(ground.target().join("ping")).unwrap();
        rcon::sys::xattr::read(file.as_fd(), c"security.capability")
    };
    let report = ground.unpack(&archive).unwrap();
    let notes = report.notes.lines().collect::<Vec<_>>().join("\n");
    assert!(notes.contains("ping") && notes.contains("2 extended attributes left out"), "{notes}");
    assert_eq!(value(), Err(nix::errno::Errno::ENODATA));
    fs::remove_dir_all(ground.target()).unwrap();
    let kept = UnpackOptions { keep_setuid: true, ..ground.options(&archive) };
    match unpack(&kept) {
        Ok(_) => assert_eq!(value().unwrap(), capability),
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("entry ping: its attribute security.capability cannot be kept"), "{said}");
        }
    }
}
