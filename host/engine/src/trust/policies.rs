//! Several policies at once: that of the machine, and that of its user. The first that has a rule for a plugin decides
//! alone, with its own keys and its own trust root, so that what a user adds satisfies no rule of the machine.

use std::collections::BTreeSet;
use std::path::Path;

use super::decision::{Decision, Facts, decide};
use super::keyless::Subject;
use super::policy::{Policy, PolicyError, Requirement};
use super::{NamedKey, Signatures, TrustRoot, Trusted};
use crate::artifact::RegistryReference;

/// A policy with its keys and its trust root read.
#[derive(Debug, Clone, Default)]
pub struct ReadyPolicy {
    policy: Policy,
    keys: Vec<NamedKey>,
    root: Option<TrustRoot>,
}

/// All policies that hold.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    ordered: Vec<ReadyPolicy>,
    /// For what no rule fits: the keys of all of them.
    together: ReadyPolicy,
}

impl Policy {
    /// Checks the policy and reads what it names; `read` gives the bytes of a file.
    ///
    /// # Errors
    /// When a rule can never be met, or a key or the trust root cannot be read; says which.
    pub fn ready(self, mut read: impl FnMut(&Path) -> std::io::Result<Vec<u8>>) -> Result<ReadyPolicy, PolicyError> {
        self.check()?;
        let keys = self.named_keys(&mut read)?;
        let root = match &self.trusted_root {
            None => None,
            Some(path) => {
                let wrong = |reason: String| PolicyError::TrustRoot { path: path.clone(), reason };
                let json = read(path).map_err(|error| wrong(error.to_string()))?;
                Some(TrustRoot::read(&json).map_err(|error| wrong(error.to_string()))?)
            }
        };
        Ok(ReadyPolicy { policy: self, keys, root })
    }
}

impl Policies {
    /// The policies, those that come first first.
    pub fn new(ordered: Vec<ReadyPolicy>) -> Self {
        let mut together = ReadyPolicy::default();
        let mut names = BTreeSet::new();
        for one in &ordered {
            // A name that two policies give stands for the key of the first.
            let new = |name: &String| !names.contains(name);
            let keys = one.keys.iter().filter(|key| new(&key.name)).cloned();
            together.keys.extend(keys);
            for (name, source) in &one.policy.keys {
                together.policy.keys.entry(name.clone()).or_insert_with(|| source.clone());
            }
            names.extend(one.policy.keys.keys().cloned());
            together.root = together.root.or_else(|| one.root.clone());
        }
        Self { ordered, together }
    }

    /// The policy that decides about a plugin.
    pub fn of(&self, reference: &RegistryReference) -> &ReadyPolicy {
        self.ordered.iter().find(|one| one.policy.rule(reference).is_some()).unwrap_or(&self.together)
    }
}

impl ReadyPolicy {
    /// Whether signatures can change anything. `pinned`: the user wrote the digest.
    pub fn asks_for_signatures(&self, reference: &RegistryReference, pinned: bool) -> bool {
        match self.policy.rule(reference).map(|rule| &rule.require) {
            None => !pinned,
            Some(Requirement::Keys(_) | Requirement::Identities(_)) => true,
            Some(Requirement::Nothing | Requirement::Digest | Requirement::Refuse) => false,
        }
    }

    /// Verifies what signatures there are and decides.
    pub fn decide(
        &self,
        reference: &RegistryReference,
        pinned: bool,
        subject: &Subject<'_>,
        signatures: &Signatures,
    ) -> Decision {
        let verified = signatures.verify(subject, self.trusted());
        let (signers, failures) = (&verified.signers[..], &verified.failures[..]);
        decide(&self.policy, &Facts { reference, pinned, signers, failures })
    }

    /// What there is to verify with.
    pub fn trusted(&self) -> Trusted<'_> {
        Trusted { keys: &self.keys, root: self.root.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Payload, PrivateKey, Signed, with_signatures};
    use super::*;

    fn ready(text: &str, key: &PrivateKey) -> ReadyPolicy {
        let policy: Policy = serde_saphyr::from_str(text).unwrap();
        policy.ready(|_| Ok(key.public().to_pem().into_bytes())).unwrap()
    }

    /// The name of the key that makes it allowed, `-` if none is needed, or `refused`.
    fn decided(policies: &Policies, reference: &str, signer: &PrivateKey) -> String {
        let manifest = b"{}";
        let subject = Subject::manifest(manifest);
        let payload = Payload::new("r.example/a", cooperage_store::Digest::of(manifest));
        let signed = Signed::new(&payload, signer).unwrap();
        let of = with_signatures(None, std::slice::from_ref(&signed)).unwrap();
        let signatures = Signatures::new(Some(&of.manifest), [&signed.payload[..]], []);
        let reference = reference.parse().unwrap();
        match policies.of(&reference).decide(&reference, false, &subject, &signatures) {
            Decision::Allowed { signer: Some(super::super::Signer::Key { name, .. }) } => name,
            Decision::Allowed { .. } => "-".to_owned(),
            Decision::Refused(_) => "refused".to_owned(),
        }
    }

    #[test]
    fn the_machine_comes_before_its_user() {
        let (ours, theirs) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let machine = "
keys: { acme: { file: acme.pub } }
rules:
  - { match: strict.example/**, require: { keys: [acme] } }
";
        let user = "
keys: { acme: { file: own.pub } }
rules:
  - { match: '**/a', require: { keys: [acme] } }
  - { match: open.example/**, require: nothing }
";
        let policies = Policies::new(vec![ready(machine, &ours), ready(user, &theirs)]);
        for (reference, signer, expected) in [
            ("strict.example/a", &ours, "acme"),
            ("strict.example/a", &theirs, "refused"),
            ("r.example/a", &theirs, "acme"),
            ("r.example/a", &ours, "refused"),
            ("open.example/b", &ours, "-"),
            ("r.example/b", &ours, "acme"),
            // A name that both give is that of the machine's key.
            ("r.example/b", &theirs, "refused"),
        ] {
            assert_eq!(decided(&policies, reference, signer), expected, "{reference}");
        }
        assert_eq!(decided(&Policies::default(), "r.example/b", &ours), "refused");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |text: &str| {
            let policy: Policy = serde_saphyr::from_str(text).unwrap();
            policy.ready(|_| Ok(b"hello".to_vec())).unwrap_err().to_string()
        };
        assert!(error("trusted-root: root.json").contains("root.json"));
        assert!(error("keys: { a: { file: a.pub } }").contains("the key a"));
    }
}
