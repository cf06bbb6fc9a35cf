//! Devices and other countable things of a node: GPUs, cameras, serial ports, licences.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Thousandths of one device: what is given away is counted in these.
pub const WHOLE_DEVICE_MILLIS: u32 = 1_000;

/// The longest name, kind or model, in bytes.
pub const DEVICE_WORD_BYTES_MAX: usize = 63;
/// The most of anything of one kind: devices that an instance asks for, and shares that a device has.
pub const DEVICE_COUNT_MAX: u32 = 1_000;

/// The most devices of one node.
pub const DEVICES_PER_NODE_MAX: usize = 1_000;

/// Whether this can be the name, kind or model of a device: letters, digits, `-`, `_` and `.`, 1 to 63.
#[must_use]
pub fn is_device_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=DEVICE_WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(inner)
}

/// One device, as its node's own configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its name, unique on the node (`front-door`).
    pub name: String,
    /// Of what kind it is (`camera`, `gpu`).
    pub kind: String,
    /// Which one of that kind (`t4`); empty where nobody said.
    #[serde(default)]
    pub model: String,
    /// How many may use it at once; 1 = one alone.
    pub shares: u32,
}

/// What an instance asks for of one kind of device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// The kind (`gpu`).
    pub kind: String,
    /// The model (`t4`); `None` = any.
    #[serde(default)]
    pub model: Option<String>,
    /// How much.
    pub amount: DeviceAmount,
}

/// How much of a kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceAmount {
    /// So many devices, each alone; at least 1.
    Whole(u32),
    /// A part of one shared device, in thousandths, 1 to 999; rounded up to whole shares of it.
    Millis(u32),
    /// One share of one shared device, however many it has.
    Share,
}

/// A device, or a part of one, that an instance was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceGrant {
    /// The device's name on the instance's node.
    pub device: String,
    /// Its kind, for the names of environment variables.
    pub kind: String,
    /// How much of it, in thousandths; [`WHOLE_DEVICE_MILLIS`] = alone.
    pub millis: u32,
}

impl DeviceGrant {
    /// The environment variable that names devices of this kind to an instance: `WHERRY_DEVICE_FRONT_CAMERA` for
    /// `front-camera`. What no variable's name can hold becomes `_`, so kinds may meet in one variable.
    #[must_use]
    pub fn variable(&self) -> String {
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
        format!("WHERRY_DEVICE_{}", self.kind.chars().map(letter).collect::<String>())
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.model.as_ref().map(|model| format!("/{model}")).unwrap_or_default();
        match self.amount {
            DeviceAmount::Whole(count) => write!(f, "{count} {}{model}", self.kind),
            DeviceAmount::Millis(millis) => write!(f, "0.{millis:03} {}{model}", self.kind),
            DeviceAmount::Share => write!(f, "a share of {}{model}", self.kind),
        }
    }
}
