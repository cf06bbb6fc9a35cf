//! Address ranges.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::ValidationError;

/// An IPv4 range in CIDR form (RFC 4632); the host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The first address.
    pub address: Ipv4Addr,
    /// Length of the prefix, 0 to 32.
    pub prefix: u8,
}

impl Cidr {
    /// Makes a range; host bits are cleared.
    ///
    /// # Errors
    /// When the prefix is longer than 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, ValidationError> {
        if prefix > 32 {
            return Err(ValidationError::new("cidr", format!("prefix /{prefix} is longer than /32")));
        }
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Ok(Self { address: Ipv4Addr::from(u32::from(address) & mask), prefix })
    }

    /// How many addresses it holds.
    #[must_use]
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    /// Whether the address lies inside.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u64::from(u32::from(address)).wrapping_sub(u64::from(u32::from(self.address))) < self.size()
    }

    /// Whether the two ranges share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The `index`-th address, if it is inside.
    #[must_use]
    pub fn nth(self, index: u64) -> Option<Ipv4Addr> {
        let offset = u32::try_from(index).ok()?;
        (index < self.size()).then(|| Ipv4Addr::from(u32::from(self.address).wrapping_add(offset)))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ValidationError::new("cidr", format!("`{text}` is not a range such as 10.42.0.0/16"));
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let range = Self::new(address.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?)?;
        if range.address.to_string() == address { Ok(range) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Cidr {
    type Error = ValidationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_knows_what_is_inside() {
        let range: Cidr = "10.42.3.0/24".parse().expect("a range");

        assert!(range.contains(Ipv4Addr::new(10, 42, 3, 255)));
        assert!(!range.contains(Ipv4Addr::new(10, 42, 4, 0)));
        assert_eq!(range.nth(7), Some(Ipv4Addr::new(10, 42, 3, 7)));
        assert_eq!(range.nth(256), None);
        assert!("10.42.0.0/16".parse::<Cidr>().is_ok_and(|wide| wide.overlaps(range)));
        assert!("10.42.3.1/24".parse::<Cidr>().is_err());
    }
}
