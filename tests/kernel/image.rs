//! Images made here, unpacked, and run as they say.

use crate::{
    case::Case,
    needs::Need,
    support::{Output, RCON, rcon, run},
};
use nix::unistd::{getegid, geteuid};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("image::archives_run", &[Need::Root], archives_run),
        Case::new("image::archives_run_for_an_ordinary_user", &[Need::NonRoot, Need::Userns], archives_run),
        Case::new("image::a_release_in_use_stays", &[Need::Root, Need::Overlay], a_release_in_use_stays),
        Case::new("image::what_others_left_may_stay", &[Need::Root], what_others_left_may_stay),
    ]
}

type Files<'a> = &'a [(&'a str, &'a [u8])];

/// A tar archive of files that are ours and may be executed; a name with an arrow is a link.
fn tar(files: Files) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(geteuid().as_raw().into());
        header.set_gid(getegid().as_raw().into());
        match name.split_once("->") {
            Some((name, target)) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                archive.append_link(&mut header, name, target).expect("tar");
            }
            None => {
                header.set_size(data.len() as u64);
                archive.append_data(&mut header, name, *data).expect("tar");
            }
        }
    }
    archive.into_inner().expect("tar")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// busybox; then a layer that removes one file, and brings another.
fn layers() -> Vec<Vec<u8>> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|path| fs::read(path).ok());
    let busybox = busybox.expect("busybox is installed");
    let base: Files =
        &[("bin/busybox", &busybox), ("bin/sh->busybox", b""), ("srv/old", b"old"), ("etc/name", b"base\n")];
    let top: Files = &[("srv/.wh.old", b""), ("srv/new", b"new"), ("etc/name", b"top\n")];
    vec![tar(base), tar(top)]
}

/// What the image says of itself.
fn configuration(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin", "GREETING=hello from the image"],
            "Cmd": ["/bin/sh", "-c", "echo $GREETING; busybox pwd; busybox cat /etc/name; busybox ls; busybox env"],
            "WorkingDir": "/srv",
        },
        "rootfs": { "type": "layers", "diff_ids": ids },
    })
    .to_string()
    .into_bytes()
}

/// As docker save writes it.
fn docker_save() -> Vec<u8> {
    let layers = layers();
    let config = configuration(&layers);
    let names: Vec<String> = layers.iter().map(|layer| format!("{}/layer.tar", sha256(layer))).collect();
    let config_name = format!("{}.json", sha256(&config));
    let manifest = json!([{ "Config": config_name, "RepoTags": ["test:1"], "Layers": names }]);
    let manifest = manifest.to_string();
    tar(&[
        (&names[0], &layers[0]),
        (&names[1], &layers[1]),
        (&config_name, &config),
        ("manifest.json", manifest.as_bytes()),
    ])
}

/// An OCI layout directory.
fn oci_layout(dir: &Path) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("mkdir");
    let blob = |bytes: &[u8]| {
        let name = sha256(bytes);
        fs::write(blobs.join(&name), bytes).expect("write");
        format!("sha256:{name}")
    };
    let layers = layers();
    let describe = |bytes: &[u8], kind: &str| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": blob(bytes), "size": bytes.len() });
    let config = describe(&configuration(&layers), "config.v1+json");
    let layers: Vec<_> = layers.iter().map(|layer| describe(layer, "layer.v1.tar")).collect();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
    let index =
        json!({ "schemaVersion": 2, "manifests": [describe(manifest.as_bytes(), "manifest.v1+json")] });
    fs::write(dir.join("index.json"), index.to_string()).expect("write");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
}

fn unpack(source: &Path, target: &Path, options: &[&str]) -> Output {
    let out = rcon(["image", "unpack", "--no-sync"]).args(options).args([source, target]).run();
    assert_eq!(out.shell_status(), 0, "{out}");
    out
}

fn archives_run() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (saved, layout) = (dir.path().join("saved.tar"), dir.path().join("layout"));
    fs::write(&saved, docker_save()).expect("write");
    oci_layout(&layout);
    for (number, source) in [saved, layout].iter().enumerate() {
        let root = dir.path().join(format!("app{number}"));
        unpack(source, &root, &[]);
        let start = |words: &[&str]| {
            rcon(["--root"]).args([&root]).args(["--image-config"]).args(words).env("CALLER", "x").run()
        };
        let out = start(&[]);
        let told = "hello from the image\n/srv\ntop\nnew\n";
        assert!(out.stdout.starts_with(told) && out.shell_status() == 0, "{out}");
        assert!(out.stdout.contains("\nGREETING=hello") && !out.stdout.contains("CALLER"), "{out}");
        let out = start(&["--", "/bin/sh", "-c", "echo own; exit 3"]);
        assert_eq!((out.stdout.as_str(), out.shell_status()), ("own\n", 3), "{out}");
    }
}

fn releases(app: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(app.join("releases")).expect("releases").flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn a_release_in_use_stays() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (archive, app) = (dir.path().join("tree.tar"), dir.path().join("app"));
    let layers = layers();
    fs::write(&archive, &layers[0]).expect("write");
    let deploy = || unpack(&archive, &app, &["--deploy", "--keep", "1"]);
    for option in [&[][..], &["--ephemeral"], &["--chroot-only"]] {
        deploy();
        let first = releases(&app).pop().expect("a release");
        let mut live = rcon(["--root"]).args([app.join("current")]).args(option);
        live = live.args(["--", "/bin/busybox", "sh", "-c", "echo up; exec /bin/busybox sleep 600"]);
        let mut live = live.start();
        live.wait_for("up");
        let out = deploy();
        assert!(out.stderr.contains("old releases kept, which are the root of a run"), "{option:?}: {out}");
        assert!(first.exists() && releases(&app).len() == 2, "{:?}", releases(&app));
        let out = run("sh").args(["-c", "kill $0"]).args([live.child.id().to_string()]).run();
        assert_eq!(out.shell_status(), 0, "{out}");
        drop(live.finish());
        let out = deploy();
        assert!(out.stderr.is_empty() && releases(&app).len() == 1, "{out} {:?}", releases(&app));
    }
}

/// In a directory that many can write, one of them could stop everybody's unpacking.
fn what_others_left_may_stay() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let archive = dir.path().join("tree.tar");
    fs::write(&archive, &layers()[1]).expect("write");
    let left = dir.path().join(".rcon-unpacking-1-1");
    // Nobody can remove what something is mounted on.
    let busy = left.join("busy");
    fs::create_dir_all(&busy).expect("mkdir");
    for (owner, status) in [(65534, 0), (0, 125)] {
        std::os::unix::fs::chown(&left, Some(owner), None).expect("chown");
        let app = dir.path().join(format!("app{owner}"));
        let run = rcon(["--tmpfs"]).args([&busy]).args(["--", RCON, "image", "unpack", "--no-sync"]);
        let out = run.args([&archive, &app]).run();
        assert_eq!((out.shell_status(), app.exists()), (status, status == 0), "{owner}: {out}");
        assert!(busy.exists(), "{out}");
    }
}
