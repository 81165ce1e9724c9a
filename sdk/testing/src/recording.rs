//! Records what a run asked of the world beyond the engine, in the form in which a case has it. What the case says itself
//! is not asked of anybody. What changes from run to run is left out: two recordings of the same run are the same text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cooperage_engine::http::Client;
use cooperage_engine::ports::Registries;
use cooperage_solve::{Base, Build, Error, ImageSource, SourceProvider, SourceRequest, SourceVersion, Tree};
use cooperage_store::layer::{Entry, Kind};
use cooperage_store::layers::LayerId;
use cooperage_store::{Descriptor, Platform, Store};
use serde_json::{Value, json};

use crate::case::MoveCall;
use crate::listing::{PLACE, Sheet};
use crate::read::RECORDING;
use crate::reads::Reads;
use crate::record::Recorder;
use crate::veil::Veil;

/// The real world, for one run that is recorded.
#[derive(Clone)]
pub struct Outside {
    /// Carries HTTP requests.
    pub client: Client,
    /// A store that nothing is in yet; the ports below work in it.
    pub store: Store,
    /// Where images come from.
    pub images: Arc<dyn ImageSource>,
    /// Where files behind URLs come from.
    pub sources: Arc<dyn SourceProvider>,
    /// Moves images.
    pub registries: Arc<dyn Registries>,
}

/// A process that was run.
pub(crate) struct Ran {
    pub(crate) args: Vec<String>,
    pub(crate) directory: String,
    pub(crate) status: i32,
    pub(crate) output: Vec<u8>,
    pub(crate) upper: PathBuf,
}

/// What was asked, and what was answered.
pub(crate) struct Recording {
    pub(crate) outside: Outside,
    pub(crate) http: Arc<Recorder>,
    veil: Veil,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    images: BTreeMap<(String, String), Base>,
    /// By URL and parameters.
    sources: BTreeMap<(String, String), Source>,
    moves: Vec<Value>,
    runs: Vec<Ran>,
}

type Line = (Entry, Option<Vec<u8>>);
/// Its files only if they were fetched.
type Source = (SourceVersion, Option<Vec<Line>>);

impl Recording {
    pub(crate) fn new(outside: Outside, veil: Veil) -> Self {
        let http = Arc::new(Recorder::new(outside.client.clone(), veil.clone()));
        Self { outside, http, veil, heard: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn image(&self, reference: &str, platform: &Platform) -> Result<Base, Error> {
        let base = self.outside.images.resolve(reference, platform).await?;
        self.lock().images.insert((reference.to_owned(), platform.to_string()), base.clone());
        Ok(base)
    }

    pub(crate) async fn version(&self, build: &Build, request: &SourceRequest) -> Result<SourceVersion, Error> {
        let version = self.outside.sources.resolve(build, request).await?;
        self.lock().sources.entry(key(request)).or_default().0.clone_from(&version);
        Ok(version)
    }

    /// All files of a source are kept.
    pub(crate) async fn files(&self, build: &Build, request: &SourceRequest, tree: &Tree) -> Result<(), Error> {
        let mut lines = Vec::new();
        for (info, _) in build.walk(tree, "/").await? {
            let path = info.path.trim_start_matches('/').as_bytes().to_vec();
            let (uid, gid) = (info.uid, info.gid);
            let target = info.link_target.unwrap_or_default().into_bytes();
            let (kind, content) = match info.kind {
                cooperage_solve::FileKind::Regular => {
                    let content = build.read_file(tree, &info.path, u64::MAX).await?;
                    (Kind::File { size: info.size, digest: None, offset: 0 }, Some(content))
                }
                cooperage_solve::FileKind::Directory => (Kind::Directory { opaque: false }, None),
                cooperage_solve::FileKind::Symlink => (Kind::Symlink { target }, None),
                cooperage_solve::FileKind::Other => (Kind::Fifo, None),
            };
            let entry = Entry { path, kind, mode: info.mode, uid, gid, mtime: 0, mtime_nanos: 0, xattrs: Vec::new() };
            lines.push((entry, content));
        }
        self.lock().sources.entry(key(request)).or_default().1 = Some(lines);
        Ok(())
    }

    pub(crate) fn moved(&self, call: MoveCall, reference: &str, answer: &Descriptor) {
        self.lock().moves.push(json!({ "call": call, "reference": reference, "answer": answer }));
    }

    pub(crate) fn ran(&self, ran: Ran) {
        self.lock().runs.push(ran);
    }

    /// Writes all of it into the folder of the case.
    pub(crate) fn write(&self, folder: &Path, reads: &Reads) -> std::io::Result<()> {
        match std::fs::remove_dir_all(folder.join(PLACE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let heard = self.lock();
        let parts = [
            ("images", self.images(&heard, folder, reads)?),
            ("sources", self.sources(&heard, folder)?),
            ("registries", heard.moves.clone()),
            ("http", self.http.exchanges(folder)?),
            ("run", self.runs(&heard, folder, reads)?),
        ];
        let mut text = "# Written by `coop plugin test --record`.\n".to_owned();
        for (name, list) in parts.into_iter().filter(|(name, list)| !list.is_empty() || *name == "http") {
            let block = serde_saphyr::to_string(&json!({ name: list })).map_err(std::io::Error::other)?;
            text.push_str(&format!("{}\n", block.trim_end()));
        }
        text.push_str(&conversations(&self.http.connections(folder)?));
        std::fs::write(folder.join(RECORDING), text)
    }

    fn sheet<'a>(&'a self, folder: &'a Path, times: bool) -> Sheet<'a> {
        Sheet { folder, veil: &self.veil, times }
    }

    fn images(&self, heard: &Heard, folder: &Path, reads: &Reads) -> std::io::Result<Vec<Value>> {
        let mut all = Vec::new();
        for ((reference, platform), base) in &heard.images {
            let mut layers = Vec::new();
            let diff_ids = base.config.diff_ids().map_err(std::io::Error::other)?;
            for (diff_id, descriptor) in diff_ids.into_iter().zip(&base.layers) {
                let id = LayerId(diff_id);
                let mut layer = json!({ "descriptor": descriptor });
                if self.outside.store.layers().get(&id).map_err(std::io::Error::other)?.is_some() {
                    let name = format!("layer-{}", &diff_id.hex()[..16]);
                    let mut sheet = self.sheet(folder, true);
                    layer["files"] = json!(sheet.layer(&name, &self.outside.store, &id, &reads.used(&id))?);
                }
                layers.push(layer);
            }
            all.push(json!({
                "reference": reference,
                "platform": platform,
                "config": base.config.value(),
                "recorded": { "name": base.reference, "manifest": base.manifest, "layers": layers },
            }));
        }
        Ok(all)
    }

    fn sources(&self, heard: &Heard, folder: &Path) -> std::io::Result<Vec<Value>> {
        let mut all = Vec::new();
        for (number, ((url, parameters), (version, lines))) in heard.sources.iter().enumerate() {
            let name = format!("source-{}", number + 1);
            let annotations: BTreeMap<_, _> = version.annotations.iter().cloned().collect();
            let parameters: Value = serde_json::from_str(parameters).unwrap_or_default();
            all.push(json!({
                "url": self.veil.secrets(url),
                "parameters": parameters,
                "version": version.value,
                "immutable": version.immutable,
                "annotations": annotations,
                "files": self.sheet(folder, false).write(&name, lines.clone().unwrap_or_default())?,
            }));
        }
        Ok(all)
    }

    /// Steps that run side by side end in any order.
    fn runs(&self, heard: &Heard, folder: &Path, reads: &Reads) -> std::io::Result<Vec<Value>> {
        let mut runs: Vec<&Ran> = heard.runs.iter().collect();
        runs.sort_by(|one, other| (&one.args, &one.directory).cmp(&(&other.args, &other.directory)));
        let mut all = Vec::new();
        for (number, ran) in runs.into_iter().enumerate() {
            let args: Vec<String> = ran.args.iter().map(|arg| self.veil.secrets(arg)).collect();
            let output = self.veil.secrets(&String::from_utf8_lossy(&ran.output));
            let mut run = json!({ "args": args, "directory": ran.directory, "status": ran.status, "output": output });
            if let Some(id) = reads.layer_of(&ran.upper) {
                let name = format!("run-{}", number + 1);
                let mut sheet = self.sheet(folder, false);
                run["writes"] = json!(sheet.layer(&name, &self.outside.store, &id, &reads.used(&id))?);
            }
            all.push(run);
        }
        Ok(all)
    }
}

/// A turn is JSON in a line of its own: no form of YAML for longer texts keeps carriage returns.
fn conversations(all: &[(String, Vec<Value>)]) -> String {
    let mut text = String::new();
    for (number, (to, turns)) in all.iter().enumerate() {
        let head = if number == 0 { "tcp:\n" } else { "" };
        text.push_str(&format!("{head}- to: {}\n  exchange:\n", json!(to)));
        turns.iter().for_each(|turn| text.push_str(&format!("  - {turn}\n")));
    }
    text
}

fn key(request: &SourceRequest) -> (String, String) {
    (request.url.clone(), request.parameters.clone())
}
