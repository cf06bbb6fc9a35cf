//! The JSON documents of images: index, manifest and configuration (OCI image specification 1.1), and what to take of them; pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Media types of an index and of a manifest, ours and Docker's.
pub(crate) const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
pub(crate) const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
pub(crate) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// Size in bytes above which a manifest or configuration is refused.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// A reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What an entry of an index runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// Several manifests, one per platform.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

/// One image for one platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

/// What an image says of itself. Its labels are not read: they must never reach a container's labels.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    pub(crate) config: RunConfig,
    #[serde(default)]
    pub(crate) rootfs: RootFs,
}

/// How to run it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RunConfig {
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) env: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) cmd: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) working_dir: Option<String>,
    #[serde(default)]
    pub(crate) stop_signal: Option<String>,
}

/// Its layers, by the digests of their contents.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default)]
    pub(crate) diff_ids: Vec<String>,
}

/// This machine's architecture and its variants from best to least, in the words of images.
pub(crate) fn own_platform() -> (&'static str, &'static [&'static str]) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", &["", "v1"]),
        "aarch64" => ("arm64", &["v8", ""]),
        "arm" => ("arm", &["v7", "v6", "", "v5"]),
        other => (other, &[""]),
    }
}

/// Picks the entry that runs here, or says what there is instead. Entries without a platform are taken last.
pub(crate) fn pick<'a>(index: &'a Index, architecture: &str, variants: &[&str]) -> Result<&'a Descriptor, String> {
    let rank = |descriptor: &Descriptor| match &descriptor.platform {
        None => Some(variants.len()),
        Some(platform) if platform.os == "linux" && platform.architecture == architecture => {
            let variant = platform.variant.as_deref().unwrap_or_default();
            variants.iter().position(|known| *known == variant)
        }
        Some(_) => None,
    };
    let best =
        index.manifests.iter().filter_map(|entry| rank(entry).map(|rank| (rank, entry))).min_by_key(|(rank, _)| *rank);
    if let Some((_, entry)) = best {
        return Ok(entry);
    }
    // `unknown/unknown` are attestations, not images.
    let known =
        index.manifests.iter().filter_map(|entry| entry.platform.as_ref()).filter(|platform| platform.os != "unknown");
    let mut present: Vec<String> = known.map(|platform| format!("{}/{}", platform.os, platform.architecture)).collect();
    present.sort();
    present.dedup();
    Err(if present.is_empty() { "none".to_owned() } else { present.join(", ") })
}

/// Gives the chain id of each layer: the name of a snapshot that holds it and all below.
pub(crate) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id =
            chain.last().map_or_else(|| diff_id.clone(), |parent| sha256(format!("{parent} {diff_id}").as_bytes()));
        chain.push(id);
    }
    chain
}

/// Gives the digest of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_variant_of_this_architecture_is_picked_and_attestations_are_not() {
        let index = index(&[
            ("unknown", "unknown", None),
            ("linux", "arm", Some("v6")),
            ("linux", "arm", Some("v7")),
            ("linux", "amd64", None),
        ]);

        assert_eq!(pick(&index, "amd64", &["", "v1"]).map(|entry| entry.size), Ok(3));
        assert_eq!(pick(&index, "arm", &["v7", "v6"]).map(|entry| entry.size), Ok(2));
        assert_eq!(pick(&index, "riscv64", &[""]), Err("linux/amd64, linux/arm".to_owned()));
    }

    #[test]
    fn a_chain_id_covers_all_layers_below() {
        let diffs = [format!("sha256:{}", "1".repeat(64)), format!("sha256:{}", "2".repeat(64))];

        let chain = chain_ids(&diffs);

        assert_eq!(chain[0], diffs[0]);
        assert_eq!(chain[1], sha256(format!("{} {}", diffs[0], diffs[1]).as_bytes()));
        assert_eq!(sha256(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    fn index(platforms: &[(&str, &str, Option<&str>)]) -> Index {
        let entry = |(size, (os, architecture, variant)): (u64, &(&str, &str, Option<&str>))| Descriptor {
            media_type: MANIFEST_TYPES[0].to_owned(),
            digest: sha256(&[u8::try_from(size).expect("few")]),
            size,
            platform: Some(Platform {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: variant.map(str::to_owned),
            }),
            annotations: BTreeMap::new(),
        };
        Index { manifests: (0..).zip(platforms).map(entry).collect() }
    }
}
