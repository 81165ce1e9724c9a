//! `trees`: lazy file systems. An operation makes a value; the functions that ask a question make the build evaluate.

use std::sync::Arc;

use cooperage_solve::{Base, Error, ErrorKind, FileInfo, FileKind, Network, Process, Selection, Tree};
use cooperage_store::Digest;
use wasmtime::component::Resource;

use super::content::{GuestArchive, Reader};
use super::images::GuestBase;
use super::operation::{self, MountRequest};
use crate::bindings::imports::cooperage::plugin::trees::{self, CopyOptions, Origin};
use crate::bindings::wit;
use crate::convert::{digest_from_wit, origin_from_wit};
use crate::grants::Side;
use crate::grants::run::{Deed, Refusal};
use crate::host::{answer, elsewhere};
use crate::instance::{Answer, State};
use crate::limits::{Limit, LimitHit};

/// A tree, or the reason why there is none. Operations cannot fail when they are described, so what is wrong with one
/// goes along and comes out where somebody looks into the tree.
#[derive(Clone)]
pub struct GuestTree {
    tree: Result<Tree, Box<Error>>,
    /// How many operations of this call changed it.
    length: u32,
    /// How many trees of this call lie inside one another here, each a source or a mount of the next.
    depth: u32,
    /// The image that it stands on; none for a tree that stands on none.
    image: Option<Arc<Base>>,
}

impl GuestTree {
    /// A tree that this call did not make.
    pub(crate) fn given(tree: Tree) -> Self {
        let image = tree.image_below().cloned();
        Self { tree: Ok(tree), length: 0, depth: 0, image }
    }

    /// The tree, or what was wrong with an operation that it needs.
    pub(crate) fn into_tree(self) -> Result<Tree, Box<Error>> {
        self.tree
    }

    fn tree(&self) -> Result<Tree, Error> {
        self.tree.clone().map_err(|error| *error)
    }
}

impl State {
    /// Adds an operation on `this`. `held` are the bytes that its description keeps in the host's memory; `inner` is the
    /// depth that its sources and mounts give it, or 0 if it has none.
    fn operation(
        &mut self,
        this: &Resource<GuestTree>,
        (held, inner): (usize, u32),
        origin: Origin,
        make: impl FnOnce(&Self, Tree, cooperage_solve::Origin) -> Result<Tree, Error>,
    ) -> wasmtime::Result<Resource<GuestTree>> {
        self.count(held + origin.name.len() + origin.created_by.len())?;
        let origin = origin_from_wit(origin);
        let location = origin.location.clone();
        let this = self.table.get(this)?;
        let image = this.image.clone();
        let (length, depth) = (this.length.saturating_add(1), this.depth.max(inner));
        let most =
            [(length, self.limits.tree_length, "changes one tree"), (depth, self.limits.tree_depth, "nests trees")];
        for (number, most, what) in most {
            if number > most {
                return Err(LimitHit::error(Limit::Operations, format!("it {what} more than {most} times")));
            }
        }
        let made = this.tree().and_then(|tree| {
            make(self, tree, origin).map_err(|error| Error { location: error.location.clone().or(location), ..error })
        });
        self.push(GuestTree { tree: made.map_err(Box::new), length, depth, image })
    }

    fn count(&mut self, held: usize) -> wasmtime::Result<()> {
        self.used.operations = self.used.operations.saturating_add(1);
        self.used.operation_bytes = self.used.operation_bytes.saturating_add(held as u64);
        if self.used.operations > self.limits.operations {
            let message = format!("it describes more than {} operations on trees", self.limits.operations);
            return Err(LimitHit::error(Limit::Operations, message));
        }
        if self.used.operation_bytes > self.limits.operation_bytes {
            let message = format!("its operations on trees hold more than {} bytes", self.limits.operation_bytes);
            return Err(LimitHit::error(Limit::Operations, message));
        }
        Ok(())
    }

    fn mounts(&self, mounts: Vec<trees::Mount>) -> Result<Vec<cooperage_solve::Mount>, Error> {
        let mount = |mount: trees::Mount| {
            let source = match &mount.source {
                None => None,
                Some(source) => {
                    let source = self.table.get(source).map_err(|error| Error::invalid(error.to_string()))?;
                    Some(source.tree()?)
                }
            };
            let trees::Mount { kind, target, path, identity, read_only, options, .. } = mount;
            operation::mount(MountRequest { kind, target, path, identity, read_only, options }, source)
        };
        mounts.into_iter().map(mount).collect()
    }

    /// Whether every side lets this process run on what it is to run on.
    fn may_run(
        &self,
        image: Option<&Arc<Base>>,
        process: &Process,
        mounts: &[cooperage_solve::Mount],
    ) -> Result<(), Error> {
        let network = self.build.as_ref().map_or(Network::Default, |build| build.options().network);
        let image = image.map(|base| base.reference.as_str());
        let deed = Deed::new(image, &process.args, (process.network, network), mounts);
        match self.grants.scopes().run.refusal(&deed) {
            None => Ok(()),
            Some(refusal) => Err(self.run_refused(&refusal)),
        }
    }

    fn run_refused(&self, refusal: &Refusal) -> Error {
        let Refusal { side, what, field, needed } = refusal;
        let path = field.map_or_else(|| "run".to_owned(), |field| format!("run.{field}"));
        let error = || Error::new(ErrorKind::Denied, format!("plugin `{}` may not {what}", self.plugin));
        match side {
            Side::Allow => self.denied(what, "run", needed),
            Side::Request => error().hint(format!(
                "the plugin itself asks for less: `{path}` in its description; its author would have to ask for {needed}"
            )),
            Side::Policy => {
                let place = self.grants.scopes().restricted("run").unwrap_or_default();
                let lists = field.map_or_else(String::new, |field| format!(", by its `{field}`"));
                error().hint(format!("the policy of this host does not permit it: {place}{lists}"))
            }
        }
    }
}

fn bytes_of<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    texts.into_iter().map(|text| text.len() + size_of::<String>()).sum()
}

impl trees::Host for State {}

impl trees::HostTree for State {
    fn scratch(&mut self) -> wasmtime::Result<Resource<GuestTree>> {
        self.count(0)?;
        self.push(GuestTree::given(Tree::scratch()))
    }

    fn image(&mut self, base: Resource<GuestBase>) -> wasmtime::Result<Resource<GuestTree>> {
        self.count(0)?;
        let tree = Tree::image(self.table.get(&base)?.0.clone());
        self.push(GuestTree::given(tree))
    }

    fn context(&mut self, name: String, selection: trees::Selection) -> Answer<Resource<GuestTree>> {
        self.count(name.len() + bytes_of(&selection.include) + bytes_of(&selection.exclude))?;
        let found = self.build().and_then(|build| {
            if build.options().contexts.contains_key(&name) {
                return Ok(());
            }
            let what = if name.is_empty() {
                "there is no build context".to_owned()
            } else {
                format!("there is no build context `{name}`")
            };
            Err(Error::not_found(what))
        });
        if let Err(error) = found {
            return answer(Err(error));
        }
        let selection = Selection { include: selection.include, exclude: selection.exclude };
        Ok(Ok(self.push(GuestTree::given(Tree::context(name, selection)))?))
    }

    fn fetch(&mut self, url: String, parameters: String, origin: Origin) -> Answer<Resource<GuestTree>> {
        self.count(url.len() + parameters.len() + origin.name.len() + origin.created_by.len())?;
        match self.source_request(url, parameters) {
            Ok(request) => Ok(Ok(self.push(GuestTree::given(Tree::source(request, origin_from_wit(origin))))?)),
            Err(error) => answer(Err(error)),
        }
    }

    async fn layers(&mut self, layers: Vec<wit::Descriptor>) -> Answer<Resource<GuestTree>> {
        self.count(layers.len() * 128)?;
        let build = self.build();
        let imported = elsewhere(async move {
            let digests = layers.iter().map(|layer| digest_from_wit(&layer.digest)).collect::<Result<_, _>>()?;
            build?.import_layers(digests).await
        });
        match imported.await {
            Ok(tree) => Ok(Ok(self.push(GuestTree::given(tree))?)),
            Err(error) => answer(Err(error)),
        }
    }

    fn copy(
        &mut self,
        this: Resource<GuestTree>,
        source: Resource<GuestTree>,
        paths: Vec<String>,
        destination: String,
        options: CopyOptions,
        origin: Origin,
    ) -> wasmtime::Result<Resource<GuestTree>> {
        let held = bytes_of(&paths) + bytes_of(&options.exclude) + destination.len();
        let source = self.table.get(&source)?;
        let (source, inner) = (source.tree(), source.depth.saturating_add(1));
        self.operation(&this, (held, inner), origin, |_, tree, origin| {
            Ok(tree.copy(&source?, paths, destination, operation::copy_options(options)?, origin))
        })
    }

    fn run(
        &mut self,
        this: Resource<GuestTree>,
        process: trees::Process,
        mounts: Vec<trees::Mount>,
        origin: Origin,
    ) -> wasmtime::Result<Resource<GuestTree>> {
        let environment: usize = process.env.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        let held = bytes_of(&process.args) + environment + process.stdin.len() + mounts.len() * 256;
        let mut inner = 0;
        for source in mounts.iter().filter_map(|mount| mount.source.as_ref()) {
            inner = inner.max(self.table.get(source)?.depth.saturating_add(1));
        }
        let image = self.table.get(&this)?.image.clone();
        self.operation(&this, (held, inner), origin, |state, tree, origin| {
            let (process, mounts) = (operation::process(process)?, state.mounts(mounts)?);
            state.may_run(image.as_ref(), &process, &mounts)?;
            Ok(tree.run(process, mounts, origin))
        })
    }

    fn make_directory(
        &mut self,
        this: Resource<GuestTree>,
        path: String,
        mode: u32,
        owner: Option<String>,
        origin: Origin,
    ) -> wasmtime::Result<Resource<GuestTree>> {
        self.operation(&this, (path.len(), 0), origin, |_, tree, origin| {
            Ok(tree.make_directory(path, checked(mode)?, owner, origin))
        })
    }

    fn write_file(
        &mut self,
        this: Resource<GuestTree>,
        path: String,
        bytes: Vec<u8>,
        mode: u32,
        owner: Option<String>,
        origin: Origin,
    ) -> wasmtime::Result<Resource<GuestTree>> {
        self.operation(&this, (path.len() + bytes.len(), 0), origin, |_, tree, origin| {
            Ok(tree.write_file(path, bytes, checked(mode)?, owner, origin))
        })
    }

    fn remove(
        &mut self,
        this: Resource<GuestTree>,
        path: String,
        origin: Origin,
    ) -> wasmtime::Result<Resource<GuestTree>> {
        self.operation(&this, (path.len(), 0), origin, |_, tree, origin| Ok(tree.remove(path, origin)))
    }

    async fn digest(&mut self, this: Resource<GuestTree>) -> Answer<String> {
        let tree = self.table.get(&this)?.tree();
        let build = self.build();
        answer(elsewhere(async move { Ok(build?.digest(&tree?).await?.to_string()) }).await)
    }

    async fn read_file(&mut self, this: Resource<GuestTree>, path: String, max: u64) -> Answer<Vec<u8>> {
        let tree = self.table.get(&this)?.tree();
        let (build, max) = (self.build(), max.min(self.limits.read_file));
        answer(elsewhere(async move { build?.read_file(&tree?, &path, max).await }).await)
    }

    async fn open(&mut self, this: Resource<GuestTree>, path: String) -> Answer<Resource<Reader>> {
        let tree = self.table.get(&this)?.tree();
        let build = self.build();
        match elsewhere(async move { build?.open_file(&tree?, &path).await }).await {
            Ok(file) => Ok(Ok(self.push(Reader::of_tree(file))?)),
            Err(error) => answer(Err(error)),
        }
    }

    async fn pack(
        &mut self,
        this: Resource<GuestTree>,
        options: Vec<(String, String)>,
    ) -> Answer<Resource<GuestArchive>> {
        let tree = self.table.get(&this)?.tree();
        let build = self.may_archive().and_then(|()| self.build());
        let mut path = "/".to_owned();
        for (name, value) in options {
            if name != "path" {
                return answer(Err(operation::unknown("packing", &name)));
            }
            path = value;
        }
        match elsewhere(async move { build?.pack(&tree?, &path).await }).await {
            Ok(archive) => Ok(Ok(self.archive(archive)?)),
            Err(error) => answer(Err(error)),
        }
    }

    async fn entries(&mut self, this: Resource<GuestTree>, path: String) -> Answer<Vec<trees::FileInfo>> {
        let tree = self.table.get(&this)?.tree();
        let build = self.build();
        let entries = elsewhere(async move { build?.entries(&tree?, &path).await }).await;
        answer(entries.map(|entries| entries.into_iter().map(file_info).collect()))
    }

    async fn walk(
        &mut self,
        this: Resource<GuestTree>,
        path: String,
    ) -> Answer<Vec<(trees::FileInfo, Option<String>)>> {
        let tree = self.table.get(&this)?.tree();
        let build = self.build();
        let found = elsewhere(async move { build?.walk(&tree?, &path).await }).await;
        let entry = |(info, digest): (FileInfo, Option<Digest>)| (file_info(info), digest.map(|one| one.to_string()));
        answer(found.map(|found| found.into_iter().map(entry).collect()))
    }

    async fn stat(&mut self, this: Resource<GuestTree>, path: String, follow: bool) -> Answer<Option<trees::FileInfo>> {
        let tree = self.table.get(&this)?.tree();
        let build = self.build();
        let found = elsewhere(async move { build?.stat(&tree?, &path, follow).await }).await;
        answer(found.map(|found| found.map(file_info)))
    }

    async fn drop(&mut self, this: Resource<GuestTree>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

fn checked(mode: u32) -> Result<u32, Error> {
    if mode <= 0o7777 {
        Ok(mode)
    } else {
        Err(Error::new(ErrorKind::InvalidInput, format!("{mode:o} are not permission bits")))
    }
}

fn file_info(info: FileInfo) -> trees::FileInfo {
    let kind = match info.kind {
        FileKind::Regular => trees::FileKind::Regular,
        FileKind::Directory => trees::FileKind::Directory,
        FileKind::Symlink => trees::FileKind::Symlink,
        FileKind::Other => trees::FileKind::Other,
    };
    let FileInfo { path, size, mode, uid, gid, link_target, .. } = info;
    trees::FileInfo { path, kind, size, mode, uid, gid, link_target }
}
