//! `[config.x]`: texts that workloads refer to, and files beside the manifest that hold them.

use std::collections::BTreeMap;

use api_types::content::TEXTS_BYTES_MAX;
use toml::de::DeTable;

use crate::{
    fault::{Place, nearest, suggestion},
    section::{Entry, Section},
};

/// Begins a reference: `${config.NAME.KEY}`. Written `$${`, it is the text `${`.
const OPENING: &str = "${";

/// The table that holds the contents of files beside the manifest; who sends the manifest adds it.
const FILES: &str = "files";

/// All texts of a manifest, by the names of their tables and their keys. One with a fault is there and empty.
#[derive(Debug, Default)]
pub(crate) struct Configs(BTreeMap<String, BTreeMap<String, String>>);

/// Names the files beside the manifest that its `[config.x]` tables refer to, each once. Faults are for [`crate::parse`].
#[must_use]
pub fn files(text: &str) -> Vec<String> {
    if text.len() > crate::MANIFEST_BYTES_MAX || crate::fault::nesting_is_bounded(text).is_err() {
        return Vec::new();
    }
    let (root, _) = DeTable::parse_recoverable(text);
    let Some(configs) = root.get_ref().get("config").and_then(|value| value.get_ref().as_table()) else {
        return Vec::new();
    };
    let mut files: Vec<String> = Vec::new();
    for value in configs.values().filter_map(|config| config.get_ref().as_table()).flat_map(|config| config.values()) {
        let file =
            value.get_ref().as_table().and_then(|table| table.get("file")).and_then(|file| file.get_ref().as_str());
        if let Some(file) = file.filter(|file| is_beside(file) && !files.iter().any(|other| other == file)) {
            files.push(file.to_owned());
        }
    }
    files
}

/// A manifest with the contents of the files that [`files`] named: places in it stay what they are.
#[must_use]
pub fn with_files(text: &str, contents: &[(String, String)]) -> String {
    if contents.is_empty() {
        return text.to_owned();
    }
    let mut whole = format!("{text}\n[{FILES}]\n");
    for (file, content) in contents {
        whole.push_str(&format!("{} = {}\n", quoted(file), quoted(content)));
    }
    whole
}

impl Configs {
    pub(crate) fn read(root: &Section<'_>) -> Self {
        let mut contents = BTreeMap::new();
        if let Some(section) = root.get(FILES).and_then(|entry| entry.section()) {
            let texts = section.entries().filter_map(|entry| Some((entry.key.to_owned(), entry.text()?.to_owned())));
            contents.extend(texts);
        }
        let mut configs = BTreeMap::new();
        let Some(section) = root.get("config").and_then(|entry| entry.section()) else { return Self(configs) };
        for entry in section.entries() {
            let name = entry.key_name();
            let Some((name, section)) = name.zip(entry.section()) else { continue };
            let texts = section.entries().map(|entry| {
                check_key(&entry);
                (entry.key.to_owned(), text(&entry, &contents).unwrap_or_default())
            });
            configs.insert(name.to_string(), texts.collect());
        }
        Self(configs)
    }

    /// The text with what its references name. A reference is replaced once: what it names is text, and nothing else.
    pub(crate) fn expand(&self, entry: &Entry<'_>, text: &str) -> Option<String> {
        let (mut expanded, mut rest, mut is_sound) = (String::new(), text, true);
        while let Some(at) = rest.find(OPENING) {
            let (before, from) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str(OPENING);
                rest = &from[OPENING.len()..];
                continue;
            }
            expanded.push_str(before);
            let inner = &from[OPENING.len()..];
            let word = inner.split(['.', '}']).next().unwrap_or_default();
            let (reference, after) = match inner.split_once('}') {
                Some((reference, after)) => (reference, after),
                None if word == "config" => {
                    refuse(entry, from, "a reference has no end", "write \"${config.NAME.KEY}\"");
                    return None;
                }
                None => {
                    expanded.push_str(from);
                    return is_sound.then_some(expanded);
                }
            };
            let whole = &from[..OPENING.len() + reference.len() + 1];
            match self.named(reference) {
                Ok(Some(value)) => expanded.push_str(value),
                // What is no reference of ours is for others to read: a shell, a template of the program.
                Ok(None) => expanded.push_str(whole),
                Err((message, help)) => {
                    refuse(entry, whole, message, help);
                    is_sound = false;
                }
            }
            rest = after;
        }
        expanded.push_str(rest);
        is_sound.then_some(expanded)
    }

    /// What a reference names; `None` = it is none.
    fn named(&self, reference: &str) -> Result<Option<&str>, (String, String)> {
        let mut parts = reference.splitn(3, '.');
        let (word, name, key) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        match word {
            "config" => {}
            "secret" => {
                let message = "a secret is never a part of a text".to_owned();
                return Err((message, "show it with secrets = { VARIABLE = \"name\" }".to_owned()));
            }
            _ if name.is_some() && nearest(word, ["config"]).is_some() => {
                let message = format!("`{}` is no reference", reference.escape_debug());
                return Err((message, "did you mean `config`?".to_owned()));
            }
            _ => return Ok(None),
        }
        let Some((name, key)) = name.zip(key) else {
            let message = format!("`{}` names no text", reference.escape_debug());
            return Err((message, "write \"${config.NAME.KEY}\"".to_owned()));
        };
        let Some(config) = self.0.get(name) else {
            let help = match self.0.is_empty() {
                true => format!("add a table [config.{name}]"),
                false => suggestion(name, &self.0.keys().map(String::as_str).collect::<Vec<_>>()),
            };
            return Err((format!("there is no [config.{}]", name.escape_debug()), help));
        };
        let keys: Vec<&str> = config.keys().map(String::as_str).collect();
        let missing = || (format!("[config.{name}] has no `{}`", key.escape_debug()), suggestion(key, &keys));
        config.get(key).map(|text| Some(text.as_str())).ok_or_else(missing)
    }
}

/// Reads a text, or the content of a file that came along.
fn text(entry: &Entry<'_>, contents: &BTreeMap<String, String>) -> Option<String> {
    if entry.is_text() {
        let text = entry.text()?;
        check_size(entry, text.len())?;
        return Some(text.to_owned());
    }
    let section = entry.section_or("a string or a table", "write \"text\" or { file = \"nginx.conf\" }")?;
    let file = section.get("file");
    if file.is_none() {
        section.missing("file", "write { file = \"nginx.conf\" }");
    }
    section.refuse_unknown();
    let file = file?;
    let name = file.text()?;
    if !is_beside(name) {
        let message = format!("`{}` is not a file beside the manifest", name.escape_debug());
        file.invalid("invalid_path", message, "write a path from the manifest's directory, without `..`");
        return None;
    }
    let Some(content) = contents.get(name) else {
        let message = format!("the content of `{name}` did not come along");
        file.invalid("missing_file", message, "send the manifest with `wherry apply -f`, which reads it");
        return None;
    };
    check_size(&file, content.len())?;
    Some(content.clone())
}

fn check_size(entry: &Entry<'_>, bytes: usize) -> Option<()> {
    if bytes > TEXTS_BYTES_MAX {
        let message = format!("{bytes} bytes are more than a configuration may have, which is {TEXTS_BYTES_MAX}");
        entry.invalid("too_large", message, "put large data into the image or a volume");
        return None;
    }
    Some(())
}

fn check_key(entry: &Entry<'_>) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if entry.key.is_empty() || entry.key.len() > 128 || !entry.key.bytes().all(is_plain) {
        let message = format!("`{}` is not a key of a configuration", entry.key.escape_debug());
        let help = "write 1 to 128 letters, digits, `.`, `_` and `-`";
        entry.faults.report_with_help("invalid_name", &entry.path, entry.key_place.clone(), message, help);
    }
}

/// Whether it is a path that stays in the manifest's directory.
fn is_beside(file: &str) -> bool {
    !file.is_empty() && !file.contains('\0') && !file.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// Reports a reference where it stands, if it stands there as it is.
fn refuse(entry: &Entry<'_>, reference: &str, message: impl Into<String>, help: impl Into<String>) {
    let line = reference.lines().next().unwrap_or_default();
    let place: Place = match entry.faults.find(&entry.place, line) {
        Some(start) => start..start + line.len(),
        None => entry.place.clone(),
    };
    entry.faults.report_with_help("unknown_reference", &entry.path, place, message, help);
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            letter if letter.is_ascii_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[config.web]\nconf = { file = \"conf/a.conf\" }\nagain = { file = \"conf/a.conf\" }\nout = { file = \"../x\" }\n";

    #[test]
    fn files_beside_the_manifest_are_named_once_and_none_outside() {
        assert_eq!(files(MANIFEST), ["conf/a.conf"]);
        assert!(files("not toml [[[").is_empty() && files("config = 1").is_empty());
    }

    #[test]
    fn what_a_file_holds_arrives_as_it_is() {
        let content = "a = \"b\\c\"\n\ttab \u{1} ä '' \"\"\" ${config.x.y}\r\n\u{7f}";
        let text = "[service.web]\nimage = \"a:1\"\nfiles = { \"/a\" = \"${config.web.a}\" }\n[config.web]\na = { file = \"a\" }";

        let whole = with_files(text, &[("a".to_owned(), content.to_owned())]);
        let manifest = crate::parse(&whole).expect("it is sound");

        let file = &manifest.workloads[0].container.content.files["/a"];
        assert_eq!(file.content, api_types::content::FileContent::Text(content.to_owned()));
    }
}
