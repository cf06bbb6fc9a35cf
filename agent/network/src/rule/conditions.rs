//! What a rule of the guard asks of a packet.

use super::{FIRST, Must, Rule, Side, TRANSPORT_HEADER};
use crate::family::Family;

/// ICMP's number in an IPv4 header, and in an IPv6 header.
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const ICMP_ECHO: u8 = 8;
const ICMP6_ECHO: u8 = 128;
const CT_STATE: u32 = 0;
/// Established (2) or related (4).
const CT_STATE_FOLLOWS: u32 = 0x6;
const FIB_RESULT_LINK: u32 = 1;
const FIB_BY_SOURCE: u32 = 1;
const FIB_OF_INCOMING_LINK: u32 = 1 << 3;
const FIB_WHETHER: u32 = 1 << 5;

impl Rule {
    /// Goes on only if the destination is in the set.
    pub(crate) fn destined_to(self, set: &str) -> Self {
        self.load_address(Side::Destination, FIRST).in_set(set)
    }

    /// Goes on only if the source is in the set.
    pub(crate) fn sent_by(self, set: &str) -> Self {
        self.load_address(Side::Source, FIRST).in_set(set)
    }

    /// Goes on only if nothing that is sent to the source would leave by the link by which this came.
    pub(crate) fn forged(self) -> Self {
        self.expression("fib", |body| {
            body.number(1, FIRST);
            body.number(2, FIB_RESULT_LINK);
            body.number(3, FIB_BY_SOURCE | FIB_OF_INCOMING_LINK | FIB_WHETHER);
        })
        .compare(Must::Equal, &[0])
    }

    /// Goes on only for what follows from an exchange that was let through before.
    pub(crate) fn follows(self) -> Self {
        self.expression("ct", |body| {
            body.number(1, FIRST);
            body.number(2, CT_STATE);
        })
        .mask(&CT_STATE_FOLLOWS.to_ne_bytes())
        .compare(Must::Differ, &[0; 4])
    }

    /// Goes on only if the destination's port is this one.
    pub(crate) fn port(self, port: u16) -> Self {
        self.load_port(FIRST).compare(Must::Equal, &port.to_be_bytes())
    }

    /// Goes on only if somebody asks for an echo.
    pub(crate) fn echo(self) -> Self {
        let (protocol, kind) = match self.family {
            Family::V4 => (ICMP, ICMP_ECHO),
            Family::V6(_) => (ICMP6, ICMP6_ECHO),
        };
        self.protocol(protocol).payload(TRANSPORT_HEADER, (0, 1), FIRST).compare(Must::Equal, &[kind])
    }
}
