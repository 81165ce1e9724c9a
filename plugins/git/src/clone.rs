//! From what is wanted to files in a layer: finds the commit, fetches it and nothing else, writes its files, and does
//! the same for its submodules.

use std::io::Write;

use cooperage_sdk::http::Url;
use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::{Context, Error, ErrorKind, Result, info, warn};

use crate::checkout::{Checkout, Found, Submodule};
use crate::edge::Http;
use crate::fetch::{Answered, Incoming, fetch};
use crate::id::{Id, Kind};
use crate::login::Login;
use crate::modules::{self, Modules};
use crate::object::{Commit, unexpected};
use crate::pack::{Pack, receive};
use crate::packet::shown;
use crate::place;
use crate::refs::{Ref, Reference};
use crate::server::Server;

/// Submodules of submodules. A chain of them can be as long as somebody cares to make it.
const DEEPEST: usize = 10;
const MOST_SUBMODULES: usize = 1000;
const LEAVE_OUT: &str = "leave submodules out with `submodules: false`";
/// Generations that are fetched from a server that gives no commit but those of its refs.
const GENERATIONS: [u32; 2] = [50, 1000];

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The repository.
    pub url: Url,
    /// Which commit.
    pub reference: Reference,
    /// How the id of the commit must begin, in lower case.
    pub expected: Option<String>,
    /// Names of directories on the way to the part that is wanted.
    pub subdirectory: Vec<String>,
    /// Whether submodules are wanted, too.
    pub submodules: bool,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloned {
    /// The commit.
    pub commit: Id,
    /// Full name of the ref that it was found by; the commit if it was wanted by its id.
    pub name: String,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
    /// The directory whose files were written.
    pub tree: Id,
}

/// A ref that was found.
pub struct Resolved<'a> {
    /// What was found.
    pub found: Ref,
    /// The server that was asked for it, which then need not introduce itself again.
    server: Option<Server<'a>>,
}

impl From<Ref> for Resolved<'_> {
    fn from(found: Ref) -> Self {
        Self { found, server: None }
    }
}

/// Finds out which commit is wanted, without fetching it.
///
/// # Errors
/// `not-found`, `conflict` if it is not the expected one, and those of the server.
pub fn resolve<'a>(http: &'a dyn Http, login: &'a Login<'a>, wanted: &Wanted) -> Result<Resolved<'a>> {
    let resolved = match wanted.reference {
        // Whether the id is that of a commit or of an annotated tag shows when it comes; `clone` compares it then.
        Reference::Commit(id) => return Ok(Ref { name: id.to_string(), id, commit: id }.into()),
        ref named => Server::connect(http, &wanted.url, login)
            .and_then(|server| Ok(Resolved { found: named.find(&server)?, server: Some(server) })),
    };
    let resolved = resolved.with_context(|| format!("cannot fetch {}", wanted.url))?;
    compare(wanted, &resolved.found.name, resolved.found.commit)?;
    Ok(resolved)
}

/// Refuses a reference that stands for another commit than the expected one.
fn compare(wanted: &Wanted, name: &str, commit: Id) -> Result<()> {
    let other = |expected: &&String| !commit.to_string().starts_with(expected.as_str());
    let Some(expected) = wanted.expected.as_ref().filter(other) else { return Ok(()) };
    Err(Error::conflict(format!("{name} of {} is not the expected commit", wanted.url))
        .because(format!("it is {commit}, and {expected} is expected"))
        .hint("look at what has changed; if it is right, expect the new commit, or fetch the old one by its id alone"))
}

/// Writes the files of what was resolved.
///
/// # Errors
/// `conflict` if it is not the expected commit, `not-found` if the server does not have it any more, `denied` for a repository that attacks, `limit` for one that is
/// too large, and those of the server and of the layer. The layer is worthless then.
pub fn clone<W: Write>(
    http: &dyn Http,
    login: &Login<'_>,
    wanted: &Wanted,
    resolved: Resolved<'_>,
    layer: &mut LayerWriter<W>,
) -> Result<Cloned> {
    let mut cloning = Cloning { http, login, layer, submodules: wanted.submodules, fetched: 0 };
    let Resolved { found, server } = resolved;
    let at = At { url: &wanted.url, reference: &wanted.reference, want: found.id, subdirectory: &wanted.subdirectory };
    let (commit, described, tree) = cloning.repository(&at, server, b"", 0)?;
    compare(wanted, &found.name, commit)?;
    match &wanted.reference {
        Reference::Commit(_) => info!("{} has {commit}", wanted.url),
        named => info!("{named} of {} is {commit}", wanted.url),
    }
    Ok(Cloned { commit, name: found.name, time: described.time, tree })
}

struct Cloning<'a, W> {
    http: &'a dyn Http,
    login: &'a Login<'a>,
    layer: &'a mut LayerWriter<W>,
    submodules: bool,
    /// Submodules so far.
    fetched: usize,
}

/// One repository, and what is wanted of it.
struct At<'a> {
    url: &'a Url,
    reference: &'a Reference,
    want: Id,
    subdirectory: &'a [String],
}

impl<W: Write> Cloning<'_, W> {
    /// One repository with its submodules; the commit and the directory that was written.
    fn repository(
        &mut self,
        at: &At<'_>,
        server: Option<Server<'_>>,
        prefix: &[u8],
        depth: usize,
    ) -> Result<(Id, Commit, Id)> {
        let (found, modules) = self.files(at, server, prefix).with_context(|| format!("cannot fetch {}", at.url))?;
        let (id, commit) = found.commit.ok_or_else(|| Error::internal("files were written without a commit"))?;
        let mut tree = found.tree;
        // Without a directory of its own, the only submodule has what is wanted.
        if self.submodules || tree.is_none() {
            for submodule in &found.submodules {
                let inner = self
                    .submodule(at.url, submodule, &modules, depth + 1)
                    .with_context(|| format!("cannot fetch the submodule {} of {}", shown(&submodule.path), at.url))?;
                tree = tree.or(Some(inner));
            }
        }
        Ok((id, commit, tree.ok_or_else(|| Error::internal("nothing was written"))?))
    }

    /// The files of one repository, and its `.gitmodules` if that is needed. The pack is gone afterwards.
    fn files(&mut self, at: &At<'_>, server: Option<Server<'_>>, prefix: &[u8]) -> Result<(Found, Modules)> {
        let server = server.map_or_else(|| Server::connect(self.http, at.url, self.login), Ok)?;
        let want = at.want;
        let (mut pack, found) = match fetch(&server, want, Some(1))? {
            Answered::Pack(incoming) => self.receive(incoming, want, at, prefix)?.finish(want)?,
            Answered::Refused(why) => self.through_history(&server, &why, at, prefix)?,
        };
        let needed = !found.submodules.is_empty() && (self.submodules || found.tree.is_none());
        let modules = match found.modules.filter(|_| needed) {
            Some(id) => modules::parse(&text(&mut pack, &id)?).hint(LEAVE_OUT)?,
            None => Modules::new(),
        };
        Ok((found, modules))
    }

    fn receive(&mut self, mut incoming: Incoming, want: Id, at: &At<'_>, prefix: &[u8]) -> Result<Received> {
        let mut pack = Pack::new();
        let mut checkout = Checkout::new(self.layer, want, prefix, at.subdirectory);
        receive::receive(&mut pack, &mut incoming, &mut |pack, _| checkout.advance(pack))?;
        if checkout.has_not_begun() {
            return Ok(Received { pack, found: None });
        }
        Ok(Received { pack, found: Some(checkout.finish()?) })
    }

    /// Some servers give only what their refs point to. What was asked for may lie in the history of the ref.
    fn through_history(&mut self, server: &Server<'_>, why: &str, at: &At<'_>, prefix: &[u8]) -> Result<(Pack, Found)> {
        let want = at.want;
        let gone = || {
            Error::not_found(format!("the server does not give commit {want}"))
                .because(why)
                .hint("check the commit; one that was never pushed, or that no branch has any more, cannot be fetched")
        };
        // Git itself gives every object that it has, and has said that it does not have this one.
        if server.agent.starts_with("git/") {
            return Err(gone());
        }
        let tip = at.reference.find(server)?;
        for generations in GENERATIONS {
            warn!(
                "the server gives no commit by its id; fetching {generations} generations of {} to find it",
                tip.name
            );
            let Answered::Pack(incoming) = fetch(server, tip.id, Some(generations))? else { break };
            let received = self.receive(incoming, want, at, prefix)?;
            if let Some(found) = received.found {
                return Ok((received.pack, found));
            }
        }
        Err(gone())
    }

    fn submodule(&mut self, of: &Url, submodule: &Submodule, modules: &Modules, depth: usize) -> Result<Id> {
        self.fetched += 1;
        if depth > DEEPEST || self.fetched > MOST_SUBMODULES {
            return Err(Error::limit("the repository has too many submodules")
                .because(format!("{DEEPEST} levels and {MOST_SUBMODULES} in all are fetched"))
                .hint(LEAVE_OUT));
        }
        let text = modules.get(&submodule.path);
        let text = text.ok_or_else(|| Error::not_found("the file .gitmodules has no URL for it").hint(LEAVE_OUT))?;
        let url = place::submodule(of, text).hint(LEAVE_OUT)?;
        let want = submodule.id;
        let at = At { url: &url, reference: &Reference::Commit(want), want, subdirectory: &submodule.subdirectory };
        let (_, _, tree) = self.repository(&at, None, &submodule.prefix, depth).map_err(|error| match error.kind {
            ErrorKind::Denied if error.hint.is_none() => error.hint(format!(
                "if it may be fetched, name its host in the step as `hosts: [\"{}\"]`; or {LEAVE_OUT}",
                origin(&url)
            )),
            _ => error,
        })?;
        Ok(tree)
    }
}

/// A URL without its path.
fn origin(url: &Url) -> String {
    let scheme = if url.is_https() { "https" } else { "http" };
    format!("{scheme}://{}", url.authority())
}

struct Received {
    pack: Pack,
    /// None if the commit was not among the objects.
    found: Option<Found>,
}

impl Received {
    fn finish(self, want: Id) -> Result<(Pack, Found)> {
        match self.found {
            Some(found) => Ok((self.pack, found)),
            None => Err(Error::conflict(format!("the server sent objects without {want}, which was asked for"))),
        }
    }
}

fn text(pack: &mut Pack, id: &Id) -> Result<String> {
    let missing = || Error::conflict("the server did not send .gitmodules");
    let number = pack.find(id).ok_or_else(missing)?;
    if pack.kind(number) != Kind::Blob {
        return Err(unexpected(id, pack.kind(number), Kind::Blob));
    }
    if pack.size(number) > modules::LARGEST {
        return Err(Error::limit(format!("the file .gitmodules has {} bytes", pack.size(number))));
    }
    String::from_utf8(pack.content(number)?.to_vec())
        .map_err(|_| Error::invalid_input("the file .gitmodules is not text in UTF-8"))
}
