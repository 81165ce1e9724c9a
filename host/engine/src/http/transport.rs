//! What carries a request or a connection once it is allowed: the network, or what a test puts in its place. Knows no
//! grant; whatever comes here was checked.

use std::time::Duration;

use ::http::{Request, Response};
use async_trait::async_trait;
use http_body_util::BodyExt;
use wasmtime_wasi_http::WasiBody;

use super::address::Reach;
use super::client::{Client, SendOptions};
use super::rule::Origin;
use super::{Error, Line, Settings};

/// Carries requests with absolute URLs, and opens connections.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request and gives the answer once its head is there.
    async fn carry(&self, request: Request<WasiBody>, options: &SendOptions) -> Result<Response<WasiBody>, Error>;

    /// Opens a connection for another protocol, by default none. `limit` is the time that it may take.
    ///
    /// # Errors
    /// What the guest is told instead.
    async fn open(&self, host: &str, port: u16, _reach: Reach, _limit: Duration) -> Result<Box<dyn Line>, Error> {
        let origin = Origin { https: false, host: host.to_owned(), port };
        Err(no_network(&origin))
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

    async fn open(&self, host: &str, port: u16, reach: Reach, limit: Duration) -> Result<Box<dyn Line>, Error> {
        match &self.settings().transport {
            Some(transport) => transport.clone().open(host, port, reach, limit).await,
            None => Ok(Box::new(self.dial(host, port, reach, limit).await?)),
        }
    }
}

fn no_network(origin: &Origin) -> Error {
    Error::Denied(format!("{}: this host has no network, only the HTTP exchanges it was given", origin.authority()))
}

impl Settings {
    /// Refuses what only the network can do, where something stands in for it.
    pub(super) fn only_network(&self, origin: &Origin) -> Result<(), Error> {
        match self.transport {
            Some(_) => Err(no_network(origin)),
            None => Ok(()),
        }
    }
}
