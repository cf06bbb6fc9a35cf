//! The two versions of the Internet Protocol.
//!
//! Every decision is made for IPv4. Version 6 mirrors it: under one prefix of the cluster, each of our IPv4 addresses has an
//! IPv6 address that ends with it. So the same maps exist twice, in a table of each family, and only their encoding differs.

use std::net::{IpAddr, Ipv4Addr};

use api_types::net::{Cidr, Ipv6Prefix};

/// For which version of the protocol something is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    /// With the prefix under which our addresses are mirrored.
    V6(Ipv6Prefix),
}

impl Family {
    /// netfilter's number of it (`NFPROTO_*`).
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6(_) => 10,
        }
    }

    /// Its name in tables of rules.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6(_) => "ip6",
        }
    }

    /// Header of netfilter's messages: family, version, resource.
    pub(crate) fn header(self) -> [u8; 4] {
        [self.number(), 0, 0, 0]
    }

    /// How many bytes an address has.
    pub(crate) fn address_bytes(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6(_) => 16,
        }
    }

    /// One of our addresses as packets carry it.
    pub(crate) fn octets(self, address: Ipv4Addr) -> Vec<u8> {
        octets(self.address(address))
    }

    /// One of our addresses as packets have it.
    pub(crate) fn address(self, address: Ipv4Addr) -> IpAddr {
        match self {
            Self::V4 => address.into(),
            Self::V6(prefix) => prefix.embed(address).into(),
        }
    }

    /// Which of our addresses this is, in the form in which all is decided; any address of version 4 may be one.
    pub(crate) fn own(self, address: IpAddr) -> Option<Ipv4Addr> {
        match (self, address) {
            (Self::V4, IpAddr::V4(address)) => Some(address),
            (Self::V6(prefix), IpAddr::V6(address)) => prefix.extract(address),
            (Self::V4, IpAddr::V6(_)) | (Self::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// An address in these bytes of a packet or a map.
    pub(crate) fn read(self, octets: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
            Self::V6(_) => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        }
    }

    /// How long the prefix of one of our ranges is, given its length in version 4.
    pub(crate) fn prefix(self, prefix: u8) -> u8 {
        match self {
            Self::V4 => prefix,
            Self::V6(_) => Ipv6Prefix::BITS + prefix,
        }
    }

    /// One of our ranges as people write it.
    pub(crate) fn range(self, range: Cidr) -> String {
        format!("{}/{}", self.address(range.address), self.prefix(range.prefix))
    }
}

/// An address as packets carry it.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
