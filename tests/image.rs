//! `rcon image`: archives that images come in, archives that mean harm, and the way back.
//!
//! Nothing here needs root; where root makes a difference both sides are asserted.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use rcon::error::Error;
use rcon::image::{self, Config, Devices, Form, Limits, Report, UnpackOptions};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

// ---------------------------------------------------------------- archives

/// Writes archives as no honest program would: names and kinds go into the headers as they are given.
#[derive(Clone, Default)]
struct Tar {
    bytes: Vec<u8>,
}

struct Member<'a> {
    kind: u8,
    name: &'a [u8],
    link: &'a [u8],
    data: &'a [u8],
    mode: u32,
    owner: (u64, u64),
    /// Told in the header, if not the data's length.
    size: Option<u64>,
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn me() -> (u64, u64) {
    (nix::unistd::geteuid().as_raw().into(), nix::unistd::getegid().as_raw().into())
}

impl Default for Member<'_> {
    fn default() -> Self {
        Self { kind: b'0', name: b"", link: b"", data: b"", mode: 0o644, owner: me(), size: None }
    }
}

impl Tar {
    fn member(self, member: &Member) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..member.name.len()].copy_from_slice(member.name);
        old.linkname[..member.link.len()].copy_from_slice(member.link);
        old.linkflag = [member.kind];
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_mtime(1_000_000_000);
        header.set_size(member.size.unwrap_or(member.data.len() as u64));
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.block(&header, member.data)
    }

    fn block(mut self, header: &tar::Header, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.member(&Member { name: name.as_bytes(), data: data.as_bytes(), ..Member::default() })
    }

    fn dir(self, name: &str) -> Self {
        self.member(&Member { kind: b'5', name: name.as_bytes(), mode: 0o755, ..Member::default() })
    }

    fn symlink(self, name: &str, link: &str) -> Self {
        let (name, link) = (name.as_bytes(), link.as_bytes());
        self.member(&Member { kind: b'2', name, link, mode: 0o777, ..Member::default() })
    }

    fn hardlink(self, name: &str, link: &str) -> Self {
        self.member(&Member { kind: b'1', name: name.as_bytes(), link: link.as_bytes(), ..Member::default() })
    }

    /// A pax header for the next member.
    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.member(&Member { kind: b'x', name: b"PaxHeaders/x", data: &data, ..Member::default() })
    }

    fn done(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

fn tar() -> Tar {
    Tar::default()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hash(bytes))
}

const RUN: &str =
    r#"{"Env":["A=b","C=d=e"],"Entrypoint":["/bin/app"],"Cmd":["--serve"],"User":"app","WorkingDir":"/srv"}"#;

/// The configuration of an image made of these layers.
fn configuration(layers: &[Vec<u8>]) -> String {
    let ids: Vec<String> = layers.iter().map(|layer| format!("{:?}", sha256(layer))).collect();
    format!(
        r#"{{"architecture":"{}","os":"linux","config":{RUN},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        image::Platform::here().architecture,
        ids.join(",")
    )
}

fn expected_config(digest: &str) -> Config {
    Config {
        env: vec!["A=b".to_owned(), "C=d=e".to_owned()],
        entrypoint: vec!["/bin/app".to_owned()],
        cmd: vec!["--serve".to_owned()],
        user: "app".to_owned(),
        working_dir: "/srv".to_owned(),
        digest: digest.to_owned(),
    }
}

/// As `docker save` wrote it for ten years: the table of contents comes last.
fn docker_save(layers: &[Vec<u8>]) -> Vec<u8> {
    let config = configuration(layers);
    let config_name = format!("{}.json", hash(config.as_bytes()));
    let mut archive =
        tar().member(&Member { name: config_name.as_bytes(), data: config.as_bytes(), ..Member::default() });
    let mut names: Vec<String> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let id = hash(format!("id {number}").as_bytes());
        let name = format!("{id}/layer.tar");
        // The directory's name ends at 65 characters, the layer's at 74: both fit into a header.
        archive = archive.dir(&format!("{id}/")).file(&format!("{id}/VERSION"), "1.0");
        archive = archive.member(&Member { name: name.as_bytes(), data: layer, ..Member::default() });
        names.push(format!("{name:?}"));
    }
    let manifest = format!(
        r#"[{{"Config":"{config_name}","RepoTags":["app:latest","app:1"],"Layers":[{}]}}]"#,
        names.join(",")
    );
    archive.file("manifest.json", &manifest).file("repositories", "{}").done()
}

/// The files of an OCI layout, by name, and the manifest's digest. Layers are compressed by `pack`.
fn oci(layers: &[Vec<u8>], pack: &dyn Fn(usize, &[u8]) -> Vec<u8>) -> (BTreeMap<String, Vec<u8>>, String) {
    let mut files = BTreeMap::new();
    let mut blob = |bytes: Vec<u8>| {
        let descriptor = format!(r#""digest":"{}","size":{}"#, sha256(&bytes), bytes.len());
        files.insert(format!("blobs/sha256/{}", hash(&bytes)), bytes);
        descriptor
    };
    let config = blob(configuration(layers).into_bytes());
    let parts: Vec<String> = layers
        .iter()
        .enumerate()
        .map(|(number, layer)| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar",{}}}"#,
                blob(pack(number, layer))
            )
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{config}}},"layers":[{}]}}"#,
        parts.join(",")
    );
    let digest = sha256(manifest.as_bytes());
    let manifest = blob(manifest.into_bytes());
    let here = image::Platform::here().architecture;
    // One for another machine beside it, as `docker buildx` writes them; its blob is not there.
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[
        {{"mediaType":"application/vnd.oci.image.manifest.v1+json",{manifest},"platform":{{"os":"linux","architecture":"{here}"}},
          "annotations":{{"org.opencontainers.image.ref.name":"v1"}}}},
        {{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{0}","size":3,
          "platform":{{"os":"plan9","architecture":"mips"}}}}]}}"#,
        "0".repeat(64)
    );
    files.insert("index.json".to_owned(), index.into_bytes());
    files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    (files, digest)
}

fn oci_archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut archive = tar().dir("blobs/").dir("blobs/sha256/");
    for (name, bytes) in files {
        archive = archive.member(&Member { name: name.as_bytes(), data: bytes, ..Member::default() });
    }
    archive.done()
}

fn oci_layout(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

// ---------------------------------------------------------------- trees

/// A line for each file: kind, mode, name, content or target.
fn describe(root: &Path) -> String {
    let mut lines = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = stat.file_type();
        let mode = stat.mode() & 0o7777;
        lines.push(if kind.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            format!("{name} d {mode:o}")
        } else if kind.is_symlink() {
            format!("{name} -> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            let text = fs::read(&path).unwrap();
            format!("{name} f {mode:o} {}", String::from_utf8_lossy(&text))
        } else {
            format!("{name} special {mode:o}")
        });
    }
    lines.sort();
    lines.join("\n")
}

/// A directory with something to harm, and a place to unpack into.
struct Playground {
    dir: TempDir,
}

impl Playground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), "unharmed").unwrap();
        fs::set_permissions(dir.path().join("outside/secret"), PermissionsExt::from_mode(0o640)).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("target")
    }

    fn options(&self, archive: &[u8]) -> UnpackOptions {
        let path = self.path("archive");
        fs::write(&path, archive).unwrap();
        UnpackOptions { sync: false, ..UnpackOptions::new(path, self.target()) }
    }

    fn unpack(&self, archive: &[u8]) -> Result<Report, Error> {
        unpack(&self.options(archive))
    }

    /// All but the tree and the archive is as it was; staging directories would show here.
    #[track_caller]
    fn unharmed(&self) {
        let secret = self.path("outside/secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "unharmed");
        let stat = fs::metadata(&secret).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.nlink()), (0o640, 1), "the secret's mode and links");
        assert_eq!(listed(&self.path("outside")), ["secret"]);
        let mut names = listed(self.dir.path());
        names.retain(|name| !["archive", "target", "target.image.json"].contains(&name.as_str()));
        assert_eq!(names, ["outside"]);
    }

    /// The archive is refused, the message has all these words, nothing is left.
    #[track_caller]
    fn refuses(&self, archive: &[u8], words: &[&str]) {
        self.refuses_with(&self.options(archive), words);
    }

    #[track_caller]
    fn refuses_with(&self, options: &UnpackOptions, words: &[&str]) {
        let message = match unpack(options) {
            Ok(report) => panic!("unpacked:\n{}", describe(&report.root)),
            Err(error) => error.to_string(),
        };
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert!(!self.target().exists(), "the target is there");
        assert!(!self.path("target.image.json").exists(), "the configuration is there");
        self.unharmed();
    }
}

fn listed(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn unpack(options: &UnpackOptions) -> Result<Report, Error> {
    image::unpack(options, &|| false)
}

fn rcon<const N: usize>(args: [&OsStr; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcon"));
    command.arg("image").args(args);
    command
}

fn text(output: &Output) -> String {
    format!(
        "{:?}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

// ---------------------------------------------------------------- what images are

fn two_layers() -> Vec<Vec<u8>> {
    let lower = tar()
        .dir("./")
        .dir("./bin/")
        .member(&Member { name: b"./bin/app", data: b"old", mode: 0o755, ..Member::default() })
        .dir("etc/")
        .file("etc/kept", "kept")
        .file("etc/gone", "gone")
        .dir("cache/")
        .dir("cache/deep/")
        .file("cache/deep/old", "old")
        .file("cache/old", "old")
        .dir("swap/")
        .file("swap/inside", "inside")
        .dir("usr/")
        .dir("usr/lib/")
        .symlink("lib", "usr/lib")
        .dir("tree/")
        .dir("tree/sub/")
        .file("tree/sub/old", "old")
        .done();
    let upper = tar()
        .member(&Member { name: b"bin/app", data: b"new", mode: 0o755, ..Member::default() })
        .file("etc/.wh.gone", "")
        // What this layer brings stays, though the mark comes after it.
        .file("cache/deep/new", "new")
        .file("cache/.wh..wh..opq", "")
        .symlink("swap", "/etc")
        // Through a link of the lower layer, as a process in the image would see it.
        .file("lib/libx.so", "x")
        .hardlink("etc/hard", "etc/kept")
        .dir("tree/")
        .file("tree/.wh.sub", "")
        .file("tree/.wh.never-there", "")
        .done();
    vec![lower, upper]
}

const TWO_LAYERS: &str = " d 755
bin d 755
bin/app f 755 new
cache d 755
cache/deep d 755
cache/deep/new f 644 new
etc d 755
etc/hard f 644 kept
etc/kept f 644 kept
lib -> usr/lib
swap -> /etc
tree d 755
usr d 755
usr/lib d 755
usr/lib/libx.so f 644 x";

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
        let mut child = rcon(["unpack".as_ref(), "-".as_ref(), target.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
    fs::copy(env!("CARGO_BIN_EXE_rcon"), &program).unwrap();
    let run = |extra: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["image", "unpack"]).args(extra).args([&path, &target]);
        if is_root() {
            command.uid(65_534).gid(65_534);
        }
        command.output().unwrap()
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

// ---------------------------------------------------------------- what means harm

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

// ---------------------------------------------------------------- where it goes

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
        let mut child = rcon(["unpack".as_ref(), "-".as_ref(), target.as_os_str()])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 24576; exec \"$0\" image unpack --no-sync \"$1\" \"$2\""])
        .args([Path::new(env!("CARGO_BIN_EXE_rcon")), &ground.path("archive"), &ground.target()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(fs::read(ground.target().join("big")).unwrap() == data, "the same bytes");
}

// ---------------------------------------------------------------- and back

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
    let output = rcon(["pack".as_ref(), from.as_os_str(), "-o".as_ref(), out.as_os_str()]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let piped = rcon(["pack".as_ref(), from.as_os_str()]).output().unwrap();
    assert!(fs::read(&out).unwrap() == piped.stdout, "{}", text(&piped));
    let listed = Command::new("tar").arg("-tf").arg(&out).output().unwrap();
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
    let output = rcon(["pack".as_ref(), from.as_os_str()]).stdout(full).output().unwrap();
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
