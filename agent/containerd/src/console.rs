//! The input and the terminal of a process that runs: a container's own, or a command beside it.

use api_types::relay::TerminalSize;
use containerd_client::services::v1::{CloseIoRequest, ResizePtyRequest};

use crate::{Containerd, connection::SHORT, error::Error};

/// What is said to a process beside its input.
#[derive(Clone, Debug)]
pub struct Console {
    pub(crate) containerd: Containerd,
    pub(crate) container: String,
    /// Which command; empty = the container's own process.
    pub(crate) exec: String,
}

impl Console {
    /// Gives the terminal another size.
    ///
    /// # Errors
    /// When the process is over, or containerd is away.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), Error> {
        let (container_id, exec_id) = (self.container.clone(), self.exec.clone());
        let (width, height) = (size.columns.into(), size.rows.into());
        let connection = &self.containerd.inner.connection;
        let request = connection.request(ResizePtyRequest { container_id, exec_id, width, height }, SHORT);
        connection.tasks().resize_pty(request).await.map_err(connection.failed("to resize a terminal"))?;
        Ok(())
    }

    /// Says that there is no more input. The caller has dropped its end; the runtime holds another.
    ///
    /// # Errors
    /// When the process is over, or containerd is away.
    pub async fn close_input(&self) -> Result<(), Error> {
        let (container_id, exec_id) = (self.container.clone(), self.exec.clone());
        let connection = &self.containerd.inner.connection;
        let request = connection.request(CloseIoRequest { container_id, exec_id, stdin: true }, SHORT);
        connection.tasks().close_io(request).await.map_err(connection.failed("to close an input"))?;
        Ok(())
    }
}
