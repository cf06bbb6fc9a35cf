//! The workload of demo and stories: a web service of three replicas with a published port.

use std::io;

use serde_json::json;
use tests_support::{oci::Image, program};

/// The port on every node that leads to the service.
pub const PUBLISHED: u16 = 8080;
/// The port on which each instance listens.
pub const CONTAINER: u16 = 8080;
/// The port of the service's virtual address.
pub const SERVICE: u16 = 80;

/// A web server that answers with its host name, and a shell beside it.
///
/// # Errors
/// If the program `hello` was not built or busybox is not installed.
pub fn image() -> io::Result<Image> {
    let image = Image::busybox()?.program("bin/hello", &program::folder()?.join("hello"))?;
    Ok(image.set("Entrypoint", json!(["/bin/hello"])).set("ExposedPorts", json!({ "8080/tcp": {} })))
}

/// The manifest of the service `web`.
#[must_use]
pub fn manifest(image: &str, replicas: u32) -> String {
    format!(
        r#"name = "shop"

[service.web]
image    = "{image}"
replicas = {replicas}
ports    = {{ http = {{ container = {CONTAINER}, service = {SERVICE}, publish = {PUBLISHED} }} }}

[service.web.resources]            # reserve .. limit
cpu    = "0.05 .. 1"
memory = "16MiB .. 64MiB"

[service.web.health]
http     = "http/health"           # name of the port + path
interval = "1s"
timeout  = "1s"
"#
    )
}
