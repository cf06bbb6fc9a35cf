//! A connection to a port inside an instance's network, on its loopback address.

use std::{io, net::TcpStream as Connected, path::PathBuf};

use agent_containerd::Containerd;
use api_types::{
    id::InstanceId,
    relay::{RelayEnd, RelayInput, RelayOutput},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::spawn_blocking};

use super::{Gone, Inputs, Outputs, failed, not_begun};

/// Forwards until the instance closes the connection, or the person is gone.
pub(super) async fn serve(
    containerd: &Containerd,
    instance: &InstanceId,
    port: u16,
    inputs: &mut Inputs,
    outputs: &Outputs,
) -> Result<RelayEnd, Gone> {
    let pid = match containerd.running(instance).await {
        Ok(running) => running.pid,
        Err(error) => return Ok(not_begun(&error)),
    };
    let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let dialled = spawn_blocking(move || agent_network::connect_inside(&namespace, port)).await;
    let connection = match dialled.expect("dialling does not panic").map(into_tokio) {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Ok(failed(error)),
        Err(error) => return Ok(failed(format!("`{instance}`: {error}"))),
    };
    let (reading, mut writing) = connection.into_split();
    let feeding = async {
        loop {
            match inputs.next().await {
                // The other end may have closed its half: what it still sends is read to its end.
                Ok(RelayInput::Data(bytes)) => drop(writing.write_all(&bytes).await),
                Ok(RelayInput::End) => drop(writing.shutdown().await),
                Ok(RelayInput::Resize(_)) => {}
                Err(gone) => return gone,
            }
        }
    };
    tokio::select! {
        pumped = outputs.pump(reading, RelayOutput::Stdout) => pumped.map(|()| RelayEnd::default()),
        gone = feeding => Err(gone),
    }
}

fn into_tokio(connected: Connected) -> io::Result<TcpStream> {
    connected.set_nonblocking(true)?;
    connected.set_nodelay(true)?;
    TcpStream::from_std(connected)
}
