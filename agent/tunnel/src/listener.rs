//! The end that other nodes dial.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::answer,
    carry::tune,
    tunnel::Shared,
    wire::{self, Answer, Purpose, read_purpose},
};

/// How long a handshake may take, and the first word after it.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// How long accepting rests when the process has no file descriptor left.
const REST: Duration = Duration::from_millis(100);
/// How often a port that cannot be had is tried again.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// Listens until the token is cancelled; says what hinders it.
pub(crate) async fn listen(shared: Arc<Shared>, place: SocketAddr, token: CancellationToken) {
    loop {
        let ended = tokio::select! {
            () = token.cancelled() => return,
            ended = accept(&shared, place) => ended,
        };
        let Err(error) = ended else { return };
        shared.not_listening(Some(format!("TCP port {}: {error}", place.port())));
        tokio::select! {
            () = token.cancelled() => return,
            () = sleep(TRY_EVERY) => {}
        }
    }
}

async fn accept(shared: &Arc<Shared>, place: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(place).await?;
    shared.not_listening(None);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => match shared.room_to_be_dialled() {
                Some(room) => {
                    let shared = Arc::clone(shared);
                    drop(tokio::spawn(async move {
                        welcome(&shared, stream).await;
                        drop(room);
                    }));
                }
                None => tracing::warn!(%from, "too many nodes dial at once"),
            },
            Err(error) => {
                tracing::debug!(%error, "a node could not be accepted");
                sleep(REST).await;
            }
        }
    }
}

async fn welcome(shared: &Arc<Shared>, stream: TcpStream) {
    if tune(&stream).is_err() {
        return;
    }
    let identity = shared.identity();
    let acceptor = TlsAcceptor::from(identity.server.clone());
    let Ok(Ok(stream)) = timeout(STEP_LIMIT, acceptor.accept(stream)).await else { return };
    let Some(node) = identity.other(stream.get_ref().1) else { return };
    let mut connection = TlsStream::Server(stream);
    let Ok(Ok(purpose)) = timeout(STEP_LIMIT, read_purpose(&mut connection)).await else { return };
    // A node that was removed is in no plan.
    let said = match purpose {
        _ if shared.token_of(&node).is_none() => Answer::Stranger,
        Purpose::Ask => Answer::Yes,
        Purpose::Offer if shared.way(&node).is_some_and(|way| way.needs_offers()) => Answer::Yes,
        Purpose::Offer => Answer::NotNeeded,
    };
    let call = match (said, purpose) {
        (Answer::Yes, Purpose::Ask) => match shared.call(&node) {
            Some(call) => Some(call),
            None => return drop(timeout(STEP_LIMIT, wire::answer(&mut connection, Answer::Full)).await),
        },
        _ => None,
    };
    if !matches!(timeout(STEP_LIMIT, wire::answer(&mut connection, said)).await, Ok(Ok(()))) {
        return;
    }
    match (said, purpose) {
        (Answer::Yes, Purpose::Ask) => answer(Arc::clone(shared), node, connection, || {}).await,
        (Answer::Yes, Purpose::Offer) => {
            if let Some(way) = shared.way(&node) {
                way.pool.add(connection);
            }
        }
        _ => drop(timeout(STEP_LIMIT, connection.shutdown()).await),
    }
    drop(call);
}
