//! Stands in for `coop` in the tests: the hidden helper entry, and a small host that tests can start as another user
//! or kill. Usage: `sandbox-helper host ISOLATION SPEC.json`, with the output on standard output and the result as
//! the last line of standard error.

use std::io::Write;
use std::process::ExitCode;

use cooperage_sandbox::{Cancel, Config, Isolation, Sandbox, Spec};

fn main() -> ExitCode {
    if let Some(code) = cooperage_sandbox::helper(std::env::args_os()) {
        return ExitCode::from(code as u8);
    }
    let args: Vec<String> = std::env::args().collect();
    let said = match args.get(1).map(String::as_str) {
        Some("host") => host(&args[2..]).unwrap_or_else(|error| format!("ERROR {error}")),
        _ => "ERROR usage".to_owned(),
    };
    let _ = writeln!(std::io::stderr(), "{said}");
    ExitCode::SUCCESS
}

fn host(args: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    let [isolation, spec] = args else { return Err("usage".into()) };
    let entered = cooperage_sandbox::enter_user_namespace()?;
    let isolation: Isolation = serde_json::from_value(isolation.as_str().into())?;
    let mut spec: Spec = serde_json::from_slice(&std::fs::read(spec)?)?;
    spec.root.userxattr = entered != cooperage_sandbox::Entered::Privileged;
    let sandbox = Sandbox::new(Config { isolation, helper: std::env::current_exe()?, runtime: None })?;
    let mut stdout = std::io::stdout();
    let mut output = |bytes: &[u8]| {
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    };
    let outcome = sandbox.run_to_outcome(&spec, &mut output, &Cancel::new()?)?;
    Ok(format!("{entered:?}\n{outcome:?}"))
}
