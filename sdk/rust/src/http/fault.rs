//! What the contract says for each way in which an HTTP exchange can fail. The host puts the reason for a refusal into
//! `internal-error`, because that is the only case of `wasi:http` with room for it.

use wasip2::http::types::{self, ErrorCode as Code};
use wasip2::io::streams::StreamError;

use super::Url;
use crate::{Error, ErrorKind};

/// An exchange with `url` failed.
pub(super) fn of_code(code: &Code, url: &Url) -> Error {
    let host = url.authority();
    let (kind, message) = match code {
        Code::InternalError(Some(reason)) => (ErrorKind::Denied, reason.clone()),
        Code::HttpRequestDenied => (ErrorKind::Denied, format!("the plugin is not allowed to reach {host}")),
        Code::DestinationIpProhibited => (ErrorKind::Denied, format!("the address of {host} is not allowed")),
        Code::TlsAlertReceived(alert) => {
            let reason = alert.alert_message.as_deref().unwrap_or("the TLS handshake failed");
            (ErrorKind::Denied, with_host(reason, host))
        }
        Code::TlsCertificateError => (ErrorKind::Denied, format!("the TLS certificate of {host} is not trusted")),
        Code::TlsProtocolError => (ErrorKind::Denied, format!("TLS with {host} failed")),
        Code::DnsError(payload) => {
            let reason = payload.rcode.as_deref().unwrap_or("the name was not found");
            (ErrorKind::Unavailable, with_host(reason, host))
        }
        Code::DnsTimeout => (ErrorKind::Unavailable, format!("looking up the address of {host} took too long")),
        Code::ConnectionRefused => (ErrorKind::Unavailable, format!("{host} refuses the connection")),
        Code::ConnectionTerminated | Code::HttpResponseIncomplete => {
            (ErrorKind::Unavailable, format!("{host} closed the connection early"))
        }
        Code::ConnectionTimeout => (ErrorKind::Unavailable, format!("no connection to {host} in time")),
        Code::ConnectionReadTimeout | Code::HttpResponseTimeout => {
            (ErrorKind::Unavailable, format!("{host} sends nothing for too long"))
        }
        Code::ConnectionWriteTimeout => (ErrorKind::Unavailable, format!("{host} takes nothing for too long")),
        Code::DestinationNotFound
        | Code::DestinationUnavailable
        | Code::DestinationIpUnroutable
        | Code::ConnectionLimitReached => (ErrorKind::Unavailable, format!("{host} cannot be reached")),
        Code::HttpProtocolError => (ErrorKind::Unavailable, format!("{host} does not answer in proper HTTP")),
        Code::HttpResponseHeaderSectionSize(_)
        | Code::HttpResponseHeaderSize(_)
        | Code::HttpResponseBodySize(_)
        | Code::HttpResponseTrailerSectionSize(_)
        | Code::HttpResponseTrailerSize(_) => (ErrorKind::Limit, format!("the answer of {host} is too large")),
        Code::HttpRequestMethodInvalid
        | Code::HttpRequestUriInvalid
        | Code::HttpRequestUriTooLong
        | Code::HttpRequestHeaderSectionSize(_)
        | Code::HttpRequestHeaderSize(_)
        | Code::HttpRequestTrailerSectionSize(_)
        | Code::HttpRequestTrailerSize(_)
        | Code::HttpRequestLengthRequired
        | Code::HttpRequestBodySize(_) => {
            (ErrorKind::InvalidInput, format!("the request to {host} cannot be sent: {code}"))
        }
        _ => (ErrorKind::Internal, format!("the exchange with {host} failed: {code}")),
    };
    Error::new(kind, message)
}

/// Reading or writing a body failed; none is the orderly end.
pub(super) fn of_stream(error: StreamError, url: &Url) -> Option<Error> {
    match error {
        StreamError::Closed => None,
        StreamError::LastOperationFailed(error) => Some(match types::http_error_code(&error) {
            Some(code) => of_code(&code, url),
            None => {
                // The host may put a backtrace of its own below the reason.
                let reason = error.to_debug_string().lines().next().unwrap_or_default().to_owned();
                Error::unavailable(format!("the connection to {} broke", url.authority())).because(reason)
            }
        }),
    }
}

fn with_host(reason: &str, host: &str) -> String {
    if reason.contains(host) { reason.to_owned() } else { format!("{host}: {reason}") }
}

#[cfg(test)]
mod tests {
    use wasip2::http::types::DnsErrorPayload;

    use super::*;

    #[test]
    fn reasons_of_the_host_reach_the_user() {
        let url: Url = "https://evil.example/x".parse().unwrap();
        let error = of_code(&Code::InternalError(Some("evil.example is not granted".into())), &url);
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Denied, "evil.example is not granted"));
        let error =
            of_code(&Code::DnsError(DnsErrorPayload { rcode: Some("no such name".into()), info_code: None }), &url);
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unavailable, "evil.example: no such name"));
        assert_eq!(of_code(&Code::InternalError(None), &url).kind, ErrorKind::Internal);
        assert_eq!(of_code(&Code::ConnectionTerminated, &url).kind, ErrorKind::Unavailable);
    }
}
