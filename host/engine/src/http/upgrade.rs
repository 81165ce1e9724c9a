//! A service's HTTP connection that is switched to another protocol. Who may do so is said by the service's grant: past
//! the switch nobody sees which requests are made.

use std::time::Duration;

use ::http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

use super::connect::{Stream, open_unix};
use super::hooks::Service;
use super::rule::{Origin, allows_path};
use super::{Error, Hooks};

/// Stands among the requests of a service's grant where switching is allowed.
const UPGRADE: &str = "UPGRADE";

impl Hooks {
    /// Sends a request to a service, and gives the stream that follows its answer 101.
    pub(crate) async fn upgrade(
        &self,
        mut request: Request<()>,
        protocol: &str,
        limit: Duration,
    ) -> Result<Box<dyn Stream>, Error> {
        let origin = Origin::of(request.uri()).ok_or_else(|| Error::not_a_url(request.uri()))?;
        let path = request.uri().path().to_owned();
        self.client().settings().only_network(&origin)?;
        let service = self.service(&origin).ok_or_else(|| {
            Error::Denied(format!("{origin}{path}: only a service that was granted can be asked to switch protocols"))
        })?;
        if !may_upgrade(service, &path) {
            return Err(self.denied_service(service, &Method::from_bytes(UPGRADE.as_bytes()).expect("a token"), &path));
        }
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| Error::InvalidRequest(error.to_string()));
        let headers = [(header::HOST, origin.host_header()), (header::UPGRADE, protocol.to_owned())];
        for (name, text) in headers {
            request.headers_mut().insert(name, value(&text)?);
        }
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let target = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse();
        *request.uri_mut() =
            target.map_err(|error: ::http::uri::InvalidUri| Error::InvalidRequest(error.to_string()))?;
        let late = || Error::ConnectTimeout { peer: origin.authority(), after: limit };
        let switching = switch(service, request, &origin, self.header_limit());
        tokio::time::timeout(limit, switching).await.unwrap_or_else(|_| Err(late()))
    }
}

/// A grant of everything includes it; a list must name it.
fn may_upgrade(service: &Service, path: &str) -> bool {
    let upgrade = Method::from_bytes(UPGRADE.as_bytes()).expect("a token");
    let fits = |(methods, pattern): &(Vec<String>, Option<String>)| {
        !methods.is_empty() && allows_path(methods, pattern.as_deref(), &upgrade, path)
    };
    service.requests.iter().all(|list| list.iter().any(fits))
}

async fn switch(
    service: &Service,
    request: Request<()>,
    origin: &Origin,
    header_limit: usize,
) -> Result<Box<dyn Stream>, Error> {
    let fault = |error| Error::from_hyper(error, &origin.authority(), header_limit);
    let opened = open_unix(&service.socket, Duration::MAX).await?;
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(opened.stream)).await.map_err(fault)?;
    tokio::spawn(driver.with_upgrades());
    let answer = sender.send_request(request.map(|()| Empty::<Bytes>::new())).await.map_err(fault)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::NotSwitched { peer: origin.authority(), status: answer.status().as_u16() });
    }
    Ok(Box::new(TokioIo::new(hyper::upgrade::on(answer).await.map_err(fault)?)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;
    use crate::http::{Client, HttpGrants, Settings};

    const SWITCHES: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nearly";

    /// What came of asking a service that answers `answer`, with `granted` among its requests.
    async fn ask(granted: &[&str], path: &str, answer: &'static str) -> Result<String, Error> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut said = [0; 4];
            // A client that is refused says nothing more.
            if stream.read_exact(&mut said).await.is_ok() {
                stream.write_all(&said).await.unwrap();
            }
            String::from_utf8(head).unwrap()
        });
        let line = |line: &&str| {
            let (methods, path) = line.split_once(' ').unwrap();
            let methods = methods.split(',').filter(|method| *method != "*").map(str::to_owned).collect();
            (methods, Some(path.to_owned()))
        };
        let list: Vec<_> = granted.iter().map(line).collect();
        let requests = if list.is_empty() { Vec::new() } else { vec![list] };
        let services = vec![Service { authority: "docker.local".into(), socket, requests }];
        let grants = HttpGrants { plugin: "p".into(), services, ..HttpGrants::default() };
        let hooks = Hooks::new(Client::new(Settings::default()).unwrap(), grants);
        let request = Request::post(format!("http://docker.local{path}")).header("x-id", "7").body(()).unwrap();
        let mut stream = hooks.upgrade(request, "h2c", Duration::from_secs(5)).await?;
        stream.write_all(b"ping").await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        let head = server.await.unwrap();
        for line in ["POST /session?a=1 HTTP/1.1", "host: docker.local", "upgrade: h2c", "x-id: 7"] {
            assert!(head.contains(line), "{head}");
        }
        Ok(heard)
    }

    #[tokio::test]
    async fn the_stream_follows_the_switch() {
        for granted in [&["UPGRADE /session"][..], &["GET /x", "POST,UPGRADE /s*"], &[]] {
            assert_eq!(ask(granted, "/session?a=1", SWITCHES).await.unwrap(), "earlyping", "{granted:?}");
        }
    }

    #[tokio::test]
    async fn who_may_send_a_request_may_not_switch_protocols() {
        for granted in [&["POST /session"][..], &["* /session"], &["UPGRADE /grpc"]] {
            let error = ask(granted, "/session?a=1", SWITCHES).await.unwrap_err();
            assert!(error.to_string().contains("UPGRADE /session"), "{error}");
        }
        let error = ask(&["UPGRADE /**"], "/session/../grpc", SWITCHES).await.unwrap_err();
        assert!(matches!(error, Error::Denied(_)), "{error}");
    }

    #[tokio::test]
    async fn other_answers_are_errors() {
        let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        let error = ask(&[], "/session?a=1", refusal).await.unwrap_err();
        assert!(matches!(error, Error::NotSwitched { status: 404, .. }), "{error}");
        assert!(ask(&[], "/session?a=1", "nonsense\r\n\r\n").await.is_err());
    }
}
