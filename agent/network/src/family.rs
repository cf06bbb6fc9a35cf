//! The two versions of the Internet Protocol.
//!
//! Every decision is made for IPv4. Version 6 mirrors it: under one prefix of the cluster, each of our IPv4 addresses has an
//! IPv6 address that ends with it. So the same maps exist twice, in a table of each family, and only their encoding differs.

use std::net::Ipv4Addr;

use api_types::net::Ipv6Prefix;

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
        match self {
            Self::V4 => address.octets().to_vec(),
            Self::V6(prefix) => prefix.embed(address).octets().to_vec(),
        }
    }

    /// How long the prefix of one of our ranges is, given its length in version 4.
    pub(crate) fn prefix(self, prefix: u8) -> u8 {
        match self {
            Self::V4 => prefix,
            Self::V6(_) => Ipv6Prefix::BITS + prefix,
        }
    }
}
