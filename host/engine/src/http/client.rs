//! The client: one request over a pooled or new connection. It follows no redirect, keeps no cookie, retries nothing
//! that the far side may have seen.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::io::TokioIo;

use super::Error;
use super::address::{Reach, literal};
use super::body::{RequestBody, ResponseBody};
use super::connect::{Connector, Resolver, SystemResolver, admitted, open_unix};
use super::pool::{Connection, Key, Lease, Pool};
use super::proxy::{Proxies, Proxy, ProxySettings};
use super::rule::Origin;
use super::tls::{Tls, TlsSettings};
use super::transport::Transport;

/// How long a server may take to begin TLS when it is only asked whether it does.
const ASKING: Duration = Duration::from_secs(2);

/// How a client behaves.
#[derive(Clone)]
pub struct Settings {
    /// Whom to trust.
    pub tls: TlsSettings,
    /// Which proxies to use.
    pub proxies: ProxySettings,
    /// Look-up, TCP, proxy and TLS together.
    pub connect_timeout: Duration,
    /// Silence of the far side while it is waited for.
    pub idle_timeout: Duration,
    /// Idle connections kept per authority.
    pub idle_connections: usize,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// Largest header section of an answer in bytes.
    pub header_limit: usize,
    /// Finds addresses; none is the system.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// Carries the requests of plugins; none is the network. With one nothing else reaches the network either.
    pub transport: Option<Arc<dyn Transport>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls: TlsSettings::default(),
            proxies: ProxySettings::default(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            idle_connections: 8,
            keep_alive: Duration::from_secs(15),
            header_limit: 64 * 1024,
            resolver: None,
            transport: None,
        }
    }
}

/// What is special about one request.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// Which addresses it may be sent to.
    pub reach: Reach,
    /// Speak to this unix socket instead of the network.
    pub socket: Option<PathBuf>,
    /// Instead of the client's connect timeout.
    pub connect_timeout: Option<Duration>,
    /// Instead of the client's idle timeout, until the head of the answer.
    pub first_byte_timeout: Option<Duration>,
    /// Instead of the client's idle timeout, between chunks of the answer.
    pub between_bytes_timeout: Option<Duration>,
}

impl SendOptions {
    /// No particular wishes.
    pub fn to(reach: Reach) -> Self {
        Self { reach, socket: None, connect_timeout: None, first_byte_timeout: None, between_bytes_timeout: None }
    }
}

/// The address that answered, among the extensions of an answer. Absent behind a proxy or on a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// An HTTP/1.1 client with a connection pool. Clones share the pool.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    connector: Connector,
    proxies: Proxies,
    pool: Arc<Pool>,
    settings: Settings,
    /// `host:port` of servers that were asked without TLS, and speak it.
    only_tls: Mutex<HashSet<String>>,
}

struct Failure {
    error: Error,
    /// The request, if not a byte of it was sent.
    unsent: Option<Request<RequestBody>>,
}

impl Client {
    /// Checks the settings; opens no connection and reads no certificate yet.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let resolver = settings.resolver.clone().unwrap_or_else(|| Arc::new(SystemResolver));
        Ok(Self(Arc::new(Inner {
            connector: Connector { resolver, tls: Tls::new(settings.tls.clone()) },
            proxies: Proxies::new(&settings.proxies)?,
            pool: Pool::new(settings.idle_connections, settings.keep_alive),
            settings,
            only_tls: Mutex::default(),
        })))
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.0.connector
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// PEM files of authorities that the user trusts for this host beyond the general ones.
    pub fn own_authorities(&self, host: &str, port: u16) -> Vec<PathBuf> {
        self.0.connector.tls.own_authorities(host, port)
    }

    /// Whether a registry (`host:port`) was found to speak TLS where plain HTTP was expected.
    pub fn is_only_tls(&self, host: &str) -> bool {
        // Without a port in the name, TLS would be spoken on another one.
        let origin = Origin::of_authority(true, host);
        origin.is_some_and(|origin| self.0.only_tls.lock().expect("not poisoned").contains(&origin.authority()))
    }

    /// Asks a server that does not answer plain HTTP as it should whether it speaks TLS, and remembers it if so.
    /// Whether its certificate is trusted is not the question.
    pub async fn ask_for_tls(&self, origin: &Origin, reach: Reach) -> bool {
        // Behind a proxy it is the proxy that answers, and the server may not be reached without it.
        if self.0.settings.transport.is_some() || self.0.proxies.select(false, &origin.host, origin.port).is_some() {
            return false;
        }
        let secure = Origin { https: true, ..origin.clone() };
        let speaks = match self.0.connector.open(&secure, None, reach, ASKING).await {
            Ok(_) | Err(Error::Tls { .. }) => true,
            Err(_) => false,
        };
        if speaks {
            self.0.only_tls.lock().expect("not poisoned").insert(origin.authority());
        }
        speaks
    }

    /// Sends one request with an absolute `http` or `https` URL and gives the answer once its head is there.
    pub async fn send(
        &self,
        request: Request<WasiBody>,
        options: &SendOptions,
    ) -> Result<Response<ResponseBody>, Error> {
        let uri = request.uri().clone();
        let origin = Origin::of(&uri).ok_or_else(|| Error::not_a_url(&uri))?;
        // Its answer would turn the connection into a tunnel past every check.
        if request.method() == Method::CONNECT {
            return Err(Error::InvalidRequest("the method CONNECT is for proxies".into()));
        }
        if options.socket.is_none()
            && let Some(address) = literal(&origin.host)
        {
            admitted(vec![(address, origin.port).into()], &origin, options.reach)?;
        }
        let frames = Arc::new(AtomicU64::new(0));
        let mut request = prepare(request, &origin, &frames)?;
        let key = match &options.socket {
            Some(path) => Key::Socket(path.clone()),
            None => Key::Network(origin.clone()),
        };
        let proxy = match &options.socket {
            Some(_) => None,
            None => self.0.proxies.select(origin.https, &origin.host, origin.port),
        };
        *request.uri_mut() = target(&uri, proxy, &origin)?;
        if let (Some(Proxy { authorization: Some(value), .. }), false) = (proxy, origin.https) {
            let value = HeaderValue::from_str(value).map_err(|e| Error::InvalidRequest(e.to_string()))?;
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
        }
        let target = request.uri().clone();
        let again = replay(&request);
        while let Some(connection) = self.0.pool.take(&key, options.reach) {
            // The far side may close a kept connection at the very moment it is used. That is no fault, as long as
            // the request has not been acted upon.
            match self.exchange(connection, request, &key, &origin, options, &frames).await {
                Ok(answer) => return Ok(answer),
                Err(Failure { unsent: Some(unsent), .. }) => request = unsent,
                Err(Failure { error: Error::Closed { .. }, .. }) if again.is_some() => {
                    request = again.as_ref().map(|a| again_from(a, &frames)).expect("checked");
                    *request.uri_mut() = target.clone();
                }
                Err(Failure { error, .. }) => return Err(error),
            }
        }
        let connection = self.connect(&origin, proxy, options).await?;
        self.exchange(connection, request, &key, &origin, options, &frames).await.map_err(|failure| failure.error)
    }

    async fn connect(
        &self,
        origin: &Origin,
        proxy: Option<&Proxy>,
        options: &SendOptions,
    ) -> Result<Connection, Error> {
        let limit = options.connect_timeout.unwrap_or(self.0.settings.connect_timeout);
        let opened = match &options.socket {
            Some(path) => open_unix(path, limit).await?,
            None => self.0.connector.open(origin, proxy, options.reach, limit).await?,
        };
        let header_limit = self.0.settings.header_limit;
        let (sender, driver) = hyper::client::conn::http1::Builder::new()
            // The same buffer serves bodies, so it must not be as small as a head should be.
            .max_buf_size(header_limit.max(256 * 1024))
            .handshake(TokioIo::new(opened.stream))
            .await
            .map_err(|e| Error::from_hyper(e, &origin.authority(), header_limit))?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::trace!("connection ended: {error}");
            }
        });
        Ok(Connection { sender, peer: opened.peer })
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<RequestBody>,
        key: &Key,
        origin: &Origin,
        options: &SendOptions,
        frames: &AtomicU64,
    ) -> Result<Response<ResponseBody>, Failure> {
        let settings = &self.0.settings;
        let silence = options.first_byte_timeout.unwrap_or(settings.idle_timeout);
        let answer = {
            let mut sending = std::pin::pin!(connection.sender.try_send_request(request));
            let mut seen = frames.load(Ordering::Relaxed);
            loop {
                match tokio::time::timeout(silence, &mut sending).await {
                    Ok(answer) => break answer,
                    // As long as the body of the request moves, nobody is silent.
                    Err(_) if frames.load(Ordering::Relaxed) != seen => seen = frames.load(Ordering::Relaxed),
                    Err(_) => {
                        let error = Error::ReadTimeout { peer: origin.authority(), after: silence };
                        return Err(Failure { error, unsent: None });
                    }
                }
            }
        };
        let answer = answer.map_err(|mut failed| Failure {
            unsent: failed.take_message(),
            error: Error::from_hyper(failed.into_error(), &origin.authority(), settings.header_limit),
        })?;
        check_head(&answer, origin, settings.header_limit).map_err(|error| Failure { error, unsent: None })?;
        let peer = connection.peer;
        let lease = Lease { connection, key: key.clone(), pool: self.0.pool.clone() };
        let idle = options.between_bytes_timeout.unwrap_or(settings.idle_timeout);
        let mut answer =
            answer.map(|body| ResponseBody::new(body, lease, origin.authority(), idle, settings.header_limit));
        if let Some(peer) = peer {
            answer.extensions_mut().insert(Peer(peer));
        }
        Ok(answer)
    }
}

fn prepare(
    request: Request<WasiBody>,
    origin: &Origin,
    frames: &Arc<AtomicU64>,
) -> Result<Request<RequestBody>, Error> {
    let mut request = request.map(|inner| RequestBody { inner, frames: frames.clone() });
    // Always our own: the host that was checked is the host that the server hears.
    let value = HeaderValue::from_str(&origin.host_header()).map_err(|e| Error::InvalidRequest(e.to_string()))?;
    request.headers_mut().insert(header::HOST, value);
    Ok(request)
}

/// The request once more, if sending it twice does no harm: it has no body and only reads.
fn replay(request: &Request<RequestBody>) -> Option<Request<()>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    (reads && request.body().is_end_stream()).then(|| {
        let mut copy = Request::new(());
        *copy.method_mut() = request.method().clone();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}

fn again_from(copy: &Request<()>, frames: &Arc<AtomicU64>) -> Request<RequestBody> {
    let inner = Empty::new().map_err(|never| match never {}).boxed_unsync();
    copy.clone().map(|()| RequestBody { inner, frames: frames.clone() })
}

/// What goes into the request line: the path, or the whole URL for a proxy that is to fetch it.
fn target(uri: &Uri, proxy: Option<&Proxy>, origin: &Origin) -> Result<Uri, Error> {
    let path = uri.path_and_query().map_or("/", |p| if p.as_str().is_empty() { "/" } else { p.as_str() });
    let text = if proxy.is_some() && !origin.https { format!("{origin}{path}") } else { path.to_owned() };
    text.parse().map_err(|e: ::http::uri::InvalidUri| Error::InvalidRequest(e.to_string()))
}

fn check_head(answer: &Response<Incoming>, origin: &Origin, limit: usize) -> Result<(), Error> {
    let size: usize = answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > limit {
        return Err(Error::HeadersTooLarge { peer: origin.authority(), limit });
    }
    Ok(())
}
