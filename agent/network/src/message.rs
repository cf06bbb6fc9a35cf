//! Netlink's wire form (RFC 3549): requests with nested attributes, and the way back.

/// The bytes before the attributes: a netlink header of 16 bytes, then the family's own.
const HEADER_BYTES: usize = 16;
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// Requests that are sent as one, in order; the sequence number of each is its index plus one.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    starts: Vec<(usize, &'static str)>,
}

impl Requests {
    /// Appends one message; `what` names it in errors.
    pub(crate) fn push(
        &mut self,
        what: &'static str,
        (kind, flags): (u16, u16),
        family_header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        self.starts.push((start, what));
        let sequence = u32::try_from(self.starts.len()).expect("a batch holds far fewer than 2^32 messages");
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | flag::REQUEST).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(family_header);
        pad(&mut self.bytes);
        fill(&mut Attributes(&mut self.bytes));
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far shorter than 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// All messages, one after the other.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// What the message with this index is for.
    pub(crate) fn what(&self, index: usize) -> &'static str {
        self.starts.get(index).map_or("the batch", |(_, what)| what)
    }

    /// The bytes of one message from an offset that the kernel named.
    pub(crate) fn at(&self, index: usize, offset: usize) -> &[u8] {
        let start = self.starts.get(index).map_or(self.bytes.len(), |(start, _)| start + offset);
        self.bytes.get(start..).unwrap_or_default()
    }
}

/// The flags of a netlink header.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCLUSIVE: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}

/// Where attributes are appended.
#[derive(Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a mut Vec<u8>);

impl Attributes<'_> {
    /// Appends an attribute of plain bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.open_close(kind, |bytes| bytes.extend(value));
    }

    /// Appends a text with the closing zero that the kernel expects.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.open_close(kind, |bytes| {
            bytes.extend(value.as_bytes());
            bytes.push(0);
        });
    }

    /// Appends a number in network order, as netfilter has them.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends a number in the machine's order, as routing has them.
    pub(crate) fn native(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Appends an attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.open_close(kind | NESTED, |bytes| fill(&mut Attributes(bytes)));
    }

    /// Appends bytes that are no attribute: a header inside a nest, or attributes encoded before.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.0.extend(value);
    }

    fn open_close(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        fill(self.0);
        let length = u16::try_from(self.0.len() - start).expect("lists are cut so that an attribute fits 64 KiB");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        pad(self.0);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One message that the kernel sent.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// Its flags.
    pub(crate) flags: u16,
    /// The sequence number of the request.
    pub(crate) sequence: u32,
    /// All behind the netlink header.
    pub(crate) payload: &'a [u8],
}

/// Cuts what was received into messages; stops at the first that is cut short.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let payload = bytes.get(HEADER_BYTES..length)?;
        let message =
            Message { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, sequence: u32_at(bytes, 8)?, payload };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Cuts a payload into attributes, by kind; stops at the first that is cut short.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The attribute at the end of a path of nests.
pub(crate) fn nested<'a>(bytes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| attribute(bytes, *kind))
}

/// A text without its closing zero.
pub(crate) fn text(value: &[u8]) -> &str {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).unwrap_or_default()
}

/// A number in the machine's order.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// A short number in the machine's order.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// Bytes in hexadecimal, 32 to a row, for comparing with what is known to be right.
#[cfg(test)]
pub(crate) fn rows(bytes: &[u8]) -> Vec<String> {
    bytes.chunks(32).map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut requests = Requests::default();
        requests.push("a test", (7, flag::ACK), &[2, 0, 0, 0], |attributes| {
            attributes.text(1, "lo");
            attributes.nest(2, |inner| inner.number(3, 0x0102_0304));
        });

        let message = messages(requests.as_bytes()).next().expect("one message");
        assert_eq!((message.kind, message.flags, message.sequence), (7, flag::ACK | flag::REQUEST, 1));
        assert_eq!(attribute(&message.payload[4..], 1).map(text), Some("lo"));
        assert_eq!(nested(&message.payload[4..], &[2, 3]), Some([1, 2, 3, 4].as_slice()));
    }

    #[test]
    fn an_answer_cut_short_ends_the_reading() {
        let mut requests = Requests::default();
        requests.push("a test", (7, 0), &[], |attributes| attributes.text(1, "eth0"));
        let whole = requests.as_bytes();

        for end in 0..whole.len() {
            assert_eq!(messages(&whole[..end]).count(), 0, "{end} bytes");
        }
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0);
    }
}
