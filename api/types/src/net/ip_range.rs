//! Addresses and ranges of either version of the Internet Protocol, as people name those of clients and nodes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::error::ValidationError;

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    Four,
    /// IPv6.
    Six,
}

impl IpVersion {
    /// The version of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Four } else { Self::Six }
    }

    /// How many bits an address has.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Four => 32,
            Self::Six => 128,
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Four => "IPv4",
            Self::Six => "IPv6",
        })
    }
}

/// A range of addresses of either version in CIDR form (RFC 4632, RFC 4291 section 2.3); the host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpRange {
    address: IpAddr,
    prefix: u8,
}

impl IpRange {
    /// Makes a range; host bits are cleared.
    ///
    /// # Errors
    /// When the prefix is longer than an address, or the range is one of IPv4 written as IPv6 (RFC 4291 section 2.5.5.2): packets
    /// of IPv4 never have such addresses.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, ValidationError> {
        let version = IpVersion::of(address);
        if prefix > version.bits() {
            let problem = format!("prefix /{prefix} is longer than /{}", version.bits());
            return Err(ValidationError::new("range", problem));
        }
        if let IpAddr::V6(mapped) = address
            && let Some(meant) = mapped.to_ipv4_mapped()
        {
            let plain = Self { address: meant.into(), prefix: prefix.saturating_sub(96) };
            return Err(ValidationError::new("range", format!("`{mapped}/{prefix}` is of IPv4: write it as {plain}")));
        }
        let first = match address {
            IpAddr::V4(address) => {
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & !u32::MAX.checked_shr(prefix.into()).unwrap_or(0)))
            }
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::MAX.checked_shr(prefix.into()).unwrap_or(0)))
            }
        };
        Ok(Self { address: first, prefix })
    }

    /// Of which version its addresses are.
    #[must_use]
    pub fn version(self) -> IpVersion {
        IpVersion::of(self.address)
    }

    /// The first address.
    #[must_use]
    pub fn first(self) -> IpAddr {
        self.address
    }

    /// The last address.
    #[must_use]
    pub fn last(self) -> IpAddr {
        match self.address {
            IpAddr::V4(first) => {
                IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0)))
            }
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(
                first.to_bits() | u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0),
            )),
        }
    }

    /// Length of the prefix in bits.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether the address lies inside; one of the other version never does.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        IpVersion::of(address) == self.version() && (self.first()..=self.last()).contains(&address)
    }

    /// Whether the two ranges share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl From<IpAddr> for IpRange {
    /// The range of this address alone; one of IPv4 that is written as IPv6 counts as what it is.
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: IpVersion::of(address).bits() }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for IpRange {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            let shown = text.escape_debug();
            ValidationError::new("range", format!("`{shown}` is not a range such as 10.0.0.0/8 or 2001:db8::/32"))
        };
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let range = Self::new(address, prefix.parse().map_err(|_| wrong())?)?;
        // Bits behind the prefix are more often a slip than meant to be ignored.
        if range.address == address { Ok(range) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for IpRange {
    type Error = ValidationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<IpRange> for String {
    fn from(range: IpRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpRange {
        text.parse().expect("a range")
    }

    #[test]
    fn a_range_of_either_version_knows_what_is_inside() {
        for (text, inside, outside) in [
            ("10.42.3.0/24", ["10.42.3.0", "10.42.3.255"], ["10.42.4.0", "::ffff:10.42.3.1"]),
            ("2001:db8::/32", ["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"], ["2001:db9::", "10.42.3.1"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "2001:db8::1"]),
            ("::/0", ["::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], ["0.0.0.0", "10.0.0.1"]),
            ("fd99::7/128", ["fd99::7", "fd99::7"], ["fd99::6", "fd99::8"]),
        ] {
            let range = range(text);

            assert!(inside.iter().all(|address| range.contains(address.parse().expect("an address"))), "{text}");
            assert!(!outside.iter().any(|address| range.contains(address.parse().expect("an address"))), "{text}");
            assert_eq!([range.first(), range.last()].map(|end| end.to_string()), inside, "{text}");
            assert_eq!(range.to_string(), text);
        }
    }

    #[test]
    fn ranges_overlap_only_within_their_version() {
        assert!(range("2001:db8::/32").overlaps(range("2001:db8:1::/48")));
        assert!(range("2001:db8:1::/48").overlaps(range("2001:db8::/32")));
        assert!(!range("2001:db8::/32").overlaps(range("2001:db9::/32")));
        assert!(!range("0.0.0.0/0").overlaps(range("::/0")));
    }

    #[test]
    fn what_is_no_range_says_what_one_looks_like() {
        for text in ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "2001:db8::1/32", "2001:db8::/129", "office/8"] {
            assert!(text.parse::<IpRange>().is_err(), "{text}");
        }
        let mapped = "::ffff:10.0.0.0/104".parse::<IpRange>().expect_err("of the other version");
        assert_eq!(mapped.problem, "`::ffff:10.0.0.0/104` is of IPv4: write it as 10.0.0.0/8");
        assert_eq!(IpRange::from("::ffff:192.0.2.7".parse::<IpAddr>().expect("an address")), range("192.0.2.7/32"));
    }
}
