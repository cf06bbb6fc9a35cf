//! The server over real sockets on the loopback, asked as resolvers ask.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::atomic::Ordering,
};

use domain::{
    base::{Message, MessageBuilder, Name, Rtype, iana::Rcode},
    rdata::AllRecordData,
};

use crate::bed::{LIMIT, LOOPBACK, bed, other_server};

fn question(name: &str, kind: Rtype) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec().question();
    builder.header_mut().set_id(4_711);
    builder.header_mut().set_rd(true);
    builder.push((name.parse::<Name<Vec<u8>>>().expect("valid"), kind)).expect("valid");
    builder.finish()
}

/// The question of somebody who takes datagrams of so many bytes (RFC 6891).
fn taking(question: Vec<u8>, bytes: u16) -> Vec<u8> {
    let asked = Message::from_octets(question).expect("a whole message");
    let mut builder = MessageBuilder::new_vec().question();
    *builder.header_mut() = asked.header();
    builder.push(asked.sole_question().expect("one")).expect("valid");
    let mut builder = builder.additional();
    builder
        .opt(|opt| {
            opt.set_udp_payload_size(bytes);
            Ok(())
        })
        .expect("valid");
    builder.finish()
}

fn ask_bytes(server: SocketAddr, request: &[u8]) -> Message<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback works");
    socket.set_read_timeout(Some(LIMIT)).expect("the loopback works");
    socket.send_to(request, server).expect("the loopback works");
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).expect("the loopback works");
    buffer.truncate(length);
    Message::from_octets(buffer).expect("a whole message")
}

fn ask(server: SocketAddr, name: &str, kind: Rtype) -> Message<Vec<u8>> {
    ask_bytes(server, &question(name, kind))
}

fn ask_by_stream(server: SocketAddr, name: &str, kind: Rtype) -> Message<Vec<u8>> {
    let mut stream = TcpStream::connect(server).expect("the loopback works");
    stream.set_read_timeout(Some(LIMIT)).expect("the loopback works");
    let request = question(name, kind);
    stream
        .write_all(&u16::try_from(request.len()).expect("the loopback works").to_be_bytes())
        .expect("the loopback works");
    stream.write_all(&request).expect("the loopback works");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("the loopback works");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("the loopback works");
    Message::from_octets(answer).expect("a whole message")
}

fn records(answer: &Message<Vec<u8>>) -> Vec<String> {
    let records = answer.answer().expect("a whole message").limit_to::<AllRecordData<_, _>>();
    records.map(|record| record.expect("a whole message").data().to_string()).collect()
}

#[test]
fn names_of_the_cluster_are_answered_by_datagram_and_by_stream() {
    let bed = bed(2, Vec::new());

    let answer = ask(bed.address, "Web.default.wherry.internal", Rtype::A);
    let streamed = ask_by_stream(bed.address, "web.default.wherry.internal", Rtype::A);

    assert_eq!(records(&answer), ["10.43.0.1"]);
    assert_eq!(records(&streamed), ["10.43.0.1"]);
    assert!(answer.header().aa() && answer.header().qr() && answer.header().ra());
    assert_eq!(answer.header().id(), 4_711);
    assert_eq!(answer.sole_question().expect("a whole message").qname().to_string(), "Web.default.wherry.internal");
    assert_eq!(
        records(&ask(bed.address, "_http._tcp.web.default.wherry.internal", Rtype::SRV)),
        ["0 0 80 web.default.wherry.internal"]
    );
    assert_eq!(records(&ask(bed.address, "1.0.43.10.in-addr.arpa", Rtype::PTR)), ["web.default.wherry.internal."]);
}

#[test]
fn a_name_without_such_a_record_is_no_missing_name() {
    let bed = bed(1, Vec::new());

    let none = ask(bed.address, "web.default.wherry.internal", Rtype::AAAA);
    let missing = ask(bed.address, "api.default.wherry.internal", Rtype::A);

    assert_eq!((none.header().rcode(), none.header_counts().ancount()), (Rcode::NOERROR, 0));
    assert_eq!(missing.header().rcode(), Rcode::NXDOMAIN);
    for answer in [none, missing] {
        let authority: Vec<_> = answer.authority().expect("a whole message").map(Result::unwrap).collect();
        assert_eq!(authority.len(), 1, "whoever asks must learn how long that holds");
        assert!(authority[0].ttl().as_secs() <= 5);
    }
}

#[test]
fn a_short_name_of_ours_is_not_asked_elsewhere() {
    let (other, asked) = other_server(LOOPBACK, 1);
    let bed = bed(1, vec![other]);

    let answer = ask(bed.address, "web.default", Rtype::A);
    let none = ask(bed.address, "web.default", Rtype::AAAA);

    assert_eq!(records(&answer), ["10.43.0.1"], "not all resolvers go on with the search list");
    assert_eq!((none.header().rcode(), none.header_counts().ancount()), (Rcode::NOERROR, 0));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn what_a_datagram_does_not_hold_is_marked_as_cut_given_in_turn_and_whole_by_stream() {
    let bed = bed(100, Vec::new());
    let name = "endpoints.web.default.wherry.internal";

    let first = ask(bed.address, name, Rtype::A);
    let second = ask(bed.address, name, Rtype::A);
    let larger = ask_bytes(bed.address, &taking(question(name, Rtype::A), 1_232));
    let largest = ask_bytes(bed.address, &taking(question(name, Rtype::A), 4_096));
    let smaller = ask_bytes(bed.address, &taking(question(name, Rtype::A), 100));
    let all = ask_by_stream(bed.address, name, Rtype::A);

    assert!(first.header().tc() && second.header().tc(), "whoever asks must learn that there are more");
    // 12 bytes of header, the question, 16 bytes for each address, and 11 to say what we take where somebody said so.
    let fit = |bytes: usize| (bytes - 12 - (name.len() + 2 + 4) - 11) / 16;
    for (answer, bytes) in [(&first, 512), (&larger, 1_232), (&largest, 1_232), (&smaller, 512)] {
        assert!(answer.as_slice().len() <= bytes, "{} bytes", answer.as_slice().len());
        assert_eq!(records(answer).len(), fit(bytes), "in {bytes} bytes");
    }
    assert_eq!(larger.opt().expect("as it was asked").udp_payload_size(), 1_232);
    assert_ne!(records(&first)[0], records(&second)[0]);
    assert_eq!(records(&all).len(), 100);
    assert!(!all.header().tc());
}

#[test]
fn what_fits_exactly_is_not_cut() {
    let name = "endpoints.web.default.wherry.internal";
    let fit = u8::try_from((512 - 12 - (name.len() + 2 + 4) - 11) / 16).expect("few");
    let (whole, one_more) = (bed(fit, Vec::new()), bed(fit + 1, Vec::new()));

    assert!(!ask(whole.address, name, Rtype::A).header().tc());
    assert!(ask(one_more.address, name, Rtype::A).header().tc());
}

#[test]
fn what_is_remembered_is_cut_for_whoever_takes_less_than_who_asked_first() {
    let (other, asked) = other_server(LOOPBACK, 40);
    let bed = bed(1, vec![other]);
    let question = question("example.com", Rtype::A);

    let large = ask_bytes(bed.address, &taking(question.clone(), 4_096));
    let small = ask_bytes(bed.address, &taking(question.clone(), 512));
    let again = ask_bytes(bed.address, &taking(question, 4_096));

    assert_eq!((records(&large).len(), records(&again).len()), (40, 40));
    assert!(small.header().tc() && small.as_slice().len() <= 512, "{} bytes", small.as_slice().len());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn other_names_are_asked_elsewhere_and_remembered() {
    let (other, asked) = other_server(LOOPBACK, 1);
    let bed = bed(1, vec![other]);

    let first = ask(bed.address, "example.com", Rtype::A);
    let second = ask(bed.address, "EXAMPLE.com", Rtype::A);

    assert_eq!(records(&first), ["198.51.100.7"]);
    assert_eq!(records(&second), ["198.51.100.7"]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_server_that_is_silent_is_passed_over_and_what_was_so_stands_in() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("the loopback works");
    let (other, asked) = other_server(LOOPBACK, 1);
    let bed = bed(1, vec![silent.local_addr().expect("the loopback works"), other]);

    let answer = ask(bed.address, "example.com", Rtype::A);
    let next = ask(bed.address, "example.org", Rtype::A);

    assert_eq!(records(&answer), ["198.51.100.7"]);
    assert_eq!(records(&next), ["198.51.100.7"]);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    silent.set_nonblocking(true).expect("built");
    let heard = std::iter::from_fn(|| silent.recv(&mut [0; 512]).ok()).count();
    assert_eq!(heard, 1, "who was silent is asked last");
}

#[test]
fn without_other_servers_the_answer_is_a_failure_at_once() {
    let bed = bed(1, Vec::new());

    let answer = ask(bed.address, "example.com", Rtype::A);

    assert_eq!(answer.header().rcode(), Rcode::SERVFAIL);
}

#[test]
fn nonsense_is_refused_and_answers_are_not_answered() {
    let bed = bed(1, Vec::new());
    let mut reply = question("web.default.wherry.internal", Rtype::A);
    reply[2] |= 0x80;
    let mut status = question("web.default.wherry.internal", Rtype::A);
    status[2] |= 2 << 3;
    let cut = &question("web.default.wherry.internal", Rtype::A)[..20];

    let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback works");
    for silent in [&reply[..], b"", b"\0"] {
        socket.send_to(silent, bed.address).expect("the loopback works");
    }

    assert_eq!(ask_bytes(bed.address, &status).header().rcode(), Rcode::NOTIMP);
    assert_eq!(ask_bytes(bed.address, cut).header().rcode(), Rcode::FORMERR);
    socket.set_nonblocking(true).expect("the loopback works");
    // The two answers above came after these questions, so an answer to them would be there.
    assert!(socket.recv(&mut [0; 512]).is_err(), "silence was promised");
}
