//! The client and the hooks against servers that behave and servers that do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::Request;
use async_trait::async_trait;
use futures::FutureExt;
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime_wasi_http::WasiBody;

use super::address::Reach;
use super::*;
use crate::testing::certificates::Certificates;
use crate::testing::server::{Server, answer, raw, unix_echo};

/// Every name is this machine.
struct Rebound;

#[async_trait]
impl Resolver for Rebound {
    async fn resolve(&self, _: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![([127, 0, 0, 1], port).into()])
    }
}

fn settings() -> Settings {
    Settings { resolver: Some(Arc::new(Rebound)), idle_timeout: Duration::from_millis(300), ..Settings::default() }
}

fn client() -> Client {
    Client::new(settings()).unwrap()
}

fn get(url: &str) -> Request<WasiBody> {
    Request::get(url).body(Empty::new().map_err(|never| match never {}).boxed_unsync()).unwrap()
}

fn post(url: &str, body: Vec<u8>) -> Request<WasiBody> {
    Request::post(url).body(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()).unwrap()
}

async fn text(client: &Client, url: &str, reach: Reach) -> Result<String, Error> {
    let body = client.send(get(url), &SendOptions::to(reach)).await?.into_body().collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

#[tokio::test]
async fn connections_are_kept_and_replaced() {
    let server = Server::start(|request| async move { answer(200, &[], request.uri().to_string()) }.boxed()).await;
    let client = client();
    for i in 0..5 {
        let path = format!("/{i}?q");
        assert_eq!(text(&client, &server.url(&path), Reach::LOOPBACK).await.unwrap(), path);
        settle().await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_died_is_no_fault() {
    // Answers one request per connection with keep-alive, then closes without a word when the next one comes.
    let address = raw(|_, mut tcp| {
        async move {
            let mut buffer = [0; 4096];
            let _ = tcp.read(&mut buffer).await;
            let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = tcp.read(&mut buffer).await;
        }
        .boxed()
    })
    .await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(text(&client, &format!("http://{address}/"), Reach::LOOPBACK).await.unwrap(), "ok");
        settle().await;
    }
    // A POST that was sent must not be sent twice.
    let sent = client.send(post(&format!("http://{address}/"), vec![1]), &SendOptions::to(Reach::LOOPBACK)).await;
    assert!(matches!(sent, Err(Error::Closed { .. })));
}

#[tokio::test]
async fn silence_ends_a_request() {
    let address = raw(|number, mut tcp| {
        async move {
            let mut buffer = [0; 4096];
            let _ = tcp.read(&mut buffer).await;
            if number > 0 {
                let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        .boxed()
    })
    .await;
    let url = format!("http://{address}/");
    assert!(matches!(text(&client(), &url, Reach::LOOPBACK).await, Err(Error::ReadTimeout { .. })), "no head");
    assert!(matches!(text(&client(), &url, Reach::LOOPBACK).await, Err(Error::ReadTimeout { .. })), "half a body");
}

#[tokio::test]
async fn a_slow_reader_is_not_blamed() {
    let server = Server::start(|_| async { answer(200, &[], vec![7; 4 << 20]) }.boxed()).await;
    let answer = client().send(get(&server.url("/")), &SendOptions::to(Reach::LOOPBACK)).await.unwrap();
    let mut body = answer.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let rest = body.collect().await.unwrap().to_bytes().len();
    assert_eq!(first + rest, 4 << 20);
}

#[tokio::test]
async fn broken_answers_are_told_apart() {
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    for (bytes, expected) in [
        (huge.as_str(), "header section of the answer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfour", "closed the connection before the end"),
        ("", "closed the connection before the end"),
        ("SSH-2.0-OpenSSH_9\r\n\r\n", "invalid HTTP"),
    ] {
        let bytes = bytes.to_owned();
        let address = raw(move |_, mut tcp| {
            let bytes = bytes.clone();
            async move {
                let mut buffer = [0; 4096];
                let _ = tcp.read(&mut buffer).await;
                let _ = tcp.write_all(bytes.as_bytes()).await;
            }
            .boxed()
        })
        .await;
        let error = text(&client(), &format!("http://{address}/"), Reach::LOOPBACK).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = text(&client(), &format!("http://{nobody}/"), Reach::LOOPBACK).await.unwrap_err();
    assert!(matches!(wasmtime_wasi_http::Error::from(error), wasmtime_wasi_http::Error::ConnectionRefused));
}

#[tokio::test]
async fn names_may_not_lead_home() {
    let server = Server::start(|_| async { answer(200, &[], "inside") }.boxed()).await;
    let client = client();
    let url = format!("http://public.example:{}/", server.address.port());
    let error = text(&client, &url, Reach::PUBLIC).await.unwrap_err().to_string();
    assert!(error.contains("public.example resolves to 127.0.0.1, a loopback address"), "{error}");
    assert_eq!(server.connections(), 0);
    // A connection made under a wider grant does not serve a narrower one.
    assert_eq!(text(&client, &url, Reach::NAMED_BY_USER).await.unwrap(), "inside");
    settle().await;
    assert!(matches!(text(&client, &url, Reach::PUBLIC).await, Err(Error::AddressDenied { .. })));
    assert!(matches!(text(&client, &server.url("/"), Reach::PUBLIC).await, Err(Error::AddressDenied { .. })));
}

#[tokio::test]
async fn own_authorities_and_client_certificates() {
    let certificates = Certificates::make();
    let server = Server::start_tls(&certificates, true, |_| async { answer(200, &[], "secure") }.boxed()).await;
    let authority = format!("x.test:{}", server.address.port());
    let url = format!("https://{authority}/");
    let error = text(&client(), &url, Reach::LOOPBACK).await.unwrap_err();
    assert!(error.to_string().contains("an authority that is not known here"), "{error}");
    let wasmtime_wasi_http::Error::TlsAlertReceived { alert_message: Some(told), .. } = error.into() else {
        panic!("no text for the guest")
    };
    for advice in [format!("--registry-ca {authority}=FILE"), format!("certs.d/{authority}/ca.crt")] {
        assert!(told.contains(&advice), "{told}");
    }
    let with = |with_client: bool| {
        let tls = TlsSettings {
            certificate_directories: vec![certificates.certs_d(&authority, with_client)],
            ..Default::default()
        };
        Client::new(Settings { tls, ..settings() }).unwrap()
    };
    assert!(text(&with(false), &url, Reach::LOOPBACK).await.is_err());
    assert_eq!(text(&with(true), &url, Reach::LOOPBACK).await.unwrap(), "secure");
    let elsewhere = format!("https://y.test:{}/", server.address.port());
    assert!(text(&with(true), &elsewhere, Reach::LOOPBACK).await.is_err(), "trusted for one host only");
}

#[tokio::test]
async fn proxies_tunnel_tls_and_fetch_the_rest() {
    let certificates = Certificates::make();
    let server = Server::start_tls(&certificates, false, |_| async { answer(200, &[], "through") }.boxed()).await;
    let port = server.address.port();
    let proxy = raw(move |_, mut tcp| {
        async move {
            let mut buffer = [0; 4096];
            let length = tcp.read(&mut buffer).await.unwrap();
            let head = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if head.starts_with("CONNECT x.test:") && head.contains("Proxy-Authorization: Basic YTpi") {
                let mut inner = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tcp.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tcp, &mut inner).await;
            } else if head.starts_with("CONNECT") {
                let _ = tcp.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
            } else {
                let line = head.lines().next().unwrap();
                let _ = tcp
                    .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len()).as_bytes())
                    .await;
            }
        }
        .boxed()
    })
    .await;
    let authority = format!("x.test:{port}");
    let through = |user: &str| {
        let tls = TlsSettings {
            certificate_directories: vec![certificates.certs_d(&authority, false)],
            ..Default::default()
        };
        let url = format!("http://{user}@{proxy}");
        let proxies = ProxySettings { http: Some(url.clone()), https: Some(url), no_proxy: None };
        Client::new(Settings { tls, proxies, ..settings() }).unwrap()
    };
    assert_eq!(text(&through("a:b"), &format!("https://{authority}/"), Reach::PUBLIC).await.unwrap(), "through");
    let error = text(&through("a:x"), &format!("https://{authority}/"), Reach::PUBLIC).await.unwrap_err().to_string();
    assert!(error.contains("407") && !error.contains("a:x"), "{error}");
    let plain = text(&through("a:b"), "http://plain.test/x?y", Reach::PUBLIC).await.unwrap();
    assert_eq!(plain, "GET http://plain.test/x?y HTTP/1.1");
    assert!(
        text(&through("a:b"), "http://10.0.0.1/", Reach::PUBLIC).await.is_err(),
        "an address is checked before the proxy"
    );
}

fn hooks(grants: HttpGrants) -> Hooks {
    Hooks::new(client(), HttpGrants { plugin: "chat".into(), ..grants })
}

async fn through(hooks: &Hooks, url: &str) -> Result<(u16, String), Error> {
    let answer = hooks.send(get(url), None).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

#[tokio::test]
async fn what_is_not_granted_is_denied_with_the_line_to_add() {
    let server =
        Server::start(|_| async { answer(302, &[("location", "http://other.example/")], "moved") }.boxed()).await;
    let rule: Rule = format!("GET http://{}/api/*", server.address).parse().unwrap();
    let hooks = hooks(HttpGrants { rules: vec![rule], ..Default::default() });
    // The redirect is the guest's to follow; where it leads is not granted.
    assert_eq!(through(&hooks, &server.url("/api/x")).await.unwrap(), (302, "moved".into()));
    let error = through(&hooks, "http://other.example/").await.unwrap_err().to_string();
    assert!(error.contains("plugins: { chat: { allow: { http: [\"http://other.example\"] } } }"), "{error}");
    let error = through(&hooks, &server.url("/admin")).await.unwrap_err().to_string();
    assert!(error.contains(&format!("GET {}", server.url("/admin"))), "{error}");
    let denied = hooks.send(post(&server.url("/api/x"), vec![]), None).await.unwrap_err();
    let wasmtime_wasi_http::Error::InternalError(Some(text)) = denied.into() else { panic!("no text for the guest") };
    assert!(text.contains("POST"), "{text}");
    assert_eq!(server.requests(), ["GET /api/x"]);
}

#[tokio::test]
async fn the_server_hears_the_host_that_was_checked() {
    let server = Server::start(|request| {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        async move { answer(200, &[], host) }.boxed()
    })
    .await;
    let hooks = hooks(HttpGrants { rules: vec![server.url("").parse().unwrap()], ..Default::default() });
    let mut request = get(&server.url("/"));
    request.headers_mut().insert("host", "other.example".parse().unwrap());
    let body = hooks.send(request, None).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, server.address.to_string());
    let error = through(&hooks, &format!("http://user:pass@{}/?token", server.address)).await.unwrap_err().to_string();
    assert!(!error.contains("pass") && !error.contains("token"), "{error}");
    let mut tunnel = get(&server.url("/"));
    *tunnel.method_mut() = ::http::Method::CONNECT;
    assert!(matches!(hooks.send(tunnel, None).await, Err(Error::InvalidRequest(_))));
    let mut head = get(&server.url("/"));
    *head.method_mut() = ::http::Method::HEAD;
    drop(hooks.send(head, None).await.unwrap());
    settle().await;
    through(&hooks, &server.url("/")).await.unwrap();
    assert_eq!(server.connections(), 1, "an answer without a body gives its connection back at once");
}

#[tokio::test]
async fn a_service_is_a_socket_with_limits() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service {
        authority: "docker.local".into(),
        socket: unix_echo(directory.path()),
        requests: vec![vec![(vec!["GET".into()], Some("/v1.*/containers/**".into()))]],
    };
    let hooks = hooks(HttpGrants { services: vec![service], ..Default::default() });
    let (_, echo) = through(&hooks, "http://docker.local/v1.43/containers/json?all=1").await.unwrap();
    assert_eq!(echo, "GET /v1.43/containers/json?all=1 docker.local");
    let error = through(&hooks, "http://docker.local/v1.43/secrets").await.unwrap_err().to_string();
    assert!(error.contains("GET /v1.*/containers/**"), "{error}");
}

#[tokio::test]
async fn a_registry_may_point_at_its_like_and_not_at_others() {
    let cdn = Server::start(|_| async { answer(200, &[], "blob") }.boxed()).await;
    let (near, far) = (cdn.url("/blob"), "http://10.0.0.1/blob".to_owned());
    let there = near.clone();
    let server = Server::start(move |request| {
        let to = if request.uri().path() == "/near" { there.clone() } else { far.clone() };
        async move { answer(307, &[("location", &to)], "") }.boxed()
    })
    .await;
    let hooks = hooks(HttpGrants { registry: Some((server.address.to_string(), true)), ..Default::default() });
    assert!(matches!(through(&hooks, &near).await, Err(Error::Denied(_))), "nobody has named it yet");
    assert_eq!(through(&hooks, &server.url("/near")).await.unwrap().0, 307);
    assert_eq!(through(&hooks, &near).await.unwrap(), (200, "blob".into()));
    assert_eq!(through(&hooks, &server.url("/far")).await.unwrap().0, 307);
    assert!(matches!(through(&hooks, "http://10.0.0.1/blob").await, Err(Error::AddressDenied { .. })));
}

#[tokio::test]
async fn a_registry_that_speaks_tls_is_found_out() {
    let certificates = Certificates::make();
    let server = Server::start_tls(&certificates, false, |_| async { answer(200, &[], "") }.boxed()).await;
    let (host, client) = (server.address.to_string(), client());
    let registry = |plain_http| {
        let grants = HttpGrants { registry: Some((host.clone(), plain_http)), ..Default::default() };
        let trouble = grants.tls_trouble.clone();
        (Hooks::new(client.clone(), grants), trouble)
    };
    let (plain, trouble) = registry(true);
    assert!(!client.is_only_tls(&host));
    assert!(matches!(through(&plain, &server.url("/v2/")).await, Err(Error::OnlyTls { .. })));
    assert!(client.is_only_tls(&host) && !client.is_only_tls("127.0.0.1"));
    assert_eq!(trouble.get(), Some(&TlsTrouble { hint: None }));
    let (secure, trouble) = registry(false);
    let error = through(&secure, &format!("https://{host}/v2/")).await.unwrap_err().to_string();
    assert!(error.contains("not known here") && !error.contains("certs.d"), "{error}");
    let hint = trouble.get().and_then(|trouble| trouble.hint.clone()).unwrap_or_default();
    assert!(hint.contains(&format!("--registry-ca {host}=FILE")), "{hint}");
}

#[tokio::test]
async fn a_registry_without_tls_is_believed() {
    for (status, kind, connections) in
        [(200, "text/plain", 1), (400, "application/json", 1), (404, "text/plain", 1), (400, "text/plain", 2)]
    {
        let server =
            Server::start(move |_| async move { answer(status, &[("content-type", kind)], "said") }.boxed()).await;
        let (host, client) = (server.address.to_string(), client());
        let hooks =
            Hooks::new(client.clone(), HttpGrants { registry: Some((host.clone(), true)), ..Default::default() });
        assert_eq!(through(&hooks, &server.url("/v2/")).await.unwrap(), (status, "said".into()));
        assert!(!client.is_only_tls(&host));
        assert_eq!(server.connections(), connections, "{status} {kind}");
    }
}

#[tokio::test]
async fn uploads_stream_and_reuse_the_connection() {
    let server = Server::start(|request| {
        async move {
            let length = request.into_body().collect().await.unwrap().to_bytes().len();
            answer(201, &[], length.to_string())
        }
        .boxed()
    })
    .await;
    let client = client();
    for _ in 0..3 {
        let sent =
            client.send(post(&server.url("/"), vec![1; 3 << 20]), &SendOptions::to(Reach::LOOPBACK)).await.unwrap();
        assert_eq!(sent.into_body().collect().await.unwrap().to_bytes(), "3145728");
        settle().await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_policy_caps_rules_registries_and_redirections() {
    let target = Server::start(|_| async { answer(200, &[], "there") }.boxed()).await;
    let to = target.url("/blob");
    let server = Server::start(move |_| {
        let to = to.clone();
        async move { answer(307, &[("location", &to)], "") }.boxed()
    })
    .await;
    let cap = |rules: &[String], registry: bool| {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Some((crate::grants::HttpCap { rules, registry, redirects: false }, "`allow.http` in policy.yaml".to_owned()))
    };
    let denied = |answer: Result<(u16, String), Error>| {
        let text = answer.unwrap_err().to_string();
        assert!(text.contains("policy of this host does not permit it") && text.contains("policy.yaml"), "{text}");
    };
    let own = server.url("");
    let rule = || vec![own.parse().unwrap()];
    let with = |rules: Vec<Rule>, cap| hooks(HttpGrants { rules, cap, ..Default::default() });
    denied(through(&with(rule(), cap(&[], false)), &server.url("/x")).await);
    denied(through(&with(rule(), cap(&[server.url("/y")], false)), &server.url("/x")).await);
    denied(through(&with(rule(), cap(&[format!("POST {own}")], false)), &server.url("/x")).await);
    assert_eq!(through(&with(rule(), cap(std::slice::from_ref(&own), false)), &server.url("/x")).await.unwrap().0, 307);
    let text = through(&with(Vec::new(), cap(std::slice::from_ref(&own), false)), &server.url("/x"))
        .await
        .unwrap_err()
        .to_string();
    assert!(!text.contains("policy of this host"), "a cap allows nothing by itself: {text}");

    // Where a registry points is capped, too, unless the policy has the word for it.
    let registry = Some((server.address.to_string(), true));
    let of_registry = |cap| hooks(HttpGrants { registry: registry.clone(), cap, ..Default::default() });
    let narrow = of_registry(cap(std::slice::from_ref(&own), false));
    assert_eq!(through(&narrow, &server.url("/x")).await.unwrap().0, 307);
    denied(through(&narrow, &target.url("/blob")).await);
    let wide = of_registry(cap(&[], true));
    assert_eq!(through(&wide, &server.url("/x")).await.unwrap().0, 307);
    assert_eq!(through(&wide, &target.url("/blob")).await.unwrap().1, "there");
}
