//! `wherry port-forward`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use api_client::{Client, ClientError};
use api_types::{
    id::InstanceId,
    relay::{RelayInput, RelayOutput, RelayPurpose, RelayRequest, RelayTarget},
};
use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::mpsc,
};

use crate::{
    commands::{Session, name},
    failure::Failure,
};

/// Bytes that are read of a connection at once.
const PIECE_BYTES: usize = 16 << 10;
/// Words about connections that wait to be said.
const WORDS_MAX: usize = 16;

/// Listen here and pass connections on to a port of an instance
///
/// To its loopback address, through the agent's own connection: the node needs no open port. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(crate) struct PortForward {
    /// The instance
    #[arg(value_parser = name::<InstanceId>)]
    instance: InstanceId,
    /// The port here and the port there; 0 here takes any that is free
    #[arg(required = true, value_name = "LOCAL:REMOTE", value_parser = ports)]
    ports: Vec<(u16, u16)>,
    /// Where to listen; who may connect there may speak with the instance
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &PortForward) -> Result<(), Failure> {
    let client = session.client()?;
    // Whether there is such an instance is better known now than at the first connection.
    client.describe_instance(&arguments.instance).await?;
    let (words, mut said) = mpsc::channel(WORDS_MAX);
    for (local, remote) in &arguments.ports {
        let address = SocketAddr::new(arguments.address, *local);
        let refused = |error| Failure::Other(format!("cannot listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        session.screen.data(&format!("{bound} leads to port {remote} of {}", arguments.instance));
        let purpose = RelayPurpose::PortForward { port: *remote };
        let request = RelayRequest { target: RelayTarget::Instance(arguments.instance.clone()), purpose };
        tokio::spawn(accept(listener, client.clone(), request, words.clone()));
    }
    drop(words);
    while let Some(word) = said.recv().await {
        session.screen.say(&word);
    }
    Ok(())
}

async fn accept(listener: TcpListener, client: Client, request: RelayRequest, words: mpsc::Sender<String>) {
    loop {
        match listener.accept().await {
            Ok((connection, from)) => {
                let (client, request, words) = (client.clone(), request.clone(), words.clone());
                tokio::spawn(async move {
                    if let Err(reason) = forward(connection, &client, &request).await {
                        words.send(format!("connection from {from}: {reason}")).await.ok();
                    }
                });
            }
            Err(error) => {
                words.send(format!("cannot accept connections any more: {error}")).await.ok();
                return;
            }
        }
    }
}

/// Passes both directions on until the instance closes its own, or this end breaks.
async fn forward(connection: TcpStream, client: &Client, request: &RelayRequest) -> Result<(), String> {
    let told = |error: ClientError| match error.hint() {
        "" => error.to_string(),
        hint => format!("{error} ({hint})"),
    };
    let (writer, mut reader) = client.relay(request).await.map_err(told)?;
    // Small pieces are worth nothing if they wait; a socket that refuses works all the same.
    connection.set_nodelay(true).ok();
    let (reading, mut writing) = connection.into_split();
    let sending = async {
        send(reading, &writer).await;
        std::future::pending::<()>().await;
    };
    let receiving = async {
        loop {
            match reader.next().await {
                Ok(RelayOutput::Stdout(bytes) | RelayOutput::Stderr(bytes)) => {
                    if writing.write_all(&bytes).await.is_err() {
                        // The one who connected is gone.
                        return Ok(());
                    }
                }
                Ok(RelayOutput::Ended(end)) if end.reason.is_empty() => return Ok(()),
                Ok(RelayOutput::Ended(end)) => return Err(end.reason),
                Err(error) => return Err(told(error)),
            }
        }
    };
    // Both arms are cancel-safe: what ends here ends the connection.
    tokio::select! {
        ended = receiving => ended,
        () = sending => Ok(()),
    }
}

async fn send(mut reading: OwnedReadHalf, writer: &api_client::RelayWriter) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = reading.read(&mut piece).await {
        if !writer.send(RelayInput::Data(piece[..length].to_vec())).await {
            return;
        }
    }
    writer.send(RelayInput::End).await;
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let wanted = || "write LOCAL:REMOTE, such as 8080:80".to_owned();
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let (local, remote): (u16, u16) = (local.parse().map_err(|_| wanted())?, remote.parse().map_err(|_| wanted())?);
    if remote == 0 { Err(wanted()) } else { Ok((local, remote)) }
}
