//! What can go wrong while a tree is evaluated, and where the user asked for it.

/// What a caller can do about a failure; the same list as the contract's `error-kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself is wrong.
    InvalidInput,
    /// What was named does not exist.
    NotFound,
    /// A grant, a policy or the far side refuses.
    Denied,
    /// The far side wants other credentials.
    Unauthenticated,
    /// The state of things contradicts the request.
    Conflict,
    /// A passing fault.
    Unavailable,
    /// The user or a deadline stopped the work.
    Cancelled,
    /// Well formed, but not possible here.
    Unsupported,
    /// A limit was reached, or the disk is full.
    Limit,
    /// A defect of ours.
    Internal,
}

/// A place in a text that the user wrote; lines and columns count from 1, column 0 is the whole line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Location {
    /// Path of the file as the user knows it.
    pub file: String,
    /// First line.
    pub line: u32,
    /// First column in characters, or 0.
    pub column: u32,
    /// Last line, inclusive.
    pub end_line: u32,
    /// The quoted lines.
    pub text: String,
}

/// A failure with its causes and, where known, its place.
#[derive(Debug, Clone)]
pub struct Error {
    /// What a caller can do about it.
    pub kind: ErrorKind,
    /// What happened to what, one sentence without a full stop.
    pub message: String,
    /// Causes, outermost first.
    pub context: Vec<String>,
    /// What the user can do.
    pub hint: Option<String>,
    /// Where the user asked for it.
    pub location: Option<Location>,
    /// The name of the step that failed, when it failed in one.
    pub step: Option<String>,
    /// When another try may succeed, for [`ErrorKind::Unavailable`].
    pub retry_after: Option<std::time::Duration>,
    /// The exit status of the process, when a `run` failed.
    pub exit_code: Option<i32>,
}

impl Error {
    /// An error of `kind` with a message and nothing else.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            context: Vec::new(),
            hint: None,
            location: None,
            step: None,
            retry_after: None,
            exit_code: None,
        }
    }

    /// Something the user wrote is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Something does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A defect of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Stopped by the user or a deadline.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Adds what the user can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts a message in front; what was the message becomes the first cause.
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, message.into());
        self.context.insert(0, cause);
        self
    }

    /// Adds a cause behind those there are.
    pub fn context_last(mut self, cause: impl Into<String>) -> Self {
        self.context.push(cause.into());
        self
    }

    /// A store failure while doing `action`.
    pub fn store(action: impl Into<String>) -> impl FnOnce(cooperage_store::Error) -> Self {
        let action = action.into();
        move |error| Self::from(error).context(action)
    }

    /// An I/O failure while doing `action`.
    pub fn io(action: impl Into<String>, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Limit,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string()).context(action)
    }

    pub(crate) fn at(mut self, origin: &crate::Origin) -> Self {
        if self.location.is_none() {
            self.location.clone_from(&origin.location);
        }
        if self.step.is_none() && !origin.name.is_empty() {
            self.step = Some(origin.name.clone());
        }
        self
    }
}

impl From<cooperage_store::Error> for Error {
    fn from(error: cooperage_store::Error) -> Self {
        use cooperage_store::Error as Store;
        let kind = match &error {
            Store::NotFound { .. } => ErrorKind::NotFound,
            Store::DigestMismatch { .. } | Store::Corrupt { .. } => ErrorKind::Conflict,
            Store::TooLarge { .. } | Store::NoSpace { .. } => ErrorKind::Limit,
            Store::Invalid { .. } => ErrorKind::InvalidInput,
            Store::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Internal,
        };
        let hint = match &error {
            Store::NoSpace { .. } => Some("free some space, for instance with `coop image rm --cache NAME`"),
            Store::DigestMismatch { .. } => Some("the content was changed on its way; nothing of it was kept"),
            _ => None,
        };
        Self { hint: hint.map(str::to_owned), ..Self::new(kind, error.to_string()) }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.context {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
