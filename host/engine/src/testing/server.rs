//! A small HTTP server whose answers a test writes itself, and raw TCP for what no HTTP library would send.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ::http::{Request, Response};
use futures::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use wasmtime_wasi_http::io::TokioIo;

use super::certificates::Certificates;

/// The body of an answer.
pub(crate) type Answer = Response<BoxBody<Bytes, std::io::Error>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// An answer with a status, headers and a short body.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(body.into()).map_err(|never| match never {}).boxed()).unwrap()
}

/// A running server; it ends when this is dropped.
pub(crate) struct Server {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Plain HTTP.
    pub async fn start<F>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
    {
        Self::serve(None, Arc::new(handler)).await
    }

    /// HTTPS with the certificate made by `certificates`.
    pub async fn start_tls<F>(certificates: &Certificates, want_client: bool, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
    {
        Self::serve(Some(tls_acceptor(certificates, want_client)), Arc::new(handler)).await
    }

    async fn serve(tls: Option<tokio_rustls::TlsAcceptor>, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<Vec<String>>>::default());
        let (count, log) = (connections.clone(), requests.clone());
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (handler, log, tls) = (handler.clone(), log.clone(), tls.clone());
                open.spawn(async move {
                    match tls {
                        None => drop(converse(tcp, handler, log).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                drop(converse(stream, handler, log).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, connections, requests, task }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// `METHOD URI` of each request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// `http://127.0.0.1:PORT` and `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse<S>(stream: S, handler: Handler, log: Arc<Mutex<Vec<String>>>) -> hyper::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        log.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        let answer = handler(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
}

fn tls_acceptor(certificates: &Certificates, want_client: bool) -> tokio_rustls::TlsAcceptor {
    let pem = |name: &str| std::fs::read(certificates.path(name)).unwrap();
    let chain = |name: &str| rustls_pemfile::certs(&mut pem(name).as_slice()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = rustls_pemfile::private_key(&mut pem("server.key").as_slice()).unwrap().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = if want_client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(chain("ca.crt").remove(0)).unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    Arc::new(builder.with_single_cert(chain("server.crt"), key).unwrap()).into()
}

/// A server on a unix socket that answers each request with its request line.
pub(crate) fn unix_echo(directory: &Path) -> PathBuf {
    let path = directory.join("service.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler: Handler = Arc::new(|request| {
                let host = request.headers()["host"].to_str().unwrap().to_owned();
                let line = format!("{} {} {host}", request.method(), request.uri());
                Box::pin(async move { answer(200, &[], line) })
            });
            tokio::spawn(converse(stream, handler, Arc::default()));
        }
    });
    path
}

/// Accepts connections and gives each, by its number, to `serve`.
pub(crate) async fn raw<F>(serve: F) -> SocketAddr
where
    F: Fn(usize, TcpStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((tcp, _)) = listener.accept().await else { return };
            tokio::spawn(serve(number, tcp));
        }
    });
    address
}
