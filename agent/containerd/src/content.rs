//! containerd's content store: blobs in, blobs out, and the labels that keep them.

use std::collections::HashMap;

use bytes::Bytes;
use containerd_client::services::v1::{
    AbortRequest, Info, ReadContentRequest, UpdateRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use prost_types::FieldMask;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    connection::{Connection, LONG, Lease, SHORT, STREAM_ENDED, is_absent, is_present},
    documents::{DOCUMENT_BYTES_MAX, Descriptor},
    error::Error,
};

/// Bytes in one message: large enough to cost little, small enough for an agent of a few MiB.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

pub(crate) type Labels = HashMap<String, String>;

/// A blob being written; dropped before [`Ingest::commit`] it can be taken up again where it stopped.
pub(crate) struct Ingest<'a> {
    connection: &'a Connection,
    requests: mpsc::Sender<WriteContentRequest>,
    responses: Streaming<WriteContentResponse>,
    reference: String,
    descriptor: &'a Descriptor,
    /// Bytes that are there already.
    pub(crate) offset: u64,
}

impl Connection {
    /// Begins a blob or takes it up again; `None` when it is there already.
    pub(crate) async fn ingest<'a>(
        &'a self,
        lease: &Lease,
        descriptor: &'a Descriptor,
    ) -> Result<Option<Ingest<'a>>, Error> {
        let failed = self.failed("to write content");
        let (requests, receiver) = mpsc::channel(1);
        // The name that containerd's own clients use, so that two of them never write one blob at once.
        let reference = format!("layer-{}", descriptor.digest);
        let total = as_length(descriptor.size);
        let first = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: reference.clone(),
            total,
            expected: descriptor.digest.clone(),
            ..WriteContentRequest::default()
        };
        requests.try_send(first).expect("the channel is empty and has room for one");
        let answer = self.content().write(self.leased(ReceiverStream::new(receiver), lease)).await;
        let mut responses = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) if is_present(&status) => return Ok(None),
            Err(status) => return Err(failed(status)),
        };
        match responses.message().await {
            Ok(Some(response)) => {
                let offset = u64::try_from(response.offset).unwrap_or(0);
                Ok(Some(Ingest { connection: self, requests, responses, reference, descriptor, offset }))
            }
            Ok(None) => Err(failed(Status::unknown(STREAM_ENDED))),
            Err(status) if is_present(&status) => Ok(None),
            Err(status) => Err(failed(status)),
        }
    }

    /// Writes a small blob at once, or only its labels where it is there already.
    pub(crate) async fn write_blob(
        &self,
        lease: &Lease,
        descriptor: &Descriptor,
        bytes: Bytes,
        labels: Labels,
    ) -> Result<(), Error> {
        if let Some(mut ingest) = self.ingest(lease, descriptor).await? {
            let rest = bytes.slice(usize::try_from(ingest.offset).unwrap_or(0).min(bytes.len())..);
            for start in (0..rest.len()).step_by(CHUNK_BYTES) {
                ingest.write(rest.slice(start..rest.len().min(start + CHUNK_BYTES))).await?;
            }
            if ingest.commit(labels.clone()).await? {
                return Ok(());
            }
        }
        self.label_blob(&descriptor.digest, labels).await
    }

    /// Sets labels of a blob, leaving its others as they are.
    pub(crate) async fn label_blob(&self, digest: &str, labels: Labels) -> Result<(), Error> {
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Info { digest: digest.to_owned(), labels, ..Info::default() };
        let update = UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) };
        let answer = self.content().update(self.request(update, SHORT)).await;
        answer.map(|_| ()).map_err(self.failed("to label content"))
    }

    /// Reads a document; `None` when it is not there. A blob above [`DOCUMENT_BYTES_MAX`] is no document.
    pub(crate) async fn read_document(&self, digest: &str) -> Result<Option<Vec<u8>>, Error> {
        let request = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let failed = self.failed("to read content");
        let mut stream = match self.content().read(self.request(request, LONG)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if is_absent(&status) => return Ok(None),
            Err(status) => return Err(failed(status)),
        };
        let mut document = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(part)) => document.extend_from_slice(&part.data),
                Ok(None) => return Ok(Some(document)),
                Err(status) if is_absent(&status) => return Ok(None),
                Err(status) => return Err(failed(status)),
            }
            if as_size(document.len()) > DOCUMENT_BYTES_MAX {
                return Err(failed(Status::out_of_range(format!("{digest} is too large for a document"))));
            }
        }
    }
}

impl Ingest<'_> {
    /// Appends bytes, at most [`CHUNK_BYTES`] at once.
    pub(crate) async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        let length = as_size(data.len());
        let answer = self
            .exchange(WriteContentRequest {
                action: WriteAction::Write.into(),
                r#ref: self.reference.clone(),
                total: as_length(self.descriptor.size),
                expected: self.descriptor.digest.clone(),
                offset: as_length(self.offset),
                data: data.into(),
                ..WriteContentRequest::default()
            })
            .await;
        answer.map_err(self.connection.failed("to write content"))?;
        self.offset += length;
        Ok(())
    }

    /// Ends the blob; containerd verifies size and digest. `false` when another was first.
    pub(crate) async fn commit(mut self, labels: Labels) -> Result<bool, Error> {
        let answer = self
            .exchange(WriteContentRequest {
                action: WriteAction::Commit.into(),
                r#ref: self.reference.clone(),
                total: as_length(self.descriptor.size),
                expected: self.descriptor.digest.clone(),
                offset: as_length(self.offset),
                labels,
                ..WriteContentRequest::default()
            })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(status) if is_present(&status) => Ok(false),
            Err(status) => {
                let error = self.connection.failed("to commit content")(status);
                if !error.is_away() {
                    // What does not have the digest it should have must not be taken up again.
                    self.abort().await;
                }
                Err(error)
            }
        }
    }

    /// Throws away what was written.
    pub(crate) async fn abort(self) {
        let Self { connection, requests, responses, reference, .. } = self;
        // containerd holds the blob until the stream ends.
        drop((requests, responses));
        let request = connection.request(AbortRequest { r#ref: reference.clone() }, SHORT);
        if let Err(status) = connection.content().abort(request).await {
            tracing::debug!(%reference, %status, "an unfinished blob could not be thrown away");
        }
    }

    async fn exchange(&mut self, request: WriteContentRequest) -> Result<WriteContentResponse, Status> {
        // When the stream has ended already, the answer says why.
        let sent = self.requests.send(request).await;
        match self.responses.message().await? {
            Some(response) if sent.is_ok() => Ok(response),
            Some(_) | None => Err(Status::unknown(STREAM_ENDED)),
        }
    }
}

fn as_length(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn as_size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
