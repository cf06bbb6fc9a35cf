//! From a question to an answer of ours, or the word that it is not ours to answer; pure.

use domain::{
    base::{
        Message, MessageBuilder, Name, Question, Rtype, Serial, ToName as _, Ttl,
        iana::{Class, Opcode, Rcode},
        message_builder::{PushError, StaticCompressor},
        name::ParsedName,
    },
    rdata::{A, Aaaa, Ptr, Soa, Srv},
};

use crate::zone::{Found, ORIGIN, Record, Zone};

/// How long an answer of ours may be kept, in seconds. A virtual address outlives this by far; the list of who answers does not.
const TTL: Ttl = Ttl::from_secs(5);

/// How long "there is no such name" may be kept, in seconds (RFC 2308 §5): soon there may be one.
const NEGATIVE_TTL: Ttl = Ttl::from_secs(2);

/// What we can take in one datagram, as we tell others (the size that crosses every link unbroken).
const PAYLOAD_BYTES_MAX: u16 = 1232;

/// The size of datagrams that everybody takes (RFC 1035 §4.2.1).
const PAYLOAD_BYTES_MIN: usize = 512;

/// Bytes of the record that says so (RFC 6891 §6.1.2: without options).
const OPT_BYTES: usize = 11;

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

type Asked<'r> = Question<ParsedName<&'r [u8]>>;
/// Where an answer is written: a name that stands in it already is only pointed to, so more addresses fit.
type Target = StaticCompressor<Vec<u8>>;

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
    let mut name = question.qname().to_string();
    name.make_ascii_lowercase();
    let found = match zone.look_up(&name) {
        // Resolvers ask for `web.shop` as it stands first, musl's only so; nobody outside knows it.
        Found::Elsewhere => zone.look_up_below_origin(&name).map_or(Found::Elsewhere, Found::Records),
        found @ (Found::Nothing | Found::Records(_)) => found,
    };
    match found {
        Found::Elsewhere => Verdict::Forward,
        _ if !matches!(question.qclass(), Class::IN | Class::ANY) => failure(&request, Rcode::REFUSED),
        Found::Nothing => build(&request, &question, &[], Rcode::NXDOMAIN, transport),
        Found::Records(mut records) => {
            records.retain(|record| fits(record, question.qtype()));
            if !records.is_empty() {
                let turn = turn % records.len();
                records.rotate_left(turn);
            }
            build(&request, &question, &records, Rcode::NOERROR, transport)
        }
    }
}

/// An answer without records, such as "the server failed".
pub(crate) fn failure(request: &Message<&[u8]>, code: Rcode) -> Verdict {
    let mut builder = MessageBuilder::new_vec().start_error(request, code);
    builder.header_mut().set_ra(true);
    Verdict::Answer(builder.finish())
}

/// "There is more than a datagram holds": whoever asked may come by a stream (RFC 2181 §9).
pub(crate) fn cut(request: &Message<&[u8]>, code: Rcode) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec().start_error(request, code);
    builder.header_mut().set_ra(true);
    builder.header_mut().set_tc(true);
    builder.finish()
}

/// The most bytes in a datagram that whoever asks can take.
pub(crate) fn taken_bytes_max(request: &Message<&[u8]>) -> usize {
    usize::from(request.opt().map_or(0, |opt| opt.udp_payload_size())).max(PAYLOAD_BYTES_MIN)
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

fn build(
    request: &Message<&[u8]>,
    asked: &Asked<'_>,
    records: &[Record],
    code: Rcode,
    transport: Transport,
) -> Verdict {
    let bytes_max = match transport {
        Transport::Udp => taken_bytes_max(request).min(PAYLOAD_BYTES_MAX.into()),
        Transport::Tcp => usize::from(u16::MAX),
    };
    let built = complete(request, asked, records, code, bytes_max);
    built.map_or_else(|_| failure(request, Rcode::SERVFAIL), Verdict::Answer)
}

/// The answer with as many records as fit, marked as cut where these are not all.
fn complete(
    request: &Message<&[u8]>,
    asked: &Asked<'_>,
    records: &[Record],
    code: Rcode,
    bytes_max: usize,
) -> Result<Vec<u8>, PushError> {
    let Ok(target) = MessageBuilder::from_target(Target::new(Vec::with_capacity(PAYLOAD_BYTES_MIN)));
    let mut builder = target.start_answer(request, code)?;
    // A record is refused at the limit itself.
    builder.set_push_limit(bytes_max + 1 - OPT_BYTES);
    let name = asked.qname();
    let cut = records.iter().any(|record| {
        let pushed = match record {
            Record::Address(address) => builder.push((name, Class::IN, TTL, A::new(*address))),
            Record::Ipv6Address(address) => builder.push((name, Class::IN, TTL, Aaaa::new(*address))),
            Record::Port(port, target, _) => {
                builder.push((name, Class::IN, TTL, Srv::new(0, 0, *port, to_name(target))))
            }
            Record::Pointer(target) => builder.push((name, Class::IN, TTL, Ptr::new(to_name(target)))),
        };
        pushed.is_err()
    });
    let header = builder.header_mut();
    header.set_aa(true);
    header.set_ra(true);
    header.set_tc(cut);
    let mut builder = builder.authority();
    if records.is_empty() {
        builder.push((origin_of(name), Class::IN, NEGATIVE_TTL, soa()))?;
    }
    let mut builder = builder.additional();
    for record in records {
        if let Record::Port(_, target, address) = record {
            // What nobody asked for may be missing.
            let _left_out = builder.push((to_name(target), Class::IN, TTL, A::new(*address)));
        }
    }
    builder.clear_push_limit();
    if request.opt().is_some() {
        builder.opt(|opt| {
            opt.set_udp_payload_size(PAYLOAD_BYTES_MAX);
            Ok(())
        })?;
    }
    Ok(builder.finish().into_target())
}

/// Our domain for our names; for a reverse name itself, as nobody delegates these to us.
fn origin_of(name: &ParsedName<&[u8]>) -> Name<Vec<u8>> {
    let origin = to_name(ORIGIN);
    if name.ends_with(&origin) { origin } else { name.to_vec() }
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
