//! Counts the lines of the files that a step works on.

use std::fmt::Write;

use cooperage_sdk::events;
use cooperage_sdk::prelude::*;
use cooperage_sdk::state;
use cooperage_sdk::trees::{FileKind, Origin};

/// Bytes per call of the host: large enough that the call itself does not count.
const CHUNK: u32 = 256 * 1024;

/// What `with:` of the step takes. The JSON Schema comes from here, comments included, and the host checks it before
/// the plugin runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Directory of the input to count in.
    #[serde(default = "root")]
    directory: String,
    /// Only files whose name ends so; all files by default.
    #[serde(default)]
    suffix: String,
}

fn root() -> String {
    "/".to_owned()
}

struct Lines;

impl Plugin for Lines {
    fn describe() -> Description {
        Description::new("my-plugin", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"))
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            .asks(Capability::state("to tell by how many lines the input has grown since the last run"))
    }
}

impl Task for Lines {
    type Parameters = Parameters;

    fn run(request: TaskRequest<Parameters>) -> Result<Outputs> {
        let Parameters { directory, suffix } = &request.parameters;
        let input = request.required_input()?;
        let paths = files(input, directory, suffix)?;

        let mut list = String::new();
        let total = Step::new("count").run(|step| {
            let mut total = 0;
            for (done, path) in paths.iter().enumerate() {
                events::check_cancelled()?;
                let lines = lines(input, path).with_context(|| format!("cannot count the lines of {path}"))?;
                // Writing to a String does not fail.
                let _ = writeln!(list, "{lines} {path}");
                total += lines;
                step.progress(done as u64 + 1, Some(paths.len() as u64), Unit::Items);
            }
            Ok(total)
        })?;
        info!("{total} lines in {} files", paths.len());

        let origin = Origin::new("write lines.txt");
        let tree = Tree::scratch().write_file("/lines.txt", list.as_bytes(), 0o644, None, &origin);
        let growth = growth(&format!("{directory} {suffix}"), total)?;
        Ok(Outputs::new().value("files", paths.len()).value("lines", total).value("growth", growth).tree(tree))
    }
}

/// The paths of the files below a directory whose names end so.
fn files(input: &Tree, directory: &str, suffix: &str) -> Result<Vec<String>> {
    let all = input.walk(directory).hint("name a directory of the step's input in `directory`")?;
    let files = all.into_iter().map(|(file, _)| file).filter(|file| file.kind == FileKind::Regular);
    let paths: Vec<String> = files.map(|file| file.path).filter(|path| path.ends_with(suffix)).collect();
    if paths.is_empty() {
        let message = format!("no file below {directory} has a name that ends in \"{suffix}\"");
        return Err(Error::not_found(message).hint("mend `directory` or `suffix`"));
    }
    Ok(paths)
}

fn lines(input: &Tree, path: &str) -> Result<u64> {
    let reader = input.open(path)?;
    let mut lines = 0;
    loop {
        let chunk = reader.read(CHUNK)?;
        if chunk.is_empty() {
            return Ok(lines);
        }
        lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

/// By how much the number under a key has grown. What is kept may be lost at any time: then it has not grown.
fn growth(key: &str, lines: u64) -> Result<i64> {
    let before = state::get(key)?.and_then(|kept| String::from_utf8(kept).ok()?.parse::<u64>().ok());
    state::set(key, lines.to_string().as_bytes(), None)?;
    Ok(before.map_or(0, |before| lines.cast_signed() - before.cast_signed()))
}

cooperage_sdk::plugin!(Lines: task);
