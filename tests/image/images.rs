//! What images are.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rcon::image::{Config, Form, Limits, UnpackOptions};

use crate::archives::{
    Member, configuration, docker_save, expected_config, gzip, hash, is_root, me, oci, oci_archive,
    oci_layout, sha256, tar, zstd,
};
use crate::tree::{
    Playground, TWO_LAYERS, describe, no_forks, output, rcon, start, text, two_layers, unpack,
};

#[test]
fn docker_save_archive() {
    let ground = Playground::new();
    let layers = two_layers();
    let report = ground.unpack(&docker_save(&layers)).unwrap();
    assert_eq!(describe(&ground.target()), TWO_LAYERS);
    let digest = sha256(configuration(&layers).as_bytes());
    assert_eq!(report.digest, digest);
    assert_eq!(report.config, Some(expected_config(&digest)));
    let found = Config::beside(&ground.target()).unwrap();
    assert_eq!(found.config, report.config);
    assert_eq!(found.root, fs::canonicalize(ground.target()).unwrap());
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    ground.unharmed();
    let kept = fs::metadata(ground.target().join("etc/kept")).unwrap();
    assert_eq!((kept.nlink(), kept.mtime()), (2, 1_000_000_000));
    assert_eq!(fs::metadata(ground.target().join("usr")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn docker_save_writes_a_layer_twice_as_a_link() {
    let ground = Playground::new();
    let layer = tar().file("a", "a").done();
    let layers = [layer.clone(), layer.clone()];
    let config = configuration(&layers);
    let archive = tar()
        .file("manifest.json", r#"[{"Config":"c.json","Layers":["one/layer.tar","two/layer.tar"]}]"#)
        .file("c.json", &config)
        .symlink("two/layer.tar", "../one/layer.tar")
        .member(&Member { name: b"one/layer.tar", data: &layer, ..Member::default() })
        .done();
    ground.unpack(&archive).unwrap();
    assert_eq!(describe(&ground.target()), " d 755\na f 644 a");
}

#[test]
fn oci_archive_and_layout() {
    let layers = two_layers();
    let pack = |number: usize, layer: &[u8]| if number == 0 { gzip(layer) } else { zstd(layer) };
    let (files, digest) = oci(&layers, &pack);
    let ground = Playground::new();
    let report = ground.unpack(&oci_archive(&files)).unwrap();
    assert_eq!(describe(&ground.target()), TWO_LAYERS);
    assert_eq!(report.digest, digest);
    assert_eq!(Config::beside(&ground.target()).unwrap().config, Some(expected_config(&digest)));
    ground.unharmed();

    let ground = Playground::new();
    let layout = tempfile::tempdir().unwrap();
    oci_layout(layout.path(), &files);
    unpack(&UnpackOptions { sync: false, ..UnpackOptions::new(layout.path(), ground.target()) }).unwrap();
    assert_eq!(describe(&ground.target()), TWO_LAYERS);
    ground.unharmed();

    // By name, and through an index of indexes.
    let named = UnpackOptions {
        image: Some("v1".to_owned()),
        sync: false,
        ..UnpackOptions::new(layout.path(), ground.path("named"))
    };
    unpack(&named).unwrap();
    let inner = fs::read(layout.path().join("index.json")).unwrap();
    fs::write(layout.path().join(format!("blobs/sha256/{}", hash(&inner))), &inner).unwrap();
    let outer = format!(
        r#"{{"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{}","size":1}}]}}"#,
        sha256(&inner)
    );
    fs::write(layout.path().join("index.json"), outer).unwrap();
    unpack(&UnpackOptions { sync: false, ..UnpackOptions::new(layout.path(), ground.path("nested")) })
        .unwrap();
    assert_eq!(describe(&ground.path("nested")), TWO_LAYERS);
}

#[test]
fn an_image_for_another_machine_is_named() {
    let ground = Playground::new();
    let (files, _) = oci(&two_layers(), &|_, layer| layer.to_vec());
    let mut options = ground.options(&oci_archive(&files));
    options.platform = Some("linux/s390x".parse().unwrap());
    ground.refuses_with(&options, &["for linux/s390x", "plan9/mips", "--platform"]);
    options.platform = None;
    options.image = Some("v2".to_owned());
    ground.refuses_with(&options, &["no image called v2"]);
}

#[test]
fn what_was_changed_is_refused() {
    let layers = two_layers();
    let (files, _) = oci(&layers, &|_, layer| gzip(layer));
    for name in files.keys().filter(|name| name.starts_with("blobs/")) {
        let ground = Playground::new();
        let mut changed = files.clone();
        let blob = changed.get_mut(name).unwrap();
        if blob[0] == 0x1f {
            // Another operating system in gzip's header: decompresses to the same bytes, is not the same blob.
            blob[9] ^= 1;
        } else {
            blob.push(b' ');
        }
        ground.refuses(&oci_archive(&changed), &[name.rsplit('/').next().unwrap(), "damaged or was changed"]);
    }
    // A layer that is not the one the configuration names.
    let ground = Playground::new();
    let mut archive = docker_save(&layers);
    // First the name, then what is in the file.
    let content = (0..archive.len()).filter(|at| archive[*at..].starts_with(b"inside")).nth(1).unwrap();
    archive[content] = b'I';
    ground.refuses(&archive, &["layer 1 of 2", "damaged or was changed"]);
}

#[test]
fn from_a_pipe_and_compressed_as_a_whole() {
    let layers = two_layers();
    let plain = docker_save(&layers);
    for archive in [plain.clone(), gzip(&plain), zstd(&plain)] {
        let ground = Playground::new();
        let target = ground.target();
        let mut command = rcon(["unpack".as_ref(), "-".as_ref(), target.as_os_str()]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start(command);
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0), "{}", text(&output));
        assert_eq!(describe(&target), TWO_LAYERS);
        ground.unharmed();
    }
}

#[test]
fn plain_archive_of_a_tree() {
    let plain = tar().dir("./").file("./a", "a").file("./etc/.wh.name", "a name like any other").done();
    for archive in
        [plain.clone(), gzip(&plain), zstd(&plain), [gzip(&plain[..700]), gzip(&plain[700..])].concat()]
    {
        let ground = Playground::new();
        let report = ground.unpack(&archive).unwrap();
        assert_eq!(
            describe(&ground.target()),
            " d 755\na f 644 a\netc d 755\netc/.wh.name f 644 a name like any other"
        );
        assert_eq!(report.digest, sha256(&archive));
        assert_eq!(Config::beside(&ground.target()).unwrap().config, None);
        ground.unharmed();
    }
    // A tree may have such a name at its top; then the user must say so.
    let ground = Playground::new();
    let odd = tar().dir("blobs").file("blobs/x", "x").done();
    ground.refuses(&odd, &["neither index.json", "--form rootfs"]);
    unpack(&UnpackOptions { form: Form::Rootfs, ..ground.options(&odd) }).unwrap();
    assert_eq!(describe(&ground.target()), " d 755\nblobs d 755\nblobs/x f 644 x");
}

#[test]
fn foreign_compression_is_named() {
    let ground = Playground::new();
    ground.refuses(b"\xfd7zXZ\0rest of it", &["xz", "xz -dc FILE | rcon image unpack - DIR"]);
    ground.refuses(b"BZh9rest", &["bzip2"]);
    ground.refuses(&[b'x'; 2000], &["no tar archive"]);
}

#[test]
fn long_names_and_binary_attributes() {
    let ground = Playground::new();
    let deep = format!("{}/{}", "d".repeat(200), "ü".repeat(100));
    let odd = "with\nnewline";
    let value = b"\x01\n\0=\n";
    let archive = tar()
        .pax(&[("path", deep.as_bytes()), ("mtime", b"-1.5")])
        .file("short", "pax")
        .member(&Member {
            kind: b'L',
            name: b"././@LongLink",
            data: format!("{}\0", "g".repeat(150)).as_bytes(),
            ..Member::default()
        })
        .file("short", "gnu")
        .pax(&[("SCHILY.xattr.user.rcon", value), ("path", odd.as_bytes())])
        .file("short", "odd")
        .pax(&[("linkpath", "t".repeat(300).as_bytes())])
        .symlink("link", "short")
        .done();
    ground.unpack(&archive).unwrap();
    let at = |name: &str| ground.target().join(name);
    assert_eq!(fs::read_to_string(at(&deep)).unwrap(), "pax");
    let stat = fs::metadata(at(&deep)).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (-2, 500_000_000));
    assert_eq!(fs::read_to_string(at(&"g".repeat(150))).unwrap(), "gnu");
    assert_eq!(fs::read_link(at("link")).unwrap().as_os_str().len(), 300);
    let file = fs::File::open(at(odd)).unwrap();
    use std::os::fd::AsFd;
    assert_eq!(rcon::sys::xattr::read(file.as_fd(), c"user.rcon").unwrap(), value);
}

#[test]
fn sparse_files_keep_their_holes() {
    let ground = Playground::new();
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..6].copy_from_slice(b"sparse");
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o600);
    header.set_uid(me().0);
    header.set_gid(me().1);
    header.set_mtime(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].set_offset(1 << 20);
    gnu.sparse[0].set_length(512);
    gnu.set_is_extended(true);
    gnu.set_real_size(8 << 20);
    header.set_size(515);
    header.set_cksum();
    let mut more = tar::GnuExtSparseHeader::new();
    more.sparse[0].set_offset(4 << 20);
    more.sparse[0].set_length(3);
    more.sparse[1].set_offset(8 << 20);
    more.sparse[1].set_length(0);
    let data = [more.as_bytes().as_slice(), &[b'a'; 512], b"end"].concat();
    let archive = tar().block(&header, &data).file("after", "after").done();
    ground.unpack(&archive).unwrap();
    let bytes = fs::read(ground.target().join("sparse")).unwrap();
    assert_eq!(bytes.len(), 8 << 20);
    assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 515);
    assert_eq!(&bytes[4 << 20..(4 << 20) + 4], b"end\0");
    assert_eq!(fs::read_to_string(ground.target().join("after")).unwrap(), "after");
    assert!(fs::metadata(ground.target().join("sparse")).unwrap().blocks() < 2048, "holes take no disk");

    // The same file does not fit into a smaller limit, though its data would.
    let ground = Playground::new();
    let mut options = ground.options(&archive);
    options.limits = Limits { bytes: 4 << 20, ..Limits::default() };
    ground.refuses_with(&options, &["entry sparse", "--max-size"]);

    // A map that overlaps.
    let ground = Playground::new();
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_is_extended(false);
    gnu.sparse[1].set_offset(1 << 20);
    gnu.sparse[1].set_length(3);
    header.set_cksum();
    let overlapping = tar().block(&header, &data[512..]).done();
    ground.refuses(&overlapping, &["entry sparse", "overlaps"]);
    let pax = tar().pax(&[("GNU.sparse.major", b"1")]).file("s", "x").done();
    ground.refuses(&pax, &["entry s", "--format=gnu"]);
}

#[test]
fn owners_and_modes() {
    let ground = Playground::new();
    let archive = tar()
        .member(&Member { name: b"theirs", owner: (12_345, 54_321), mode: 0o4751, ..Member::default() })
        .member(&Member { kind: b'5', name: b"box", mode: 0o1555, ..Member::default() })
        .file("box/inside", "x")
        .done();
    if is_root() {
        let report = ground.unpack(&archive).unwrap();
        let stat = fs::metadata(ground.target().join("theirs")).unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (12_345, 54_321, 0o751));
        let notes: Vec<String> = report.notes.lines().collect();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("theirs") && notes[0].contains("--keep-setuid"), "{notes:?}");
        fs::remove_dir_all(ground.target()).unwrap();
        unpack(&UnpackOptions { keep_setuid: true, ..ground.options(&archive) }).unwrap();
        let stat = fs::metadata(ground.target().join("theirs")).unwrap();
        assert_eq!((stat.uid(), stat.mode() & 0o7777), (12_345, 0o4751));
    } else {
        ground.refuses(&archive, &["entry theirs", "12345:54321", "--best-effort"]);
        unpack(&UnpackOptions { best_effort: true, ..ground.options(&archive) }).unwrap();
    }
    assert_eq!(fs::metadata(ground.target().join("box")).unwrap().mode() & 0o7777, 0o1555);
}

/// As an ordinary user: started by root under another uid, or we are one.
#[test]
fn without_privilege() {
    let ground = Playground::new();
    fs::set_permissions(ground.dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let (uid, gid) = if is_root() { (65_534, 65_534) } else { me() };
    let mine = (u64::from(uid as u32), u64::from(gid as u32));
    let archive = tar()
        .member(&Member { kind: b'5', name: b"./", mode: 0o555, owner: mine, ..Member::default() })
        .member(&Member { kind: b'5', name: b"shut", mode: 0, owner: mine, ..Member::default() })
        .member(&Member { name: b"shut/in", data: b"x", owner: mine, ..Member::default() })
        .member(&Member { name: b"roots", owner: (0, 0), ..Member::default() });
    let path = ground.path("archive");
    fs::write(&path, archive.done()).unwrap();
    let target = ground.target();
    // A copy of the program, because the one in the build directory may be out of reach.
    let program = ground.path("rcon");
    let alone = no_forks();
    fs::copy(env!("CARGO_BIN_EXE_rcon"), &program).unwrap();
    drop(alone);
    let run = |extra: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["image", "unpack"]).args(extra).args([&path, &target]);
        if is_root() {
            command.uid(65_534).gid(65_534);
        }
        output(&mut command)
    };
    let output = run(&[]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("entry roots") && said.contains("0:0") && said.contains("--best-effort"), "{said}");
    assert!(!target.exists());
    let output = run(&["--best-effort", "--no-sync"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 owners not kept (first: roots"), "{said}");
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o555);
    assert_eq!(fs::metadata(target.join("shut")).unwrap().mode() & 0o777, 0);
    for dir in [target.clone(), target.join("shut")] {
        fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    }
    assert_eq!(fs::read_to_string(target.join("shut/in")).unwrap(), "x");
    fs::remove_file(program).unwrap();
    ground.unharmed();
}
