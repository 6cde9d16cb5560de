//! What means harm by its size, its form and what its parts say of each other.

use std::fs;
use std::os::unix::fs::symlink;

use rcon::image::{Limits, UnpackOptions};

use crate::archives::{Member, configuration, docker_save, gzip, oci, oci_archive, oci_layout, tar, zstd};
use crate::tree::{Playground, describe, two_layers, unpack};

#[test]
fn hostile_13_too_many_bytes() {
    let ground = Playground::new();
    let zeros = "\0".repeat(3 << 20);
    let archive = gzip(&tar().file("fine", "x").file("bomb", &zeros).done());
    let mut options = ground.options(&archive);
    options.limits = Limits { bytes: 2 << 20, ..Limits::default() };
    ground.refuses_with(&options, &["entry bomb:", "more than 2M", "--max-size"]);
    // A header that promises more than there is disk.
    let promise = tar().member(&Member { name: b"bomb", size: Some(1 << 50), ..Member::default() }).done();
    ground.refuses(&promise, &["entry bomb:", "--max-size"]);
    // Behind the end of the archive nobody sees it, but it would still be read.
    let tail = gzip(&[tar().file("fine", "x").done(), vec![0; 3 << 20]].concat());
    let mut options = ground.options(&tail);
    options.limits = Limits { bytes: 2 << 20, ..Limits::default() };
    ground.refuses_with(&options, &["--max-size"]);
}

#[test]
fn hostile_14_ratio() {
    let ground = Playground::new();
    let zeros = "\0".repeat(4 << 20);
    for archive in [gzip(&tar().file("bomb", &zeros).done()), zstd(&tar().file("bomb", &zeros).done())] {
        let mut options = ground.options(&archive);
        options.limits = Limits { ratio_from: 1 << 20, ..Limits::default() };
        ground.refuses_with(&options, &["entry bomb:", "200 times", "--max-ratio"]);
    }
    // A layer as bomb in an image that is itself compressed.
    let (files, _) = oci(&[tar().file("bomb", &zeros).done()], &|_, layer| gzip(layer));
    let mut options = ground.options(&oci_archive(&files));
    options.limits = Limits { ratio_from: 1 << 20, ..Limits::default() };
    ground.refuses_with(&options, &["layer 1 of 1: entry bomb:", "--max-ratio"]);
}

#[test]
fn hostile_15_too_many_entries() {
    let ground = Playground::new();
    let mut archive = tar();
    for number in 0..50 {
        archive = archive.file(&format!("f{number}"), "");
    }
    let mut options = ground.options(&archive.done());
    options.limits = Limits { entries: 49, ..Limits::default() };
    ground.refuses_with(&options, &["more than 49 entries", "--max-entries"]);
}

#[test]
fn hostile_16_huge_extension_headers() {
    let ground = Playground::new();
    for kind in *b"xgLK" {
        let archive =
            tar().member(&Member { kind, name: b"long", size: Some(9 << 30), ..Member::default() }).done();
        ground.refuses(&archive, &["entry long:", "extension headers"]);
    }
    // Many small ones for one entry.
    let mut archive = tar();
    let data = [b'x'; 100_000];
    for _ in 0..11 {
        archive = archive.member(&Member { kind: b'g', name: b"g", data: &data, ..Member::default() });
    }
    ground.refuses(&archive.file("a", "").done(), &["extension headers"]);
}

#[test]
fn hostile_17_names_that_no_file_can_have() {
    let ground = Playground::new();
    let long = b"n".repeat(300);
    ground.refuses(&tar().pax(&[("path", &long)]).file("x", "").done(), &["entry nnn", "too long"]);
    let deep = b"d/".repeat(3000);
    let error = ground.unpack(&tar().pax(&[("path", &deep)]).file("x", "").done()).unwrap_err().to_string();
    assert!(error.contains("entry d/d/") && error.len() < 8192, "{error}");
    ground.refuses(&tar().pax(&[("path", b"a\0b")]).file("x", "").done(), &["entry a\\u{0}b:", "NUL"]);
    ground.refuses(&tar().pax(&[("linkpath", b"a\0b")]).symlink("l", "x").done(), &["entry l:", "NUL"]);
    // What goes to the terminal is no terminal sequence.
    ground.refuses(&tar().file("../\x1b[2J", "").done(), &["entry ../\\u{1b}[2J:"]);
    ground.refuses(&tar().pax(&[("uid", b"4294967295")]).file("x", "").done(), &["entry x:", "4294967295"]);
    ground.refuses(&tar().pax(&[("gid", b"99999999999")]).file("x", "").done(), &["entry x:", "99999999999"]);
}

#[test]
fn hostile_18_damaged_archives() {
    let ground = Playground::new();
    let whole = tar().file("a", "a").file("b", &"b".repeat(2000)).done();
    ground.refuses(&whole[..1024 + 512 + 900], &["entry b:", "ends in the middle"]);
    ground.refuses(&whole[..1024 + 100], &["ends in the middle"]);
    let packed = gzip(&whole);
    ground.refuses(&packed[..packed.len() - 9], &[]);
    let mut wrong = packed.clone();
    let end = wrong.len() - 6;
    wrong[end] ^= 0xff;
    ground.refuses(&wrong, &["damaged"]);
    let mut wrong = zstd(&whole);
    let end = wrong.len() - 1;
    wrong[end] ^= 0xff;
    ground.refuses(&wrong, &["damaged", "checksum"]);
    let mut sum = whole.clone();
    sum[1] ^= 1;
    ground.refuses(&sum, &["checksum"]);
    ground.refuses(
        &tar().member(&Member { kind: b'M', name: b"part", ..Member::default() }).done(),
        &["entry part:"],
    );
}

#[test]
fn hostile_19_fifo_and_duplicates() {
    let ground = Playground::new();
    let archive = tar()
        .member(&Member { kind: b'6', name: b"pipe", mode: 0o622, ..Member::default() })
        .member(&Member { kind: b'6', name: b"over", ..Member::default() })
        // Writing into the pipe would wait for a reader for ever.
        .file("over", "one")
        .file("over", "two")
        .dir("d")
        .file("d/x", "x")
        .file("d", "no directory any more")
        .done();
    ground.unpack(&archive).unwrap();
    assert_eq!(
        describe(&ground.target()),
        " d 755\nd f 644 no directory any more\nover f 644 two\npipe special 622"
    );
    let ground = Playground::new();
    ground.refuses(&tar().file("f", "").file("f/x", "").done(), &["entry f/x:", "f is no directory"]);
}

#[test]
fn hostile_20_directory_becomes_a_link_between_layers() {
    let ground = Playground::new();
    let lower = tar().dir("d").file("d/x", "x").done();
    let upper = tar().symlink("d", "../outside").file("d/secret", "harm").done();
    ground.refuses(&docker_save(&[lower.clone(), upper]), &["layer 2 of 2: entry d/secret:"]);
    let third = tar().file("d/.wh.secret", "").file("d/.wh..wh..opq", "").done();
    let upper = tar().symlink("d", "../outside").done();
    ground.unpack(&docker_save(&[lower, upper, third])).unwrap();
    assert_eq!(describe(&ground.target()), " d 755\nd -> ../outside");
    ground.unharmed();
}

#[test]
fn hostile_21_whiteouts_that_name_no_file() {
    let ground = Playground::new();
    for name in ["d/.wh...", "d/.wh..", "d/.wh.", ".wh..."] {
        let archive = docker_save(&[tar().dir("d").file(name, "").done()]);
        ground.refuses(&archive, &[&format!("entry {name}:"), "names no file"]);
    }
}

#[test]
fn hostile_22_another_root() {
    let ground = Playground::new();
    for name in ["./", ".", "/"] {
        ground.refuses(
            &tar().symlink(name, "../outside").file("secret", "").done(),
            &["would replace the root"],
        );
    }
}

#[test]
fn hostile_23_parts_from_elsewhere() {
    let ground = Playground::new();
    let secret = ground.path("outside/secret").display().to_string();
    for layer in ["../outside/secret", secret.as_str(), "../../etc/passwd"] {
        let layers = [tar().done()];
        let archive = tar()
            .file("manifest.json", &format!(r#"[{{"Config":"c.json","Layers":["{layer}"]}}]"#))
            .file("c.json", &configuration(&layers))
            .done();
        ground.refuses(&archive, &[layer, "not in it"]);
    }
    for digest in ["sha256:../../../etc/passwd", "md5:abc", ""] {
        let index = format!(r#"{{"manifests":[{{"digest":"{digest}"}}]}}"#);
        ground.refuses(&tar().file("index.json", &index).done(), &["no sha256 digest"]);
    }
    // A layout whose blobs are links out of it.
    let (files, _) = oci(&two_layers(), &|_, layer| layer.to_vec());
    let layout = tempfile::tempdir().unwrap();
    oci_layout(layout.path(), &files);
    fs::rename(layout.path().join("blobs"), ground.path("outside/blobs")).unwrap();
    symlink(ground.path("outside/blobs"), layout.path().join("blobs")).unwrap();
    let options = UnpackOptions { sync: false, ..UnpackOptions::new(layout.path(), ground.target()) };
    let error = unpack(&options).unwrap_err().to_string();
    assert!(error.contains("blobs/sha256/") && error.contains("cannot be opened"), "{error}");
}

#[test]
fn hostile_24_deeper_than_any_path() {
    let ground = Playground::new();
    let step = "d/".repeat(500);
    let mut archive = tar();
    let mut at = String::new();
    // Each link shortens the way to the bottom, where the next piece is hung. The kernel follows 40 links, and
    // counts on when it has to walk a path again.
    for number in 0..8 {
        let deeper = format!("{at}{step}");
        archive = archive.pax(&[("path", deeper.as_bytes())]).dir("x");
        archive = archive.pax(&[("linkpath", deeper.as_bytes())]).symlink(&format!("l{number}"), "x");
        at = format!("l{number}/");
    }
    // 4000 levels, twice as many as a path name can have; then a reason to remove them all.
    let archive = archive.file("../x", "").done();
    ground.refuses(&archive, &["goes up"]);
}

#[test]
fn hostile_25_json() {
    let ground = Playground::new();
    ground.refuses(&tar().file("manifest.json", "[").done(), &["manifest.json is damaged"]);
    ground.refuses(&tar().file("index.json", r#"{"manifests":"x"}"#).done(), &["index.json is damaged"]);
    ground.refuses(&tar().file("index.json", &"[".repeat(100_000)).done(), &["index.json is damaged"]);
    ground.refuses(&tar().file("index.json", &" ".repeat(5 << 20)).done(), &["more than 4 MiB"]);
    let deep = r#"[{"Config":"c","Layers":["a","b"]}]"#;
    let config = configuration(&[tar().done()]);
    let archive = tar().file("manifest.json", deep).file("c", &config).done();
    ground.refuses(&archive, &["2 layers", "configuration for 1"]);
}
