//! The floor: the same containers, made by a bare containerd client that does nothing else.

use std::path::Path;

use containerd_client::{
    services::v1::{
        Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest, DeleteTaskRequest,
        GetContainerRequest, GetRequest, KillRequest, ListTasksRequest, StartRequest, WaitRequest,
        container::Runtime,
        containers_client::ContainersClient,
        snapshots::{
            PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest, snapshots_client::SnapshotsClient,
        },
        tasks_client::TasksClient,
    },
    tonic::{Code, Request, metadata::MetadataValue, transport::Channel},
    types::v1::Status,
};
use prost_types::Any;

use crate::Result;

/// A bare client of one containerd, and what to make: a copy of a container that runs there.
#[derive(Clone)]
pub(crate) struct Floor {
    channel: Channel,
    namespace: String,
    image: String,
    snapshotter: String,
    parent: String,
    spec: serde_json::Value,
}

impl Floor {
    /// Takes the container `template` as what to make, with a network namespace of its own in place of the one it has.
    pub(crate) async fn like(socket: &Path, namespace: &str, template: &str) -> Result<Self> {
        let channel = containerd_client::connect(socket).await?;
        let mut containers = ContainersClient::new(channel.clone());
        let request = within(namespace, GetContainerRequest { id: template.to_owned() })?;
        let container = containers.get(request).await?.into_inner().container.ok_or("no such container")?;
        let mut spec: serde_json::Value = serde_json::from_slice(&container.spec.ok_or("no spec")?.value)?;
        let namespaces = spec["linux"]["namespaces"].as_array_mut().ok_or("no namespaces")?;
        for entry in namespaces.iter_mut().filter(|entry| entry["type"] == "network") {
            *entry = serde_json::json!({ "type": "network" });
        }
        let stat =
            StatSnapshotRequest { snapshotter: container.snapshotter.clone(), key: container.snapshot_key.clone() };
        let stat = SnapshotsClient::new(channel.clone()).stat(within(namespace, stat)?).await?.into_inner();
        Ok(Self {
            channel,
            namespace: namespace.to_owned(),
            image: container.image,
            snapshotter: container.snapshotter,
            parent: stat.info.ok_or("no snapshot")?.parent,
            spec,
        })
    }

    /// Snapshot, record, process, start: nothing else.
    pub(crate) async fn create_and_start(&self, id: &str) -> Result<()> {
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: id.to_owned(),
            parent: self.parent.clone(),
            // Without this containerd may collect the snapshot before its container is on record.
            labels: [("containerd.io/gc.root".to_owned(), "floor".to_owned())].into(),
        };
        let mounts = SnapshotsClient::new(self.channel.clone()).prepare(self.ask(prepare)?).await?.into_inner().mounts;
        let mut spec = self.spec.clone();
        spec["linux"]["cgroupsPath"] = format!("/floor/{id}").into();
        let container = Container {
            id: id.to_owned(),
            image: self.image.clone(),
            runtime: Some(Runtime { name: "io.containerd.runc.v2".to_owned(), options: None }),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
                value: serde_json::to_vec(&spec)?,
            }),
            snapshotter: self.snapshotter.clone(),
            snapshot_key: id.to_owned(),
            ..Default::default()
        };
        let create = CreateContainerRequest { container: Some(container) };
        ContainersClient::new(self.channel.clone()).create(self.ask(create)?).await?;
        let mut processes = TasksClient::new(self.channel.clone());
        let create = CreateTaskRequest { container_id: id.to_owned(), rootfs: mounts, ..Default::default() };
        processes.create(self.ask(create)?).await?;
        processes.start(self.ask(StartRequest { container_id: id.to_owned(), ..Default::default() })?).await?;
        Ok(())
    }

    /// Removes all of it again.
    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        let mut processes = TasksClient::new(self.channel.clone());
        let container_id = id.to_owned();
        let kill = KillRequest { container_id: container_id.clone(), signal: 9, all: true, ..Default::default() };
        let wait = self.ask(WaitRequest { container_id: container_id.clone(), ..Default::default() })?;
        let mut waiter = processes.clone();
        let (_, waited) = tokio::join!(processes.kill(self.ask(kill)?), waiter.wait(wait));
        waited?;
        processes.delete(self.ask(DeleteTaskRequest { container_id: container_id.clone() })?).await?;
        let delete = DeleteContainerRequest { id: container_id.clone() };
        ContainersClient::new(self.channel.clone()).delete(self.ask(delete)?).await?;
        let remove = RemoveSnapshotRequest { snapshotter: self.snapshotter.clone(), key: container_id };
        match SnapshotsClient::new(self.channel.clone()).remove(self.ask(remove)?).await {
            // containerd's own garbage collection may have been first.
            Err(status) if status.code() != Code::NotFound => Err(status.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether the process of this container runs. Only its own shim is asked: what is measured meanwhile does not pay for the look.
    pub(crate) async fn runs(&self, id: &str) -> Result<bool> {
        let request = GetRequest { container_id: id.to_owned(), exec_id: String::new() };
        match TasksClient::new(self.channel.clone()).get(self.ask(request)?).await {
            Ok(found) => Ok(found.into_inner().process.is_some_and(|process| process.status == Status::Running as i32)),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status.into()),
        }
    }

    /// The running processes of this containerd: container id and process id.
    pub(crate) async fn running(&self) -> Result<Vec<(String, u32)>> {
        list(&self.channel, &self.namespace).await
    }

    /// The same of any containerd.
    pub(crate) async fn running_in(socket: &Path, namespace: &str) -> Result<Vec<(String, u32)>> {
        list(&containerd_client::connect(socket).await?, namespace).await
    }

    fn ask<T>(&self, message: T) -> Result<Request<T>> {
        within(&self.namespace, message)
    }
}

async fn list(channel: &Channel, namespace: &str) -> Result<Vec<(String, u32)>> {
    let request = within(namespace, ListTasksRequest::default())?;
    let found = TasksClient::new(channel.clone()).list(request).await?.into_inner().tasks;
    let running = found.into_iter().filter(|process| process.status == Status::Running as i32);
    Ok(running.map(|process| (process.id, process.pid)).collect())
}

/// A request inside a containerd namespace.
fn within<T>(namespace: &str, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::try_from(namespace)?);
    Ok(request)
}
