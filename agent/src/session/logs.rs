//! Lines of instances that people asked for: from containerd's files to the `Logs` rpc, a bounded piece at a time.

use std::{collections::BTreeMap, sync::Arc};

use agent_containerd::Containerd;
use api_types::{counter::RequestId, view::LogLine};
use proto::{
    limits::{LOG_CHUNK_BYTES, LOGS_PER_NODE_MAX},
    session::{LogChunk, OpenLogs},
    v1,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};
use tokio_stream::wrappers::ReceiverStream;

use super::connector::Dispatcher;

/// Requests that may wait for a stream.
const REQUESTS_MAX: usize = 64;
/// Lines between containerd's files and the wire.
const LINES_MAX: usize = 256;
/// Chunks between this agent and the wire.
const CHUNKS_MAX: usize = 2;

/// The open requests of one session.
#[derive(Debug)]
pub(crate) struct LogStreams {
    open: BTreeMap<RequestId, AbortHandle>,
    permits: Arc<Semaphore>,
}

impl LogStreams {
    pub(crate) fn new() -> Self {
        Self { open: BTreeMap::new(), permits: Arc::new(Semaphore::new(LOGS_PER_NODE_MAX)) }
    }

    /// Begins to send what was asked for.
    pub(crate) fn open(&mut self, dispatcher: Dispatcher, containerd: Containerd, wanted: OpenLogs) {
        self.open.retain(|_, stream| !stream.is_finished());
        if self.open.len() >= REQUESTS_MAX {
            tracing::warn!(request = wanted.request.0, "too many open log requests: one is refused");
            return;
        }
        let (request, permits) = (wanted.request, self.permits.clone());
        let stream = tokio::spawn(async move {
            let _permit = permits.acquire_owned().await;
            send(dispatcher, &containerd, &wanted).await;
        });
        self.open.insert(request, stream.abort_handle());
    }

    /// Nobody reads these any more.
    pub(crate) fn close(&mut self, request: RequestId) {
        if let Some(stream) = self.open.remove(&request) {
            stream.abort();
        }
    }
}

impl Drop for LogStreams {
    fn drop(&mut self) {
        for stream in self.open.values() {
            stream.abort();
        }
    }
}

async fn send(mut dispatcher: Dispatcher, containerd: &Containerd, wanted: &OpenLogs) {
    let (line_sender, lines) = mpsc::channel(LINES_MAX);
    let (chunk_sender, chunks) = mpsc::channel(CHUNKS_MAX);
    let tail = usize::try_from(wanted.tail).ok();
    let OpenLogs { instance, container, follow, .. } = wanted;
    let reading = containerd.logs(instance, container.as_ref(), tail, *follow, line_sender);
    let gathering = gather(lines, chunk_sender.clone(), wanted);
    let told = async {
        // The first chunk says which request this is, before there is any line; the rpc may be over already.
        chunk_sender.send(chunk(wanted, Vec::new(), String::new())).await.ok();
        let (read, ()) = tokio::join!(reading, gathering);
        if let Err(error) = read {
            // The rpc may be over already; then nobody asks for the reason.
            chunk_sender.send(chunk(wanted, Vec::new(), error.to_string())).await.ok();
        }
        drop(chunk_sender);
    };
    let calling = dispatcher.logs(ReceiverStream::new(chunks));
    tokio::pin!(told, calling);
    // When the call ends first, the rest is dropped with this future.
    tokio::select! {
        called = &mut calling => log_end(called),
        () = &mut told => log_end(calling.await),
    }
}

fn log_end(called: Result<tonic::Response<v1::LogsDone>, tonic::Status>) {
    if let Err(status) = called {
        tracing::debug!(%status, "a log stream ended");
    }
}

/// Puts lines together to chunks: all that are there at a moment, up to a size.
async fn gather(mut lines: mpsc::Receiver<LogLine>, chunks: mpsc::Sender<v1::LogChunk>, wanted: &OpenLogs) {
    let mut waiting = Vec::new();
    while lines.recv_many(&mut waiting, LINES_MAX).await > 0 {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for line in waiting.drain(..) {
            bytes += line.text.len();
            part.push(line);
            if bytes >= LOG_CHUNK_BYTES {
                bytes = 0;
                if chunks.send(chunk(wanted, std::mem::take(&mut part), String::new())).await.is_err() {
                    return;
                }
            }
        }
        if !part.is_empty() && chunks.send(chunk(wanted, part, String::new())).await.is_err() {
            return;
        }
    }
}

fn chunk(wanted: &OpenLogs, lines: Vec<LogLine>, error: String) -> v1::LogChunk {
    LogChunk { request: wanted.request, instance: wanted.instance.clone(), lines, error }.into()
}

#[cfg(test)]
mod tests {
    use api_types::{id::InstanceId, time::Timestamp};

    use super::*;

    #[tokio::test]
    async fn lines_travel_in_order_in_chunks_of_a_bounded_size() {
        let instance = InstanceId::new("web-1").expect("a name");
        let wanted =
            OpenLogs { request: RequestId(7), instance: instance.clone(), container: None, tail: 9, follow: false };
        let (line_sender, lines) = mpsc::channel(LINES_MAX);
        let (chunk_sender, mut chunks) = mpsc::channel(100);
        for index in 0..LINES_MAX {
            let text = format!("{index} {}", "x".repeat(4000));
            let (at, stream) = (Timestamp(1), "stdout".to_owned());
            line_sender.try_send(LogLine { instance: instance.clone(), at, stream, text }).expect("room");
        }
        drop(line_sender);

        gather(lines, chunk_sender, &wanted).await;

        let mut next = 0;
        while let Some(chunk) = chunks.recv().await {
            assert!(chunk.request == 7 && chunk.error.is_empty());
            assert!(chunk.lines.iter().map(|line| line.text.len()).sum::<usize>() < LOG_CHUNK_BYTES + 5000);
            for line in chunk.lines {
                assert!(line.text.starts_with(&format!("{next} ")));
                next += 1;
            }
        }
        assert_eq!(next, LINES_MAX);
    }
}
