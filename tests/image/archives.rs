//! Archives, written as no honest program would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use rcon::image::{self, Config};
use sha2::{Digest, Sha256};

/// Writes archives as no honest program would: names and kinds go into the headers as they are given.
#[derive(Clone, Default)]
pub(crate) struct Tar {
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Member<'a> {
    pub(crate) kind: u8,
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) data: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    /// Told in the header, if not the data's length.
    pub(crate) size: Option<u64>,
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub(crate) fn me() -> (u64, u64) {
    (nix::unistd::geteuid().as_raw().into(), nix::unistd::getegid().as_raw().into())
}

impl Default for Member<'_> {
    fn default() -> Self {
        Self { kind: b'0', name: b"", link: b"", data: b"", mode: 0o644, owner: me(), size: None }
    }
}

impl Tar {
    pub(crate) fn member(self, member: &Member) -> Self {
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

    pub(crate) fn block(mut self, header: &tar::Header, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: &str) -> Self {
        self.member(&Member { name: name.as_bytes(), data: data.as_bytes(), ..Member::default() })
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.member(&Member { kind: b'5', name: name.as_bytes(), mode: 0o755, ..Member::default() })
    }

    pub(crate) fn symlink(self, name: &str, link: &str) -> Self {
        let (name, link) = (name.as_bytes(), link.as_bytes());
        self.member(&Member { kind: b'2', name, link, mode: 0o777, ..Member::default() })
    }

    pub(crate) fn hardlink(self, name: &str, link: &str) -> Self {
        self.member(&Member { kind: b'1', name: name.as_bytes(), link: link.as_bytes(), ..Member::default() })
    }

    /// A pax header for the next member.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
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

    pub(crate) fn done(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

pub(crate) fn tar() -> Tar {
    Tar::default()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hash(bytes))
}

pub(crate) const RUN: &str =
    r#"{"Env":["A=b","C=d=e"],"Entrypoint":["/bin/app"],"Cmd":["--serve"],"User":"app","WorkingDir":"/srv"}"#;

/// The configuration of an image made of these layers.
pub(crate) fn configuration(layers: &[Vec<u8>]) -> String {
    let ids: Vec<String> = layers.iter().map(|layer| format!("{:?}", sha256(layer))).collect();
    format!(
        r#"{{"architecture":"{}","os":"linux","config":{RUN},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        image::Platform::here().architecture,
        ids.join(",")
    )
}

pub(crate) fn expected_config(digest: &str) -> Config {
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
pub(crate) fn docker_save(layers: &[Vec<u8>]) -> Vec<u8> {
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
pub(crate) fn oci(
    layers: &[Vec<u8>],
    pack: &dyn Fn(usize, &[u8]) -> Vec<u8>,
) -> (BTreeMap<String, Vec<u8>>, String) {
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

pub(crate) fn oci_archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut archive = tar().dir("blobs/").dir("blobs/sha256/");
    for (name, bytes) in files {
        archive = archive.member(&Member { name: name.as_bytes(), data: bytes, ..Member::default() });
    }
    archive.done()
}

pub(crate) fn oci_layout(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
