//! Carries a client's bytes both ways: ends of one direction, resets and the other's slowness are passed on.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{self, copy_bidirectional_with_sizes},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

/// A connection between two nodes, whoever dialled.
pub(crate) type Connection = TlsStream<TcpStream>;

/// What is read at once in each direction, and so what a connection holds when one side is slower.
const BUFFER_BYTES: usize = 32 << 10;
/// After so long without a packet the kernel asks whether the other end is still there ...
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);
/// ... and asks again so often ...
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
/// ... before it gives up after so many that nobody answered.
const KEEP_ALIVE_TRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged.
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(30);

/// Makes a connection between nodes notice a dead end, by the kernel's own timers.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER).with_interval(KEEP_ALIVE_EVERY);
    socket.set_tcp_keepalive(&keep_alive.with_retries(KEEP_ALIVE_TRIES))?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT))
}

/// Carries until both directions ended. TLS says at its end that it is one: where it does not, the other end broke off, and the
/// client sees a reset, as it would without a tunnel.
pub(crate) async fn carry(mut plain: TcpStream, mut tunnel: Connection) {
    plain.set_nodelay(true).ok();
    if copy_bidirectional_with_sizes(&mut plain, &mut tunnel, BUFFER_BYTES, BUFFER_BYTES).await.is_err() {
        reset(plain);
    }
}

/// Breaks a connection off, so that its other end does not take that for the end of what was sent.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok();
}
