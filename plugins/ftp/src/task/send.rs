//! The action `upload`: files of the input to paths on the server.

use cooperage_sdk::events::Step;
use cooperage_sdk::{Context, Result};
use sha2::{Digest, Sha256};

use super::local::Local;
use super::parameters::{Parameters, Upload};
use super::{Done, Outside};
use crate::client::Client;
use crate::client::directories::Directories;
use crate::client::upload;
use crate::edge::{Files, Payload};
use crate::paths;

/// Sends files one after the other.
pub struct Sender<'s> {
    parameters: &'s Parameters,
    step: &'s Step,
    /// Equal for equal input, if what was left is to be continued.
    identity: Option<String>,
    directories: Directories,
    total: u64,
    /// Files sent.
    pub files: u64,
    /// Bytes that they have.
    pub bytes: u64,
}

impl<'s> Sender<'s> {
    /// For files of so many bytes in all.
    ///
    /// # Errors
    /// Those of the input.
    pub fn new(parameters: &'s Parameters, input: &dyn Files, step: &'s Step, total: u64) -> Result<Self> {
        let identity = if parameters.resume { Some(input.identity()?) } else { None };
        let directories = Directories::default();
        Ok(Self { parameters, step, identity, directories, total, files: 0, bytes: 0 })
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Those of the server.
    pub fn directory(&mut self, client: &mut Client, path: &str) -> Result<()> {
        self.directories.make(client, path)
    }

    /// Sends a file to an absolute path; the directory is made.
    ///
    /// # Errors
    /// Those of the server.
    pub fn file(&mut self, client: &mut Client, payload: &dyn Payload, path: &str) -> Result<()> {
        let what = format!("cannot send {}", client.server().url(path));
        if let Some((directory, _)) = paths::split(path) {
            self.directories.make(client, directory)?;
        }
        // The path is part of it: two files of one input must not continue each other.
        let mark = self.identity.as_ref().map(|identity| mark(identity, path));
        let upload = upload::Upload {
            payload,
            path,
            mode: self.parameters.mode,
            atomic: self.parameters.atomic,
            resume: mark.as_deref(),
            permissions: self.parameters.permissions.as_deref(),
        };
        let (step, before, total) = (self.step, self.bytes, self.total);
        upload.run(client, &mut |done| step.bytes(before + done, Some(total))).context(what)?;
        self.files += 1;
        self.bytes += payload.size();
        Ok(())
    }
}

fn mark(identity: &str, path: &str) -> String {
    let hash =
        Sha256::new().chain_update(identity.as_bytes()).chain_update([0]).chain_update(path.as_bytes()).finalize();
    hash.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Does it.
///
/// # Errors
/// Those of input and server.
pub fn upload(
    client: &mut Client,
    outside: &Outside,
    parameters: &Parameters,
    base: &str,
    wanted: &Upload,
) -> Result<Done> {
    let input = outside.input()?;
    let local = Local::find(input, &wanted.from)?;
    let to = paths::join(base, &wanted.to);
    let into = local.single && (wanted.to.is_empty() || wanted.to.ends_with('/'));
    let step = Step::new(format!("upload {}", client.server().url(&to)));
    step.run(|step| {
        let mut sender = Sender::new(parameters, input, step, local.bytes())?;
        if !local.single {
            sender.directory(client, &to)?;
        }
        for directory in &local.directories {
            sender.directory(client, &paths::join(&to, directory))?;
        }
        for (relative, path, _) in &local.files {
            let target = if local.single && !into { to.clone() } else { paths::join(&to, relative) };
            sender.file(client, input.payload(path)?.as_ref(), &target)?;
        }
        let url = match &local.files[..] {
            [(name, ..)] if into => client.server().url(&paths::join(&to, name)),
            _ => client.server().url(&to),
        };
        Ok(Done { files: sender.files, bytes: sender.bytes, url, ..Done::default() })
    })
}
