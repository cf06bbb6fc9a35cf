//! Frames: how the bytes of a relay and the words about them share one stream. One byte says what it is, four say how many
//! bytes follow, the most significant first.

use std::fmt;

/// The most bytes that follow a head; a longer frame is a fault of the sender.
pub const FRAME_BYTES_MAX: usize = 128 << 10;
/// The bytes of a head.
const HEAD: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From the person, first: what is wanted, as JSON of [`super::RelayRequest`].
    Request,
    /// From the person: bytes for the other end.
    Data,
    /// From the person: there are no more bytes.
    End,
    /// From the person: JSON of [`super::TerminalSize`].
    Resize,
    /// To the person: bytes of the other end.
    Stdout,
    /// To the person: what a command writes to stderr.
    Stderr,
    /// To the person, last: JSON of [`super::RelayEnd`].
    Ended,
    /// To the person, last: JSON of [`crate::view::Problem`]; it broke off.
    Problem,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A stream that is not made of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The first byte means nothing.
    Kind(u8),
    /// It is longer than [`FRAME_BYTES_MAX`].
    Length(usize),
}

/// Puts frames together from whatever pieces arrive.
#[derive(Debug, Default)]
pub struct Frames {
    held: Vec<u8>,
}

const KINDS: [(Kind, u8); 8] = [
    (Kind::Request, 1),
    (Kind::Data, 2),
    (Kind::End, 3),
    (Kind::Resize, 4),
    (Kind::Stdout, 16),
    (Kind::Stderr, 17),
    (Kind::Ended, 18),
    (Kind::Problem, 19),
];

impl Frame {
    /// Gives the frame as it travels.
    ///
    /// # Panics
    /// When there are more than [`FRAME_BYTES_MAX`] bytes in it.
    #[must_use]
    pub fn encoded(kind: Kind, bytes: &[u8]) -> Vec<u8> {
        assert!(bytes.len() <= FRAME_BYTES_MAX, "a frame has at most {FRAME_BYTES_MAX} bytes");
        let length = u32::try_from(bytes.len()).expect("it was compared");
        let number = KINDS.iter().find(|(known, _)| *known == kind).map_or(0, |(_, number)| *number);
        let mut encoded = Vec::with_capacity(HEAD + bytes.len());
        encoded.push(number);
        encoded.extend_from_slice(&length.to_be_bytes());
        encoded.extend_from_slice(bytes);
        encoded
    }
}

impl Frames {
    /// Takes a piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
    }

    /// Whether part of a frame is held: the stream must not end here.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.held.is_empty()
    }

    /// Gives the next frame, if it is whole.
    ///
    /// # Errors
    /// When the stream is not made of frames; then nothing more can be read of it.
    pub fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(head) = self.held.first_chunk::<HEAD>() else { return Ok(None) };
        let [number, length @ ..] = *head;
        let kind = KINDS.iter().find(|(_, known)| *known == number).map(|(kind, _)| *kind);
        let kind = kind.ok_or(FrameError::Kind(number))?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::Length(length));
        }
        if self.held.len() < HEAD + length {
            return Ok(None);
        }
        let rest = self.held.split_off(HEAD + length);
        let mut bytes = std::mem::replace(&mut self.held, rest);
        bytes.drain(..HEAD);
        Ok(Some(Frame { kind, bytes }))
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(number) => write!(f, "a frame of kind {number} means nothing"),
            Self::Length(bytes) => write!(f, "a frame of {bytes} bytes is longer than {FRAME_BYTES_MAX}"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_from_pieces_of_any_size() {
        let sent: Vec<Frame> = KINDS
            .iter()
            .enumerate()
            .map(|(index, (kind, _))| Frame { kind: *kind, bytes: vec![7; index * 300] })
            .collect();
        let stream: Vec<u8> = sent.iter().flat_map(|frame| Frame::encoded(frame.kind, &frame.bytes)).collect();

        for size in [1, 4, 5, 6, 299, stream.len()] {
            let (mut frames, mut read) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                frames.push(piece);
                while let Some(frame) = frames.take().expect("frames") {
                    read.push(frame);
                }
            }
            assert_eq!(read, sent, "in pieces of {size}");
            assert!(!frames.is_partial());
        }
    }

    #[test]
    fn what_is_not_a_frame_is_an_error_before_it_is_held() {
        let read = |bytes: &[u8]| {
            let mut frames = Frames::default();
            frames.push(bytes);
            frames.take()
        };

        assert_eq!(read(&[1, 0, 0]), Ok(None));
        assert_eq!(read(&[0, 0, 0, 0, 0]), Err(FrameError::Kind(0)));
        assert_eq!(read(b"GET / HTTP/1.1"), Err(FrameError::Kind(b'G')));
        assert_eq!(read(&[2, 0, 2, 0, 1]), Err(FrameError::Length((128 << 10) + 1)));
    }
}
