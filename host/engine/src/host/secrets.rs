//! `secrets`: the value of a secret, if it is granted. It leaves the host only here.

use cooperage_solve::{Error, ErrorKind};
use serde_json::json;

use crate::bindings::imports::cooperage::plugin::secrets;
use crate::instance::{Answer, State};

impl secrets::Host for State {
    fn reveal(&mut self, name: String) -> Answer<Vec<u8>> {
        super::answer(self.reveal_secret(&name))
    }
}

impl State {
    /// Whether the user has supplied it is told only to who may know it.
    fn reveal_secret(&self, name: &str) -> Result<Vec<u8>, Error> {
        if !self.grants.scopes().secrets.allows(name, &self.named) {
            return Err(self.denied(&format!("read the secret `{name}`"), "secrets", &json!([name])));
        }
        self.stand_ins.pass("secrets")?;
        self.secrets.get(name).map(<[u8]>::to_vec).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no secret `{name}`"))
                .hint(format!("supply it, for instance with `--secret id={name},env={name}`"))
        })
    }
}
