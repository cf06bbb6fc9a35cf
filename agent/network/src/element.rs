//! Elements of the table's maps in the kernel's form, and their sum for comparing with what the kernel has.

use std::net::{Ipv4Addr, SocketAddrV4};

use api_types::{container::Protocol, fnv, net::IpRange};

use crate::{
    collection::Collection,
    family::{Family, octets},
    message::{Requests, attribute, attributes, flag, nested},
    passes::Pass,
    rule::{Verdict, encode_verdict},
    slots::{Choice, Element, Step},
    table::{FAMILY_HEADER_BYTES, Memory, Place, SUBSYSTEM},
    wanted::Front,
};

const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const KEY: u16 = 1;
const DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;
const KEY_END: u16 = 10;
/// An attribute holds 64 KiB; the longest element takes less than 100 bytes.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// A sum over elements that does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    count: usize,
    hashes: u64,
}

/// Appends a step's messages: deletions first, each collection's elements together.
pub(crate) fn write(requests: &mut Requests, table: Place<'_>, step: &Step) {
    write_lists(requests, table, &step.delete, "delete elements of a map", (DELETE_ELEMENT, 0));
    write_lists(requests, table, &step.add, "add elements to a map", (NEW_ELEMENT, flag::CREATE));
}

/// A request for all elements of one map or set.
pub(crate) fn dump(table: Place<'_>, collection: Collection) -> Requests {
    let mut requests = Requests::default();
    requests.push("list a map", (GET_ELEMENT, flag::DUMP), &table.family.header(), |list| {
        list.text(LIST_TABLE, table.name);
        list.text(LIST_SET, collection.name());
    });
    requests
}

/// Appends messages that delete the elements with these keys.
pub(crate) fn write_deletions(requests: &mut Requests, table: Place<'_>, from: Collection, keys: &[Vec<u8>]) {
    for part in keys.chunks(ELEMENTS_PER_MESSAGE) {
        requests.push("delete elements of a map", (DELETE_ELEMENT, 0), &table.family.header(), |list| {
            list.text(LIST_TABLE, table.name);
            list.text(LIST_SET, from.name());
            list.nest(LIST_ELEMENTS, |inner| {
                for key in part {
                    inner.nest(LIST_ELEMENT, |element| element.nest(KEY, |data| data.bytes(DATA_VALUE, key)));
                }
            });
        });
    }
}

/// Appends a message that takes all elements out.
pub(crate) fn write_emptying(requests: &mut Requests, table: Place<'_>, collection: Collection) {
    requests.push("empty a set", (DELETE_ELEMENT, 0), &table.family.header(), |list| {
        list.text(LIST_TABLE, table.name);
        list.text(LIST_SET, collection.name());
    });
}

/// The list of elements in an answer of the kernel to a [`dump`], behind its header.
pub(crate) fn listed(payload: &[u8]) -> &[u8] {
    attribute(payload, LIST_ELEMENTS).unwrap_or_default()
}

/// An element's key and plain data.
pub(crate) fn key_and_data(element: &[u8]) -> Option<(&[u8], &[u8])> {
    Some((nested(element, &[KEY, DATA_VALUE])?, nested(element, &[DATA, DATA_VALUE])?))
}

impl Sum {
    /// Sums up what the kernel should have.
    pub(crate) fn of(family: Family, elements: &[Element]) -> Self {
        let mut sum = Self::default();
        for element in elements {
            let mut data = Vec::new();
            match element {
                Element::Slot(_, _, endpoint) => data.extend(backend(family, *endpoint)),
                Element::Verdict(front, choice) => data.extend(chain(*front, *choice).bytes()),
                Element::Allowed(front, range) => data.extend(last_key(family, *front, *range)),
                Element::Remembered(_, memory) => data.extend(memory_chain(*memory).bytes()),
                Element::Known(_) | Element::Guarded(_) | Element::Hairpin(_) | Element::Pass(_) => {}
            }
            sum.add(collection(element), &key(family, element), &data);
        }
        sum
    }

    /// Adds the elements of one answer of the kernel to a [`dump`].
    pub(crate) fn add_answer(&mut self, from: Collection, payload: &[u8]) {
        for (_, element) in attributes(listed(payload.get(FAMILY_HEADER_BYTES..).unwrap_or_default())) {
            let key = nested(element, &[KEY, DATA_VALUE]).unwrap_or_default();
            let chain = nested(element, &[DATA, DATA_VERDICT, VERDICT_CHAIN]);
            let chain = chain.map(|name| name.strip_suffix(&[0]).unwrap_or(name));
            let data = chain.or_else(|| nested(element, &[DATA, DATA_VALUE]));
            let data = data.or_else(|| nested(element, &[KEY_END, DATA_VALUE])).unwrap_or_default();
            self.add(from, key, data);
        }
    }

    fn add(&mut self, from: Collection, key: &[u8], data: &[u8]) {
        self.count += 1;
        let parts = [from.name().as_bytes(), key, data];
        self.hashes = self.hashes.wrapping_add(fnv::sum(parts.into_iter().flatten().copied()));
    }
}

/// The number of a transport in an IP header.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

fn write_lists(
    requests: &mut Requests,
    table: Place<'_>,
    elements: &[Element],
    what: &'static str,
    (kind, flags): (u16, u16),
) {
    for wanted in Collection::FILLED {
        let members: Vec<_> = elements.iter().filter(|element| collection(element) == wanted).collect();
        for part in members.chunks(ELEMENTS_PER_MESSAGE) {
            requests.push(what, (kind, flags), &table.family.header(), |list| {
                list.text(LIST_TABLE, table.name);
                list.text(LIST_SET, wanted.name());
                list.nest(LIST_ELEMENTS, |inner| {
                    for element in part {
                        inner.nest(LIST_ELEMENT, |attributes| write_element(attributes, table.family, element, kind));
                    }
                });
            });
        }
    }
}

fn write_element(attributes: &mut crate::message::Attributes<'_>, family: Family, element: &Element, kind: u16) {
    attributes.nest(KEY, |data| data.bytes(DATA_VALUE, &key(family, element)));
    if let Element::Allowed(front, range) = element {
        attributes.nest(KEY_END, |data| data.bytes(DATA_VALUE, &last_key(family, *front, *range)));
    }
    if kind == DELETE_ELEMENT {
        return;
    }
    match element {
        Element::Slot(_, _, endpoint) => {
            attributes.nest(DATA, |data| data.bytes(DATA_VALUE, &backend(family, *endpoint)))
        }
        Element::Verdict(front, choice) => {
            attributes.nest(DATA, |data| encode_verdict(data, Verdict::Goto(&chain(*front, *choice))));
        }
        Element::Remembered(_, memory) => {
            attributes.nest(DATA, |data| encode_verdict(data, Verdict::Jump(&memory_chain(*memory))));
        }
        Element::Known(_) | Element::Guarded(_) | Element::Allowed(..) | Element::Hairpin(_) | Element::Pass(_) => {}
    }
}

/// The map or set that an element belongs to.
pub(crate) fn collection(element: &Element) -> Collection {
    match element {
        Element::Slot(Front::Port(..), ..) => Collection::PortSlots,
        Element::Slot(..) => Collection::Slots,
        Element::Verdict(Front::Port(..), _) => Collection::Ports,
        Element::Verdict(..) => Collection::Services,
        Element::Remembered(Front::Port(..), _) => Collection::PortRemembered,
        Element::Remembered(..) => Collection::Remembered,
        Element::Known(_) => Collection::Known,
        Element::Guarded(_) => Collection::Guarded,
        Element::Allowed(..) => Collection::Allowed,
        Element::Hairpin(_) => Collection::Hairpins,
        Element::Pass(pass) => pass.collection(),
    }
}

/// Every part of a key that is not an address fills four bytes, as it does in the kernel's registers.
fn key(family: Family, element: &Element) -> Vec<u8> {
    match element {
        Element::Slot(front, slot, _) => {
            let slot = u32::try_from(*slot).expect("there are at most 64 slots");
            [front_key(family, *front), slot.to_ne_bytes().to_vec()].concat()
        }
        Element::Verdict(front, _) | Element::Remembered(front, _) => front_key(family, *front),
        Element::Known(front) | Element::Guarded(front) => guard_key(family, *front),
        Element::Allowed(front, range) => [guard_key(family, *front), octets(range.first())].concat(),
        Element::Hairpin(address) => [family.octets(*address), family.octets(*address)].concat(),
        Element::Pass(Pass::Node(address)) => octets(*address),
        Element::Pass(Pass::Open(address) | Pass::Closed(address) | Pass::ClosedElsewhere(address)) => {
            family.octets(*address)
        }
        Element::Pass(Pass::Entrance(address, protocol, port)) => {
            front_key(family, Front::Service(*address, *protocol, *port))
        }
        Element::Pass(Pass::Published(protocol, port)) => front_key(family, Front::Port(*protocol, *port)),
        Element::Pass(Pass::Admitted(source, to)) => [family.octets(*source), family.octets(*to)].concat(),
    }
}

/// The last key of a range of clients; its first is [`key`].
fn last_key(family: Family, front: Front, range: IpRange) -> Vec<u8> {
    [guard_key(family, front), octets(range.last())].concat()
}

fn front_key(family: Family, front: Front) -> Vec<u8> {
    match front {
        Front::Service(address, protocol, port) => {
            front_key(family, Front::Bound(family.address(address), protocol, port))
        }
        Front::Bound(address, protocol, port) => {
            [octets(address), front_key(family, Front::Port(protocol, port))].concat()
        }
        Front::Port(protocol, port) => {
            let [high, low] = port.to_be_bytes();
            vec![protocol_number(protocol), 0, 0, 0, high, low, 0, 0]
        }
    }
}

/// Known and guarded ports have an address in their keys: zero where they answer at every address.
fn guard_key(family: Family, front: Front) -> Vec<u8> {
    match front {
        Front::Port(protocol, port) => front_key(family, Front::Service(Ipv4Addr::UNSPECIFIED, protocol, port)),
        Front::Service(..) | Front::Bound(..) => front_key(family, front),
    }
}

fn backend(family: Family, endpoint: SocketAddrV4) -> Vec<u8> {
    let [high, low] = endpoint.port().to_be_bytes();
    [family.octets(*endpoint.ip()), vec![high, low, 0, 0]].concat()
}

fn chain(front: Front, choice: Choice) -> String {
    match (front, choice) {
        (Front::Port(..), Choice::Draw(slots)) => format!("p{slots}"),
        (Front::Service(..) | Front::Bound(..), Choice::Draw(slots)) => format!("r{slots}"),
        (Front::Port(..), Choice::Client) => "port_client".to_owned(),
        (Front::Service(..) | Front::Bound(..), Choice::Client) => "client".to_owned(),
    }
}

fn memory_chain(memory: Memory) -> String {
    format!("m{}", memory.number())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{message::rows, table::transaction};

    const TABLE: Place<'_> = Place { name: "wherry", family: Family::V4 };

    #[test]
    fn a_step_is_encoded_as_the_kernel_reads_it() {
        let front = Front::Service(Ipv4Addr::new(10, 43, 0, 1), Protocol::Tcp, 80);
        let endpoint = SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, 2), 8080);
        let step = Step {
            delete: vec![Element::Verdict(front, Choice::Draw(2))],
            add: vec![Element::Slot(front, 5, endpoint)],
        };

        let requests = transaction(|requests| write(requests, TABLE, &step));

        // Lengths and slots are in the machine's order: little-endian wherever this project runs.
        let expected = [
            "140000001000010001000000000000000000000a4c0000000e0a010002000000",
            "00000000020000000b00010077686572727900000d0002007365727669636573",
            "000000001c0003801800018014000180100001000a2b00010600000000500000",
            "5c0000000c0a01040300000000000000020000000b0001007768657272790000",
            "0a000200736c6f7473000000300003802c00018018000180140001000a2b0001",
            "060000000050000005000000100002800c0001000a2a01021f90000014000000",
            "1100010004000000000000000000000a",
        ];
        assert_eq!(rows(requests.as_bytes()), expected);
    }

    #[test]
    fn long_lists_are_cut() {
        let add = (0..1000).map(|port| Element::Known(Front::Port(Protocol::Udp, port))).collect();

        let requests = transaction(|requests| write(requests, TABLE, &Step { delete: Vec::new(), add }));

        assert_eq!(requests.len(), 2 + 3, "a begin, an end, and 400 elements at a time");
    }

    #[test]
    fn the_sum_of_what_is_sent_is_the_sum_of_what_is_listed() {
        let front = Front::Service(Ipv4Addr::new(10, 43, 0, 1), Protocol::Tcp, 80);
        let endpoint = SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, 2), 8080);
        let elements =
            [Element::Verdict(front, Choice::Draw(1)), Element::Slot(front, 0, endpoint), Element::Known(front)];
        let step = Step { delete: Vec::new(), add: elements.to_vec() };
        let requests = transaction(|requests| write(requests, TABLE, &step));

        let mut sum = Sum::default();
        for message in crate::message::messages(requests.as_bytes()).filter(|message| message.kind == NEW_ELEMENT) {
            let name = attribute(&message.payload[FAMILY_HEADER_BYTES..], LIST_SET).map(crate::message::text);
            let from = Collection::FILLED.into_iter().find(|collection| Some(collection.name()) == name);
            sum.add_answer(from.expect("one of ours"), message.payload);
        }

        assert_eq!(sum, Sum::of(Family::V4, &elements));
        assert_ne!(sum, Sum::of(Family::V4, &elements[..2]));
    }
}
