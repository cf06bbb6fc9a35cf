//! A small web server for tests, demo and benches: answers every request with its host name, over kept-alive connections, and every
//! datagram to the same port.
//!
//! It knows three paths by their meaning: `/slow` waits 200 ms, `/exit` ends the process with code 3, and `/health`
//! answers 200 or, after `/sicken`, 503. Ends at once on SIGTERM, as most programs do; with `LAME_DUCK_MS` it goes on for so
//! long and closes every connection with its next answer, as programs do that lose no request.
//!
//! One acceptor for each processor, each with a socket and a thread of its own: where balancing is measured, the server must
//! not be what is slow.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// Whether it was asked to end.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// Whether `/health` answers 503.
static SICK: AtomicBool = AtomicBool::new(false);

/// How many connections wait for each acceptor.
const BACKLOG: u32 = 1024;

/// The longest request that is read.
const REQUEST_BYTES_MAX: usize = 64 << 10;

fn main() -> io::Result<()> {
    let port: u16 = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    end_on_sigterm()?;
    let mut acceptors = Vec::new();
    for _ in 0..thread::available_parallelism()?.get() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(async { listen(port) })?;
        let name: &'static str = name.clone().leak();
        acceptors.push(thread::spawn(move || runtime.block_on(accept(listener, name))));
    }
    answer_datagrams(port, name.clone())?;
    writeln!(io::stdout(), "{name} listens on port {port}")?;
    acceptors
        .into_iter()
        .try_for_each(|acceptor| acceptor.join().map_err(|_| io::Error::other("an acceptor panicked"))?)
}

/// Listens beside the other acceptors: by IPv6, where IPv4 arrives, too; where the kernel has none, by IPv4.
fn listen(port: u16) -> io::Result<TcpListener> {
    let at = |socket: io::Result<TcpSocket>, address: SocketAddr| {
        let socket = socket?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    at(TcpSocket::new_v6(), (Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| at(TcpSocket::new_v4(), (Ipv4Addr::UNSPECIFIED, port).into()))
}

/// Answers datagrams, beside everything else.
fn answer_datagrams(port: u16, name: String) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port));
    let socket = socket.or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let mut buffer = [0; 64];
        loop {
            // What a client did not get it asks again.
            if let Ok((_, client)) = socket.recv_from(&mut buffer) {
                socket.send_to(name.as_bytes(), client).ok();
            }
        }
    })?;
    Ok(())
}

/// The first process of a container gets no signal that it does not ask for.
fn end_on_sigterm() -> io::Result<()> {
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    let lame_duck_ms = std::env::var("LAME_DUCK_MS").ok().and_then(|text| text.parse().ok());
    // Threads made from here on inherit the mask, so that the waiting one gets it.
    terminate.thread_block()?;
    thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let _signal = terminate.wait();
        if let Some(milliseconds) = lame_duck_ms {
            LEAVING.store(true, Ordering::Relaxed);
            #[expect(clippy::disallowed_methods, reason = "staying for a while is the purpose")]
            thread::sleep(Duration::from_millis(milliseconds));
        }
        std::process::exit(0)
    })?;
    Ok(())
}

async fn accept(listener: TcpListener, name: &'static str) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        // A client that hangs up is no failure of the server.
        drop(tokio::spawn(serve(stream, name)));
    }
}

/// Answers the requests of one connection until it ends.
async fn serve(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::with_capacity(2048);
    loop {
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else {
            if read.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head: Vec<u8> = read.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head);
        let path = head.split(' ').nth(1).unwrap_or("/");
        let asks_to_close = |line: &str| line.to_ascii_lowercase().starts_with("connection: close");
        let status = answer_to(path).await;
        let close = head.lines().any(asks_to_close) || LEAVING.load(Ordering::Relaxed);
        let connection = if close { "close" } else { "keep-alive" };
        let length = name.len() + 1;
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{name}\n");
        // In one piece: each write is a packet of its own.
        stream.write_all(answer.as_bytes()).await?;
        if close {
            return Ok(());
        }
    }
}

/// Does what the path means and gives the status line's text.
async fn answer_to(path: &str) -> &'static str {
    match path {
        "/exit" => std::process::exit(3),
        "/slow" => tokio::time::sleep(Duration::from_millis(200)).await,
        "/sicken" => SICK.store(true, Ordering::Relaxed),
        "/health" if SICK.load(Ordering::Relaxed) => return "503 Service Unavailable",
        _ => {}
    }
    "200 OK"
}
