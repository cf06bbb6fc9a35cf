//! nftables rules as the kernel reads them: expressions that load, compare, look up and decide.

mod conditions;
mod segments;

use std::net::{IpAddr, Ipv4Addr};

use api_types::net::Cidr;

use crate::{family::Family, message::Attributes};

mod keys;

/// The first four bytes of the first register, under the number that old and new kernels show.
const FIRST: u32 = 1;
/// The kernel's number of the register of the first four bytes, where each register has four.
const FIRST_OF_FOUR_BYTES: u32 = 8;
const REGISTER_BYTES: u32 = 4;
const VERDICT: u32 = 0;

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_BODY: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const CT_STATUS: u32 = 2;
const CT_STATUS_DNAT: u32 = 0x20;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_BY_DESTINATION: u32 = 2;
const ADDRTYPE_LOCAL: u32 = 2;
/// As many as the kernel has for a link's name, zeros behind it.
const LINK_NAME_BYTES: usize = 16;
const RANDOM: u32 = 1;
const RANDOM_FULLY: u32 = 0x10;
const SNAT: u32 = 0;
const DNAT: u32 = 1;
const REJECT_ICMP: u32 = 0;
const REJECT_RESET: u32 = 1;
/// "Port unreachable" in ICMP (RFC 792) and in ICMPv6 (RFC 4443).
const ICMP_PORT_UNREACHABLE: u8 = 3;
const ICMP6_PORT_UNREACHABLE: u8 = 4;

/// Which address of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// Which of the packet's links.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    In,
    Out,
}

/// Whether a comparison shall hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Must {
    Equal,
    Differ,
}

/// What happens to the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict<'a> {
    Accept,
    Drop,
    Goto(&'a str),
    Jump(&'a str),
    Return,
}

/// A rule: its encoded expressions.
#[derive(Debug)]
pub(crate) struct Rule {
    family: Family,
    bytes: Vec<u8>,
}

impl Rule {
    /// A rule of a table of this family, still without expressions.
    pub(crate) fn of(family: Family) -> Self {
        Self { family, bytes: Vec::new() }
    }

    /// The encoded list of expressions.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Goes on only if the loaded key is in the set.
    pub(crate) fn in_set(self, set: &str) -> Self {
        self.lookup(set, None)
    }

    /// Does what the map says for the loaded key; goes on if it says nothing.
    pub(crate) fn verdict_from(self, map: &str) -> Self {
        self.lookup(map, Some(VERDICT))
    }

    /// Translates the destination to `address . port` that the map has for the loaded key.
    pub(crate) fn translate_from(self, map: &str) -> Self {
        let (family, port) = (self.family.number(), self.behind_addresses(1, 0));
        self.lookup(map, Some(FIRST)).expression("nat", |body| {
            body.number(1, DNAT);
            body.number(2, u32::from(family));
            body.number(3, FIRST);
            body.number(5, port);
        })
    }

    /// Translates the destination to this address, which is one of ours, and port.
    pub(crate) fn translate_to(self, address: Ipv4Addr, port: u16) -> Self {
        let (family, octets, behind) = (self.family.number(), self.family.octets(address), self.behind_addresses(1, 0));
        self.load_value(FIRST, &octets).load_value(behind, &port.to_be_bytes()).expression("nat", |body| {
            body.number(1, DNAT);
            body.number(2, u32::from(family));
            body.number(3, FIRST);
            body.number(5, behind);
        })
    }

    /// Gives the connection this address, which is one of ours, as its source.
    pub(crate) fn speak_as(self, address: Ipv4Addr) -> Self {
        let (family, octets) = (self.family.number(), self.family.octets(address));
        self.load_value(FIRST, &octets).expression("nat", |body| {
            body.number(1, SNAT);
            body.number(2, u32::from(family));
            body.number(3, FIRST);
        })
    }

    /// Goes on only if the transport is this one.
    pub(crate) fn protocol(self, protocol: u8) -> Self {
        self.load_protocol(FIRST).compare(Must::Equal, &[protocol])
    }

    /// Goes on only if the address is in, or not in, the range, which is one of ours.
    pub(crate) fn range(self, side: Side, must: Must, range: Cidr) -> Self {
        let (family, octets) = (self.family, self.family.octets(range.address));
        self.begins(side, must, &octets, family.prefix(range.prefix))
    }

    /// Goes on only if the address is in, or not in, a range that is not one of ours.
    pub(crate) fn foreign(self, side: Side, must: Must, (address, prefix): (IpAddr, u8)) -> Self {
        match address {
            IpAddr::V4(address) => self.begins(side, must, &address.octets(), prefix),
            IpAddr::V6(address) => self.begins(side, must, &address.octets(), prefix),
        }
    }

    /// Goes on only if the address, which is one of ours, is, or is not, this one.
    pub(crate) fn address(self, side: Side, must: Must, address: Ipv4Addr) -> Self {
        let octets = self.family.octets(address);
        self.load_address(side, FIRST).compare(must, &octets)
    }

    /// Goes on only if the destination is an address of this node.
    pub(crate) fn destined_here(self) -> Self {
        self.expression("fib", |body| {
            body.number(1, FIRST);
            body.number(2, FIB_RESULT_ADDRTYPE);
            body.number(3, FIB_BY_DESTINATION);
        })
        .compare(Must::Equal, &ADDRTYPE_LOCAL.to_ne_bytes())
    }

    /// Goes on only for connections whose destination was translated.
    pub(crate) fn translated(self) -> Self {
        self.expression("ct", |body| {
            body.number(1, FIRST);
            body.number(2, CT_STATUS);
        })
        .mask(&CT_STATUS_DNAT.to_ne_bytes())
        .compare(Must::Equal, &CT_STATUS_DNAT.to_ne_bytes())
    }

    /// Goes on only if the link's name begins, or does not begin, like this.
    pub(crate) fn link_prefix(self, link: Link, must: Must, prefix: &str) -> Self {
        let key = match link {
            Link::In => META_IIFNAME,
            Link::Out => META_OIFNAME,
        };
        self.meta(key, FIRST).compare(must, prefix.as_bytes())
    }

    /// Goes on only if the link has this name.
    pub(crate) fn link(self, link: Link, name: &str) -> Self {
        let mut whole = [0; LINK_NAME_BYTES];
        for (byte, letter) in whole.iter_mut().zip(name.bytes()) {
            *byte = letter;
        }
        let key = match link {
            Link::In => META_IIFNAME,
            Link::Out => META_OIFNAME,
        };
        self.meta(key, FIRST).compare(Must::Equal, &whole)
    }

    /// Gives the connection an address and a random port of this node as its source.
    pub(crate) fn masquerade(self) -> Self {
        self.expression("masq", |body| body.number(1, RANDOM_FULLY))
    }

    /// Answers with a TCP reset.
    pub(crate) fn reset(self) -> Self {
        self.expression("reject", |body| body.number(1, REJECT_RESET))
    }

    /// Answers with "port unreachable".
    pub(crate) fn unreachable(self) -> Self {
        let code = match self.family {
            Family::V4 => ICMP_PORT_UNREACHABLE,
            Family::V6(_) => ICMP6_PORT_UNREACHABLE,
        };
        self.expression("reject", |body| {
            body.number(1, REJECT_ICMP);
            body.bytes(2, &[code]);
        })
    }

    /// Ends the rule.
    pub(crate) fn verdict(self, verdict: Verdict<'_>) -> Self {
        self.expression("immediate", |body| {
            body.number(1, VERDICT);
            body.nest(2, |data| encode_verdict(data, verdict));
        })
    }

    fn begins(self, side: Side, must: Must, octets: &[u8], prefix: u8) -> Self {
        let loaded = self.load_address(side, FIRST);
        let bits_in = |index: usize| usize::from(prefix).saturating_sub(8 * index).min(8);
        let mask: Vec<u8> = (0..octets.len()).map(|index| !(0xff_u16 >> bits_in(index)).to_be_bytes()[1]).collect();
        let masked = if mask.last() == Some(&u8::MAX) { loaded } else { loaded.mask(&mask) };
        masked.compare(must, octets)
    }

    fn load_value(self, register: u32, value: &[u8]) -> Self {
        self.expression("immediate", |body| {
            body.number(1, register);
            body.nest(2, |data| data.bytes(DATA_VALUE, value));
        })
    }

    fn load_address(self, side: Side, register: u32) -> Self {
        // Where the header has it: RFC 791, RFC 8200.
        let offset = match (self.family, side) {
            (Family::V4, Side::Source) => 12,
            (Family::V4, Side::Destination) => 16,
            (Family::V6(_), Side::Source) => 8,
            (Family::V6(_), Side::Destination) => 24,
        };
        let length = self.family.address_bytes();
        self.payload(NETWORK_HEADER, (offset, length), register)
    }

    fn load_port(self, register: u32) -> Self {
        self.payload(TRANSPORT_HEADER, (2, 2), register)
    }

    fn load_protocol(self, register: u32) -> Self {
        self.meta(META_L4PROTO, register)
    }

    fn payload(self, base: u32, (offset, length): (u32, u32), register: u32) -> Self {
        self.expression("payload", |body| {
            body.number(1, register);
            body.number(2, base);
            body.number(3, offset);
            body.number(4, length);
        })
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.expression("meta", |body| {
            body.number(2, key);
            body.number(1, register);
        })
    }

    fn mask(self, mask: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).expect("an address is short");
        self.expression("bitwise", |body| {
            body.number(1, FIRST);
            body.number(2, FIRST);
            body.number(3, length);
            body.nest(4, |data| data.bytes(DATA_VALUE, mask));
            body.nest(5, |data| data.bytes(DATA_VALUE, &vec![0; mask.len()]));
        })
    }

    fn compare(self, must: Must, value: &[u8]) -> Self {
        let operation = match must {
            Must::Equal => 0,
            Must::Differ => 1,
        };
        self.expression("cmp", |body| {
            body.number(1, FIRST);
            body.number(2, operation);
            body.nest(3, |data| data.bytes(DATA_VALUE, value));
        })
    }

    fn draw(self, slots: u32, register: u32) -> Self {
        self.expression("numgen", |body| {
            body.number(1, register);
            body.number(2, slots);
            body.number(3, RANDOM);
            body.number(4, 0);
        })
    }

    /// The register behind so many addresses and so many values of four bytes; concatenated keys fill registers in order.
    fn behind_addresses(&self, addresses: u32, values: u32) -> u32 {
        FIRST_OF_FOUR_BYTES + addresses * self.family.address_bytes() / REGISTER_BYTES + values
    }

    fn lookup(self, set: &str, into: Option<u32>) -> Self {
        self.expression("lookup", |body| {
            body.number(2, FIRST);
            if let Some(register) = into {
                body.number(3, register);
            }
            body.text(1, set);
        })
    }

    fn expression(mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) -> Self {
        Attributes(&mut self.bytes).nest(LIST_ELEMENT, |element| {
            element.text(EXPRESSION_NAME, name);
            element.nest(EXPRESSION_BODY, fill);
        });
        self
    }
}

/// Writes a verdict as the data of a rule or of a map's element.
pub(crate) fn encode_verdict(data: &mut Attributes<'_>, verdict: Verdict<'_>) {
    let code = match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Jump(_) => -3_i32,
        Verdict::Goto(_) => -4,
        Verdict::Return => -5,
    };
    data.nest(DATA_VERDICT, |inner| {
        inner.number(1, code.cast_unsigned());
        if let Verdict::Goto(chain) | Verdict::Jump(chain) = verdict {
            inner.text(2, chain);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::rows;

    #[test]
    fn the_rule_of_a_chain_is_encoded_as_the_kernel_reads_it() {
        let rule = Rule::of(Family::V4).load_service_key().draw_behind_service_key(3).translate_from("slots");

        let expected = [
            "340001800c0001007061796c6f61640024000280080001000000000108000200",
            "000000010800030000000010080004000000000424000180090001006d657461",
            "000000001400028008000200000000100800010000000009340001800c000100",
            "7061796c6f61640024000280080001000000000a080002000000000208000300",
            "000000020800040000000002340001800b0001006e756d67656e000024000280",
            "080001000000000b080002000000000308000300000000010800040000000000",
            "300001800b0001006c6f6f6b7570000020000280080002000000000108000300",
            "000000010a000100736c6f747300000030000180080001006e61740024000280",
            "0800010000000001080002000000000208000300000000010800050000000009",
        ];
        assert_eq!(rows(rule.as_bytes()), expected);
    }
}
