//! Layers to snapshots: each becomes one on top of those below, unless it is there already.

use containerd_client::{
    services::v1::{
        ApplyRequest,
        snapshots::{CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest},
    },
    types,
};

use crate::{
    connection::{Connection, LONG, Lease, SHORT, is_absent, is_present},
    documents::{Descriptor, chain_ids},
    error::{Error, ImageError},
};

impl Connection {
    /// Unpacks the layers from the bottom up; `origin` is what people know the image as.
    pub(crate) async fn unpack(
        &self,
        lease: &Lease,
        snapshotter: &str,
        layers: &[Descriptor],
        diff_ids: &[String],
        origin: &str,
    ) -> Result<(), ImageError> {
        let chain = chain_ids(diff_ids);
        let mut parent = "";
        for ((layer, diff_id), id) in layers.iter().zip(diff_ids).zip(&chain) {
            if !self.has_snapshot(snapshotter, id).await? {
                let applied = self.apply(lease, snapshotter, layer, parent, id).await?;
                if applied != *diff_id {
                    let problem =
                        format!("layer {} holds {applied}, not {diff_id} as its configuration says", layer.digest);
                    return Err(ImageError::Malformed { origin: origin.to_owned(), problem });
                }
                self.commit_snapshot(lease, snapshotter, id).await?;
            }
            parent = id;
        }
        Ok(())
    }

    /// Whether the snapshot is there.
    pub(crate) async fn has_snapshot(&self, snapshotter: &str, key: &str) -> Result<bool, Error> {
        let request = StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
        match self.snapshots().stat(self.request(request, SHORT)).await {
            Ok(_) => Ok(true),
            Err(status) if is_absent(&status) => Ok(false),
            Err(status) => Err(self.failed("to look for a snapshot")(status)),
        }
    }

    /// Removes a snapshot; one that is not there is success.
    pub(crate) async fn remove_snapshot(&self, snapshotter: &str, key: &str) -> Result<(), Error> {
        let request = RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
        match self.snapshots().remove(self.request(request, SHORT)).await {
            Ok(_) => Ok(()),
            Err(status) if is_absent(&status) => Ok(()),
            Err(status) => Err(self.failed("to remove a snapshot")(status)),
        }
    }

    /// Puts a layer on top of `parent` and gives the digest of what it held.
    async fn apply(
        &self,
        lease: &Lease,
        snapshotter: &str,
        layer: &Descriptor,
        parent: &str,
        id: &str,
    ) -> Result<String, Error> {
        let key = working_key(id);
        // What a broken run left is of unknown content.
        self.remove_snapshot(snapshotter, &key).await?;
        let prepare = PrepareSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key,
            parent: parent.to_owned(),
            ..PrepareSnapshotRequest::default()
        };
        let answer = self.snapshots().prepare(self.leased(prepare, lease)).await;
        let mounts = answer.map_err(self.failed("to prepare a layer"))?.into_inner().mounts;
        let mut apply =
            self.leased(ApplyRequest { diff: Some(as_wire(layer)), mounts, ..ApplyRequest::default() }, lease);
        apply.set_timeout(LONG);
        let answer = self.diffs().apply(apply).await.map_err(self.failed("to unpack a layer"))?;
        Ok(answer.into_inner().applied.map(|applied| applied.digest).unwrap_or_default())
    }

    async fn commit_snapshot(&self, lease: &Lease, snapshotter: &str, id: &str) -> Result<(), Error> {
        let key = working_key(id);
        let commit = CommitSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            name: id.to_owned(),
            key: key.clone(),
            ..CommitSnapshotRequest::default()
        };
        match self.snapshots().commit(self.leased(commit, lease)).await {
            Ok(_) => Ok(()),
            // Another image with the same layer was first.
            Err(status) if is_present(&status) => self.remove_snapshot(snapshotter, &key).await,
            Err(status) => Err(self.failed("to commit a layer")(status)),
        }
    }
}

/// A descriptor in containerd's words.
pub(crate) fn as_wire(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.clone(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        ..types::Descriptor::default()
    }
}

/// The name of a layer's snapshot while it is filled.
fn working_key(id: &str) -> String {
    format!("wherry-unpack-{id}")
}
