//! Keys and signatures of plugin artifacts: `keygen`, `sign`, and `verify` of references.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cooperage_engine::artifact::RegistryReference;
use cooperage_engine::trust::{Policies, Policy, PrivateKey};

use crate::app::{App, Session};
use crate::args::{ProgressMode, PullMode, SigningKey};
use crate::error::{Exit, Failure};
use crate::output;
use crate::plugins::artifact_failure;

/// Where cosign looks for the password, too.
const PASSWORD: &str = "COSIGN_PASSWORD";

/// Makes a pair of keys as files.
pub(super) fn keygen(app: &App, prefix: &Path, from_stdin: bool) -> Result<(), Failure> {
    let files = [prefix.with_added_extension("key"), prefix.with_added_extension("pub")];
    if let Some(there) = files.iter().find(|file| file.exists()) {
        return Err(Failure::usage(format!("{} is there already", there.display()))
            .hint("a key that is lost cannot be made again; choose another --output"));
    }
    let password = password(app, from_stdin)?;
    let key = PrivateKey::generate().map_err(failed)?;
    let [secret, public] = &files;
    write(secret, &key.to_pem(&password).map_err(failed)?, 0o600)?;
    write(public, &key.public().to_pem(), 0o644)?;
    output::line(&format!("{}  signs: keep it secret", secret.display()))?;
    output::line(&format!("{}  verifies: {}", public.display(), key.public().fingerprint()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| Failure::new(Exit::Environment, format!("{} cannot be written: {error}", path.display())))
}

/// Signs a plugin that lies in a registry.
pub(super) fn sign(app: &App, reference: &str, key: &SigningKey) -> Result<(), Failure> {
    let reference: RegistryReference =
        reference.strip_prefix("oci://").unwrap_or(reference).parse().map_err(artifact_failure)?;
    let file = key.key.as_deref().ok_or_else(|| Failure::usage("--key names the private key to sign with"))?;
    let key = read(app, file, key.password_stdin)?;
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    signed(app, &session, &reference, &key)
}

/// Signs with a key that was read, and says so.
pub(super) fn signed(
    app: &App,
    session: &Session,
    reference: &RegistryReference,
    key: &PrivateKey,
) -> Result<(), Failure> {
    let signing = async { session.plugins.sources().sign(reference, key).await.map_err(artifact_failure) };
    let digest = app.block_on(signing)?;
    let name = RegistryReference { digest: Some(digest), ..reference.clone() };
    output::line(&format!("oci://{name} signed by the key {}", key.public().fingerprint()))
}

/// Reads a private key.
pub(super) fn read(app: &App, file: &Path, from_stdin: bool) -> Result<PrivateKey, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("the key {} cannot be read: {error}", file.display())))?;
    let password = password(app, from_stdin)?;
    PrivateKey::from_pem(&text, &password)
        .map_err(|error| Failure::usage(format!("the key {} cannot be used: {error}", file.display())))
}

/// The password of a private key, which may be empty but is never left out by mistake.
fn password(app: &App, from_stdin: bool) -> Result<Vec<u8>, Failure> {
    if !from_stdin {
        let password = app.environment.variables().get(PASSWORD).map(|text| text.clone().into_bytes());
        return password.ok_or_else(|| {
            Failure::usage("the password of the private key is missing")
                .hint(format!("pipe it in with --password-stdin, or set {PASSWORD}; it may be empty"))
        });
    }
    /// More than anybody types or generates.
    const LONGEST: u64 = 1 << 16;
    let mut text = Vec::new();
    let read = std::io::stdin().take(LONGEST).read_to_end(&mut text);
    read.map_err(|error| Failure::usage(format!("the password from standard input cannot be read: {error}")))?;
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    text.truncate(end);
    Ok(text)
}

/// Verifies who signed plugins that no flow file declares: by the policies, or by one key alone.
pub(super) fn verify(app: &App, references: &[String], key: Option<&PathBuf>) -> Result<(), Failure> {
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let alone = key.map(|file| only(file)).transpose()?;
    for text in references {
        let plugins = &session.plugins;
        let signer = app.block_on(async {
            match &alone {
                None => Ok::<_, Failure>(plugins.obtain(text, true).await?.signer),
                Some(policies) => plugins.obtain_by(policies, text).await.map(|obtained| obtained.signer),
            }
        })?;
        output::line(&match signer {
            Some(signer) => format!("{text} signed by {signer}"),
            None => format!("{text} needs no signature"),
        })?;
    }
    Ok(())
}

/// A policy that wants a signature by one key for everything.
fn only(file: &Path) -> Result<Policies, Failure> {
    let wrong = |reason: String| Failure::usage(format!("the key {} cannot be used: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let name = file.display().to_string();
    let ready = Policy::of_key(&name, text).ready(|_| Ok(Vec::new()));
    Ok(Policies::new(vec![ready.map_err(|error| wrong(error.to_string()))?]))
}

fn failed(error: cooperage_engine::trust::Error) -> Failure {
    Failure::new(Exit::Environment, error.to_string())
}
