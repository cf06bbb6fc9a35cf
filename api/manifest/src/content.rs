//! `files`, `secrets` and `on_change`: what an instance is shown beside its image.

use std::collections::BTreeMap;

use api_types::{
    container::Mount,
    content::{
        ContentSpec, FILES_MAX, FileContent, FileSpec, OnChange, Owner, SECRET_MODE, TEXT_MODE, TEXTS_BYTES_MAX,
    },
    id::Name,
};

use crate::{
    config::Configs,
    container::{SIGNALS, is_variable},
    fault::suggestion,
    mount,
    section::{Entry, Section},
};

/// Reads what the workload `section` shows; `env` and `mounts` are what else it says of the same names and paths.
pub(crate) fn read(
    section: &Section<'_>,
    configs: &Configs,
    env: &BTreeMap<String, String>,
    mounts: &BTreeMap<String, Mount>,
) -> ContentSpec {
    let mut content = ContentSpec::default();
    if let Some(files) = section.get("files").and_then(|entry| entry.section()) {
        for entry in files.entries() {
            mount::check_destination(&entry);
            refuse_taken(&entry, mounts.contains_key(entry.key), "mounts");
            if let Some(file) = text_file(&entry, configs) {
                content.files.insert(entry.key.to_owned(), file);
            }
        }
    }
    let texts = content.files.values().filter_map(|file| match &file.content {
        FileContent::Text(text) => Some(text.len()),
        FileContent::Secret(_) => None,
    });
    let bytes: usize = texts.sum();
    if let Some(secrets) = section.get("secrets").and_then(|entry| entry.section()) {
        for entry in secrets.entries() {
            secret(&entry, &mut content, env, mounts);
        }
    }
    for (key, is_too_much, message) in [
        ("files", bytes > TEXTS_BYTES_MAX, format!("{bytes} bytes of text are more than {TEXTS_BYTES_MAX}")),
        ("files", content.files.len() > FILES_MAX, format!("{} files are more than {FILES_MAX}", content.files.len())),
    ] {
        if let Some(entry) = section.get(key).filter(|_| is_too_much) {
            entry.invalid("too_large", message, "put large data into the image or a volume");
        }
    }
    if let Some(on_change) = section.get("on_change").and_then(|entry| on_change(&entry, &content)) {
        content.on_change = on_change;
    }
    content
}

/// Reads `"text"` or `{ text = "...", mode = "0640", owner = "1000:1000" }`.
fn text_file(entry: &Entry<'_>, configs: &Configs) -> Option<FileSpec> {
    if entry.is_text() {
        let text = configs.expand(entry, entry.text()?)?;
        return Some(FileSpec { content: FileContent::Text(text), mode: TEXT_MODE, owner: None });
    }
    let section = entry.section_or("a string or a table", "write \"${config.NAME.KEY}\" or { text = \"...\" }")?;
    let text = section.get("text");
    if text.is_none() {
        section.missing("text", "write { text = \"${config.NAME.KEY}\", mode = \"0640\" }");
    }
    let text = text.and_then(|entry| configs.expand(&entry, entry.text()?));
    let (mode, owner) = access(&section);
    section.refuse_unknown();
    Some(FileSpec { content: FileContent::Text(text?), mode: mode.unwrap_or(TEXT_MODE), owner })
}

/// Reads `"/run/secrets/db" = "db-password"`, the same with a mode and an owner, and `VARIABLE = "db-token"`.
fn secret(
    entry: &Entry<'_>,
    content: &mut ContentSpec,
    env: &BTreeMap<String, String>,
    mounts: &BTreeMap<String, Mount>,
) {
    if !entry.key.starts_with('/') {
        if !is_variable(entry.key) {
            let message = format!("`{}` is neither a path nor the name of a variable", entry.key.escape_debug());
            entry.faults.report("invalid_name", &entry.path, entry.key_place.clone(), message);
        }
        refuse_taken(entry, env.contains_key(entry.key), "env");
        if let Some(name) = entry.name() {
            content.env.insert(entry.key.to_owned(), name);
        }
        return;
    }
    mount::check_destination(entry);
    refuse_taken(entry, mounts.contains_key(entry.key), "mounts");
    refuse_taken(entry, content.files.contains_key(entry.key), "files");
    if let Some(file) = secret_file(entry) {
        content.files.insert(entry.key.to_owned(), file);
    }
}

fn secret_file(entry: &Entry<'_>) -> Option<FileSpec> {
    let of = |name: Name, mode: Option<u32>, owner| FileSpec {
        content: FileContent::Secret(name),
        mode: mode.unwrap_or(SECRET_MODE),
        owner,
    };
    if entry.is_text() {
        return Some(of(entry.name()?, None, None));
    }
    let section = entry.section_or("a string or a table", "write \"NAME\" or { secret = \"NAME\" }")?;
    let name = section.get("secret");
    if name.is_none() {
        section.missing("secret", "write { secret = \"NAME\", mode = \"0440\" }");
    }
    let name = name.and_then(|entry| entry.name());
    let (mode, owner) = access(&section);
    section.refuse_unknown();
    Some(of(name?, mode, owner))
}

/// Reads `mode` and `owner` of a file.
fn access(section: &Section<'_>) -> (Option<u32>, Option<Owner>) {
    let mode = section.get("mode").and_then(|entry| {
        let text = entry.text()?;
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777 && text.len() <= 4);
        if mode.is_none() {
            let message = format!("`{}` is not a mode", text.escape_debug());
            entry.invalid("invalid_mode", message, "write octal digits, as in \"0440\"");
        }
        mode
    });
    let owner = section.get("owner").and_then(|entry| {
        let text = entry.text()?;
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok());
        let owner = number(user).zip(number(group)).map(|(user, group)| Owner { user, group });
        if owner.is_none() {
            let message = format!("`{}` is not an owner", text.escape_debug());
            entry.invalid("invalid_user", message, "write numbers, as in \"1000\" or \"1000:1000\"");
        }
        owner
    });
    (mode, owner)
}

/// Reads `"restart"`, `"signal:HUP"` or `"none"`.
fn on_change(entry: &Entry<'_>, content: &ContentSpec) -> Option<OnChange> {
    let text = entry.text()?;
    let on_change = match text.split_once(':') {
        None if text == "restart" => return Some(OnChange::Restart),
        None if text == "none" => OnChange::Nothing,
        Some(("signal", name)) => {
            let full = format!("SIG{}", name.to_ascii_uppercase().trim_start_matches("SIG"));
            if !SIGNALS.contains(&full.as_str()) {
                let message = format!("`{}` is not a signal", name.escape_debug());
                entry.invalid("unknown_value", message, suggestion(&full, SIGNALS));
                return None;
            }
            OnChange::Signal(full)
        }
        None | Some(_) => {
            let word = text.split(':').next().unwrap_or_default();
            let message = format!("`{}` is neither `restart`, `signal:NAME` nor `none`", text.escape_debug());
            entry.invalid("unknown_value", message, suggestion(word, &["restart", "signal:HUP", "none"]));
            return None;
        }
    };
    if !content.env.is_empty() {
        let message = "a variable of a process that runs cannot change";
        entry.invalid("conflict", message, "show the secret as a file, or leave `on_change` out");
        return None;
    }
    if content.files.is_empty() {
        entry.invalid("conflict", "there is no file that could change", "add `files` or `secrets`, or remove it");
        return None;
    }
    Some(on_change)
}

fn refuse_taken(entry: &Entry<'_>, is_taken: bool, by: &str) {
    if is_taken {
        let message = format!("`{}` is in `{by}` already", entry.key.escape_debug());
        let help = "keep it in one of the two places";
        entry.faults.report_with_help("duplicate", &entry.path, entry.key_place.clone(), message, help);
    }
}
