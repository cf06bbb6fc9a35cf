//! A netlink socket: sends requests, reads acknowledgements and dumps.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
        sockopt,
    },
};

use crate::{
    Error,
    message::{Message, Requests, attribute, messages, text, u32_at},
};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const DUMP_INTERRUPTED: u16 = 0x10;
/// The header of an acknowledgement's payload: the error number and the header of the request.
const ERROR_HEADER_BYTES: usize = 20;
/// More than a table with 10,000 endpoints in one transaction needs.
const SEND_BUFFER_BYTES: usize = 16 << 20;
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// The kernel fills a datagram of a dump up to 32 KiB.
const DATAGRAM_BYTES: usize = 32 << 10;
/// A dump that others disturb is read again this often.
const DUMP_ATTEMPTS: usize = 5;

/// One message of a batch that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Which message of the batch, from 0.
    pub(crate) index: usize,
    /// The kernel's error number.
    pub(crate) errno: i32,
    /// What the kernel said besides, often nothing.
    pub(crate) detail: String,
    /// The attribute at fault, as an offset into the message.
    pub(crate) offset: Option<usize>,
}

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Opens a socket for one family of messages.
    pub(crate) fn open(protocol: SockProtocol) -> Result<Self, Error> {
        let Self { fd } = Self::listen(protocol, 0)?;
        // Without CAP_NET_ADMIN the sizes stay as they are and the first large batch says so.
        let _ = setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER_BYTES);
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            switch_on(&fd, option);
        }
        Ok(Self { fd })
    }

    /// Opens a socket that gets what the kernel tells these groups, a bit each.
    pub(crate) fn listen(protocol: SockProtocol, groups: u32) -> Result<Self, Error> {
        let refused = |source: Errno| Error::refused("open a netlink socket", source.into());
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map_err(refused)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(refused)?;
        Ok(Self { fd })
    }

    /// Reads everything that the kernel told since the last time; gives whether that was anything.
    pub(crate) fn heard(&self) -> Result<bool, Error> {
        let mut anything = false;
        self.drain(|_| anything = true)?;
        Ok(anything)
    }

    /// Sends all requests at once and gives what the kernel refused. It answers before `send` returns.
    pub(crate) fn send(&self, requests: &Requests) -> Result<Vec<Refusal>, Error> {
        self.write(requests)?;
        let mut refusals = Vec::new();
        self.drain(|message| {
            let code = (message.kind == ERROR).then(|| u32_at(message.payload, 0)).flatten().unwrap_or(0);
            if code != 0 {
                refusals.push(refusal(message, code));
            }
        })?;
        Ok(refusals)
    }

    /// Sends all requests; the first that is refused makes an error.
    pub(crate) fn demand(&self, requests: &Requests) -> Result<(), Error> {
        self.send(requests)?.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.into_error(requests)))
    }

    /// Sends one request and reads the one answer that is not an acknowledgement.
    pub(crate) fn ask<T>(
        &self,
        requests: &Requests,
        mut read: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        self.write(requests)?;
        let mut answer = None;
        let mut refused = None;
        self.drain(|message| match (message.kind, u32_at(message.payload, 0)) {
            (ERROR, Some(0)) => {}
            (ERROR, code) => refused = Some(refusal(message, code.unwrap_or(0))),
            _ => answer = read(message),
        })?;
        if let Some(refusal) = refused {
            return Err(refusal.into_error(requests));
        }
        answer.ok_or(Error::Answer { what: requests.what(0) })
    }

    /// Sends one dump request and collects what `read` makes of each answer. Starts over if others disturb it.
    pub(crate) fn dump<T>(
        &self,
        requests: &Requests,
        mut read: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(found) = self.dump_once(requests, &mut read)? {
                return Ok(found);
            }
        }
        Err(Error::refused(requests.what(0), Errno::EINTR.into()))
    }

    fn dump_once<T>(
        &self,
        requests: &Requests,
        read: &mut impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        self.write(requests)?;
        let mut found = Vec::new();
        let mut interrupted = false;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            let length = self.receive(&mut buffer, MsgFlags::empty())?.unwrap_or(0);
            for message in messages(&buffer[..length]) {
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    DONE => return Ok((!interrupted).then_some(found)),
                    ERROR => {
                        let code = u32_at(message.payload, 0).unwrap_or(0);
                        return Err(refusal(&message, code).into_error(requests));
                    }
                    _ => found.extend(read(&message)),
                }
            }
        }
    }

    /// Throws away what an earlier call left, then sends.
    fn write(&self, requests: &Requests) -> Result<(), Error> {
        self.drain(|_| {})?;
        send(self.fd.as_raw_fd(), requests.as_bytes(), MsgFlags::empty())
            .map_err(|errno| Error::refused(requests.what(0), errno.into()))?;
        Ok(())
    }

    fn drain(&self, mut read: impl FnMut(&Message<'_>)) -> Result<(), Error> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        while let Some(length) = self.receive(&mut buffer, MsgFlags::MSG_DONTWAIT)? {
            messages(&buffer[..length]).for_each(|message| read(&message));
        }
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8], flags: MsgFlags) -> Result<Option<usize>, Error> {
        loop {
            match recv(self.fd.as_raw_fd(), buffer, flags) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::refused("read the kernel's answer", errno.into())),
            }
        }
    }
}

impl Refusal {
    /// Makes the error that a person sees.
    pub(crate) fn into_error(self, requests: &Requests) -> Error {
        let detail = if self.detail.is_empty() { String::new() } else { format!(": {}", self.detail) };
        Error::Refused {
            what: requests.what(self.index).to_owned(),
            detail,
            source: io::Error::from_raw_os_error(self.errno),
        }
    }
}

fn refusal(message: &Message<'_>, code: u32) -> Refusal {
    let extra = message.payload.get(ERROR_HEADER_BYTES..).unwrap_or_default();
    Refusal {
        index: usize::try_from(message.sequence).unwrap_or(0).saturating_sub(1),
        errno: code.cast_signed().saturating_neg(),
        detail: attribute(extra, 1).map(text).unwrap_or_default().to_owned(),
        offset: attribute(extra, 2).and_then(|value| u32_at(value, 0)).and_then(|value| usize::try_from(value).ok()),
    }
}

/// Best effort: older kernels lack these options, and only error texts get shorter.
#[expect(unsafe_code, reason = "nix has no netlink socket options")]
fn switch_on(fd: &OwnedFd, option: libc::c_int) {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).expect("an int is 4 bytes");
    // SAFETY: the descriptor is open, and `on` lives across the call and is as long as said.
    unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), length);
    }
}
