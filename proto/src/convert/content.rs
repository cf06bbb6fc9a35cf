//! Files, and the secrets that travel beside assignments.

use std::fmt;

use api_types::{
    content::{ContentSpec, FileContent, FileSpec, OnChange, Owner},
    id::{Name, SecretId},
    secret::{SECRET_BYTES_MAX, Secret, SecretValue},
};

use super::parsed;
use crate::{error::ConvertError, v1};

impl From<ContentSpec> for v1::Content {
    fn from(spec: ContentSpec) -> Self {
        let on_change = match spec.on_change {
            OnChange::Restart => v1::content::OnChange::Restart(v1::Plain {}),
            OnChange::Signal(name) => v1::content::OnChange::Signal(name),
            OnChange::Nothing => v1::content::OnChange::Nothing(v1::Plain {}),
        };
        Self {
            files: spec.files.into_iter().map(|(path, file)| (path, file.into())).collect(),
            env: spec.env.into_iter().map(|(variable, secret)| (variable, secret.into())).collect(),
            on_change: Some(on_change),
        }
    }
}

impl TryFrom<v1::Content> for ContentSpec {
    type Error = ConvertError;

    fn try_from(wire: v1::Content) -> Result<Self, Self::Error> {
        let file = |(path, file): (String, v1::File)| match FileSpec::try_from(file) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(error.within(format_args!("files[{path}]"))),
        };
        let variable = |(variable, secret): (String, String)| {
            let secret = parsed::<Name>(&format!("env[{variable}]"), &secret)?;
            Ok::<_, ConvertError>((variable, secret))
        };
        Ok(Self {
            files: wire.files.into_iter().map(file).collect::<Result<_, _>>()?,
            env: wire.env.into_iter().map(variable).collect::<Result<_, _>>()?,
            on_change: match wire.on_change {
                None | Some(v1::content::OnChange::Restart(_)) => OnChange::Restart,
                Some(v1::content::OnChange::Signal(name)) => OnChange::Signal(name),
                Some(v1::content::OnChange::Nothing(_)) => OnChange::Nothing,
            },
        })
    }
}

impl From<FileSpec> for v1::File {
    fn from(file: FileSpec) -> Self {
        let content = match file.content {
            FileContent::Text(text) => v1::file::Content::Text(text),
            FileContent::Secret(name) => v1::file::Content::Secret(name.into()),
        };
        let owner = file.owner.map(|Owner { user, group }| v1::Owner { user, group });
        Self { content: Some(content), mode: file.mode, owner }
    }
}

impl TryFrom<v1::File> for FileSpec {
    type Error = ConvertError;

    fn try_from(wire: v1::File) -> Result<Self, Self::Error> {
        let content = match wire.content.ok_or_else(|| ConvertError::missing("content"))? {
            v1::file::Content::Text(text) => FileContent::Text(text),
            v1::file::Content::Secret(name) => FileContent::Secret(parsed("secret", &name)?),
        };
        let owner = wire.owner.map(|v1::Owner { user, group }| Owner { user, group });
        Ok(Self { content, mode: wire.mode, owner })
    }
}

impl From<(SecretId, SecretValue)> for v1::SecretValue {
    fn from((id, held): (SecretId, SecretValue)) -> Self {
        Self { secret: id.to_string(), version: held.version, value: held.value.reveal().to_vec() }
    }
}

impl TryFrom<v1::SecretValue> for (SecretId, SecretValue) {
    type Error = ConvertError;

    fn try_from(wire: v1::SecretValue) -> Result<Self, Self::Error> {
        let value = Secret::new(wire.value);
        let bytes = value.reveal().len();
        if bytes > SECRET_BYTES_MAX {
            return Err(ConvertError::new("value", format_args!("{bytes} bytes are more than {SECRET_BYTES_MAX}")));
        }
        Ok((parsed("secret", &wire.secret)?, SecretValue { version: wire.version, value }))
    }
}

impl fmt::Debug for v1::SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretValue")
            .field("secret", &self.secret)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
