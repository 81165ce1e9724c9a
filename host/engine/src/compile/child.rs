//! Compiles one component in a process of its own, so that what a stranger's bytes can cost is bounded: the child
//! limits its own memory and time before it reads them. The arguments are the child's whole interface; its answer is
//! the output file, which holds code after status 0 and a message after status 1.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::engine::CompileLimits;

/// The first argument that makes the program a compiler.
pub const COMPILE_ARGUMENT: &str = "__compile";

/// The exit status of a child that noticed that it gets no more memory. Often it is too late to notice anything.
const OUT_OF_MEMORY: i32 = 4;

/// Why a component could not be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The compiler refuses it.
    #[error("{0}")]
    Refused(String),
    /// It took too long or too much memory, or the compiler crashed on it.
    #[error("compiling it {how}")]
    Exceeded {
        /// What happened.
        how: String,
        /// The limit that it ran into, by the name that raises it, if that is known.
        setting: Option<&'static str>,
    },
    /// This machine's fault.
    #[error("cannot compile: {0}")]
    Machine(String),
}

/// When the arguments (with the program's name first) ask for it: limits this process, compiles, and gives the exit
/// status. A program calls this first thing in `main`, before it starts threads or opens anything.
pub fn compile_child(arguments: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.get(1).map(OsString::as_os_str) != Some(OsStr::new(COMPILE_ARGUMENT)) {
        return None;
    }
    let [_, _, input, output, memory, cpu] = &arguments[..] else { return Some(2) };
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<u64>().ok());
    let (Some(memory), Some(cpu)) = (number(memory), number(cpu)) else { return Some(2) };
    let limited = limit(memory, cpu).map_err(CompileError::Machine);
    let (answer, status) = match limited.and_then(|()| compile(Path::new(input))) {
        Ok(code) => (code, 0),
        Err(CompileError::Exceeded { how, .. }) => (how.into_bytes(), OUT_OF_MEMORY),
        Err(error) => (error.to_string().into_bytes(), 1),
    };
    Some(if std::fs::write(output, answer).is_ok() { status } else { 3 })
}

fn limit(memory: u64, cpu: u64) -> Result<(), String> {
    let limits = [(Resource::As, memory), (Resource::Cpu, cpu), (Resource::Core, 0), (Resource::Nofile, 64)];
    for (resource, value) in limits {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        setrlimit(resource, limit).map_err(|error| format!("cannot limit {resource:?} to {value}: {error}"))?;
    }
    Ok(())
}

fn compile(input: &Path) -> Result<Vec<u8>, CompileError> {
    let bytes = std::fs::read(input).map_err(|error| match error.kind() {
        std::io::ErrorKind::OutOfMemory => out_of_memory(),
        _ => CompileError::Machine(error.to_string()),
    })?;
    let engine = wasmtime::Engine::new(&crate::engine::settings()).map_err(|error| refused(&error))?;
    precompile(&engine, &bytes)
}

/// Compiles in this process.
pub(crate) fn precompile(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    engine.precompile_component(bytes).map_err(|error| refused(&error))
}

fn out_of_memory() -> CompileError {
    CompileError::Exceeded { how: "takes more memory than there is".to_owned(), setting: None }
}

fn refused(error: &wasmtime::Error) -> CompileError {
    if error.is::<wasmtime::OutOfMemory>() {
        return out_of_memory();
    }
    let text = format!("{error:#}");
    let newer = ["component model async", "component-model-async", "not enabled", "gc proposal", "exceptions proposal"];
    if newer.iter().any(|word| text.contains(word)) {
        let fix = "it uses a feature that this host does not have; build it for WASI 0.2 without proposals";
        return CompileError::Refused(format!("{fix} ({text})"));
    }
    CompileError::Refused(text)
}

/// Compiles in a child of `helper`. The files are removed afterwards.
pub(crate) async fn in_child(
    helper: &Path,
    bytes: &[u8],
    (input, output): (PathBuf, PathBuf),
    limits: &CompileLimits,
) -> Result<Vec<u8>, CompileError> {
    let machine = |error: std::io::Error| CompileError::Machine(error.to_string());
    let _remove = (Remove(input.clone()), Remove(output.clone()));
    super::write_synced(&input, bytes).map_err(machine)?;
    super::write_synced(&output, b"").map_err(machine)?;
    let mut command = tokio::process::Command::new(helper);
    command
        .arg(COMPILE_ARGUMENT)
        .args([&input, &output])
        .args([limits.memory.to_string(), limits.cpu.as_secs().max(1).to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| CompileError::Machine(format!("{} {COMPILE_ARGUMENT}: {error}", helper.display())))?;
    let status = match tokio::time::timeout(limits.time, child.wait()).await {
        Ok(status) => status.map_err(machine)?,
        Err(_) => {
            let _ = child.kill().await;
            let how = format!("takes longer than {}", humantime::format_duration(limits.time));
            return Err(CompileError::Exceeded { how, setting: Some("compile_time") });
        }
    };
    match status.code() {
        Some(0) => std::fs::read(&output).map_err(machine),
        Some(OUT_OF_MEMORY) => Err(CompileError::Exceeded {
            how: format!("takes more than the {} of memory that it may have", mebibytes(limits.memory)),
            setting: Some("compile_memory"),
        }),
        Some(1) => {
            Err(CompileError::Refused(String::from_utf8_lossy(&std::fs::read(&output).map_err(machine)?).into_owned()))
        }
        Some(code) => Err(CompileError::Machine(format!("{} {COMPILE_ARGUMENT} ends with {code}", helper.display()))),
        None => Err(CompileError::Exceeded {
            how: format!(
                "killed the compiler ({status}); it may use {} of memory and {:?} of processor time",
                mebibytes(limits.memory),
                limits.cpu
            ),
            setting: Some(if out_of_time(status) { "compile_cpu" } else { "compile_memory" }),
        }),
    }
}

/// Whether the system has killed the compiler for the time that it took. One that gets no memory ends itself, unless the
/// whole machine has none: then this guesses wrong.
fn out_of_time(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let signals = [rustix::process::Signal::XCPU, rustix::process::Signal::KILL];
    status.signal().is_some_and(|signal| signals.iter().any(|one| one.as_raw() == signal))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
