//! Answers questions of other nodes: which instance may be asked by whom, and the connection to it.

use std::{sync::Arc, time::Duration};

use api_types::id::NodeId;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use crate::{
    carry::{Connection, carry},
    plan::Plan,
    tunnel::Shared,
    wire::{self, Answer, Question, read_question},
};

/// How long an instance may take to take a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long the other end may take to hear an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Waits for one question and answers it. `asked` is called when it came.
pub(crate) async fn answer(shared: Arc<Shared>, node: NodeId, mut connection: Connection, asked: impl FnOnce()) {
    let Some(token) = shared.token_of(&node) else { return };
    // All arms are cancel-safe: what is dropped ends the connection.
    tokio::select! {
        () = token.cancelled() => {}
        read = read_question(&mut connection) => {
            let Ok(question) = read else { return };
            asked();
            tokio::select! {
                () = token.cancelled() => {}
                () = serve(shared, node, connection, question) => {}
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, node: NodeId, mut connection: Connection, question: Question) {
    let mut said = judge(&shared.plan(), &question);
    let room = shared.room_to_answer();
    if said == Answer::Yes && room.is_none() {
        said = Answer::Full;
    }
    let mut instance = None;
    if said == Answer::Yes {
        match timeout(CONNECT_LIMIT, TcpStream::connect(question.place)).await {
            Ok(Ok(stream)) => instance = Some(stream),
            Ok(Err(_)) | Err(_) => said = Answer::Refused,
        }
    }
    let told = timeout(ANSWER_LIMIT, wire::answer(&mut connection, said)).await;
    match instance {
        Some(stream) if matches!(told, Ok(Ok(()))) => carry(stream, connection).await,
        Some(_) | None => {
            tracing::debug!(%node, instance = %question.instance, answer = said.describe(), "not connected");
            timeout(ANSWER_LIMIT, connection.shutdown()).await.map(drop).ok();
        }
    }
}

/// Whether an instance may be asked: it runs here, is open to other sites on this port, and admits who asks.
fn judge(plan: &Plan, question: &Question) -> Answer {
    let (address, port) = (*question.place.ip(), question.place.port());
    let is_meant = |served: &&crate::Served| served.instance == question.instance && served.address == address;
    let Some(served) = plan.served.iter().find(is_meant).filter(|served| served.ports.contains(&port)) else {
        return Answer::Unknown;
    };
    let client = question.client;
    match &served.admitted {
        Some(admitted) if plan.cluster_range.contains(client) && !admitted.contains(&client) => Answer::NotAdmitted,
        Some(_) | None => Answer::Yes,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::Served;

    #[test]
    fn only_an_open_port_of_an_instance_here_may_be_asked_by_who_is_admitted() {
        let served = Served {
            instance: "web-7".parse().expect("a name"),
            address: Ipv4Addr::new(10, 42, 4, 9),
            ports: vec![8080],
            admitted: Some(vec![Ipv4Addr::new(10, 42, 1, 2)]),
        };
        let plan = Plan {
            here: Ipv4Addr::new(10, 42, 4, 1),
            cluster_range: "10.42.0.0/16".parse().expect("a range"),
            peers: Vec::new(),
            remote: Vec::new(),
            served: vec![served],
        };
        let judged = |instance: &str, place: &str, client: &str| {
            let instance = instance.parse().expect("a name");
            let (place, client) = (place.parse().expect("a place"), client.parse().expect("an address"));
            judge(&plan, &Question { instance, place, client })
        };

        assert_eq!(judged("web-7", "10.42.4.9:8080", "10.42.1.2"), Answer::Yes);
        assert_eq!(judged("web-7", "10.42.4.9:8080", "0.0.0.0"), Answer::Yes, "the node itself");
        assert_eq!(judged("web-7", "10.42.4.9:8080", "198.51.100.7"), Answer::Yes, "the port's own rules held there");
        assert_eq!(judged("web-7", "10.42.4.9:8080", "10.42.1.3"), Answer::NotAdmitted);
        assert_eq!(judged("web-7", "10.42.4.9:22", "10.42.1.2"), Answer::Unknown, "another port");
        assert_eq!(judged("web-7", "10.42.4.10:8080", "10.42.1.2"), Answer::Unknown, "another address");
        assert_eq!(judged("db-1", "10.42.4.9:8080", "10.42.1.2"), Answer::Unknown, "another instance");
    }
}
