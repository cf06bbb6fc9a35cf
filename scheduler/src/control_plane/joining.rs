//! How a node is let in: a token is used up, a certificate issued, and both become durable with the node.

use api_types::{
    id::NodeId,
    join::{JoinReply, JoinRequest},
    view::Problem,
};
use scheduler_core::input::Change;

use super::Port;
use crate::{
    clock,
    identity::{
        authority::AuthorityError,
        tokens::{Entry, Known},
    },
    problem,
};

impl Port {
    /// Lets a node in that shows a join token.
    pub(super) async fn let_in(&self, request: JoinRequest) -> Result<JoinReply, Problem> {
        let _one_by_one = self.0.joining.lock().await;
        let known = |node: &NodeId, token: &str| self.known(node, token, &request.csr);
        let taken = self.0.tokens.take(&request.token, &request.name, known, clock::wall_now());
        let taken = taken.inspect_err(|refusal| tracing::warn!(%refusal, "a join was refused"));
        let entry = taken.map_err(|refusal| problem::join_refused(&refusal))?;
        let (token, counted) = (entry.token.clone(), entry.counted);
        let admitted = self.admit(entry, &request).await;
        if admitted.is_err() && counted {
            self.0.tokens.give_back(&token);
        }
        admitted
    }

    async fn admit(&self, entry: Entry, request: &JoinRequest) -> Result<JoinReply, Problem> {
        let parts = &self.0;
        let issued = parts
            .authority
            .issue_node(&entry.node, &request.csr, clock::wall_now())
            .map_err(|error| bad_request(&error))?;
        let token = entry.token;
        let (record, key_write) = parts.keys.joined(&entry.node, issued.pin, &token);
        let change = Change::AdmitNode { node: entry.node.clone(), site: entry.site, labels: entry.labels };
        let with = vec![entry.write, key_write];
        let outcome = parts.control.change(String::new(), change, with).await.map_err(problem::stopped)?;
        outcome.map_err(|refusal| problem::refused(&refusal))?;
        parts.keys.keep(entry.node.clone(), record);
        tracing::info!(node = %entry.node, token, "node joined");
        Ok(JoinReply {
            node: entry.node,
            certificate: issued.certificate,
            ca: parts.authority.certificate().to_owned(),
            session_address: parts.session_address.clone(),
        })
    }

    /// Whether a name is taken; the pin of the request tells a lost answer from another machine.
    fn known(&self, node: &NodeId, token: &str, csr: &str) -> Known {
        let Some(record) = self.0.keys.of(node) else { return Known::No };
        let same = || {
            let issued = self.0.authority.issue_node(node, csr, clock::wall_now()).ok()?;
            (record.joined_by == token && record.pins.contains(&issued.pin.to_string())).then_some(())
        };
        if same().is_some() { Known::SameNode } else { Known::Taken }
    }
}

fn bad_request(error: &AuthorityError) -> Problem {
    match error {
        AuthorityError::RequestTooLarge | AuthorityError::Request(_) => {
            problem::invalid(&error.to_string(), "send a PKCS#10 request in PEM")
        }
        AuthorityError::Signing(_) | AuthorityError::Stored(_) | AuthorityError::Random => {
            problem::internal(&error.to_string())
        }
    }
}
