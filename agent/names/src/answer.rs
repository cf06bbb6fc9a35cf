//! From a question to an answer of ours, or the word that it is not ours to answer; pure.

use std::net::Ipv4Addr;

use domain::{
    base::{
        Message, MessageBuilder, Name, Question, Rtype, Serial, Ttl,
        iana::{Class, Opcode, Rcode},
        message_builder::{AdditionalBuilder, AnswerBuilder},
    },
    rdata::{A, Aaaa, Ptr, Soa, Srv},
};

use crate::zone::{Found, ORIGIN, Record, Zone};

/// How long an answer of ours may be kept, in seconds. A virtual address outlives this by far; the list of who answers does not.
const TTL: Ttl = Ttl::from_secs(5);

/// How long "there is no such name" may be kept, in seconds (RFC 2308 §5): soon there may be one.
const NEGATIVE_TTL: Ttl = Ttl::from_secs(2);

/// The most addresses in one answer over UDP: old resolvers take 512 bytes and do not ask again by TCP.
const ADDRESSES_MAX: usize = 8;

/// What we can take in one datagram, as we tell others (the size that crosses every link unbroken).
const PAYLOAD_BYTES_MAX: u16 = 1232;

/// The size of datagrams that everybody takes (RFC 1035 §4.2.1).
const PAYLOAD_BYTES_MIN: usize = 512;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream.
    Tcp,
}

/// What to do with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send this.
    Answer(Vec<u8>),
    /// Ask somebody else.
    Forward,
    /// Say nothing: it is no question.
    Drop,
}

type Asked = Question<Name<Vec<u8>>>;

/// Answers a question. `turn` moves the list of addresses on, so that all of them are given to somebody first.
pub(crate) fn answer(zone: Option<&Zone<'_>>, request: &[u8], transport: Transport, turn: usize) -> Verdict {
    let Ok(request) = Message::from_octets(request) else { return Verdict::Drop };
    if request.header().qr() {
        return Verdict::Drop;
    }
    if request.header().opcode() != Opcode::QUERY {
        return failure(&request, Rcode::NOTIMP);
    }
    let Ok(question) = request.sole_question() else { return failure(&request, Rcode::FORMERR) };
    let Some(zone) = zone else { return Verdict::Forward };
    // Names are compared in lower case and given back as they were spelt (RFC 4343).
    let spelt = question.qname().to_string();
    let asked = Question::new(to_name(&spelt), question.qtype(), question.qclass());
    match zone.look_up(&spelt.to_ascii_lowercase()) {
        // Resolvers try `web.shop` as it stands first. Nobody outside knows it, and a failure there would end their search.
        Found::Elsewhere if zone.has_below_origin(&spelt.to_ascii_lowercase()) => {
            build(&request, &asked, &[], Rcode::NXDOMAIN, transport)
        }
        Found::Elsewhere => Verdict::Forward,
        _ if !matches!(asked.qclass(), Class::IN | Class::ANY) => failure(&request, Rcode::REFUSED),
        Found::Nothing => build(&request, &asked, &[], Rcode::NXDOMAIN, transport),
        Found::Records(mut records) => {
            records.retain(|record| fits(record, asked.qtype()));
            if !records.is_empty() {
                let turn = turn % records.len();
                records.rotate_left(turn);
            }
            build(&request, &asked, &records, Rcode::NOERROR, transport)
        }
    }
}

/// An answer without records, such as "the server failed".
pub(crate) fn failure(request: &Message<&[u8]>, code: Rcode) -> Verdict {
    let mut builder = MessageBuilder::new_vec().start_error(request, code);
    builder.header_mut().set_ra(true);
    Verdict::Answer(builder.finish())
}

/// The most bytes in a datagram that whoever asks can take.
pub(crate) fn payload_bytes_max(request: &Message<&[u8]>) -> usize {
    let offered = request.opt().map_or(0, |opt| opt.udp_payload_size());
    usize::from(offered.min(PAYLOAD_BYTES_MAX)).max(PAYLOAD_BYTES_MIN)
}

fn fits(record: &Record, asked: Rtype) -> bool {
    let kind = match record {
        Record::Address(_) => Rtype::A,
        Record::Ipv6Address(_) => Rtype::AAAA,
        Record::Port(..) => Rtype::SRV,
        Record::Pointer(_) => Rtype::PTR,
    };
    asked == kind || asked == Rtype::ANY
}

fn build(request: &Message<&[u8]>, asked: &Asked, records: &[Record], code: Rcode, transport: Transport) -> Verdict {
    let mut target = MessageBuilder::new_vec();
    let (limit, shown) = match transport {
        Transport::Udp => (payload_bytes_max(request), ADDRESSES_MAX),
        Transport::Tcp => (usize::from(u16::MAX), usize::MAX),
    };
    target.set_push_limit(limit);
    let built = complete(target, request, asked, &records[..records.len().min(shown)], code);
    Verdict::Answer(built.unwrap_or_else(|_| {
        // It does not fit: whoever asked may come by TCP.
        let mut builder = MessageBuilder::new_vec().start_error(request, code);
        set_header(&mut builder);
        builder.header_mut().set_tc(transport == Transport::Udp);
        builder.finish()
    }))
}

fn complete(
    target: MessageBuilder<Vec<u8>>,
    request: &Message<&[u8]>,
    asked: &Asked,
    records: &[Record],
    code: Rcode,
) -> Result<Vec<u8>, domain::base::message_builder::PushError> {
    let mut builder = target.start_answer(request, code)?;
    set_header(&mut builder);
    let name = asked.qname();
    for record in records {
        match record {
            Record::Address(address) => builder.push((name, Class::IN, TTL, a(*address)))?,
            Record::Ipv6Address(address) => builder.push((name, Class::IN, TTL, Aaaa::new(*address)))?,
            Record::Port(port, target, _) => {
                builder.push((name, Class::IN, TTL, Srv::new(0, 0, *port, to_name(target))))?
            }
            Record::Pointer(target) => builder.push((name, Class::IN, TTL, Ptr::new(to_name(target))))?,
        }
    }
    let mut builder = builder.authority();
    if records.is_empty() {
        builder.push((origin_of(name), Class::IN, NEGATIVE_TTL, soa()))?;
    }
    let mut builder: AdditionalBuilder<_> = builder.additional();
    for record in records {
        if let Record::Port(_, target, address) = record {
            builder.push((to_name(target), Class::IN, TTL, a(*address)))?;
        }
    }
    if request.opt().is_some() {
        builder.opt(|opt| {
            opt.set_udp_payload_size(PAYLOAD_BYTES_MAX);
            Ok(())
        })?;
    }
    Ok(builder.finish())
}

fn set_header(builder: &mut AnswerBuilder<Vec<u8>>) {
    builder.header_mut().set_aa(true);
    builder.header_mut().set_ra(true);
}

fn a(address: Ipv4Addr) -> A {
    A::new(address)
}

/// Our domain for our names; for a reverse name itself, as nobody delegates these to us.
fn origin_of(name: &Name<Vec<u8>>) -> Name<Vec<u8>> {
    let origin = to_name(ORIGIN);
    if name.ends_with(&origin) { origin } else { name.clone() }
}

fn soa() -> Soa<Name<Vec<u8>>> {
    let name = |label: &str| to_name(&format!("{label}.{ORIGIN}"));
    let serial = Serial::from(1);
    Soa::new(name("names"), name("nobody"), serial, NEGATIVE_TTL, NEGATIVE_TTL, NEGATIVE_TTL, NEGATIVE_TTL)
}

/// A name from a text that was a name already.
fn to_name(text: &str) -> Name<Vec<u8>> {
    text.parse().unwrap_or_else(|_| Name::root_vec())
}
