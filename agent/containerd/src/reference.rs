//! Image names: `nginx`, `registry.lan:5000/shop/web:1.4`, `name@sha256:…`, read as Docker reads them; pure.

use std::fmt;

use crate::error::ImageError;

/// The registry of names that name none, and the folder of its short names.
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_FOLDER: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// The longest name that registries take, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// An image name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// `host` or `host:port`.
    pub(crate) registry: String,
    /// The path in there.
    pub(crate) repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Reads a name; a name with neither tag nor digest gets the tag `latest`.
    pub(crate) fn parse(image: &str) -> Result<Self, ImageError> {
        let fault = |problem: &str| ImageError::Name { image: image.to_owned(), problem: problem.to_owned() };
        let (rest, digest) = match image.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (image, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(fault("a digest is `sha256:` and 64 hexadecimal digits"));
        }
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            Some(_) | None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(fault(
                "a tag is 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            ));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path.to_owned()),
            Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("{DEFAULT_FOLDER}/{name}")),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
        if !registry.bytes().all(is_host) || registry.starts_with(['.', '-', ':']) || registry.ends_with(':') {
            return Err(fault("the registry is not `host` or `host:port`"));
        }
        if path.len() > NAME_BYTES_MAX || !path.split('/').all(is_component) {
            return Err(fault("a name is made of a-z, 0-9, inner `.`, `_` and `-`, in parts divided by `/`"));
        }
        let tag = if digest.is_none() { Some(tag.unwrap_or(DEFAULT_TAG)) } else { tag };
        Ok(Self {
            registry: registry.to_owned(),
            repository: path,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub(crate) fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or(DEFAULT_TAG)
    }

    /// The digest that the answer must have, if the name says one.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The host to dial.
    pub(crate) fn host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY { "registry-1.docker.io" } else { &self.registry }
    }
}

/// The full name, under which containerd keeps the image.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether the text is a digest that we can verify.
pub(crate) fn is_digest(text: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(is_hex))
}

fn is_tag(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with(['.', '-'])
}

fn is_component(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let is_edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let bytes = text.as_bytes();
    bytes.iter().copied().all(inner) && is_edge(bytes.first()) && is_edge(bytes.last()) && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (given, full) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("grafana/grafana", "docker.io/grafana/grafana:latest".to_owned()),
            ("localhost/web", "localhost/web:latest".to_owned()),
            ("registry.lan/shop/web:1.4.2", "registry.lan/shop/web:1.4.2".to_owned()),
            ("127.0.0.1:5000/web", "127.0.0.1:5000/web:latest".to_owned()),
            (&format!("web@{digest}"), format!("docker.io/library/web@{digest}")),
            (&format!("a.b/web:1@{digest}"), format!("a.b/web:1@{digest}")),
        ] {
            assert_eq!(Reference::parse(given).expect(given).to_string(), full);
        }
        assert_eq!(Reference::parse("nginx").expect("a name").host(), "registry-1.docker.io");
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for given in [
            "",
            "Web",
            "a//b",
            "../etc",
            "a/../b",
            "web:",
            "web:-1",
            "web@sha256:12",
            "a b",
            "-x.y/web",
            "web/",
            "x.y:/web",
        ] {
            assert!(Reference::parse(given).is_err(), "{given:?} was accepted");
        }
    }
}
