//! Trees behind URLs: when they are resolved, when they are fetched, and what a later build makes of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cooperage_solve::{
    Base, Build, BuildOptions, CacheMode, Cancel, CopyOptions, Error, ErrorKind, ImageSource, Limits, Network, Origin,
    Reporter, Secrets, SourceProvider, SourceRequest, SourceVersion, Step, Tree,
};
use cooperage_store::layer::Compression;
use cooperage_store::{Descriptor, Platform, Store};

struct NoImages;

#[async_trait]
impl ImageSource for NoImages {
    async fn resolve(&self, reference: &str, _: &Platform) -> Result<Base, Error> {
        Err(Error::not_found(reference.to_owned()))
    }

    async fn fetch_layer(&self, _: &Base, _: &Descriptor) -> Result<(), Error> {
        Err(Error::internal("there are no images"))
    }
}

/// A far side with one file, whose content and version a test can change.
#[derive(Default)]
struct Far {
    version: Mutex<String>,
    content: Mutex<String>,
    log: Mutex<Vec<&'static str>>,
}

impl Far {
    fn is(&self, version: &str, content: &str) {
        *self.version.lock().unwrap() = version.to_owned();
        *self.content.lock().unwrap() = content.to_owned();
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

#[async_trait]
impl SourceProvider for Far {
    async fn resolve(&self, _: &Build, request: &SourceRequest) -> Result<SourceVersion, Error> {
        self.log.lock().unwrap().push("resolve");
        if request.url.contains("missing") {
            return Err(Error::not_found(format!("{} is not there", request.shown())));
        }
        Ok(SourceVersion { value: self.version.lock().unwrap().clone(), ..SourceVersion::default() })
    }

    async fn fetch(&self, _: &Build, _: &SourceRequest, _: &SourceVersion, _: &Step) -> Result<Tree, Error> {
        self.log.lock().unwrap().push("fetch");
        let bytes = self.content.lock().unwrap().clone().into_bytes();
        Ok(Tree::scratch().write_file("/file".into(), bytes, 0o644, None, Origin::default()))
    }
}

fn build(store: &Store, far: &Arc<Far>) -> Build {
    Build::new(BuildOptions {
        store: store.clone(),
        sandbox: Err("none in this test".to_owned()),
        userxattr: true,
        privileged: false,
        images: Arc::new(NoImages),
        sources: far.clone(),
        contexts: BTreeMap::new(),
        secrets: Secrets::default(),
        network: Network::None,
        limits: Limits::default(),
        platform: Platform::host(),
        compression: Compression::None,
        epoch: None,
        cache: CacheMode::Use,
        parallel: 2,
        reporter: Reporter::silent(),
        cancel: Cancel::new().unwrap(),
    })
}

fn source(url: &str) -> Tree {
    Tree::source(SourceRequest::new(url), Origin::default())
}

/// A tree on top of which something was copied from the source.
fn copied(url: &str) -> Tree {
    Tree::scratch().copy(&source(url), vec!["/file".into()], "/copy".into(), CopyOptions::default(), Origin::default())
}

async fn text(build: &Build, tree: &Tree, path: &str) -> String {
    String::from_utf8(build.read_file(tree, path, 100).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_known_version_is_resolved_and_not_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let far = Arc::new(Far::default());
    far.is("1", "one");
    let tree = copied("https://a.example/file");
    let first = build(&store, &far);
    assert_eq!(text(&first, &tree, "/copy").await, "one");
    assert_eq!(text(&first, &source("https://a.example/file"), "/file").await, "one");
    assert_eq!(far.asked(), ["resolve", "fetch"], "once per build");

    // The far side says that nothing changed, so nothing is fetched, whatever is there now.
    far.is("1", "two");
    assert_eq!(text(&build(&store, &far), &tree, "/copy").await, "one");
    assert_eq!(far.asked(), ["resolve"]);
    far.is("2", "two");
    assert_eq!(text(&build(&store, &far), &tree, "/copy").await, "two");
    assert_eq!(far.asked(), ["resolve", "fetch"]);
}

#[tokio::test]
async fn without_a_version_the_files_themselves_decide() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let far = Arc::new(Far::default());
    let tree = copied("https://a.example/file");
    for (content, hit) in [("one", false), ("one", true), ("two", false)] {
        far.is("", content);
        let build = build(&store, &far);
        assert_eq!(text(&build, &tree, "/copy").await, content);
        assert_eq!(far.asked(), ["resolve", "fetch"]);
        let steps = build.record().steps;
        assert_eq!(steps.iter().any(|step| step.result == cooperage_solve::CacheResult::Hit), hit, "{content}");
    }
}

#[tokio::test]
async fn operations_on_a_source_are_cached_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let far = Arc::new(Far::default());
    far.is("1", "one");
    let tree = source("https://a.example/file").make_directory("/more".into(), 0o755, None, Origin::default());
    assert_eq!(build(&store, &far).entries(&tree, "/").await.unwrap().len(), 2);
    assert_eq!(far.asked(), ["resolve", "fetch"]);
    let again = build(&store, &far);
    assert_eq!(again.entries(&tree, "/").await.unwrap().len(), 2);
    assert_eq!(far.asked(), ["resolve"]);
    assert!(again.record().steps.iter().all(|step| step.result == cooperage_solve::CacheResult::Hit));
}

#[tokio::test]
async fn what_is_not_there_is_said_with_the_place_and_without_passwords() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let far = Arc::new(Far::default());
    let request = SourceRequest::new("https://me:s3cret@a.example/missing?x=1");
    let origin = Origin { name: "ADD it".to_owned(), ..Origin::default() };
    let error = build(&store, &far).digest(&Tree::source(request, origin)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(error.message, "https://me:***@a.example/missing?x=1 is not there");
    assert!(format!("{error:?}").contains("ADD it"));
}

#[tokio::test]
async fn archives_and_files_come_out_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let far = Arc::new(Far::default());
    far.is("1", "0123456789");
    let build = build(&store, &far);
    let tree = copied("https://a.example/file").make_directory("/d/e".into(), 0o700, None, Origin::default());
    let file = build.open_file(&tree, "/copy").await.unwrap();
    let mut buffer = [0; 3];
    assert_eq!((file.size(), file.read_at(&mut buffer, 7).unwrap(), &buffer), (10, 3, b"789"));
    assert_eq!(build.open_file(&tree, "/d").await.unwrap_err().kind, ErrorKind::InvalidInput);
    assert_eq!(build.open_file(&tree, "/x").await.unwrap_err().kind, ErrorKind::NotFound);

    let mut archive = build.pack(&tree, "/d").await.unwrap();
    let mut bytes = Vec::new();
    loop {
        match archive.next_bytes(1 << 20).unwrap() {
            more if more.is_empty() => break,
            more => bytes.extend(more),
        }
    }
    assert_eq!(&bytes[..2], b"e/");
    let digest = store.blobs().put(&bytes).unwrap();
    let imported = build.import_layers(vec![digest]).await.unwrap();
    assert_eq!(build.entries(&imported, "/").await.unwrap()[0].mode, 0o700);
    let missing = build.import_layers(vec![cooperage_store::Digest::of(b"x")]).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound);
}
