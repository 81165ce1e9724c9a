//! What the engine may call in a session, and who answers.
//!
//! BuildKit has more methods for credentials, by which the secret of a registry need not leave this side: `FetchToken`,
//! `GetTokenAuthority` and `VerifyTokenAuthority`. An engine that is told of none of them asks for `Credentials`
//! (`CredentialsFunc` and `GetTokenAuthority` of `session/auth/auth.go`).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::Request;

use super::grpc::{Call, Status};
use super::messages::{
    CredentialsRequest, CredentialsResponse, GetSecretRequest, GetSecretResponse, HealthCheckRequest,
    HealthCheckResponse,
};
use super::wire::Wire;
use super::{Offers, diffcopy};

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
/// Those that the engine is told of. The `docker` command tells it of the first as well.
pub const ALL: [&str; 4] = [HEALTH, DIFF_COPY, CREDENTIALS, GET_SECRET];

const SERVING: i32 = 1;
/// How much the engine may say before it is heard. It says little: only requests. What it is sent is for it to bound.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A build has a handful of calls at a time.
const MOST_CALLS: u32 = 100;
/// A call has the ignore file and all paths that the Dockerfile copies in its header fields.
const LONGEST_HEADERS: u32 = 4 << 20;

/// Serves calls until the engine ends the session.
pub async fn serve(wire: Wire, offers: Rc<Offers>) -> Result<(), h2::Error> {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MOST_CALLS)
        .max_header_list_size(LONGEST_HEADERS);
    let mut connection = builder.handshake::<_, Bytes>(wire).await?;
    let mut calls: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    poll_fn(move |cx| {
        while let Poll::Ready(next) = connection.poll_accept(cx) {
            let Some(next) = next else { return Poll::Ready(Ok(())) };
            let (request, respond) = next?;
            calls.push(Box::pin(answer(offers.clone(), request, respond)));
        }
        // There are few of them, so nobody keeps account of which can go on.
        calls.retain_mut(|call| call.as_mut().poll(cx).is_pending());
        Poll::Pending
    })
    .await
}

async fn answer(offers: Rc<Offers>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, body) = request.into_parts();
    let Ok(mut call) = Call::accept(body, &mut respond) else { return };
    let outcome = match head.uri.path() {
        HEALTH => call.unary(|_: HealthCheckRequest| Ok(HealthCheckResponse { status: SERVING })).await,
        DIFF_COPY => diffcopy::answer(&offers, &head.headers, &mut call).await,
        CREDENTIALS => call.unary(|request| Ok(credentials(&offers, &request))).await,
        GET_SECRET => call.unary(|request| secret(&offers, &request)).await,
        other => Err(Status::unimplemented(format!("there is no method {other}"))),
    };
    // An engine that is gone, or has gone on to other things, wants no answer.
    let _ = call.end(outcome).await;
}

fn credentials(offers: &Offers, request: &CredentialsRequest) -> CredentialsResponse {
    let (username, secret) = (offers.credentials)(&request.host).unwrap_or_default();
    CredentialsResponse { username, secret }
}

fn secret(offers: &Offers, request: &GetSecretRequest) -> Result<GetSecretResponse, Status> {
    let data = offers.secrets.get(&request.id).cloned();
    let data = data.ok_or_else(|| Status::not_found(format!("the build has no secret {}", request.id)))?;
    Ok(GetSecretResponse { data })
}
