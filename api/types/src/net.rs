//! Address ranges, and how the cluster's IPv4 addresses look in IPv6.

mod ip_range;

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::error::ValidationError;

pub use ip_range::{IpRange, IpVersion};

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

/// The IPv6 range of 96 bits in which each IPv4 address of the cluster is embedded as the last 32 bits (the form of RFC 6052,
/// section 2.2). One decision about an IPv4 address is thereby one about both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Ipv6Addr", into = "Ipv6Addr")]
pub struct Ipv6Prefix(Ipv6Addr);

impl Ipv6Prefix {
    /// Length of the prefix in bits.
    pub const BITS: u8 = 96;
    /// The first byte of a unique local address with a locally drawn global id (RFC 4193).
    const LOCAL: u8 = 0xfd;

    /// Takes an address whose last 32 bits are zero.
    ///
    /// # Errors
    /// When they are not.
    pub fn new(address: Ipv6Addr) -> Result<Self, ValidationError> {
        if address.to_bits() & u128::from(u32::MAX) == 0 {
            return Ok(Self(address));
        }
        Err(ValidationError::new("ipv6_prefix", format!("`{address}/96` has bits behind the first 96")))
    }

    /// Gives the unique local prefix (RFC 4193) with this global id, the same for the same id.
    #[must_use]
    pub fn local(global_id: [u8; 5]) -> Self {
        let [a, b, c, d, e] = global_id;
        Self(Ipv6Addr::from([Self::LOCAL, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
    }

    /// The first address.
    #[must_use]
    pub fn address(self) -> Ipv6Addr {
        self.0
    }

    /// The IPv6 address of an IPv4 address.
    #[must_use]
    pub fn embed(self, address: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.0.to_bits() | u128::from(address.to_bits()))
    }

    /// The IPv4 address in an IPv6 address, if it lies inside.
    #[must_use]
    pub fn extract(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let [.., a, b, c, d] = address.octets();
        let embedded = Ipv4Addr::new(a, b, c, d);
        (self.embed(embedded) == address).then_some(embedded)
    }
}

impl fmt::Display for Ipv6Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, Self::BITS)
    }
}

impl FromStr for Ipv6Prefix {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || ValidationError::new("ipv6_prefix", format!("`{text}` is not a range such as fd12:3456:789a::/96"));
        let address = text.strip_suffix("/96").ok_or_else(wrong)?;
        Self::new(address.parse().map_err(|_| wrong())?)
    }
}

impl TryFrom<Ipv6Addr> for Ipv6Prefix {
    type Error = ValidationError;

    fn try_from(address: Ipv6Addr) -> Result<Self, Self::Error> {
        Self::new(address)
    }
}

impl From<Ipv6Prefix> for Ipv6Addr {
    fn from(prefix: Ipv6Prefix) -> Self {
        prefix.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_again_in_its_mirror_and_in_no_other() {
        let prefix = Ipv6Prefix::local([1, 2, 3, 4, 5]);
        let address = Ipv4Addr::new(10, 42, 0, 7);

        let mirrored = prefix.embed(address);

        assert_eq!(mirrored.to_string(), "fd01:203:405::a2a:7");
        assert_eq!(prefix.extract(mirrored), Some(address));
        assert_eq!(Ipv6Prefix::local([1, 2, 3, 4, 6]).extract(mirrored), None);
        assert_eq!(prefix.to_string().parse::<Ipv6Prefix>(), Ok(prefix));
        assert!("fd01::1/96".parse::<Ipv6Prefix>().is_err());
        assert!("fd01::/64".parse::<Ipv6Prefix>().is_err());
    }

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
