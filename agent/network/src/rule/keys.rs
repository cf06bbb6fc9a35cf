//! What rules load as keys of maps: services, ports of the node, clients and the slots that are theirs.

use std::net::Ipv4Addr;

use super::{DATA_VALUE, FIRST, Rule, Side};
use crate::family::Family;

const CT_DESTINATION_PORT: u32 = 12;
const CT_DESTINATION_V4: u32 = 20;
const CT_DESTINATION_V6: u32 = 22;
const CT_DIRECTION_ORIGINAL: u8 = 0;
const DYNSET_ADD: u32 = 0;
const DYNSET_UPDATE: u32 = 1;
const HASH_JENKINS: u32 = 0;
/// Any number, if it is always the same.
const HASH_SEED: u32 = 0x7768_7279;

impl Rule {
    /// Loads `daddr . l4proto . dport`, the key of a service.
    pub(crate) fn load_service_key(self) -> Self {
        let [protocol, port] = [self.behind_addresses(1, 0), self.behind_addresses(1, 1)];
        self.load_address(Side::Destination, FIRST).load_protocol(protocol).load_port(port)
    }

    /// Loads `l4proto . dport`, the key of a port of the node.
    pub(crate) fn load_port_key(self) -> Self {
        let port = self.behind_addresses(0, 1);
        self.load_protocol(FIRST).load_port(port)
    }

    /// Loads `saddr . daddr`.
    pub(crate) fn load_address_pair(self) -> Self {
        let second = self.behind_addresses(1, 0);
        self.load_address(Side::Source, FIRST).load_address(Side::Destination, second)
    }

    /// Draws a slot behind a service's key.
    pub(crate) fn draw_behind_service_key(self, slots: u32) -> Self {
        let register = self.behind_addresses(1, 2);
        self.draw(slots, register)
    }

    /// Draws a slot behind a port's key.
    pub(crate) fn draw_behind_port_key(self, slots: u32) -> Self {
        let register = self.behind_addresses(0, 2);
        self.draw(slots, register)
    }

    /// The family of the table it is for.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// Loads `0 . l4proto . dport`: a port of the node, at whatever address.
    pub(crate) fn load_port_key_of_any_address(self) -> Self {
        let [protocol, port] = [self.behind_addresses(1, 0), self.behind_addresses(1, 1)];
        let any = self.family.octets(Ipv4Addr::UNSPECIFIED);
        self.expression("immediate", |body| {
            body.number(1, FIRST);
            body.nest(2, |data| data.bytes(DATA_VALUE, &any));
        })
        .load_protocol(protocol)
        .load_port(port)
    }

    /// Loads `saddr` behind a service's key.
    pub(crate) fn load_client_behind_service_key(self) -> Self {
        let register = self.behind_addresses(1, 2);
        self.load_address(Side::Source, register)
    }

    /// Loads the slot that the client's address tells behind a service's key.
    pub(crate) fn hash_behind_service_key(self, slots: usize) -> Self {
        let register = self.behind_addresses(1, 2);
        self.hash_client(slots, register)
    }

    /// Loads the slot that the client's address tells behind a port's key.
    pub(crate) fn hash_behind_port_key(self, slots: usize) -> Self {
        let register = self.behind_addresses(0, 2);
        self.hash_client(slots, register)
    }

    /// Loads `saddr . daddr . l4proto . dport`.
    pub(crate) fn load_client_key(self) -> Self {
        let [protocol, port] = [self.behind_addresses(2, 0), self.behind_addresses(2, 1)];
        self.load_address_pair().load_protocol(protocol).load_port(port)
    }

    /// Loads the key of the service that was asked, before the destination was translated.
    pub(crate) fn load_asked_service_key(self) -> Self {
        let [protocol, port] = [self.behind_addresses(1, 0), self.behind_addresses(1, 1)];
        self.load_asked_address(FIRST).load_protocol(protocol).load_asked_port(port)
    }

    /// Loads the key of the node's port that was asked, before the destination was translated.
    pub(crate) fn load_asked_port_key(self) -> Self {
        let port = self.behind_addresses(0, 1);
        self.load_protocol(FIRST).load_asked_port(port)
    }

    /// Remembers for a client to which endpoint its packet was translated, or starts the time anew if that is remembered.
    pub(crate) fn remember_client(self, map: &str, seconds: u32) -> Self {
        // The endpoint comes first in the registers, the client's key behind it.
        let (endpoint_port, source) = (self.behind_addresses(1, 0), self.behind_addresses(1, 1));
        let (asked, protocol) = (self.behind_addresses(2, 1), self.behind_addresses(3, 1));
        let asked_port = self.behind_addresses(3, 2);
        self.load_address(Side::Destination, FIRST)
            .load_port(endpoint_port)
            .load_address(Side::Source, source)
            .load_asked_address(asked)
            .load_protocol(protocol)
            .load_asked_port(asked_port)
            .expression("dynset", |body| {
                body.text(1, map);
                body.number(3, DYNSET_UPDATE);
                body.number(4, source);
                body.number(5, FIRST);
                body.bytes(6, &(u64::from(seconds) * 1_000).to_be_bytes());
            })
    }

    /// Adds the key of a client, which is loaded, to a set for so many seconds. One that is in it keeps its time.
    pub(crate) fn note_client(self, set: &str, seconds: u32) -> Self {
        self.expression("dynset", |body| {
            body.text(1, set);
            body.number(3, DYNSET_ADD);
            body.number(4, FIRST);
            body.bytes(6, &(u64::from(seconds) * 1_000).to_be_bytes());
        })
    }

    /// Jenkins' hash of the client's address: the same on every node, since its seed is.
    fn hash_client(self, slots: usize, register: u32) -> Self {
        let length = self.family.address_bytes();
        let modulus = u32::try_from(slots).expect("there are few slots");
        // Any register that is not part of the key; the slot's own is behind the key.
        self.load_address(Side::Source, register + 1).expression("hash", |body| {
            body.number(1, register + 1);
            body.number(2, register);
            body.number(3, length);
            body.number(4, modulus);
            body.number(5, HASH_SEED);
            body.number(7, HASH_JENKINS);
        })
    }

    /// Loads the address that was asked, before it was translated.
    fn load_asked_address(self, register: u32) -> Self {
        let key = match self.family {
            Family::V4 => CT_DESTINATION_V4,
            Family::V6(_) => CT_DESTINATION_V6,
        };
        self.load_asked(key, register)
    }

    fn load_asked_port(self, register: u32) -> Self {
        self.load_asked(CT_DESTINATION_PORT, register)
    }

    fn load_asked(self, key: u32, register: u32) -> Self {
        self.expression("ct", |body| {
            body.number(1, register);
            body.number(2, key);
            body.bytes(3, &[CT_DIRECTION_ORIGINAL]);
        })
    }
}
