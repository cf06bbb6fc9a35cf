//! Files of images, mounted read-only: a view of what is unpacked already, so nothing is copied.
//!
//! A container's record refers to its views as it does to its snapshot, and garbage collection removes them with it. Until the
//! record is there a lease holds them.

use std::collections::{BTreeMap, HashMap};

use api_types::container::{ContainerSpec, Mount};
use containerd_client::{
    services::v1::snapshots::{MountsRequest, ViewSnapshotRequest},
    types::Mount as SnapshotMount,
};
use serde_json::{Value, json};

use crate::{
    Containerd,
    connection::{Lease, SHORT, is_absent, is_present},
    error::{ImageError, StartError},
};

/// Beside what the snapshotter says.
const OPTIONS: [&str; 3] = ["ro", "nosuid", "nodev"];

/// The views of one container, by the paths at which they are mounted.
pub(crate) type Views = BTreeMap<String, View>;

/// An image's files, as they can be mounted.
#[derive(Clone, Debug)]
pub(crate) struct View {
    key: String,
    mount: SnapshotMount,
}

impl View {
    /// The mount of a runtime specification. What the snapshotter says is passed on unread: it differs by version and kernel.
    pub(crate) fn mount_at(&self, inside: &str) -> Value {
        let SnapshotMount { r#type, source, options, .. } = &self.mount;
        let added = OPTIONS.into_iter().filter(|option| !options.iter().any(|said| said == option));
        let options: Vec<&str> = options.iter().map(String::as_str).filter(|said| *said != "rw").chain(added).collect();
        json!({"destination": inside, "type": r#type, "source": source, "options": options})
    }
}

/// The labels by which a container's record holds its views.
pub(crate) fn references(snapshotter: &str, views: &Views) -> HashMap<String, String> {
    let label = |(index, view): (usize, &View)| {
        (format!("containerd.io/gc.ref.snapshot.{snapshotter}/{index}"), view.key.clone())
    };
    views.values().enumerate().map(label).collect()
}

impl Containerd {
    /// Has the views of a container, held by a lease that is to be given back once its record is there; `None` = it needs none.
    pub(crate) async fn views(
        &self,
        id: &str,
        container: &ContainerSpec,
    ) -> Result<(Views, Option<Lease>), StartError> {
        let wanted = container.mounts.iter().filter_map(|(inside, mount)| match mount {
            Mount::Image { image } => Some((inside, image)),
            Mount::Host { .. } | Mount::Volume { .. } | Mount::Tmpfs { .. } => None,
        });
        let wanted: Vec<(&String, &String)> = wanted.collect();
        if wanted.is_empty() {
            return Ok((Views::new(), None));
        }
        let lease =
            self.inner.connection.lease(&format!("wherry-views-{id}"), self.inner.settings.node.as_str()).await?;
        let mut views = Views::new();
        for (index, (inside, image)) in wanted.into_iter().enumerate() {
            let key = format!("wherry-view-{id}-{index}");
            let mount = match self.view(&key, image, &lease).await {
                Ok(mount) => mount,
                Err(error) => {
                    self.give_back(&lease).await;
                    return Err(error);
                }
            };
            views.insert(inside.clone(), View { key, mount });
        }
        Ok((views, Some(lease)))
    }

    /// Gives the lease of views back. One that stays ends by itself, and only keeps what it holds until then.
    pub(crate) async fn give_back(&self, lease: &Lease) {
        if let Err(error) = self.inner.connection.release(lease).await {
            tracing::warn!(%error, "a lease of files of images is kept for some time");
        }
    }

    async fn view(&self, key: &str, image: &str, lease: &Lease) -> Result<SnapshotMount, StartError> {
        let missing = || StartError::ImageMissing { image: image.to_owned() };
        let facts = match self.image_facts(image).await {
            Ok(Some(facts)) => facts,
            Ok(None) => return Err(missing()),
            Err(ImageError::Containerd(error)) => return Err(error.into()),
            Err(error) => return Err(StartError::Spec(error.to_string())),
        };
        let (connection, snapshotter) = (&self.inner.connection, &self.inner.settings.snapshotter);
        let view = ViewSnapshotRequest {
            snapshotter: snapshotter.clone(),
            key: key.to_owned(),
            parent: facts.chain.clone(),
            ..ViewSnapshotRequest::default()
        };
        let mounts = match connection.snapshots().view(connection.leased(view, lease)).await {
            Ok(answer) => answer.into_inner().mounts,
            // What a start left that broke off.
            Err(status) if is_present(&status) => {
                let request = MountsRequest { snapshotter: snapshotter.clone(), key: key.to_owned() };
                let answer = connection.snapshots().mounts(connection.request(request, SHORT)).await;
                answer.map_err(connection.failed("to look for a view of an image"))?.into_inner().mounts
            }
            Err(status) if is_absent(&status) => {
                self.forget_image(image);
                return Err(missing());
            }
            Err(status) => return Err(connection.failed("to make a view of an image")(status).into()),
        };
        match <[SnapshotMount; 1]>::try_from(mounts) {
            Ok([mount]) => Ok(mount),
            Err(mounts) => Err(StartError::Spec(format!("image {image} cannot be mounted: {} mounts", mounts.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_never_mounted_to_be_written_to() {
        let mount = SnapshotMount {
            r#type: "bind".to_owned(),
            source: "/layers/7/fs".to_owned(),
            options: ["rbind", "rw"].map(str::to_owned).to_vec(),
            ..SnapshotMount::default()
        };
        let view = View { key: "wherry-view-web-1.0-0".to_owned(), mount };

        let mounted = view.mount_at("/models");
        let labels = references("overlayfs", &Views::from([("/models".to_owned(), view)]));

        assert_eq!(mounted["options"], json!(["rbind", "ro", "nosuid", "nodev"]));
        assert_eq!((&mounted["source"], &mounted["destination"]), (&json!("/layers/7/fs"), &json!("/models")));
        assert_eq!(labels["containerd.io/gc.ref.snapshot.overlayfs/0"], "wherry-view-web-1.0-0");
    }
}
