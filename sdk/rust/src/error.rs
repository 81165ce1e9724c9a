//! Making, enriching and converting the contract's error. It knows the kinds, not which faults plugins have.

use crate::{Error, ErrorKind, Location, Result};

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident,)+) => {
        impl Error {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })+
        }
    };
}

constructors! {
    /// The request itself is wrong: mend the input and call again.
    invalid_input => InvalidInput,
    /// What was named does not exist.
    not_found => NotFound,
    /// A grant, a policy or the far side refuses.
    denied => Denied,
    /// The far side wants (other) credentials.
    unauthenticated => Unauthenticated,
    /// The state of things contradicts the request.
    conflict => Conflict,
    /// A passing fault: the same call may succeed later.
    unavailable => Unavailable,
    /// The user or a deadline stopped the call.
    cancelled => Cancelled,
    /// Well formed, but this plugin cannot do it.
    unsupported => Unsupported,
    /// A limit was reached.
    limit => Limit,
    /// A defect in the plugin or in the host.
    internal => Internal,
}

impl Error {
    /// An error of a kind. The message is one sentence without a full stop: what happened to what.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new(), hint: None, location: None, retry_after: None }
    }

    /// Says what was being done: `message` becomes the message, and what the message was becomes the first cause.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, message.into());
        self.context.insert(0, cause);
        self
    }

    /// Adds a cause below all others.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.context.push(cause.into());
        self
    }

    /// Says what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says where the user wrote what is wrong.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// Says when another try may succeed, in milliseconds; for `unavailable`.
    #[must_use]
    pub fn retry_after(mut self, milliseconds: u32) -> Self {
        self.retry_after = Some(milliseconds);
        self
    }
}

impl From<std::io::Error> for Error {
    /// An error of the contract that went through `std::io` comes out as it was.
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return inner.clone();
        }
        let kind = match error.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::PermissionDenied => ErrorKind::Denied,
            Io::InvalidInput | Io::InvalidData => ErrorKind::InvalidInput,
            Io::AlreadyExists => ErrorKind::Conflict,
            Io::Unsupported => ErrorKind::Unsupported,
            Io::OutOfMemory | Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::Limit,
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NotConnected
            | Io::BrokenPipe
            | Io::UnexpectedEof
            | Io::TimedOut
            | Io::WouldBlock
            | Io::Interrupted => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind {
            ErrorKind::InvalidInput => Io::InvalidInput,
            ErrorKind::NotFound => Io::NotFound,
            ErrorKind::Denied | ErrorKind::Unauthenticated => Io::PermissionDenied,
            ErrorKind::Unsupported => Io::Unsupported,
            _ => Io::Other,
        };
        Self::new(kind, error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::invalid_input(error.to_string())
    }
}

impl From<std::string::FromUtf8Error> for Error {
    fn from(error: std::string::FromUtf8Error) -> Self {
        Self::invalid_input(format!("not UTF-8: {error}"))
    }
}

impl From<std::fmt::Error> for Error {
    fn from(error: std::fmt::Error) -> Self {
        Self::internal(error.to_string())
    }
}

/// Enriches the error of a result on its way up.
pub trait Context<T> {
    /// Says what was being done; see [`Error::context`].
    fn context(self, message: impl Into<String>) -> Result<T>;
    /// The same, made only when it is needed.
    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
    /// Says what the user can do; a hint that is there already stays, because it knew more.
    fn hint(self, hint: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl Into<String>) -> Result<T> {
        self.with_context(|| message)
    }

    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| error.into().context(message()))
    }

    fn hint(self, hint: impl Into<String>) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            if error.hint.is_some() { error } else { error.hint(hint) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_puts_the_outermost_cause_first() {
        let result: Result<()> = Err(Error::not_found("no file a").because("disk on fire"));
        let error = result.context("cannot read the recipe").with_context(|| "cannot bake").unwrap_err();
        assert_eq!(error.message, "cannot bake");
        assert_eq!(error.context, ["cannot read the recipe", "no file a", "disk on fire"]);
        assert_eq!(error.kind, ErrorKind::NotFound);
    }

    #[test]
    fn the_innermost_hint_wins() {
        let result: Result<()> = Err(Error::denied("no").hint("ask the owner"));
        assert_eq!(result.hint("try again").unwrap_err().hint.as_deref(), Some("ask the owner"));
        let result = Err::<(), _>(std::io::Error::from(std::io::ErrorKind::NotFound)).hint("make it");
        assert_eq!(result.unwrap_err().hint.as_deref(), Some("make it"));
    }

    #[test]
    fn an_error_survives_the_way_through_io() {
        let error = Error::unavailable("far side is away").hint("wait").retry_after(1500);
        assert_eq!(Error::from(std::io::Error::from(error.clone())), error);
        let plain = Error::from(std::io::Error::new(std::io::ErrorKind::TimedOut, "slow"));
        assert_eq!((plain.kind, plain.message.as_str()), (ErrorKind::Unavailable, "slow"));
    }
}
