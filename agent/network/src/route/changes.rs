//! Whether links, addresses or routes of IPv6 changed since the last look, as the kernel tells whoever listens.

use nix::sys::socket::SockProtocol;

use crate::{Error, socket::Socket};

/// `RTMGRP_LINK`, `RTMGRP_IPV6_IFADDR` and `RTMGRP_IPV6_ROUTE`.
const GROUPS: u32 = 0x1 | 0x100 | 0x400;

/// An ear for changes, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Changes {
    socket: Socket,
}

impl Changes {
    /// Begins to listen.
    pub(crate) fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::listen(SockProtocol::NetlinkRoute, GROUPS)? })
    }

    /// Whether anything changed since this was asked last, our own changes included.
    pub(crate) fn any(&self) -> bool {
        // Where more changed than the kernel keeps for us, it says so by an error.
        self.socket.heard().unwrap_or(true)
    }
}
