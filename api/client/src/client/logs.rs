//! Lines that instances wrote.

use api_types::{
    id::{InstanceId, Name, WorkloadId},
    view::LogLine,
};

use super::{Client, Lines};
use crate::error::ClientError;

/// Which lines of each instance.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Of which companion; `None` = of the main container.
    pub container: Option<Name>,
    /// How many of the last.
    pub tail: u32,
    /// Whether those to come are wanted as well.
    pub follow: bool,
}

impl LogQuery {
    /// The query of the path.
    fn text(&self) -> String {
        let container = self.container.as_ref().map(|name| format!("&container={name}")).unwrap_or_default();
        format!("tail={}&follow={}{container}", self.tail, self.follow)
    }
}

impl Client {
    /// The lines of each instance of a workload, as they come.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn workload_logs(&self, workload: &WorkloadId, query: &LogQuery) -> Result<Lines<LogLine>, ClientError> {
        self.lines(&format!("/v1/logs/workload/{workload}?{}", query.text())).await
    }

    /// The lines of an instance.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn instance_logs(&self, instance: &InstanceId, query: &LogQuery) -> Result<Lines<LogLine>, ClientError> {
        self.lines(&format!("/v1/logs/instance/{instance}?{}", query.text())).await
    }
}
