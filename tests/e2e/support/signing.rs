//! Keys that sign plugins, made by `coop plugin keygen`, and the policies that name them.

use std::path::PathBuf;

use super::{Machine, Ran};

const PASSWORD: &str = "open sesame";

pub struct Key {
    name: String,
    directory: PathBuf,
}

impl Key {
    pub fn new(machine: &Machine, name: &str) -> Self {
        let directory = machine.outside("keys");
        std::fs::create_dir_all(&directory).unwrap();
        let key = Self { name: name.to_owned(), directory };
        let prefix = key.directory.join(name).display().to_string();
        let ran = key.give_password(machine, &["plugin", "keygen", "--output", &prefix]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        key
    }

    fn file(&self, extension: &str) -> String {
        self.directory.join(format!("{}.{extension}", self.name)).display().to_string()
    }

    pub fn public(&self) -> String {
        self.file("pub")
    }

    pub fn private(&self) -> String {
        self.file("key")
    }

    /// A line of `keys` in a policy.
    pub fn line(&self) -> String {
        format!("{}: {{ file: {} }}", self.name, self.public())
    }

    /// Runs a command that reads a private key.
    pub fn give_password(&self, machine: &Machine, args: &[&str]) -> Ran {
        machine.coop(args).env("COSIGN_PASSWORD", PASSWORD).output().unwrap().into()
    }

    pub fn sign(&self, machine: &Machine, reference: &str) {
        let ran = self.give_password(machine, &["plugin", "sign", reference, "--key", &self.private()]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    /// Pushes and signs in one command.
    pub fn publish(&self, machine: &Machine, file: &str, reference: &str) {
        let ran = self.give_password(machine, &["plugin", "push", file, reference, "--key", &self.private()]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    /// Lets a machine trust this key and no other.
    pub fn trust_on(&self, machine: &Machine) {
        machine.configure(&format!("trust: {{ keys: {{ {} }} }}\n", self.line()));
    }
}
