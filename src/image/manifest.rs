//! Which layers make an image: OCI's index and manifest, or docker save's.
//!
//! A few fields of each are read. The `oci-spec` crate has them all, and brings 30 crates and builders for what we
//! only read.

use serde_json::Value;

use super::config::Config;
use super::json::{Json, parse};
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

/// Where a manifest names a blob.
#[derive(Clone)]
struct Descriptor {
    media_type: String,
    digest: String,
    platform: Option<Platform>,
    /// How the tools call an image: containerd's name, and the reference of the specification.
    names: [String; 2],
}

impl Descriptor {
    fn read(from: Json) -> Result<Self, Error> {
        let platform = match from.part("platform")? {
            None => None,
            Some(told) => Some(Platform {
                os: told.text("os")?.to_owned(),
                architecture: told.text("architecture")?.to_owned(),
                variant: Some(told.text("variant")?.to_owned()).filter(|variant| !variant.is_empty()),
            }),
        };
        let names = match from.part("annotations")? {
            None => Default::default(),
            Some(told) => [
                told.text("io.containerd.image.name")?.to_owned(),
                told.text("org.opencontainers.image.ref.name")?.to_owned(),
            ],
        };
        let media_type = from.text("mediaType")?.to_owned();
        Ok(Self { media_type, digest: from.text("digest")?.to_owned(), platform, names })
    }

    fn list(from: Json, key: &str) -> Result<Option<Vec<Self>>, Error> {
        from.list(key)?.map(|list| list.into_iter().map(Self::read).collect()).transpose()
    }

    fn is_called(&self, name: &str) -> bool {
        self.names.iter().chain([&self.digest]).any(|told| told == name)
    }

    fn shown(&self) -> String {
        let name = self.names.iter().find(|name| !name.is_empty()).unwrap_or(&self.digest);
        let platform = self.platform.as_ref().map(|platform| format!(" ({platform})"));
        printable(format!("{name}{}", platform.unwrap_or_default()).as_bytes())
    }
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
    let index = parse("index.json", &store.read("index.json")?)?;
    let mut found = Vec::new();
    collect(store, Json::new("index.json", &index), options.image.as_deref(), 0, &mut found)?;
    if let (Some(name), true) = (&options.image, found.is_empty()) {
        return Err(Error::new(format!("holds no image called {}", printable(name.as_bytes()))));
    }
    let wanted = options.platform.clone().unwrap_or_else(Platform::here);
    let all = found.iter().map(Descriptor::shown).collect::<Vec<_>>().join(", ");
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
    let manifest = parse(&one.digest, &store.blob(&one.digest)?)?;
    let manifest = Json::new(&one.digest, &manifest);
    let (Some(config), Some(layers)) = (manifest.part("config")?, Descriptor::list(manifest, "layers")?)
    else {
        return Err(Error::new(format!("{} is no image manifest", one.digest)));
    };
    let config = config.text("digest")?;
    let configuration = parse(config, &store.blob(config)?)?;
    let names = layers
        .into_iter()
        .map(|layer| {
            if layer.media_type.ends_with("+encrypted") {
                return Err(Error::new(format!("layer {} is encrypted", layer.digest)));
            }
            Ok((blob_name(&layer.digest)?, Some(layer.digest)))
        })
        .collect::<Result<_, _>>()?;
    image(one.digest.clone(), Json::new(config, &configuration), names)
}

/// Follows indexes to manifests. A name chooses among those at the top.
fn collect(
    store: &Store,
    index: Json,
    name: Option<&str>,
    depth: u32,
    found: &mut Vec<Descriptor>,
) -> Result<(), Error> {
    for one in Descriptor::list(index, "manifests")?.unwrap_or_default() {
        if name.is_some_and(|name| !one.is_called(name)) {
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
        let inner = parse(&one.digest, &store.blob(&one.digest)?)?;
        collect(store, Json::new(&one.digest, &inner), None, depth + 1, found)?;
        // An archive does not hold 1000 images; an index that names itself cannot exist, one that repeats can.
        if found.len() > 1000 {
            return Err(Error::new("names more than 1000 images"));
        }
    }
    Ok(())
}

fn fits(platform: &Platform, wanted: &Platform) -> bool {
    platform.os == wanted.os
        && platform.architecture == wanted.architecture
        && (wanted.variant.is_none() || platform.variant == wanted.variant)
}

fn docker(store: &Store, options: &UnpackOptions) -> Result<Image, Error> {
    let manifest: Value = parse("manifest.json", &store.read("manifest.json")?)?;
    let mut all = Vec::new();
    let mut saved = Vec::new();
    for one in Json::new("manifest.json", &manifest).parts()? {
        let tags = one.texts("RepoTags")?;
        let wanted = options.image.as_ref().is_none_or(|name| {
            let latest = format!("{name}:latest");
            tags.iter().any(|tag| tag == name || *tag == latest)
        });
        if wanted {
            saved.push(one);
            all.extend(tags);
        }
    }
    let [one] = saved.as_slice() else {
        let what = if all.is_empty() {
            "holds no such image".to_owned()
        } else {
            format!("holds several images: {}", printable(all.join(", ").as_bytes()))
        };
        return Err(Error::new(what).try_this("--image NAME:TAG"));
    };
    let config = one.text("Config")?;
    let bytes = store.read(config)?;
    let found = digest(&bytes);
    // Named by its digest: abc….json, or blobs/sha256/abc….
    let told = config.rsplit('/').next().unwrap_or_default();
    let told = told.strip_prefix("sha256:").unwrap_or(told);
    let told = told.strip_suffix(".json").unwrap_or(told);
    if is_hash(told) && found.strip_prefix("sha256:") != Some(told) {
        let name = printable(config.as_bytes());
        return Err(Error::new(format!("{name} is damaged or was changed: its digest is {found}")));
    }
    let configuration = parse(config, &bytes)?;
    let configuration = Json::new(config, &configuration);
    let (os, architecture) = (configuration.text("os")?, configuration.text("architecture")?);
    if let Some(wanted) = &options.platform
        && !os.is_empty()
        && (wanted.os != os || wanted.architecture != architecture)
    {
        let is = printable(format!("{os}/{architecture}").as_bytes());
        return Err(Error::new(format!("holds an image for {is}, not for {wanted}")));
    }
    image(found, configuration, one.texts("Layers")?.into_iter().map(|layer| (layer, None)).collect())
}

fn image(digest: String, configuration: Json, names: Vec<(String, Option<String>)>) -> Result<Image, Error> {
    let rootfs = configuration.part("rootfs")?;
    let diff_ids = rootfs.map(|rootfs| rootfs.texts("diff_ids")).transpose()?.unwrap_or_default();
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
    let config = configuration.part("config")?.map(Config::read).transpose()?.unwrap_or_default();
    let config = Config { digest: digest.clone(), ..config };
    Ok(Image { digest, config, layers })
}
