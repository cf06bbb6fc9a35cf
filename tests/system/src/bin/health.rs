//! A small gRPC server for tests: `grpc.health.v1.Health/Check` on port 9000, and nothing else.
//!
//! The process as a whole serves until there is a file `/tmp/ill`, the service `shop.Web` until there is `/tmp/busy`; it knows no other.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

const PORT: u16 = 9000;
const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug)]
struct Health;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), tonic::transport::Error> {
    Server::builder().add_service(Health).serve(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).await
}

impl NamedService for Health {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl Service<http::Request<Body>> for Health {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = *self;
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(method, request).await) })
    }
}

impl UnaryService<HealthCheckRequest> for Health {
    type Response = HealthCheckResponse;
    type Future = Ready<Result<Response<HealthCheckResponse>, Status>>;

    fn call(&mut self, request: Request<HealthCheckRequest>) -> Self::Future {
        let obstacle = match request.get_ref().service.as_str() {
            "" => "/tmp/ill",
            "shop.Web" => "/tmp/busy",
            other => return ready(Err(Status::not_found(format!("there is no service `{other}`")))),
        };
        let status = if Path::new(obstacle).exists() { NOT_SERVING } else { SERVING };
        ready(Ok(Response::new(HealthCheckResponse { status })))
    }
}
