//! Compares who signed with who must have: a pure function from facts to a yes, or to a no that says what was found,
//! what is wanted and what the user can do.

use std::fmt;

use super::policy::{Policy, Requirement, Rule};
use super::{Error, Signer};
use crate::artifact::RegistryReference;

/// What is known of a plugin when the decision is due.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the user wrote, with the digest that it stands for where that is known.
    pub reference: &'a RegistryReference,
    /// Whether the user wrote the digest in use, as a part of the reference. A lock file does not count: programs write it.
    pub pinned: bool,
    /// Who signed, verified.
    pub signers: &'a [Signer],
    /// Why further signatures do not count.
    pub failures: &'a [Error],
}

/// Whether a plugin may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed {
        /// Who signed it; none if its digest alone is what allows it.
        signer: Option<Signer>,
    },
    /// It may not.
    Refused(Refusal),
}

/// Why a plugin may not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The plugin.
    pub reference: String,
    /// What was found.
    pub found: String,
    /// What is wanted.
    pub wanted: String,
    /// What the user can do, one thing each.
    pub advice: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is refused: {}; wanted is {}", self.reference, self.found, self.wanted)?;
        self.advice.iter().try_for_each(|advice| write!(f, "\n  {advice}"))
    }
}

/// Decides whether a plugin from a registry may be used.
pub fn decide(policy: &Policy, facts: &Facts<'_>) -> Decision {
    let rule = policy.rule(facts.reference);
    match met(policy, rule.map(|rule| &rule.require), facts) {
        Some(signer) => Decision::Allowed { signer: signer.cloned() },
        None => {
            let (reference, found) = (facts.reference.to_string(), facts.found());
            Decision::Refused(Refusal {
                reference,
                found,
                wanted: wanted(policy, rule),
                advice: advice(rule, facts.reference),
            })
        }
    }
}

/// None if the requirement is not met; otherwise who signed, if anybody did.
fn met<'a>(policy: &Policy, requirement: Option<&Requirement>, facts: &Facts<'a>) -> Option<Option<&'a Signer>> {
    let pinned = || facts.pinned.then(|| facts.signers.first());
    let used = |signer: &Signer| matches!(signer, Signer::Key { name, .. } if policy.uses(name));
    let listed = |signer: &Signer, keys: &[String]| matches!(signer, Signer::Key { name, .. } if keys.contains(name));
    let mut signers = facts.signers.iter();
    match requirement {
        None => signers.find(|signer| used(signer)).map(Some).or_else(pinned),
        Some(Requirement::Keys(keys)) => signers.find(|signer| used(signer) && listed(signer, keys)).map(Some),
        Some(Requirement::Identities(identities)) => {
            signers.find(|signer| identities.iter().any(|identity| identity.check(signer).is_ok())).map(Some)
        }
        Some(Requirement::Digest) => pinned(),
        Some(Requirement::Nothing) => Some(facts.signers.first()),
        Some(Requirement::Refuse) => None,
    }
}

fn wanted(policy: &Policy, rule: Option<&Rule>) -> String {
    let Some(Rule { pattern, require }) = rule else {
        let names: Vec<_> = policy.keys.keys().filter(|name| policy.uses(name)).map(String::as_str).collect();
        return match names.as_slice() {
            [] => "a signature by a key of the policy (it has none), or a digest".to_owned(),
            names => format!("a signature by {}, or a digest", names.join(" or ")),
        };
    };
    let what = match require {
        Requirement::Keys(keys) => format!("a signature by {}", keys.join(" or ")),
        Requirement::Identities(identities) => {
            let names: Vec<_> = identities.iter().map(ToString::to_string).collect();
            format!("a signature by {}", names.join(" or "))
        }
        Requirement::Digest => "a digest".to_owned(),
        Requirement::Nothing => "nothing".to_owned(),
        Requirement::Refuse => "none such at all".to_owned(),
    };
    format!("{what} (rule for {pattern})")
}

fn advice(rule: Option<&Rule>, reference: &RegistryReference) -> Vec<String> {
    let sign = "have it signed by whom the rule names, or sign it yourself once you know that this is what you want";
    let exact = match reference.digest {
        Some(_) => format!("oci://{reference}"),
        None => "the reference with @sha256:...".to_owned(),
    };
    let pin = format!("pin it: write {exact} once you know that this is what you want");
    let Some(Rule { pattern, require }) = rule else {
        let add = "if you trust the signer, add its public key to `keys` of the policy, or a rule with its identity";
        return vec![add.to_owned(), pin];
    };
    match require {
        Requirement::Keys(_) => {
            vec![
                sign.to_owned(),
                format!("if you trust the signer, add its key to `keys` and to the rule for {pattern}"),
            ]
        }
        Requirement::Identities(_) => {
            vec![sign.to_owned(), format!("if you trust the signer, add it to `identities` of the rule for {pattern}")]
        }
        Requirement::Digest => vec![pin],
        // It cannot be refused.
        Requirement::Nothing => Vec::new(),
        Requirement::Refuse => vec![format!("use another plugin, or change the rule for {pattern}")],
    }
}

impl Facts<'_> {
    /// What was found, in a sentence without end.
    fn found(&self) -> String {
        let signers = self.signers.iter().map(|signer| format!("it is signed by {signer}"));
        let failures = self.failures.iter().map(ToString::to_string);
        let found: Vec<_> = signers.chain(failures).collect();
        match found.as_slice() {
            [] if self.pinned => "it has no signature, only a digest".to_owned(),
            [] => "it has no signature".to_owned(),
            [one] => one.clone(),
            // Anybody who can push can add signatures.
            many if many.len() > 5 => format!("{}; and {} more", many[..5].join("; "), many.len() - 5),
            many => many.join("; "),
        }
    }
}

#[cfg(test)]
mod tests {
    use cooperage_store::Digest;

    use super::super::policy::Identity;
    use super::*;

    const POLICY: &str = "
keys:
  acme: { file: acme.pub }
  acme-2023: { file: old.pub, retired: true }
trusted-root: trusted_root.json
rules:
  - match: registry.example/acme/**
    require:
      keys: [acme]
  - match: ghcr.example/acme/*
    require:
      identities:
        - issuer: https://token.example
          subject: https://git.example/acme/*/release.yml@refs/tags/*
  - { match: localhost:5000/**, require: digest }
  - { match: evil.example/**, require: refuse }
  - { match: '127.0.0.1:*/**', require: nothing }
";

    fn key(name: &str) -> Signer {
        Signer::Key { name: name.to_owned(), fingerprint: Digest::of(name.as_bytes()) }
    }

    fn identity(subject: &str) -> Signer {
        Signer::Identity { subject: subject.to_owned(), issuer: "https://token.example".to_owned() }
    }

    /// The signer that makes it allowed (`-` if the digest does), or the whole refusal.
    #[track_caller]
    fn check(reference: &str, pinned: bool, signers: &[Signer], failures: &[Error], expected: &str) {
        let policy: Policy = serde_saphyr::from_str(POLICY).unwrap();
        policy.check().unwrap();
        let reference = reference.parse().unwrap();
        let decision = decide(&policy, &Facts { reference: &reference, pinned, signers, failures });
        let text = match decision {
            Decision::Allowed { signer: None } => "-".to_owned(),
            Decision::Allowed { signer: Some(Signer::Key { name, .. }) } => name,
            Decision::Allowed { signer: Some(Signer::Identity { subject, .. }) } => subject,
            Decision::Refused(refusal) => refusal.to_string(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn keys() {
        let name = "registry.example/acme/tools/chat";
        check(name, false, &[key("other"), key("acme")], &[], "acme");
        let refusal = |found: &str| {
            format!(
                "registry.example/acme/tools/chat:latest is refused: {found}; wanted is a signature by acme (rule for \
                 registry.example/acme/**)\n  have it signed by whom the rule names, or sign it yourself once you know \
                 that this is what you want\n  if you trust the signer, add its key to `keys` and to the rule for \
                 registry.example/acme/**"
            )
        };
        check(name, true, &[], &[], &refusal("it has no signature, only a digest"));
        check(
            name,
            false,
            &[identity("acme")],
            &[],
            &refusal("it is signed by acme (vouched for by https://token.example)"),
        );
        let (fingerprint, name_2023) = (Digest::of(b""), "acme-2023".to_owned());
        let retired = Error::RetiredKey { name: name_2023, fingerprint };
        let found = format!("signed by the key acme-2023 ({fingerprint}), which is retired");
        check(name, false, &[], &[retired], &refusal(&found));
    }

    #[test]
    fn identities() {
        let good = "https://git.example/acme/chat/release.yml@refs/tags/v1";
        check("ghcr.example/acme/chat:1", false, &[identity(good)], &[], good);
        check(
            "ghcr.example/acme/chat:1",
            true,
            &[identity("https://git.example/acme/chat/release.yml@refs/heads/main")],
            &[],
            "ghcr.example/acme/chat:1 is refused: it is signed by \
             https://git.example/acme/chat/release.yml@refs/heads/main (vouched for by https://token.example); wanted \
             is a signature by https://git.example/acme/*/release.yml@refs/tags/* (vouched for by \
             https://token.example) (rule for ghcr.example/acme/*)\n  have it signed by whom the rule names, or sign \
             it yourself once you know that this is what you want\n  if you trust the signer, add it to `identities` of the rule for \
             ghcr.example/acme/*",
        );
    }

    #[test]
    fn digests_and_refusals() {
        check("localhost:5000/chat", true, &[], &[], "-");
        check("localhost:5000/chat", true, &[key("acme")], &[], "acme");
        check("127.0.0.1:5000/chat", false, &[], &[], "-");
        check(
            "localhost:5000/chat",
            false,
            &[key("acme")],
            &[],
            &format!(
                "localhost:5000/chat:latest is refused: it is signed by the key acme ({}); wanted is a digest (rule \
                 for localhost:5000/**)\n  pin it: write the reference with @sha256:... once you know that this is \
                 what you want",
                Digest::of(b"acme")
            ),
        );
        check(
            "evil.example/chat",
            true,
            &[],
            &[],
            "evil.example/chat:latest is refused: it has no signature, only a digest; wanted is none such at all (rule \
             for evil.example/**)\n  use another plugin, or change the rule for evil.example/**",
        );
    }

    #[test]
    fn without_a_rule() {
        check("r.example/chat", false, &[key("acme")], &[], "acme");
        check("r.example/chat", true, &[], &[], "-");
        let refusal = |found: &str| {
            format!(
                "r.example/chat:latest is refused: {found}; wanted is a signature by acme, or a digest\n  if you trust \
                 the signer, add its public key to `keys` of the policy, or a rule with its identity\n  pin it: write \
                 the reference with @sha256:... once you know that this is what you want"
            )
        };
        check("r.example/chat", false, &[], &[], &refusal("it has no signature"));
        let found = "it is signed by anna@a.example (vouched for by https://token.example)";
        check("r.example/chat", false, &[identity("anna@a.example")], &[], &refusal(found));
        let found = format!("it is signed by the key acme-2023 ({})", Digest::of(b"acme-2023"));
        check("r.example/chat", false, &[key("acme-2023")], &[], &refusal(&found));
        let many = vec![Error::BadPromise; 9];
        let found = format!("{}; and 4 more", vec![Error::BadPromise.to_string(); 5].join("; "));
        check("r.example/chat", false, &[], &many, &refusal(&found));
    }

    #[test]
    fn mistakes_in_a_policy() {
        let read = |text: &str| serde_saphyr::from_str::<Policy>(text);
        assert!(read("keys: { a: { path: x } }").is_err());
        assert!(read("rules: [{ match: x, require: everything }]").is_err());
        let check = |text: &str| read(text).unwrap().check().unwrap_err().to_string();
        assert!(check("rules: [{ match: x, require: { keys: [a] } }]").contains("`keys` does not list"));
        assert!(check("rules: [{ match: x, require: { keys: [] } }]").contains("still used"));
        assert!(check("rules: [{ match: oci://x/y, require: digest }]").contains("no scheme"));
        let identity = "{ issuer: i, subject: s }";
        assert!(
            check(&format!("rules: [{{ match: x, require: {{ identities: [{identity}] }} }}]"))
                .contains("trusted-root")
        );
        let policy = read("keys: { a: { file: a.pub }, b: {} }").unwrap();
        let missing = policy.named_keys(|_| Err(std::io::ErrorKind::NotFound.into())).unwrap_err().to_string();
        assert!(missing.starts_with("the key a: a.pub: "), "{missing}");
        let wrong = policy.named_keys(|_| Ok(b"x".to_vec())).unwrap_err().to_string();
        assert!(wrong.contains("not PEM"), "{wrong}");
        assert!(Identity { issuer: "i".into(), subject: "**".into() }.check(&key("acme")).is_err());
    }
}
