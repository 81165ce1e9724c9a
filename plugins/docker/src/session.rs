//! BuildKit's client session: a stream on which the engine asks for the context, the Dockerfile, credentials and secrets
//! while a build runs.
//!
//! The stream begins with `POST /session` and the upgrade to `h2c`. From then on the engine is the client of HTTP/2 and
//! this side the server of gRPC. The build itself is `POST /build?version=2&remote=client-session&session=ID`, and its
//! answer comes at the same time, so one loop waits for both: [`Conversation`]. What it knows of the outside is [`Talk`]
//! for the two streams and [`Files`] for directories; it knows neither WIT nor sockets.
//!
//! ```text
//! engine ⇄ Talk ⇄ wire ⇄ h2 ⇄ grpc ⇄ methods ─ credentials, secrets
//!                                            └ diffcopy ─ walk ─ selection, links
//! ```

mod conversation;
mod diffcopy;
mod glob;
mod grpc;
mod links;
mod messages;
mod methods;
mod selection;
mod stat;
#[cfg(test)]
mod tests;
mod walk;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cooperage_sdk::http::Headers;
use cooperage_sdk::random;
use cooperage_sdk::{Error, Result};

pub use conversation::Conversation;

use crate::edge::Body;

/// As many as BuildKit's own identifiers have: a bit more than 128 bits.
const ID_LENGTH: usize = 25;

/// What the engine says on either stream.
pub enum Heard {
    /// Bytes of the session; empty when the engine has closed it.
    Session(Vec<u8>),
    /// The head of the answer to the build: status and header fields.
    Head(u16, Headers),
    /// Bytes of the answer's body; empty at its end.
    Build(Vec<u8>),
}

/// The two streams of a build with a session.
pub trait Talk {
    /// Sends bytes on the session, and waits until they are sent.
    ///
    /// # Errors
    /// `unavailable` if the engine does not take them, `cancelled` once the call is.
    fn send(&mut self, bytes: &[u8]) -> Result<()>;
    /// Waits until the engine says something on either.
    ///
    /// # Errors
    /// `unavailable` if the engine is gone, `cancelled` once the call is.
    fn hear(&mut self) -> Result<Heard>;
}

/// A directory that the engine may read. Paths are relative and without `.` and `..`; the empty one is the root.
pub trait Files {
    /// What a directory has, sorted by name in byte order.
    ///
    /// # Errors
    /// `not-found` if there is no such directory.
    fn entries(&self, path: &str) -> Result<Vec<Entry>>;
    /// The bytes of a file.
    ///
    /// # Errors
    /// `not-found` if there is no such file.
    fn open(&self, path: &str) -> Result<Box<dyn Body>>;
}

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Without the directory.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes, of a file.
    pub size: u64,
    /// Permissions, with setuid, setgid and sticky as in `chmod`.
    pub mode: u32,
    /// Who owns it.
    pub uid: u32,
    /// Which group owns it.
    pub gid: u32,
    /// Where a symlink leads.
    pub link_target: Option<String>,
    /// Of a file's bytes, as `sha256:` and so on.
    pub digest: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A socket, a device: nothing that a build needs.
    Other,
}

/// The first thing that went wrong on this side of the session. The engine reports it too, but in words of its own.
#[derive(Clone, Default)]
pub struct Fault(Rc<RefCell<Option<Error>>>);

impl Fault {
    /// Gives it away; none if nothing went wrong.
    #[must_use]
    pub fn take(&self) -> Option<Error> {
        self.0.take()
    }

    fn note(&self, error: &Error) {
        self.0.borrow_mut().get_or_insert_with(|| error.clone());
    }
}

/// Username and secret for the host of a registry.
type Lookup = Box<dyn Fn(&str) -> Option<(String, String)>>;

/// What the engine may have.
struct Offers {
    directories: BTreeMap<String, Rc<dyn Files>>,
    credentials: Lookup,
    secrets: BTreeMap<String, Vec<u8>>,
    fault: Fault,
}

/// A session that has not begun.
pub struct Session {
    id: String,
    name: String,
    shared_key: String,
    offers: Offers,
}

impl Session {
    /// A session that offers nothing yet. The name is for people; what no header field takes is replaced. The engine keeps the files of one build for the next
    /// with the same shared key, so that key should stand for one directory of one machine.
    #[must_use]
    pub fn new(name: &str, shared_key: &str) -> Self {
        let offers = Offers {
            directories: BTreeMap::new(),
            credentials: Box::new(|_| None),
            secrets: BTreeMap::new(),
            fault: Fault::default(),
        };
        let name = name.chars().map(|c| if matches!(c, ' '..='~') { c } else { '_' }).collect();
        Self { id: random_id(), name, shared_key: shared_key.to_owned(), offers }
    }

    /// Offers a directory under BuildKit's name for it: `context` or `dockerfile`.
    #[must_use]
    pub fn directory(mut self, name: &str, files: Rc<dyn Files>) -> Self {
        self.offers.directories.insert(name.to_owned(), files);
        self
    }

    /// Offers credentials: username and secret for a host. Docker Hub is `registry-1.docker.io`; with an empty username
    /// the secret is an identity token.
    #[must_use]
    pub fn credentials(mut self, lookup: impl Fn(&str) -> Option<(String, String)> + 'static) -> Self {
        self.offers.credentials = Box::new(lookup);
        self
    }

    /// Offers a secret for `RUN --mount=type=secret`.
    #[must_use]
    pub fn secret(mut self, id: &str, bytes: Vec<u8>) -> Self {
        self.offers.secrets.insert(id.to_owned(), bytes);
        self
    }

    /// What the build names the session by, as `session=`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Header fields of `POST /session` beside those of the upgrade.
    #[must_use]
    pub fn headers(&self) -> Headers {
        let mut headers = Headers::default();
        headers.append("X-Docker-Expose-Session-Uuid", &self.id);
        headers.append("X-Docker-Expose-Session-Name", &self.name);
        headers.append("X-Docker-Expose-Session-Sharedkey", &self.shared_key);
        methods::ALL.iter().for_each(|method| headers.append("X-Docker-Expose-Session-Grpc-Method", *method));
        headers
    }

    /// Begins, on streams whose requests were sent.
    #[must_use]
    pub fn converse(self, talk: Box<dyn Talk>) -> Conversation {
        Conversation::new(self.offers, talk)
    }
}

/// Letters and digits as BuildKit makes them.
fn random_id() -> String {
    let digits = || {
        let mut left = (u128::from(random()) << 64) | u128::from(random());
        std::iter::from_fn(move || {
            let digit = u32::try_from(left % 36).unwrap_or_default();
            left /= 36;
            char::from_digit(digit, 36)
        })
    };
    digits().take(ID_LENGTH).collect()
}
