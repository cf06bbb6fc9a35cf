//! What is there: our containers, and what happens to them.

use std::{collections::BTreeMap, time::Duration};

use api_types::{instance::Exit, time::Timestamp};
use containerd_client::{
    events::{ContainerDelete, TaskExit},
    services::v1::{Container, GetRequest, ListContainersRequest, ListTasksRequest, PublishRequest, SubscribeRequest},
    types::{
        Envelope,
        v1::{Process, Status as ProcessStatus},
    },
};
use prost::Message as _;
use prost_types::Any;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use crate::{
    Containerd, Event, Found, FoundProcess,
    connection::{SHORT, is_absent},
    error::Error,
    identity::{self, identify, parse_container_id},
};

/// Between two tries to reach containerd.
const RETRY: Duration = Duration::from_millis(250);
/// Between two events of our own, sent until one arrives.
const KNOCK: Duration = Duration::from_millis(50);
const HELLO: &str = "/wherry/hello";

impl Containerd {
    /// Lists the containers that carry our labels, but for those that this process is starting at this moment.
    ///
    /// # Errors
    /// When containerd is away or refuses.
    pub async fn list(&self) -> Result<Vec<Found>, Error> {
        // A start that lies wholly between the two lists has its process in the second; one that does not is left out.
        let starting_before = self.inner.starting.ids();
        let containers = self.list_containers().await?;
        let processes = self.list_processes().await?;
        let starting_after = self.inner.starting.ids();
        let is_starting = |id: &String| starting_before.contains(id) || starting_after.contains(id);

        let mut found = Vec::new();
        for container in containers.iter().filter(|container| !is_starting(&container.id)) {
            let Some(who) = identify(&container.id, &container.labels) else {
                tracing::warn!(container = container.id, "a container carries our label but is not ours");
                continue;
            };
            let process =
                match processes.get(&container.id).filter(|process| process.status() != ProcessStatus::Unknown) {
                    Some(process) => self.found_process(container, process),
                    None => self.unlisted_process(container).await?,
                };
            let (instance, attempt) = (who.instance, who.attempt);
            found.push(Found { instance, attempt, workload: who.workload, revision: who.revision, process });
        }
        Ok(found)
    }

    /// What a container's process does of which the list says nothing. A shim that does not answer within two seconds is
    /// left out of the list; its process may run none the less, and then the kernel knows.
    async fn unlisted_process(&self, container: &Container) -> Result<FoundProcess, Error> {
        let connection = &self.inner.connection;
        let request = GetRequest { container_id: container.id.clone(), exec_id: String::new() };
        match connection.tasks().get(connection.request(request, SHORT)).await {
            Ok(answer) => {
                let process = answer.into_inner().process.unwrap_or_default();
                if process.status() != ProcessStatus::Unknown {
                    return Ok(self.found_process(container, &process));
                }
            }
            // Nobody will tell of its end: what is left of it goes with the container.
            Err(status) if is_absent(&status) => return Ok(FoundProcess::Ended(Exit::Unknown)),
            Err(status) if status.code() == Code::Unavailable => {
                return Err(connection.failed("to look for a process")(status));
            }
            // It is its shim that does not answer.
            Err(_) => {}
        }
        let running = self.inner.cgroups.first_process(&container.id);
        Ok(running.map_or(FoundProcess::Ended(Exit::Unknown), |pid| running_since(container, pid)))
    }

    /// Tells what happens until the receiver is dropped; dials again by itself.
    pub async fn events(&self, sender: mpsc::Sender<Event>) {
        let mut is_told = false;
        loop {
            let reason = tokio::select! {
                () = sender.closed() => return,
                reason = self.follow(&sender, &mut is_told) => reason,
            };
            // Once per loss: what is told is a change, not each try.
            if !is_told {
                is_told = true;
                if sender.send(Event::Away { reason: cause(reason) }).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Follows the stream until it breaks, and says why.
    async fn follow(&self, sender: &mpsc::Sender<Event>, is_told: &mut bool) -> Error {
        let connection = &self.inner.connection;
        let failed = connection.failed("to follow events");
        let namespace = &self.inner.settings.namespace;
        // Bare words end at a slash in this language, so values stand in quotes.
        let filters = ["/tasks/exit", "/containers/delete", "/wherry/hello"];
        let filters = filters.map(|topic| format!("namespace==\"{namespace}\",topic==\"{topic}\"")).to_vec();
        let mut events = connection.events();
        // Subscribing answers with the first event only; so one of ours is sent until it does.
        let stream = tokio::select! {
            stream = events.subscribe(connection.unlimited(SubscribeRequest { filters })) => stream,
            error = self.knock() => return error,
        };
        let mut stream = match stream {
            Ok(stream) => stream.into_inner(),
            Err(status) => return failed(status),
        };
        // Nothing is stored: what happened before this moment shows only in a list.
        *is_told = false;
        let mut event = Some(Event::Changed);
        loop {
            if let Some(event) = event
                && sender.send(event).await.is_err()
            {
                return failed(Status::cancelled("nobody listens"));
            }
            event = match stream.message().await {
                Ok(Some(envelope)) => self.translate(&envelope),
                Ok(None) => return failed(Status::unknown(crate::connection::STREAM_ENDED)),
                Err(status) => return failed(status),
            };
        }
    }

    /// Sends events of our own for ever; ends with an error.
    async fn knock(&self) -> Error {
        let connection = &self.inner.connection;
        loop {
            // The body is not read by anyone; its type must be one that containerd knows.
            let event = Any { type_url: "containerd.events.ContainerDelete".to_owned(), value: Vec::new() };
            let request = PublishRequest { topic: HELLO.to_owned(), event: Some(event) };
            if let Err(status) = connection.events().publish(connection.request(request, SHORT)).await {
                return connection.failed("an event of ours")(status);
            }
            tokio::time::sleep(KNOCK).await;
        }
    }

    fn translate(&self, envelope: &Envelope) -> Option<Event> {
        let body = envelope.event.as_ref()?.value.as_slice();
        match envelope.topic.as_str() {
            "/tasks/exit" => {
                let exit = TaskExit::decode(body).ok()?;
                // Others are processes that someone started beside the container's own.
                let (instance, attempt) =
                    parse_container_id(&exit.container_id).filter(|_| exit.id == exit.container_id)?;
                Some(Event::Exited { instance, attempt, exit: self.exit(&exit.container_id, exit.exit_status) })
            }
            "/containers/delete" => {
                let deleted = ContainerDelete::decode(body).ok()?;
                (!self.inner.removed.holds(&deleted.id)).then_some(Event::Changed)
            }
            _ => None,
        }
    }

    pub(crate) async fn list_containers(&self) -> Result<Vec<Container>, Error> {
        let connection = &self.inner.connection;
        let failed = connection.failed("to list containers");
        let filters = vec![format!("labels.\"{}\"==\"{}\"", identity::NODE, self.inner.settings.node)];
        // As a stream: a few hundred containers with their specifications would exceed one message.
        let request = connection.request(ListContainersRequest { filters }, SHORT);
        let mut stream = connection.containers().list_stream(request).await.map_err(&failed)?.into_inner();
        let mut containers = Vec::new();
        while let Some(message) = stream.message().await.map_err(&failed)? {
            // The specification is the largest part and not needed.
            containers.extend(message.container.map(|container| Container { spec: None, ..container }));
        }
        Ok(containers)
    }

    async fn list_processes(&self) -> Result<BTreeMap<String, Process>, Error> {
        let connection = &self.inner.connection;
        let request = connection.request(ListTasksRequest::default(), SHORT);
        let answer = connection.tasks().list(request).await.map_err(connection.failed("to list processes"))?;
        // The field `container_id` is left empty here; a process of a list is its container's own, and has its id.
        Ok(answer.into_inner().tasks.into_iter().map(|process| (process.id.clone(), process)).collect())
    }

    fn found_process(&self, container: &Container, process: &Process) -> FoundProcess {
        match process.status() {
            ProcessStatus::Running | ProcessStatus::Paused | ProcessStatus::Pausing => {
                running_since(container, process.pid)
            }
            ProcessStatus::Stopped => FoundProcess::Ended(self.exit(&container.id, process.exit_status)),
            // Made, but never started: nobody will.
            ProcessStatus::Created | ProcessStatus::Unknown => FoundProcess::Ended(Exit::Unknown),
        }
    }
}

fn running_since(container: &Container, pid: u32) -> FoundProcess {
    let seconds = container.created_at.as_ref().map_or(0, |at| at.seconds);
    FoundProcess::Running { pid, started_at: Timestamp(u64::try_from(seconds).unwrap_or(0) * 1000) }
}

/// Why containerd is away, without saying again that it is.
fn cause(error: Error) -> String {
    match error {
        Error::Away { reason, .. } => reason,
        error @ (Error::Refused { .. }
        | Error::File { .. }
        | Error::Unkillable { .. }
        | Error::Setting { .. }
        | Error::Signal(_)) => error.to_string(),
    }
}
