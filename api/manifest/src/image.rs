//! Image references: checked, and completed to what registries understand.

use crate::units::Wrong;

const DEFAULT_REGISTRY: &str = "docker.io";
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// Checks a reference and completes it: `nginx` becomes `docker.io/library/nginx:latest`.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(crate) fn complete(text: &str) -> Result<String, Wrong> {
    let shown = text.chars().take(80).collect::<String>();
    let wrong = |problem: &str, help: &str| {
        Err((format!("`{}` is not an image reference: {problem}", shown.escape_debug()), help.to_owned()))
    };
    let example = "write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, such as \"registry.lan/shop/web:1.4.2\"";
    if text.contains("://") {
        return wrong(
            "it has a scheme",
            "leave out `http://`; which registries are plain is said in the agent's configuration",
        );
    }
    if let Some(bad) = text.chars().find(|character| character.is_whitespace() || character.is_control()) {
        return wrong(&format!("it holds {bad:?}"), example);
    }
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest
        && !digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    {
        return wrong("the digest is not `sha256:` and 64 of 0-9 and a-f", example);
    }
    // A colon before the last slash belongs to the registry's port.
    let after_slash = named.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match named[after_slash..].split_once(':') {
        Some((last, tag)) => (&named[..after_slash + last.len()], Some(tag)),
        None => (named, None),
    };
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return wrong("the tag is wrong", "a tag has letters, digits, `_`, `.` and `-`, at most 128");
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
        Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
        None => (DEFAULT_REGISTRY, format!("library/{name}")),
    };
    if !is_registry(registry) {
        return wrong(&format!("`{registry}` is not a registry"), example);
    }
    if !path.split('/').all(is_path_part) || name.is_empty() {
        let upper = path.bytes().any(|byte| byte.is_ascii_uppercase());
        return wrong("the name is wrong", if upper { "names of images are lower-case" } else { example });
    }
    if registry.len() + 1 + path.len() > NAME_BYTES_MAX {
        return wrong("it is longer than 255 characters", example);
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => format!(":{tag}"),
        (None, Some(_)) => String::new(),
        (None, None) => ":latest".to_owned(),
    };
    let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    Ok(format!("{registry}/{path}{tag}{digest}"))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// One part of a path: lower-case letters and digits, separated by one `.`, one or two `_`, or hyphens.
fn is_path_part(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = |run: &str| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
    part.bytes().next().is_some_and(alphanumeric)
        && part.bytes().last().is_some_and(alphanumeric)
        && part.split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit()).all(separators)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_completed() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for (text, whole) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("shop/web:1.4", "docker.io/shop/web:1.4".to_owned()),
            ("localhost/web", "localhost/web:latest".to_owned()),
            ("10.0.0.1:5000/a/b__c/d--e:T_1.x", "10.0.0.1:5000/a/b__c/d--e:T_1.x".to_owned()),
            (&format!("registry.lan/web@{digest}"), format!("registry.lan/web@{digest}")),
            (&format!("registry.lan/web:2@{digest}"), format!("registry.lan/web:2@{digest}")),
        ] {
            assert_eq!(complete(text), Ok(whole));
        }
    }

    #[test]
    fn wrong_references_are_refused() {
        for text in [
            "",
            ":1",
            "/web",
            "web:",
            "web:-1",
            "Web",
            "registry.lan/Shop/web",
            "registry.lan//web",
            "registry.lan/web/",
            "registry.lan:0/web",
            "registry.lan:99999/web",
            "-bad.lan/web",
            "https://registry.lan/web",
            "registry.lan/we b",
            "registry.lan/web@sha256:12",
            "registry.lan/web@md5:0f",
            "registry.lan/a..b",
            "registry.lan/../../etc",
            "registry.lan/a___b",
            &format!("registry.lan/{}", "a".repeat(250)),
            &format!("web:{}", "a".repeat(129)),
        ] {
            assert!(complete(text).is_err(), "{text}");
        }
    }
}
