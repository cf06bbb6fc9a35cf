//! What the device that wraps needs of rules: segments that fit, and the nodes' own addresses on it.

use super::{DATA_VALUE, FIRST, Must, Rule, Side, TRANSPORT_HEADER};
use crate::table::TCP;

const TCP_FLAGS_OFFSET: u32 = 13;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
/// The option that tells the largest segment (RFC 9293, 3.7.1).
const TCP_OPTION_SEGMENT: u8 = 2;
const EXTENSION_TCP_OPTION: u32 = 1;
const ROUTE_TCP_SEGMENT: u32 = 3;
const TO_NETWORK_ORDER: u32 = 1;

impl Rule {
    /// Goes on only for the packets that begin a TCP connection, on both sides.
    pub(crate) fn begins_connection(self) -> Self {
        self.protocol(TCP)
            .expression("payload", |body| {
                body.number(1, FIRST);
                body.number(2, TRANSPORT_HEADER);
                body.number(3, TCP_FLAGS_OFFSET);
                body.number(4, 1);
            })
            .expression("bitwise", |body| {
                body.number(1, FIRST);
                body.number(2, FIRST);
                body.number(3, 1);
                body.nest(4, |data| data.bytes(DATA_VALUE, &[TCP_SYN | TCP_RST]));
                body.nest(5, |data| data.bytes(DATA_VALUE, &[0]));
            })
            .compare(Must::Equal, &[TCP_SYN])
    }

    /// Lowers the largest segment that the sender says it takes to what fits the link the packet leaves by.
    pub(crate) fn clamp_segments(self) -> Self {
        self.expression("rt", |body| {
            body.number(1, FIRST);
            body.number(2, ROUTE_TCP_SEGMENT);
        })
        .expression("byteorder", |body| {
            body.number(1, FIRST);
            body.number(2, FIRST);
            body.number(3, TO_NETWORK_ORDER);
            body.number(4, 2);
            body.number(5, 2);
        })
        .expression("exthdr", |body| {
            body.bytes(2, &[TCP_OPTION_SEGMENT]);
            body.number(3, 2);
            body.number(4, 2);
            body.number(6, EXTENSION_TCP_OPTION);
            body.number(7, FIRST);
        })
    }

    /// Goes on only if the source is the first address of a range of this length: a node's own behind the device that wraps.
    pub(crate) fn sent_by_first_of_range(self, prefix: u8) -> Self {
        let inside = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        self.load_address(Side::Source, FIRST).mask(&inside.to_be_bytes()).compare(Must::Equal, &[0; 4])
    }
}
