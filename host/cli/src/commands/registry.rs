//! `coop registry`: logins, shared with Docker through its configuration file and helpers.

use std::io::{IsTerminal, Read};

use cooperage_engine::credentials::{Credential, Stored};

use crate::app::App;
use crate::args::{ProgressMode, PullMode, Registry};
use crate::error::{Exit, Failure};
use crate::output;

pub(crate) fn run(app: &App, command: &Registry) -> Result<(), Failure> {
    match command {
        Registry::Login { host, username, password_stdin } => login(app, host, username, *password_stdin),
        Registry::Logout { host } => logout(app, host),
    }
}

fn login(app: &App, host: &str, username: &str, from_stdin: bool) -> Result<(), Failure> {
    let password = password(from_stdin)?;
    let credential = Credential { username: username.to_owned(), password, identity_token: false };
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    app.block_on(async {
        let step = session.reporter.step(None, format!("log in to {host}"));
        let result = session.registries.login(host, credential.clone(), &step).await;
        session.end(step, &result);
        result
    })?;
    let kept = app.credentials().store(host, &credential).map_err(failed)?;
    match kept {
        Stored::Helper(helper) => output::line(&format!("logged in to {host}; kept by the credential helper {helper}")),
        Stored::File(path) => {
            output::line(&format!("logged in to {host}; kept in {} (readable by you alone)", path.display()))
        }
    }
}

fn password(from_stdin: bool) -> Result<String, Failure> {
    if !from_stdin && std::io::stdin().is_terminal() {
        return Err(Failure::usage("a password is not typed here, where it could be seen")
            .hint("pipe it in: printf %s \"$PASSWORD\" | coop registry login --username USER --password-stdin HOST"));
    }
    /// Tokens of some providers are long, but not this long.
    const LONGEST: u64 = 1 << 20;
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("the password from standard input is not text: {error}")))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("the password from standard input is empty"));
    }
    Ok(password.to_owned())
}

fn logout(app: &App, host: &str) -> Result<(), Failure> {
    match app.credentials().erase(host).map_err(failed)? {
        true => output::line(&format!("the login of {host} is forgotten")),
        false => output::line(&format!("there was no login of {host}")),
    }
}

fn failed(error: cooperage_engine::credentials::Error) -> Failure {
    Failure::new(Exit::Environment, error.to_string())
}
