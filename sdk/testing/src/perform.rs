//! The call of a case, by role. Gives what came back as JSON in the form of `expect`.

use std::collections::BTreeMap;

use cooperage_engine::registries::{BlobOutcome, RegistryBackend, Repository};
use cooperage_engine::{BuildRequest, CallError, RegistryPlugin, TaskRequest, credentials::Credential};
use cooperage_solve::{Error, ErrorKind, FileKind, Image, Selection, SourceRequest, Tree};
use cooperage_store::{Descriptor, Digest, Platform};
use serde_json::{Map, Value, json};

use crate::case::{Case, RegistryCall, RegistryCase, Role};
use crate::edges::context_name;
use crate::harness::{HarnessError, World};
use crate::read::{CaseFolder, Malformed};
use crate::reads::Reader;

/// Texts of files are shown up to this size, others by their digest.
const LARGEST: u64 = 64 << 10;

/// What a call gave, or how it failed.
pub(crate) type Result_ = Result<Map<String, Value>, CallError>;

/// Does what the case asks for.
pub(crate) async fn perform(world: &World, folder: &CaseFolder) -> Result<Result_, HarnessError> {
    let malformed = |message: &str| Malformed::whole(&folder.path, message);
    let case = &folder.case;
    Ok(match role(world, case).map_err(|message| malformed(&message))? {
        Role::Task => task(world, case).await,
        Role::Builder => {
            let request = build_request(case).map_err(|message| malformed(&message))?;
            builder(world, case.build.detect, request).await
        }
        Role::Source => {
            let url = case.url.as_deref().ok_or_else(|| malformed("a source needs the `url` that is fetched"))?;
            source(world, case, url).await
        }
        Role::Registry => {
            let asked = case.registry.as_ref().ok_or_else(|| malformed("a registry needs `registry`"))?;
            let blob = blob(asked, world, folder).map_err(|message| malformed(&message))?;
            registry(world, asked, blob).await
        }
    })
}

fn role(world: &World, case: &Case) -> Result<Role, String> {
    if let Some(role) = case.role {
        return Ok(role);
    }
    let roles = world.plugin.roles();
    let names: Vec<&str> = roles.names().collect();
    match names[..] {
        ["task"] => Ok(Role::Task),
        ["builder"] => Ok(Role::Builder),
        ["source"] => Ok(Role::Source),
        ["registry"] => Ok(Role::Registry),
        _ => Err(format!("the plugin has the roles {}; say in `role` which is meant", names.join(", "))),
    }
}

async fn task(world: &World, case: &Case) -> Result_ {
    let tree = |path: &String| Tree::context(context_name(path), Selection::default());
    let named = case.inputs.iter().map(|(name, path)| (name.clone(), tree(path)));
    let inputs = case.input.iter().map(|path| (String::new(), tree(path))).chain(named).collect();
    let request = TaskRequest { parameters: Value::Object(case.with.clone()), inputs };
    let outputs = world.plugin.run_task(&world.context, request).await?;
    let mut seen = Map::from_iter([("outputs".to_owned(), json!(outputs.values))]);
    if let Some(tree) = outputs.tree {
        seen.insert("files".to_owned(), files(world, &tree).await.map_err(failed)?);
    }
    Ok(seen)
}

fn build_request(case: &Case) -> Result<BuildRequest, String> {
    let mut request = BuildRequest::new(Value::Object(case.with.clone()), Platform::host());
    if !case.build.platforms.is_empty() {
        let parse = |text: &String| text.parse::<Platform>().map_err(|error| format!("the platform {text:?}: {error}"));
        request.platforms = case.build.platforms.iter().map(parse).collect::<Result<_, _>>()?;
    }
    request.arguments = case.build.arguments.clone().into_iter().collect();
    request.labels = case.build.labels.clone().into_iter().collect();
    request.epoch = case.build.epoch;
    Ok(request)
}

async fn builder(world: &World, detect: bool, request: BuildRequest) -> Result_ {
    if detect {
        let fit = world.plugin.detect(&world.context).await?;
        return Ok(Map::from_iter([("answer".to_owned(), json!(fit))]));
    }
    let mut images = Vec::new();
    for built in world.plugin.build(&world.context, request).await? {
        images.push(image(world, built.into()).await.map_err(failed)?);
    }
    Ok(Map::from_iter([("images".to_owned(), Value::Array(images))]))
}

async fn image(world: &World, image: Image) -> Result<Value, Error> {
    let (tree, platform, annotations) = (image.tree.clone(), image.platform.to_string(), image.annotations.clone());
    let manifest = world.build.image(image).await?;
    let document = world.store.images().manifest(&manifest.digest)?;
    let mut config = world.store.images().config(&document)?.into_value();
    if let Some(config) = config.as_object_mut() {
        // Its digests are the layers', which is said below in a form that people can read.
        config.remove("rootfs");
    }
    let files = files(world, &tree).await?;
    Ok(json!({
        "platform": platform,
        "config": config,
        "annotations": annotations,
        "layers": document.layers.len(),
        "files": files,
    }))
}

async fn source(world: &World, case: &Case, url: &str) -> Result_ {
    let parameters = Value::Object(case.with.clone()).to_string();
    let request = SourceRequest { url: url.to_owned(), parameters };
    let version = world.plugin.resolve_source(&world.context, &request).await?;
    let tree = world.plugin.fetch_source(&world.context, &request, &version).await?;
    let annotations: BTreeMap<_, _> = version.annotations.into_iter().collect();
    let answer = json!({ "version": version.value, "immutable": version.immutable, "annotations": annotations });
    let files = files(world, &tree).await.map_err(failed)?;
    Ok(Map::from_iter([("answer".to_owned(), answer), ("files".to_owned(), files)]))
}

/// The content of a case's blob, put into the store if the call is to find it there.
fn blob(asked: &RegistryCase, world: &World, folder: &CaseFolder) -> Result<Option<Descriptor>, String> {
    let Some(blob) = &asked.blob else {
        let needed = matches!(asked.call, RegistryCall::GetBlob | RegistryCall::PutBlob | RegistryCall::PutManifest);
        return if needed { Err("this call needs `blob`".to_owned()) } else { Ok(None) };
    };
    let bytes = blob.content.bytes(&folder.path)?;
    let digest = match (&blob.digest, asked.call) {
        (Some(digest), _) => digest.parse().map_err(|error| format!("{digest:?} is no digest: {error}"))?,
        (None, RegistryCall::GetBlob) => Digest::of(&bytes),
        (None, _) => world.store.blobs().put(&bytes).map_err(|error| error.to_string())?,
    };
    let media_type = blob.media_type.as_deref().unwrap_or("application/octet-stream");
    Ok(Some(Descriptor::new(media_type, digest, bytes.len() as u64)))
}

async fn registry(world: &World, asked: &RegistryCase, blob: Option<Descriptor>) -> Result_ {
    let plugin = RegistryPlugin::new(world.plugin.clone(), world.context.clone())?;
    let answer = answer(&plugin, world, asked, blob).await.map_err(failed)?;
    Ok(Map::from_iter([("answer".to_owned(), answer)]))
}

async fn answer(
    plugin: &RegistryPlugin,
    world: &World,
    asked: &RegistryCase,
    blob: Option<Descriptor>,
) -> Result<Value, Error> {
    let (at, step) = (repository(asked), world.context.reporter.step(None, "case"));
    let digest = || asked.reference.parse::<Digest>().map_err(|error| Error::invalid(error.to_string()));
    let blob = || blob.as_ref().ok_or_else(|| Error::internal("the case has no blob"));
    let content = |descriptor: &Descriptor| {
        let bytes = world.store.blobs().read(&descriptor.digest, LARGEST)?;
        Ok::<_, Error>(json!({ "descriptor": descriptor, "content": String::from_utf8_lossy(&bytes) }))
    };
    Ok(match asked.call {
        RegistryCall::Resolve => json!(plugin.resolve(&at, &asked.reference, &step).await?),
        RegistryCall::GetManifest => content(&plugin.get_manifest(&at, &asked.reference, &step).await?)?,
        RegistryCall::PutManifest => {
            let tag = (!asked.reference.is_empty()).then_some(asked.reference.as_str());
            plugin.put_manifest(&at, blob()?, tag, &step).await?;
            Value::Null
        }
        RegistryCall::HasBlob => json!(plugin.has_blob(&at, &digest()?, &step).await?),
        RegistryCall::GetBlob => {
            plugin.get_blob(&at, blob()?, &step).await?;
            content(blob()?)?
        }
        RegistryCall::PutBlob => match plugin.put_blob(&at, blob()?, &asked.mount_from, &step).await? {
            BlobOutcome::Exists => json!("exists"),
            BlobOutcome::Mounted => json!("mounted"),
            BlobOutcome::Uploaded => json!("uploaded"),
        },
        RegistryCall::Tags => json!(plugin.tags(&at, &step).await?),
        RegistryCall::Referrers => json!(plugin.referrers(&at, &digest()?, &step).await?),
        RegistryCall::Delete => {
            plugin.delete(&at, &asked.reference, &step).await?;
            Value::Null
        }
        RegistryCall::Login => {
            plugin.login(&at, &step).await?;
            Value::Null
        }
    })
}

fn repository(asked: &RegistryCase) -> Repository {
    let credential = asked.login.as_ref().map(|login| {
        let (username, password) = login.split_once(':').unwrap_or((login, ""));
        Credential { username: username.to_owned(), password: password.to_owned(), identity_token: false }
    });
    Repository {
        host: asked.host.clone(),
        name: asked.name.clone(),
        plain_http: asked.plain_http,
        credential,
        options: asked.options.clone().into_iter().collect(),
    }
}

fn failed(error: Error) -> CallError {
    CallError::Failed(Box::new(error))
}

/// All files of a tree, by path. While a run is recorded, only the contents that the case names are kept for it; what was
/// not kept is left out when it is repeated.
async fn files(world: &World, tree: &Tree) -> Result<Value, Error> {
    let (build, reads) = (&world.build, &world.reads);
    let mut all = Map::new();
    reads.read_for(Reader::Report);
    for (info, digest) in build.walk(tree, "/").await? {
        if info.path == "/" {
            continue;
        }
        let mut file = Map::new();
        let kind = match info.kind {
            FileKind::Regular => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
            FileKind::Other => "other",
        };
        file.insert("kind".to_owned(), json!(kind));
        file.insert("mode".to_owned(), json!(format!("{:04o}", info.mode)));
        file.insert("owner".to_owned(), json!(format!("{}:{}", info.uid, info.gid)));
        match info.kind {
            FileKind::Regular if info.size <= LARGEST => {
                let named = world.named.contains(&info.path) || world.script.is_some();
                reads.read_for(if named { Reader::Judge } else { Reader::Report });
                match build.read_file(tree, &info.path, LARGEST).await {
                    Ok(bytes) => drop(file.insert("content".to_owned(), json!(String::from_utf8_lossy(&bytes)))),
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            FileKind::Regular => drop(file.insert("digest".to_owned(), json!(digest))),
            FileKind::Symlink => drop(file.insert("target".to_owned(), json!(info.link_target))),
            _ => {}
        }
        all.insert(info.path, Value::Object(file));
    }
    reads.read_for(Reader::Call);
    Ok(Value::Object(all))
}
