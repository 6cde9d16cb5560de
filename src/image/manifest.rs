//! Which layers make an image: OCI's index and manifest, or docker save's.
//!
//! A few fields of each are read with types of our own. The `oci-spec` crate has them all, and brings 30 crates
//! and builders for what we only read.

use serde::Deserialize;

use super::config::{Config, null_is_default};
use super::store::{Store, blob_name, is_hash};
use super::stream::digest;
use super::{Platform, UnpackOptions};
use crate::error::{Error, printable};

/// What is to be unpacked.
pub(super) struct Image {
    pub(super) digest: String,
    pub(super) config: Config,
    pub(super) layers: Vec<Layer>,
}

pub(super) struct Layer {
    /// In the store.
    pub(super) name: String,
    /// As it is stored; docker save does not say.
    pub(super) digest: Option<String>,
    /// Decompressed.
    pub(super) diff_id: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Architecture>,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: Annotations,
}

/// How the tools call an image.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    reference: Option<String>,
    #[serde(rename = "io.containerd.image.name")]
    name: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Architecture {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// An index has manifests, a manifest has layers.
#[derive(Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct ImageConfig {
    os: Option<String>,
    architecture: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    config: Config,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<String>,
}

/// Finds the image that the options ask for, or the only one.
pub(super) fn choose(store: &Store, options: &UnpackOptions) -> Result<Image, Error> {
    if store.has("index.json") {
        oci(store, options)
    } else if store.has("manifest.json") {
        docker(store, options)
    } else {
        Err(Error::new("has neither index.json (OCI) nor manifest.json (docker save)")
            .try_this("--form rootfs, if it is the tree itself and no image"))
    }
}

fn oci(store: &Store, options: &UnpackOptions) -> Result<Image, Error> {
    let index: Document = parse("index.json", &store.read("index.json")?)?;
    let mut found = Vec::new();
    collect(store, index.manifests.unwrap_or_default(), options.image.as_deref(), 0, &mut found)?;
    if let (Some(name), true) = (&options.image, found.is_empty()) {
        return Err(Error::new(format!("holds no image called {}", printable(name.as_bytes()))));
    }
    let wanted = options.platform.clone().unwrap_or_else(Platform::here);
    let all = found.iter().map(shown).collect::<Vec<_>>().join(", ");
    found.retain(|one| one.platform.as_ref().is_none_or(|platform| fits(platform, &wanted)));
    found.dedup_by(|one, other| one.digest == other.digest);
    let one = match found.as_slice() {
        [one] => one,
        [] => {
            return Err(Error::new(format!("holds no image for {wanted}; it has: {all}"))
                .try_this("--platform OS/ARCHITECTURE"));
        }
        _ => {
            return Err(Error::new(format!("holds several images for {wanted}: {all}"))
                .try_this("--image NAME or --platform OS/ARCHITECTURE/VARIANT"));
        }
    };
    let manifest: Document = parse(&one.digest, &store.blob(&one.digest)?)?;
    let (Some(config), Some(layers)) = (manifest.config, manifest.layers) else {
        return Err(Error::new(format!("{} is no image manifest", one.digest)));
    };
    let configuration: ImageConfig = parse(&config.digest, &store.blob(&config.digest)?)?;
    let names = layers
        .into_iter()
        .map(|layer| {
            if layer.media_type.ends_with("+encrypted") {
                return Err(Error::new(format!("layer {} is encrypted", layer.digest)));
            }
            Ok((blob_name(&layer.digest)?, Some(layer.digest)))
        })
        .collect::<Result<_, _>>()?;
    image(one.digest.clone(), configuration, names)
}

/// Follows indexes to manifests. A name chooses among those at the top.
fn collect(
    store: &Store,
    list: Vec<Descriptor>,
    name: Option<&str>,
    depth: u32,
    found: &mut Vec<Descriptor>,
) -> Result<(), Error> {
    for one in list {
        if name.is_some_and(|name| !is_called(&one, name)) {
            continue;
        }
        let is_index = one.media_type.ends_with("image.index.v1+json")
            || one.media_type.ends_with("manifest.list.v2+json");
        if !is_index {
            found.push(one);
            continue;
        }
        if depth > 3 {
            return Err(Error::new("nests indexes deeper than four levels"));
        }
        let inner: Document = parse(&one.digest, &store.blob(&one.digest)?)?;
        collect(store, inner.manifests.unwrap_or_default(), None, depth + 1, found)?;
        // An archive does not hold 1000 images; an index that names itself cannot exist, one that repeats can.
        if found.len() > 1000 {
            return Err(Error::new("names more than 1000 images"));
        }
    }
    Ok(())
}

fn is_called(one: &Descriptor, name: &str) -> bool {
    [&one.annotations.reference, &one.annotations.name].into_iter().flatten().any(|told| told == name)
        || one.digest == name
}

fn shown(one: &Descriptor) -> String {
    let name = one.annotations.name.as_ref().or(one.annotations.reference.as_ref()).unwrap_or(&one.digest);
    let platform = one.platform.as_ref().map(|p| {
        let variant = p.variant.as_ref().map_or_else(String::new, |variant| format!("/{variant}"));
        format!(" ({}/{}{variant})", p.os, p.architecture)
    });
    printable(format!("{name}{}", platform.unwrap_or_default()).as_bytes())
}

fn fits(platform: &Architecture, wanted: &Platform) -> bool {
    platform.os == wanted.os
        && platform.architecture == wanted.architecture
        && (wanted.variant.is_none() || platform.variant == wanted.variant)
}

fn docker(store: &Store, options: &UnpackOptions) -> Result<Image, Error> {
    let mut saved: Vec<Saved> = parse("manifest.json", &store.read("manifest.json")?)?;
    if let Some(name) = &options.image {
        let latest = format!("{name}:latest");
        saved.retain(|one| one.repo_tags.iter().any(|tag| tag == name || *tag == latest));
    }
    let all = saved.iter().flat_map(|one| &one.repo_tags).cloned().collect::<Vec<_>>().join(", ");
    let mut saved = saved.into_iter();
    let (Some(one), None) = (saved.next(), saved.next()) else {
        let what = if all.is_empty() {
            "holds no such image".to_owned()
        } else {
            format!("holds several images: {}", printable(all.as_bytes()))
        };
        return Err(Error::new(what).try_this("--image NAME:TAG"));
    };
    let bytes = store.read(&one.config)?;
    let found = digest(&bytes);
    // Named by its digest: abc….json, or blobs/sha256/abc….
    let told = one.config.rsplit('/').next().unwrap_or_default();
    let told = told.strip_prefix("sha256:").unwrap_or(told);
    let told = told.strip_suffix(".json").unwrap_or(told);
    if is_hash(told) && found.strip_prefix("sha256:") != Some(told) {
        let name = printable(one.config.as_bytes());
        return Err(Error::new(format!("{name} is damaged or was changed: its digest is {found}")));
    }
    let configuration: ImageConfig = parse(&one.config, &bytes)?;
    if let (Some(wanted), Some(os), Some(architecture)) =
        (&options.platform, &configuration.os, &configuration.architecture)
        && (wanted.os != *os || wanted.architecture != *architecture)
    {
        let is = printable(format!("{os}/{architecture}").as_bytes());
        return Err(Error::new(format!("holds an image for {is}, not for {wanted}")));
    }
    image(found, configuration, one.layers.into_iter().map(|layer| (layer, None)).collect())
}

fn image(
    digest: String,
    configuration: ImageConfig,
    names: Vec<(String, Option<String>)>,
) -> Result<Image, Error> {
    let diff_ids = configuration.rootfs.diff_ids;
    if diff_ids.len() != names.len() {
        return Err(Error::new(format!(
            "has {} layers, and a configuration for {}",
            names.len(),
            diff_ids.len()
        )));
    }
    let layers = names
        .into_iter()
        .zip(diff_ids)
        .map(|((name, digest), diff_id)| Layer { name, digest, diff_id })
        .collect();
    let config = Config { digest: digest.clone(), ..configuration.config };
    Ok(Image { digest, config, layers })
}

fn parse<'a, T: Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        // serde_json quotes what it found.
        let error = printable(error.to_string().as_bytes());
        Error::new(format!("{} is damaged: {error}", printable(name.as_bytes())))
    })
}
