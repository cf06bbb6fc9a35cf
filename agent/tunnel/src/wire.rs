//! What is said in a connection before it carries a client's bytes. Whoever dialled says first what the connection is for; it
//! then waits, and whoever may ask says once which instance is meant. All else is the client's.
//!
//! ```text
//! dialler ──▶ "WT" version purpose                        ──▶ answer
//! asker   ──▶ length instance address port client-address ──▶ answer ══ bytes, both ways
//! ```

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use api_types::id::InstanceId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What every connection begins with: two letters and the version.
const HEAD: [u8; 3] = *b"WT\x01";
/// The address, the port and the client's address after the instance's name.
const FIXED_BYTES: usize = 4 + 2 + 4;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Whoever dialled will ask.
    Ask,
    /// Whoever was dialled may ask.
    Offer,
}

/// What is answered to a purpose and to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Yes: the connection is kept; the instance is connected.
    Yes,
    /// The offer is not needed: this node can dial by itself, or asks nobody there.
    NotNeeded,
    /// The node is not one that this node speaks to.
    Stranger,
    /// No such instance, or port of it, is open to other sites here.
    Unknown,
    /// The instance does not admit who asks.
    NotAdmitted,
    /// The instance did not take the connection.
    Refused,
    /// There are too many connections.
    Full,
}

/// Which instance is asked, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Which instance.
    pub(crate) instance: InstanceId,
    /// Its address and port.
    pub(crate) place: SocketAddrV4,
    /// Who asks; 0.0.0.0 = the node itself.
    pub(crate) client: Ipv4Addr,
}

impl Answer {
    const ALL: [(Self, u8); 7] = [
        (Self::Yes, b'Y'),
        (Self::NotNeeded, b'N'),
        (Self::Stranger, b'S'),
        (Self::Unknown, b'U'),
        (Self::NotAdmitted, b'A'),
        (Self::Refused, b'R'),
        (Self::Full, b'F'),
    ];

    /// What it means, for people.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Yes => "it agrees",
            Self::NotNeeded => "it needs no connection from here",
            Self::Stranger => "it does not know this node as one of a site that a tunnel leads to",
            Self::Unknown => "no such instance is open to other sites there",
            Self::NotAdmitted => "the instance does not admit who asks",
            Self::Refused => "the instance did not take the connection",
            Self::Full => "it has too many connections",
        }
    }
}

/// Says what a connection is for, and reads the answer.
pub(crate) async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), purpose: Purpose) -> io::Result<Answer> {
    let [one, two, version] = HEAD;
    let purpose = match purpose {
        Purpose::Ask => b'A',
        Purpose::Offer => b'O',
    };
    stream.write_all(&[one, two, version, purpose]).await?;
    stream.flush().await?;
    read_answer(stream).await
}

/// Reads what a connection is for.
pub(crate) async fn read_purpose(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Purpose> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await?;
    match bytes {
        [one, two, version, b'A'] if [one, two, version] == HEAD => Ok(Purpose::Ask),
        [one, two, version, b'O'] if [one, two, version] == HEAD => Ok(Purpose::Offer),
        _ => Err(not_ours("a greeting")),
    }
}

/// Asks, and reads the answer.
pub(crate) async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), question: &Question) -> io::Result<Answer> {
    let name = question.instance.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(1 + name.len() + FIXED_BYTES);
    bytes.push(u8::try_from(name.len()).map_err(|_| not_ours("an instance's name"))?);
    bytes.extend(name);
    bytes.extend(question.place.ip().octets());
    bytes.extend(question.place.port().to_be_bytes());
    bytes.extend(question.client.octets());
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    read_answer(stream).await
}

/// Reads which instance is asked; waits for it as long as it takes.
pub(crate) async fn read_question(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Question> {
    let length = usize::from(stream.read_u8().await?);
    let mut bytes = vec![0; length + FIXED_BYTES];
    stream.read_exact(&mut bytes).await?;
    let (name, rest) = bytes.split_at(length);
    let name = std::str::from_utf8(name).ok().and_then(|name| InstanceId::new(name).ok());
    let [a, b, c, d, high, low, e, f, g, h] = *rest else { return Err(not_ours("a question")) };
    Ok(Question {
        instance: name.ok_or_else(|| not_ours("an instance's name"))?,
        place: SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])),
        client: Ipv4Addr::new(e, f, g, h),
    })
}

/// Writes an answer.
pub(crate) async fn answer(stream: &mut (impl AsyncWrite + Unpin), answer: Answer) -> io::Result<()> {
    let letter = Answer::ALL.iter().find(|(known, _)| *known == answer).map_or(b'?', |(_, letter)| *letter);
    stream.write_all(&[letter]).await?;
    stream.flush().await
}

async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
    let letter = stream.read_u8().await?;
    let known = Answer::ALL.iter().find(|(_, known)| *known == letter);
    known.map(|(answer, _)| *answer).ok_or_else(|| not_ours("an answer"))
}

fn not_ours(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} that means nothing in this version"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    fn question() -> Question {
        Question {
            instance: InstanceId::new("web-7").expect("a name"),
            place: "10.42.4.9:8080".parse().expect("an address"),
            client: Ipv4Addr::new(10, 42, 1, 2),
        }
    }

    #[tokio::test]
    async fn purposes_questions_and_answers_survive_the_wire() {
        let (mut near, mut far) = duplex(64);
        let other = tokio::spawn(async move {
            for (_, said) in [(); 7].iter().zip(Answer::ALL) {
                let read = (read_purpose(&mut far).await?, answer(&mut far, said.0).await?);
                assert_eq!(read.0, Purpose::Offer);
            }
            let asked = read_question(&mut far).await?;
            answer(&mut far, Answer::Yes).await?;
            io::Result::Ok(asked)
        });

        for (said, _) in Answer::ALL {
            assert_eq!(greet(&mut near, Purpose::Offer).await.expect("an answer"), said);
        }
        assert_eq!(ask(&mut near, &question()).await.expect("an answer"), Answer::Yes);

        assert_eq!(other.await.expect("it ends").expect("understood"), question());
    }

    #[tokio::test]
    async fn what_is_cut_or_of_another_version_is_refused() {
        let mut whole = duplex(256);
        let mut bytes = vec![5];
        bytes.extend(b"web-7");
        bytes.extend([10, 42, 4, 9, 31, 144, 10, 42, 1, 2]);
        whole.0.write_all(&bytes).await.expect("written");
        assert_eq!(read_question(&mut whole.1).await.expect("read"), question());

        for length in 0..bytes.len() {
            assert!(read_question(&mut &bytes[..length]).await.is_err(), "{length} bytes of it");
        }
        for greeting in [*b"WT\x02A", *b"XT\x01A", *b"WT\x01B"] {
            assert!(read_purpose(&mut greeting.as_slice()).await.is_err(), "{greeting:?}");
        }
    }
}
