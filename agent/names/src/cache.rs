//! Answers of other servers, kept for as long as they allow, and longer while nobody answers.

use std::{collections::HashMap, time::Duration};

use domain::base::{Message, Rtype, iana::Rcode};
use tokio::time::Instant;

/// The most answers that are kept.
const ANSWERS_MAX: usize = 1_024;

/// The largest answer that is kept, in bytes.
const ANSWER_BYTES_MAX: usize = 4_096;

/// The longest that an answer is taken for fresh, in seconds.
const TTL_MAX: u32 = 300;

/// The longest that "there is no such name" is taken for fresh, in seconds.
const NEGATIVE_TTL_MAX: u32 = 30;

/// How long an answer may be given after its time while no server answers (RFC 8767 §5).
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The lifetime that such an answer is given, in seconds (RFC 8767 §5.2: 30 or less).
const STALE_TTL: u32 = 5;

/// Bytes of a header (RFC 1035 §4.1.1).
const HEADER_BYTES: usize = 12;

/// What is asked for, without the identifier of whoever asks, in lower case.
pub(crate) type Key = Vec<u8>;

#[derive(Debug)]
struct Kept {
    answer: Vec<u8>,
    /// Where the lifetimes stand in it.
    lifetimes: Vec<usize>,
    kept_at: Instant,
    fresh_until: Instant,
}

/// The answers that are kept.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    answers: HashMap<Key, Kept>,
}

/// The key of a request; `None` = its answer is not to be kept.
pub(crate) fn key(request: &[u8]) -> Option<Key> {
    let message = Message::from_octets(request).ok()?;
    let question = message.sole_question().ok()?;
    let flags = message.opt().map(|opt| opt.dnssec_ok());
    let header = message.header();
    let mut key = question.qname().to_string().to_ascii_lowercase().into_bytes();
    key.extend(question.qtype().to_int().to_be_bytes());
    key.extend(question.qclass().to_int().to_be_bytes());
    key.extend([
        u8::from(flags.is_some()),
        u8::from(flags == Some(true)),
        u8::from(header.cd()),
        u8::from(header.rd()),
    ]);
    Some(key)
}

impl Cache {
    /// Keeps an answer, if it says for how long.
    pub(crate) fn keep(&mut self, key: Key, answer: &[u8], now: Instant) {
        let Some((seconds, lifetimes)) = lifetime(answer).filter(|_| answer.len() <= ANSWER_BYTES_MAX) else { return };
        if self.answers.len() >= ANSWERS_MAX && !self.answers.contains_key(&key) {
            self.make_room(now);
        }
        let fresh_until = now + Duration::from_secs(seconds.into());
        self.answers.insert(key, Kept { answer: answer.to_vec(), lifetimes, kept_at: now, fresh_until });
    }

    /// A fresh answer to this request.
    pub(crate) fn fresh(&self, key: &Key, request: &[u8], now: Instant) -> Option<Vec<u8>> {
        let kept = self.answers.get(key).filter(|kept| now < kept.fresh_until)?;
        let age = u32::try_from(now.duration_since(kept.kept_at).as_secs()).unwrap_or(u32::MAX);
        Some(kept.given(request, |seconds| seconds.saturating_sub(age).max(1)))
    }

    /// An answer whose time is over, for when nobody else answers.
    pub(crate) fn stale(&self, key: &Key, request: &[u8], now: Instant) -> Option<Vec<u8>> {
        let kept = self.answers.get(key).filter(|kept| now < kept.fresh_until + STALE_MAX)?;
        Some(kept.given(request, |_| STALE_TTL))
    }

    /// Forgets what is over; if all is fresh, what is over next.
    fn make_room(&mut self, now: Instant) {
        self.answers.retain(|_, kept| now < kept.fresh_until);
        if self.answers.len() >= ANSWERS_MAX {
            let next = self.answers.iter().min_by_key(|(_, kept)| kept.fresh_until).map(|(key, _)| key.clone());
            next.map(|key| self.answers.remove(&key));
        }
    }
}

impl Kept {
    /// The answer with the identifier and the spelling of the question of whoever asks now.
    fn given(&self, request: &[u8], seconds: impl Fn(u32) -> u32) -> Vec<u8> {
        let mut answer = self.answer.clone();
        answer[..2].copy_from_slice(&request[..2]);
        for &at in &self.lifetimes {
            let field = &mut answer[at..at + 4];
            let before = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
            field.copy_from_slice(&seconds(before).to_be_bytes());
        }
        spell_as(&mut answer, request);
        answer
    }
}

/// Writes the question's name as whoever asks spelt it: some look whether it comes back so (draft-vixie-dnsext-dns0x20).
fn spell_as(answer: &mut [u8], request: &[u8]) {
    let (Some(end), Some(other)) = (skip_name(answer, HEADER_BYTES), skip_name(request, HEADER_BYTES)) else { return };
    if end == other {
        answer[HEADER_BYTES..end].copy_from_slice(&request[HEADER_BYTES..end]);
    }
}

/// For how many seconds an answer is fresh, and where its lifetimes stand; `None` = it is not to be kept.
fn lifetime(answer: &[u8]) -> Option<(u32, Vec<usize>)> {
    let message = Message::from_octets(answer).ok()?;
    let header = message.header();
    let negative = header.rcode() == Rcode::NXDOMAIN || message.header_counts().ancount() == 0;
    if header.tc() || !matches!(header.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN) {
        return None;
    }
    let counts = message.header_counts();
    let mut at = HEADER_BYTES;
    for _ in 0..counts.qdcount() {
        at = skip_name(answer, at)? + 4;
    }
    let (mut least, mut lifetimes) = (None, Vec::new());
    for _ in 0..u32::from(counts.ancount()) + u32::from(counts.nscount()) + u32::from(counts.arcount()) {
        at = skip_name(answer, at)?;
        let fixed = answer.get(at..at + 10)?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        // What stands where a lifetime would in an OPT record are flags.
        if u16::from_be_bytes([fixed[0], fixed[1]]) != Rtype::OPT.to_int() {
            let seconds = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
            least = Some(least.map_or(seconds, |least: u32| least.min(seconds)));
            lifetimes.push(at + 4);
        }
        at += 10 + length;
    }
    (at <= answer.len()).then_some(())?;
    // Without any record nobody says for how long.
    let seconds = least?.min(if negative { NEGATIVE_TTL_MAX } else { TTL_MAX });
    (seconds > 0).then_some((seconds, lifetimes))
}

/// Where a name ends that begins at `at`: it may end in a pointer (RFC 1035 §4.1.4).
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length if length < 0x40 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        base::{MessageBuilder, Name, Ttl, iana::Class},
        rdata::A,
    };

    use super::*;

    fn request(name: &str, id: u16) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec().question();
        builder.header_mut().set_id(id);
        builder.push((name.parse::<Name<Vec<u8>>>().unwrap(), Rtype::A)).unwrap();
        builder.finish()
    }

    fn answer(request: &[u8], seconds: u32) -> Vec<u8> {
        let request = Message::from_octets(request).unwrap();
        let mut builder = MessageBuilder::new_vec().start_answer(&request, Rcode::NOERROR).unwrap();
        let name = request.sole_question().unwrap().qname().to_string().parse::<Name<Vec<u8>>>().unwrap();
        builder.push((name, Class::IN, Ttl::from_secs(seconds), A::new([192, 0, 2, 1].into()))).unwrap();
        builder.finish()
    }

    fn seconds_in(answer: &[u8]) -> u32 {
        let message = Message::from_octets(answer).unwrap();
        message.answer().unwrap().next().unwrap().unwrap().ttl().as_secs()
    }

    #[test]
    fn an_answer_is_given_for_its_time_and_grows_old_meanwhile() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let (first, second) = (request("example.com", 1), request("eXample.com", 2));
        cache.keep(key(&first).unwrap(), &answer(&first, 60), now);

        let given = cache.fresh(&key(&second).unwrap(), &second, now + Duration::from_secs(20)).unwrap();

        assert_eq!(seconds_in(&given), 40);
        assert!(
            Message::from_octets(given.as_slice())
                .unwrap()
                .is_answer(&Message::from_octets(second.as_slice()).unwrap())
        );
        assert_eq!(&given[12..24], &second[12..24]);
        assert_eq!(cache.fresh(&key(&second).unwrap(), &second, now + Duration::from_secs(60)), None);
    }

    #[test]
    fn an_answer_whose_time_is_over_stands_in_while_nobody_answers() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let request = request("example.com", 1);
        cache.keep(key(&request).unwrap(), &answer(&request, 60), now);

        let late = now + Duration::from_secs(3600);

        assert_eq!(seconds_in(&cache.stale(&key(&request).unwrap(), &request, late).unwrap()), STALE_TTL);
        assert_eq!(cache.stale(&key(&request).unwrap(), &request, now + 2 * STALE_MAX), None);
    }

    #[test]
    fn the_cache_has_a_bound() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..2 * ANSWERS_MAX {
            let request = request(&format!("n{number}.example.com"), 1);
            cache.keep(key(&request).unwrap(), &answer(&request, 60), now);
        }

        assert_eq!(cache.answers.len(), ANSWERS_MAX);
    }

    #[test]
    fn what_is_cut_short_anywhere_is_never_kept_and_harms_nobody() {
        let request = request("example.com", 1);
        let whole = answer(&request, 60);

        assert!(lifetime(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(lifetime(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(lifetime(&answer(&request, 0)), None);
    }
}
