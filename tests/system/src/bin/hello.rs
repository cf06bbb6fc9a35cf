//! A small web server for tests, demo and benches: answers every request with its host name, over kept-alive connections.
//!
//! It knows three paths by their meaning: `/slow` waits 200 ms, `/exit` ends the process with code 3, and `/health`
//! answers 200 or, after `/sicken`, 503. Ends at once on SIGTERM, as most programs do; with `LAME_DUCK_MS` it goes on for so
//! long and closes every connection with its next answer, as programs do that lose no request.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};

/// Whether it was asked to end.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// Whether `/health` answers 503.
static SICK: AtomicBool = AtomicBool::new(false);

fn main() -> std::io::Result<()> {
    let port: u16 = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    // By IPv6, where IPv4 arrives, too; where the kernel has none, by IPv4.
    let everywhere: [SocketAddr; 2] = [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
    let listener = TcpListener::bind(everywhere.as_slice())?;
    end_on_sigterm()?;
    writeln!(std::io::stdout(), "{name} listens on port {port}")?;
    for stream in listener.incoming() {
        let (stream, name) = (stream?, name.clone());
        std::thread::Builder::new().stack_size(64 << 10).spawn(move || serve(stream, &name))?;
    }
    Ok(())
}

/// The first process of a container gets no signal that it does not ask for.
fn end_on_sigterm() -> std::io::Result<()> {
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    let lame_duck_ms = std::env::var("LAME_DUCK_MS").ok().and_then(|text| text.parse().ok());
    // Threads made from here on inherit the mask, so that the waiting one gets it.
    terminate.thread_block()?;
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let _signal = terminate.wait();
        if let Some(milliseconds) = lame_duck_ms {
            LEAVING.store(true, Ordering::Relaxed);
            #[expect(clippy::disallowed_methods, reason = "staying for a while is the purpose")]
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
        std::process::exit(0)
    })?;
    Ok(())
}

/// Answers the requests of one connection until it ends.
fn serve(stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(2048, stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let mut close = false;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
                break;
            }
            close |= line.to_ascii_lowercase().starts_with("connection: close");
        }
        let status = answer_to(&path);
        close |= LEAVING.load(Ordering::Relaxed);
        let connection = if close { "close" } else { "keep-alive" };
        let length = name.len() + 1;
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{name}\n");
        // In one piece: each write is a packet of its own.
        writer.write_all(answer.as_bytes())?;
        if close {
            return Ok(());
        }
    }
}

/// Does what the path means and gives the status line's text.
fn answer_to(path: &str) -> &'static str {
    match path {
        "/exit" => std::process::exit(3),
        "/slow" => {
            #[expect(clippy::disallowed_methods, reason = "being slow is this path's purpose")]
            std::thread::sleep(Duration::from_millis(200));
        }
        "/sicken" => SICK.store(true, Ordering::Relaxed),
        "/health" if SICK.load(Ordering::Relaxed) => return "503 Service Unavailable",
        _ => {}
    }
    "200 OK"
}
