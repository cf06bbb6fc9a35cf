//! From an assignment to a running process: record, snapshot, process, in four calls.
//!
//! The record comes first and refers to the snapshot: so garbage collection never sees one without the other, no lease is
//! needed, and whatever a crash leaves half-made is found by its record.

use std::path::PathBuf;

use api_types::{
    assignment::Assignment,
    companion::CompanionSpec,
    container::ContainerSpec,
    device::DeviceGrant,
    id::{InstanceId, Name},
    resources::ResourceSpec,
};
use containerd_client::{
    services::v1::{
        Container, CreateContainerRequest, CreateTaskRequest, GetRequest, StartRequest as StartProcessRequest,
        container::Runtime, snapshots::PrepareSnapshotRequest,
    },
    types::{Mount, v1::Status as ProcessStatus},
};
use prost_types::Any;
use serde_json::Value;

use crate::{
    Containerd, StartRequest,
    attach::Ends,
    connection::{LONG, SHORT, is_absent, is_present},
    devices,
    error::{Error, ImageError, StartError},
    identity::{container_id, labels},
    images::ImageFacts,
    mounts,
    oci::{self, NodeLimits, SpecInput},
    own_files, percent, problem,
    shown::{self, Content},
    signal, user,
    views::{self, Views},
    volumes::{self, Volume},
};

const RUNTIME: &str = "io.containerd.runc.v2";
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const DEFAULT_STOP_SIGNAL: &str = "SIGTERM";

/// What of an assignment is started: its main container or a companion.
struct What<'a> {
    container: &'a ContainerSpec,
    resources: &'a ResourceSpec,
    /// Devices are given to the main container alone.
    devices: &'a [DeviceGrant],
    /// The name of a companion.
    name: Option<&'a Name>,
}

impl<'a> What<'a> {
    fn of(request: &StartRequest<'a>) -> Result<Self, StartError> {
        let Assignment { container, resources, devices, companions, .. } = request.assignment;
        let Some(index) = request.attempt.companion else {
            return Ok(Self { container, resources, devices, name: None });
        };
        match companions.get(usize::from(index)) {
            Some(CompanionSpec { container, resources, name, .. }) => {
                Ok(Self { container, resources, devices: &[], name: Some(name) })
            }
            None => Err(StartError::Spec(format!("it has no companion number {index}"))),
        }
    }
}

impl What<'_> {
    /// Whether people may be attached to it: to the main container alone.
    fn is_for_people(&self) -> bool {
        self.name.is_none() && (self.container.stdin || self.container.tty)
    }

    fn has_terminal(&self) -> bool {
        self.name.is_none() && self.container.tty
    }
}

impl Containerd {
    /// Makes container and process and gives its process id. At most eight at once; the rest wait. An attempt that runs
    /// already is left alone.
    ///
    /// # Errors
    /// When it does not start; then nothing of the attempt is left, unless containerd is away.
    pub async fn start(&self, request: &StartRequest<'_>) -> Result<u32, StartError> {
        let what = What::of(request)?;
        let id = container_id(&request.assignment.instance, request.attempt);
        let _turn = self.inner.starts.acquire().await.expect("never closed");
        let _mark = self.inner.starting.mark(&id);
        self.inner.removed.clear(&id);
        let image = &what.container.image;
        let facts = match self.image_facts(image).await {
            Ok(Some(facts)) => facts,
            Ok(None) => return Err(StartError::ImageMissing { image: image.clone() }),
            Err(ImageError::Containerd(error)) => return Err(error.into()),
            Err(error) => return Err(StartError::Spec(error.to_string())),
        };
        let (views, lease) = self.views(&id, what.container).await?;
        let made = async {
            let container = self.container(&id, request, (&what, &views), &facts).await?;
            self.create_record(container).await
        }
        .await;
        if let Some(lease) = lease {
            self.give_back(&lease).await;
        }
        if let Some(pid) = made? {
            return Ok(pid);
        }
        let started = self.run(&id, request, &what, &facts).await;
        if started.is_err()
            && let Err(error) = self.remove_container(&id).await
        {
            tracing::warn!(container = id, %error, "a container that did not start could not be removed");
        }
        started
    }

    /// The container's record.
    async fn container(
        &self,
        id: &str,
        request: &StartRequest<'_>,
        (what, views): (&What<'_>, &Views),
        facts: &ImageFacts,
    ) -> Result<Container, StartError> {
        let settings = &self.inner.settings;
        let wanted = what.container.stop_signal.as_deref().or(facts.config.stop_signal.as_deref());
        let stop_signal = signal::number(wanted.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_STOP_SIGNAL));
        let stop_signal = stop_signal.map_err(|error| StartError::Spec(error.to_string()))?;
        let spec = self.spec(id, request, (what, views), facts).await?;
        let mut labels = labels(&settings.node, request, what.name, stop_signal);
        labels.extend(views::references(&settings.snapshotter, views));
        let spec =
            Any { type_url: SPEC_TYPE.to_owned(), value: serde_json::to_vec(&spec).expect("JSON is plain data") };
        Ok(Container {
            id: id.to_owned(),
            labels,
            image: what.container.image.clone(),
            runtime: Some(Runtime { name: RUNTIME.to_owned(), options: None }),
            spec: Some(spec),
            snapshotter: settings.snapshotter.clone(),
            snapshot_key: id.to_owned(),
            ..Container::default()
        })
    }

    async fn spec(
        &self,
        id: &str,
        request: &StartRequest<'_>,
        (what, views): (&What<'_>, &Views),
        facts: &ImageFacts,
    ) -> Result<Value, StartError> {
        let (settings, assignment) = (&self.inner.settings, request.assignment);
        let container = what.container;
        let wanted = container.user.as_deref().or(facts.config.user.as_deref()).unwrap_or_default();
        let user = if user::is_plain(wanted) {
            Ok(user::User::default())
        } else {
            user::resolve(wanted, self.image_accounts(facts).await?)
        };
        let own = own_files::write(&settings.run_dir, request)?;
        let user = user.map_err(StartError::Spec)?;
        let volume = |name: &Name| {
            let volume = Volume { workload: &assignment.workload, name, slot: assignment.slot };
            volumes::ensure(&settings.volumes_dir, &volume, &user)
        };
        let namespace = &assignment.workload.namespace;
        let content = Content { spec: &container.content, namespace, secrets: request.secrets };
        let files = shown::write(&settings.run_dir, id, &content, &user)?;
        let secret_env = content.variables().map_err(StartError::Spec)?;
        let mounts = mounts::all(&own, &files, &container.mounts, &settings.host_path_prefixes, &volume, views)?;
        let devices = devices::resolve(what.devices, &settings.devices).map_err(StartError::Forbidden)?;
        let input = SpecInput {
            container,
            secret_env,
            resources: what.resources,
            image: &facts.config,
            user,
            terminal: what.has_terminal(),
            mounts,
            devices,
            // The instances of a job share its work out among them.
            slot: assignment.retries.map(|_| assignment.slot),
            hostname: assignment.instance.as_str(),
            shares_shim: !assignment.companions.is_empty(),
            netns: request.netns.clone(),
            cgroup: self.inner.cgroups.path_of(id),
            capabilities_ceiling: &settings.capabilities_ceiling,
            node: self.inner.limits,
        };
        oci::spec(&input).map_err(StartError::Spec)
    }

    /// Makes the record. Where the attempt runs already, gives its process id; other leftovers of it are removed first.
    async fn create_record(&self, container: Container) -> Result<Option<u32>, StartError> {
        let connection = &self.inner.connection;
        let create = || {
            let request = CreateContainerRequest { container: Some(container.clone()) };
            connection.request(request, SHORT)
        };
        let failed = connection.failed("to make a container");
        match connection.containers().create(create()).await {
            Ok(_) => return Ok(None),
            Err(status) if is_present(&status) => {}
            Err(status) => return Err(failed(status).into()),
        }
        if let Some(pid) = self.running_pid(&container.id).await? {
            return Ok(Some(pid));
        }
        self.remove_container(&container.id).await?;
        connection.containers().create(create()).await.map_err(failed)?;
        Ok(None)
    }

    pub(crate) async fn running_pid(&self, id: &str) -> Result<Option<u32>, Error> {
        let connection = &self.inner.connection;
        let request = GetRequest { container_id: id.to_owned(), exec_id: String::new() };
        match connection.tasks().get(connection.request(request, SHORT)).await {
            Ok(answer) => {
                let process = answer.into_inner().process.unwrap_or_default();
                Ok((process.status() == ProcessStatus::Running).then_some(process.pid))
            }
            Err(status) if is_absent(&status) => Ok(None),
            Err(status) => Err(connection.failed("to look for a process")(status)),
        }
    }

    async fn run(
        &self,
        id: &str,
        request: &StartRequest<'_>,
        what: &What<'_>,
        facts: &ImageFacts,
    ) -> Result<u32, StartError> {
        let connection = &self.inner.connection;
        let rootfs = self.prepare_snapshot(id, &what.container.image, facts).await?;
        let instance = &request.assignment.instance;
        let Ends { stdin, stdout, stderr } = if what.is_for_people() {
            self.ends(id, instance, what.container).await?
        } else {
            let output = self.output(instance, what.name)?;
            Ends { stdin: String::new(), stdout: output.clone(), stderr: output }
        };
        let create = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            stdin,
            stdout,
            stderr,
            terminal: what.has_terminal(),
            ..CreateTaskRequest::default()
        };
        let failed = |call| {
            let away = connection.failed(call);
            move |status: tonic::Status| match away(status) {
                Error::Refused { status, .. } => StartError::Process(problem::boil_down(status.message())),
                error @ (Error::Away { .. }
                | Error::File { .. }
                | Error::Unkillable { .. }
                | Error::Setting { .. }
                | Error::Signal(_)) => StartError::Containerd(error),
            }
        };
        let created = connection.tasks().create(connection.request(create, LONG)).await;
        let pid = created.map_err(failed("to make a process"))?.into_inner().pid;
        let start = StartProcessRequest { container_id: id.to_owned(), exec_id: String::new() };
        connection.tasks().start(connection.request(start, LONG)).await.map_err(failed("to start a process"))?;
        Ok(pid)
    }

    async fn prepare_snapshot(&self, id: &str, image: &str, facts: &ImageFacts) -> Result<Vec<Mount>, StartError> {
        let (connection, settings) = (&self.inner.connection, &self.inner.settings);
        let prepare = PrepareSnapshotRequest {
            snapshotter: settings.snapshotter.clone(),
            key: id.to_owned(),
            parent: facts.chain.clone(),
            ..PrepareSnapshotRequest::default()
        };
        match connection.snapshots().prepare(connection.request(prepare, SHORT)).await {
            Ok(answer) => Ok(answer.into_inner().mounts),
            Err(status) if is_absent(&status) => {
                self.forget_image(image);
                Err(StartError::ImageMissing { image: image.to_owned() })
            }
            Err(status) => Err(connection.failed("to prepare a root file system")(status).into()),
        }
    }

    /// Where output goes: a program of ours per container, so that neither our restart nor containerd's loses a line.
    /// A companion has a directory of its own below that of its instance.
    fn output(&self, instance: &InstanceId, companion: Option<&Name>) -> Result<String, Error> {
        let (settings, directory) = (&self.inner.settings, self.log_directory(instance, companion)?);
        Ok(format!(
            "binary://{}?directory={}&bytes={}&files={}",
            settings.logger.display(),
            percent::encode(&directory.display().to_string()),
            settings.log_bytes_max,
            settings.log_files_max,
        ))
    }

    pub(crate) fn log_directory(&self, instance: &InstanceId, companion: Option<&Name>) -> Result<PathBuf, Error> {
        let mut directory = self.inner.settings.log_dir.join(instance.as_str());
        directory.extend(companion.map(Name::as_str));
        std::fs::create_dir_all(&directory).map_err(|source| Error::File { path: directory.clone(), source })?;
        Ok(directory)
    }
}

/// Reads what this node can give, once.
pub(crate) fn node_limits(limits_swap: bool) -> NodeLimits {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    NodeLimits {
        nofile: nofile(&read("/proc/self/limits")),
        oom_score_adj: oom_score_adj(&read("/proc/self/status"), &read("/proc/self/oom_score_adj")),
        limits_swap,
    }
}

/// A limit above the daemons' own cannot be set without CAP_SYS_RESOURCE, so none above ours is asked for.
fn nofile(limits: &str) -> u64 {
    const WANTED: u64 = 65_536;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|hard| hard.parse().ok());
    hard.map_or(WANTED, |hard: u64| hard.min(WANTED))
}

/// Containers must not inherit the daemons' protection; without CAP_SYS_RESOURCE it can be raised, but not lowered.
fn oom_score_adj(status: &str, own: &str) -> i32 {
    const CAP_SYS_RESOURCE: u32 = 24;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    if held >> CAP_SYS_RESOURCE & 1 == 1 { 0 } else { own.trim().parse().unwrap_or(0).max(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_for_that_the_daemons_do_not_have() {
        assert_eq!(nofile("Max open files            1024                 20000                files\n"), 20_000);
        assert_eq!(nofile("Max open files            1024                 unlimited            files\n"), 65_536);
        assert_eq!(oom_score_adj("CapEff:\t000001ffffffffff\n", "500\n"), 0);
        assert_eq!(oom_score_adj("CapEff:\t000001fffeffffff\n", "500\n"), 500);
        assert_eq!(oom_score_adj("CapEff:\t000001fffeffffff\n", "-999\n"), 0);
    }
}
