//! Processes: containerd's "tasks", renamed at the border. Waiting for their end, asking for it, forcing it.

use std::time::Duration;

use api_types::{id::InstanceId, instance::Exit};
use containerd_client::services::v1::{
    DeleteContainerRequest, DeleteTaskRequest, GetContainerRequest, KillRequest, WaitRequest,
};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::{
    Attempt, Containerd, attach, cgroup,
    connection::{LONG, SHORT, is_absent},
    error::Error,
    identity::{STOP_SIGNAL, container_id},
    shown, signal,
};

/// The exit status of a process that SIGKILL ended.
const KILLED: u32 = 137;
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;
/// How long a process may take to die of SIGKILL: it may hang in the kernel, on a slow disk.
const DEATH: Duration = Duration::from_secs(20);

impl Containerd {
    /// Waits until the attempt's process ends; [`Exit::Unknown`] where there is none.
    ///
    /// # Errors
    /// When containerd goes away meanwhile.
    pub async fn wait(&self, instance: &InstanceId, attempt: impl Into<Attempt>) -> Result<Exit, Error> {
        let id = container_id(instance, attempt);
        self.wait_for(&id).await
    }

    /// Asks the process to end, and kills it after the grace. Without a signal, the one that the spec or the image names
    /// is sent, else SIGTERM. No process is success.
    ///
    /// # Errors
    /// When containerd is away, the signal unknown, or the process outlives SIGKILL.
    pub async fn stop(
        &self,
        instance: &InstanceId,
        attempt: impl Into<Attempt>,
        signal: Option<&str>,
        grace: Duration,
    ) -> Result<(), Error> {
        let id = container_id(instance, attempt);
        let number = match signal {
            Some(name) => signal::number(name)?,
            None => self.stop_signal(&id).await?,
        };
        if !self.kill(&id, number, All::No).await? {
            return Ok(());
        }
        match timeout(grace, self.wait_for(&id)).await {
            Ok(exit) => exit.map(drop),
            Err(_) => self.kill_and_wait(&id).await,
        }
    }

    /// Removes process, container and snapshot of the attempt, whatever of it is there. Lets starts go first, for up to
    /// one second.
    ///
    /// # Errors
    /// When containerd is away or something resists.
    pub async fn remove(&self, instance: &InstanceId, attempt: impl Into<Attempt>) -> Result<(), Error> {
        let id = container_id(instance, attempt);
        self.inner.starting.give_way().await;
        self.remove_container(&id).await
    }

    /// The record goes before the snapshot: if only the first is done, garbage collection does the second.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.inner.removed.note(id);
        if self.delete_process(id).await.is_err() {
            match self.kill_and_wait(id).await {
                Err(error) if error.is_away() => return Err(error),
                // A runtime that lost its state of a container refuses to kill it; the kernel does not.
                Ok(()) | Err(_) => {}
            }
            if self.delete_process(id).await.is_err() {
                self.clear_cgroup(id).await?;
                self.wait_for_death(id).await?;
                self.delete_process(id).await?;
            }
        }
        // While the record is there, whatever fails here is found again.
        self.clear_cgroup(id).await?;
        shown::remove(&self.inner.settings.run_dir, id)?;
        attach::remove(&self.inner.settings.run_dir, id)?;
        let connection = &self.inner.connection;
        let request = connection.request(DeleteContainerRequest { id: id.to_owned() }, SHORT);
        match connection.containers().delete(request).await {
            Ok(_) => {}
            Err(status) if is_absent(&status) => {}
            Err(status) => return Err(connection.failed("to delete a container")(status)),
        }
        connection.remove_snapshot(&self.inner.settings.snapshotter, id).await
    }

    /// How a process ended that left with this status. To be asked before it is deleted: its cgroup goes with it.
    pub(crate) fn exit(&self, id: &str, status: u32) -> Exit {
        if status == KILLED && self.inner.cgroups.was_killed_for_memory(id) {
            return Exit::OutOfMemory;
        }
        Exit::Code(i32::try_from(status).unwrap_or(i32::MAX))
    }

    async fn wait_for(&self, id: &str) -> Result<Exit, Error> {
        let connection = &self.inner.connection;
        let request = connection.unlimited(WaitRequest { container_id: id.to_owned(), exec_id: String::new() });
        match connection.tasks().wait(request).await {
            Ok(answer) => Ok(self.exit(id, answer.into_inner().exit_status)),
            Err(status) if is_absent(&status) => Ok(Exit::Unknown),
            Err(status) => Err(connection.failed("to wait for a process")(status)),
        }
    }

    async fn kill_and_wait(&self, id: &str) -> Result<(), Error> {
        if !self.kill(id, SIGKILL, All::Yes).await? {
            return Ok(());
        }
        self.wait_for_death(id).await
    }

    async fn wait_for_death(&self, id: &str) -> Result<(), Error> {
        match timeout(DEATH, self.wait_for(id)).await {
            Ok(exit) => exit.map(drop),
            Err(_) => Err(Error::Unkillable { container: id.to_owned(), seconds: DEATH.as_secs() }),
        }
    }

    /// Kills what nobody but the kernel knows of any more: its shim was killed, or the runtime's state removed.
    async fn clear_cgroup(&self, id: &str) -> Result<(), Error> {
        if self.inner.cgroups.clear(id).await {
            return Ok(());
        }
        Err(Error::Unkillable { container: id.to_owned(), seconds: cgroup::CLEAR_LIMIT.as_secs() })
    }

    /// Sends a signal; `false` when there is no process.
    pub(crate) async fn kill(&self, id: &str, signal: u32, all: All) -> Result<bool, Error> {
        let connection = &self.inner.connection;
        let all = matches!(all, All::Yes);
        let request = KillRequest { container_id: id.to_owned(), exec_id: String::new(), signal, all };
        match connection.tasks().kill(connection.request(request, SHORT)).await {
            Ok(_) => Ok(true),
            Err(status) if is_absent(&status) => Ok(false),
            // It ended by itself meanwhile; its status is still to be had.
            Err(status) if has_finished(&status) => Ok(true),
            Err(status) => Err(connection.failed("to send a signal")(status)),
        }
    }

    async fn delete_process(&self, id: &str) -> Result<(), Error> {
        let connection = &self.inner.connection;
        let request = connection.request(DeleteTaskRequest { container_id: id.to_owned() }, LONG);
        match connection.tasks().delete(request).await {
            Ok(_) => Ok(()),
            Err(status) if is_absent(&status) => Ok(()),
            Err(status) => Err(connection.failed("to delete a process")(status)),
        }
    }

    async fn stop_signal(&self, id: &str) -> Result<u32, Error> {
        let connection = &self.inner.connection;
        let request = connection.request(GetContainerRequest { id: id.to_owned() }, SHORT);
        let container = match connection.containers().get(request).await {
            Ok(answer) => answer.into_inner().container.unwrap_or_default(),
            Err(status) if is_absent(&status) => return Ok(SIGTERM),
            Err(status) => return Err(connection.failed("to look for a container")(status)),
        };
        Ok(container.labels.get(STOP_SIGNAL).and_then(|number| number.parse().ok()).unwrap_or(SIGTERM))
    }
}

/// Whether a signal goes to every process of a container.
#[derive(Clone, Copy, Debug)]
pub(crate) enum All {
    Yes,
    No,
}

fn has_finished(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition || status.message().contains("process already finished")
}
