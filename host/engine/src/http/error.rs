//! What can go wrong with one HTTP exchange, and what a guest is told of it.

use std::time::Duration;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No grant covers the request. The text says what is missing and which line grants it.
    #[error("{0}")]
    Denied(String),
    /// The request names no host, or has a form that cannot be sent.
    #[error("cannot send this request: {0}")]
    InvalidRequest(String),
    /// A setting of the user cannot be used (a certificate file, a proxy address).
    #[error("{what}: {reason}")]
    Configuration {
        /// Which setting or file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name has no address.
    #[error("cannot find the address of {host}: {reason}")]
    NameNotFound {
        /// The name.
        host: String,
        /// What the resolver says.
        reason: String,
    },
    /// All addresses of the name are of a kind that the grant does not cover.
    #[error(
        "{host} resolves to {address}, a {kind} address, and no grant allows that for this name; \
         write the address itself into the grant, or `local: true` beside the name"
    )]
    AddressDenied {
        /// The name.
        host: String,
        /// One of the addresses.
        address: std::net::IpAddr,
        /// Which kind it is.
        kind: &'static str,
    },
    /// Nobody listens.
    #[error("cannot connect to {peer}: {source}")]
    Connect {
        /// Host and port, or a socket path.
        peer: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The connection was not there in time.
    #[error("no connection to {peer} within {after:?}")]
    ConnectTimeout {
        /// Host and port.
        peer: String,
        /// How long was waited.
        after: Duration,
    },
    /// The TLS handshake failed.
    #[error("TLS with {peer}: {reason}")]
    Tls {
        /// Host and port.
        peer: String,
        /// What is wrong.
        reason: String,
        /// What the user can do, where that is known.
        hint: Option<String>,
    },
    /// TLS was begun, and the far side answered something else.
    #[error("TLS with {peer}: the server does not speak TLS ({reason})")]
    NoTls {
        /// Host and port.
        peer: String,
        /// What came instead.
        reason: String,
    },
    /// The far side speaks TLS, and was spoken to without.
    #[error("{peer} speaks TLS, and was asked without")]
    OnlyTls {
        /// Host and port.
        peer: String,
    },
    /// The proxy refuses to pass the connection on.
    #[error("proxy {proxy} answers {status} to CONNECT {peer}")]
    Proxy {
        /// The proxy, without its password.
        proxy: String,
        /// Status line or code.
        status: String,
        /// Host and port wanted.
        peer: String,
    },
    /// The service was asked to speak another protocol, and does not.
    #[error("{peer} answers {status} where it should switch to another protocol")]
    NotSwitched {
        /// Host and port.
        peer: String,
        /// Instead of 101.
        status: u16,
    },
    /// Nothing moved for too long.
    #[error("{peer} sends nothing for {after:?}")]
    ReadTimeout {
        /// Host and port.
        peer: String,
        /// How long was waited.
        after: Duration,
    },
    /// The head of the answer is larger than the limit.
    #[error("the header section of the answer of {peer} exceeds {limit} bytes")]
    HeadersTooLarge {
        /// Host and port.
        peer: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The connection ended before the answer did.
    #[error("{peer} closed the connection before the end of the answer")]
    Closed {
        /// Host and port.
        peer: String,
    },
    /// The far side does not speak HTTP/1.1 properly.
    #[error("{peer}: {source}")]
    Protocol {
        /// Host and port.
        peer: String,
        /// What hyper says.
        source: hyper::Error,
    },
}

impl Error {
    /// The URL is shown without user and query, which may hold secrets.
    pub(crate) fn not_a_url(uri: &::http::Uri) -> Self {
        let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
        let shown = format!("{scheme}://{host}{}", uri.path());
        Self::InvalidRequest(format!("{shown} must be an absolute http or https URL without a user in it"))
    }

    /// Sorts a failure of hyper; `limit` is the size allowed for a header section.
    pub(crate) fn from_hyper(error: hyper::Error, peer: &str, limit: usize) -> Self {
        let peer = peer.to_owned();
        if error.is_parse_too_large() {
            Self::HeadersTooLarge { peer, limit }
        } else if error.is_incomplete_message() || error.is_closed() || is_reset(&error) {
            Self::Closed { peer }
        } else {
            Self::Protocol { peer, source: error }
        }
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            return matches!(io.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof);
        }
        cause = inner.source();
    }
    false
}

/// For connections that speak another protocol.
impl From<Error> for cooperage_solve::Error {
    fn from(error: Error) -> Self {
        use cooperage_solve::ErrorKind;
        let kind = match &error {
            Error::Denied(_) | Error::AddressDenied { .. } => ErrorKind::Denied,
            Error::InvalidRequest(_) | Error::Configuration { .. } => ErrorKind::InvalidInput,
            _ => ErrorKind::Unavailable,
        };
        let made = Self::new(kind, error.to_string());
        match error {
            Error::Tls { hint: Some(hint), .. } => made.hint(hint),
            _ => made,
        }
    }
}

impl From<Error> for wasmtime_wasi_http::Error {
    /// Keeps the class where WASI has one, so that a guest can tell a passing fault from a refusal, and the text
    /// where the class has room for it.
    fn from(error: Error) -> Self {
        tracing::debug!("http: {error}");
        match error {
            Error::NameNotFound { .. } => Self::DnsError { rcode: Some(error.to_string()), info_code: None },
            // Nobody but the host knows which socket a service is; this case has room to say it.
            Error::Connect { ref peer, .. } if peer.starts_with('/') => {
                Self::DnsError { rcode: Some(error.to_string()), info_code: None }
            }
            Error::Connect { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused => {
                Self::ConnectionRefused
            }
            Error::Connect { .. } => Self::DestinationUnavailable,
            // The proxy says that it cannot reach the far side, not that it must not be reached.
            Error::Proxy { ref status, .. } if status.split(' ').nth(1).is_some_and(|code| code.starts_with('5')) => {
                Self::DestinationUnavailable
            }
            Error::ConnectTimeout { .. } => Self::ConnectionTimeout,
            Error::Tls { ref hint, .. } => {
                let advice = hint.iter().map(|hint| format!("; {hint}")).collect::<String>();
                Self::TlsAlertReceived { alert_id: None, alert_message: Some(format!("{error}{advice}")) }
            }
            Error::NoTls { .. } | Error::OnlyTls { .. } => {
                Self::TlsAlertReceived { alert_id: None, alert_message: Some(error.to_string()) }
            }
            Error::ReadTimeout { .. } => Self::ConnectionReadTimeout,
            Error::HeadersTooLarge { limit, .. } => {
                Self::HttpResponseHeaderSectionSize(Some(u32::try_from(limit).unwrap_or(u32::MAX)))
            }
            Error::Closed { .. } => Self::ConnectionTerminated,
            Error::Protocol { source, .. } => Self::Hyper(source),
            Error::Denied(_)
            | Error::AddressDenied { .. }
            | Error::InvalidRequest(_)
            | Error::Configuration { .. }
            | Error::NotSwitched { .. }
            | Error::Proxy { .. } => Self::InternalError(Some(error.to_string())),
        }
    }
}
