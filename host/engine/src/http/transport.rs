//! What carries a request or a connection once it is allowed: the network, or what a test puts in its place. Knows no
//! grant; whatever comes here was checked.

use std::net::SocketAddr;

use ::http::{Request, Response};
use async_trait::async_trait;
use http_body_util::BodyExt;
use wasmtime_wasi_http::WasiBody;

use super::client::{Client, SendOptions};
use super::rule::Origin;
use super::{Error, Settings};

/// Carries requests with absolute URLs.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request and gives the answer once its head is there.
    async fn carry(&self, request: Request<WasiBody>, options: &SendOptions) -> Result<Response<WasiBody>, Error>;

    /// Where a connection for another protocol goes instead of to `HOST:PORT`; by default nowhere.
    ///
    /// # Errors
    /// What the guest is told instead.
    async fn lead(&self, authority: &str) -> Result<SocketAddr, Error> {
        Err(Error::Denied(format!("{authority}: this host has no network, only the HTTP exchanges it was given")))
    }
}

#[async_trait]
impl Transport for Client {
    async fn carry(&self, request: Request<WasiBody>, options: &SendOptions) -> Result<Response<WasiBody>, Error> {
        match &self.settings().transport {
            Some(transport) => transport.clone().carry(request, options).await,
            None => Ok(self.send(request, options).await?.map(|body| body.map_err(Into::into).boxed_unsync())),
        }
    }
}

impl Settings {
    /// Refuses what only the network can do, where something stands in for it.
    pub(super) fn only_network(&self, origin: &Origin) -> Result<(), Error> {
        match self.transport {
            Some(_) => Err(Error::Denied(format!(
                "{}: this host has no network, only the HTTP exchanges it was given",
                origin.authority()
            ))),
            None => Ok(()),
        }
    }
}
