//! What holds for a plugin here: what it asks for, what a flow file or the configuration allows it, what the policy of the
//! machine makes of that, and its limits. Runs nothing.

use std::collections::BTreeMap;

use cooperage_engine::grants::{Ungranted, ungranted};
use cooperage_engine::{Amount, CompileLimits, LimitSettings, Limits};
use serde_json::{Value, json};

use super::look::Seen;
use crate::app::{App, Session};
use crate::error::Failure;

/// What a plugin has here.
pub(super) struct Holding {
    /// By name; the other way to have them is the reason why there are none.
    pub(super) limits: Result<BTreeMap<&'static str, Amount>, String>,
    /// Those of them that the policy has set.
    capped: Vec<&'static str>,
    grants: Vec<Grant>,
    policy: String,
}

/// One request and what becomes of it.
struct Grant {
    class: String,
    asked: Value,
    /// None if whatever it asks for is allowed.
    allowed: Option<Value>,
    /// None if the policy has no say.
    cap: Option<Value>,
    open: Option<Ungranted>,
}

impl Holding {
    /// Of a plugin that was looked at, under the name that it was looked for.
    pub(super) fn of(app: &App, session: &Session, seen: &Seen) -> Result<Self, Failure> {
        let (plugins, name) = (&session.plugins, seen.reference.as_str());
        let allowed = plugins.allowed(name)?;
        let policy = app.policy.scopes(&app.policy_path)?;
        let limits = plugins
            .limits(name)
            .and_then(|limits| Ok(LimitSettings::amounts(&limits, &plugins.compiling_limits(name)?)));
        let limits = limits.map_err(|failure| {
            let error = failure.into_error();
            std::iter::once(error.message).chain(error.context).collect::<Vec<_>>().join(": ")
        });
        let most = app.policy.most(&app.policy_path)?;
        let capped = limits.iter().flatten().filter(|(name, amount)| most.is_capped(name, **amount));
        let capped = capped.map(|(name, _)| *name).collect();
        let mut grants = Vec::new();
        for request in seen.inspection.description.iter().flat_map(|description| &description.capabilities) {
            let open = ungranted(name, std::slice::from_ref(request), &allowed, &policy);
            let open = open.map_err(|error| Failure::usage(format!("what {name} asks for cannot be read: {error}")))?;
            let class = &request.class;
            let cap = app.policy.allow.get(class).cloned();
            grants.push(Grant {
                asked: request.request.clone(),
                allowed: plugins.allowed_in_words(name).map(|allow| allow.get(class).cloned().unwrap_or(json!(false))),
                cap: cap.or_else(|| policy.restricted(class).map(|_| json!(false))),
                open: open.into_iter().next(),
                class: class.clone(),
            });
        }
        Ok(Self { limits, capped, grants, policy: app.policy_path.display().to_string() })
    }

    /// For programs: sizes are bytes, times seconds.
    pub(super) fn document(&self) -> Value {
        let grant = |grant: &Grant| {
            json!({
                "class": grant.class,
                "asked": grant.asked,
                "allowed": grant.allowed,
                "capped": grant.cap,
                "granted": grant.open.is_none(),
                "missing": grant.open.as_ref().map(|open| &open.missing),
                "refused": grant.open.as_ref().and_then(|open| open.by_policy.as_ref()),
            })
        };
        json!({ "grants": self.grants.iter().map(grant).collect::<Vec<_>>(), "capped": self.capped })
    }

    /// Limits for programs; empty if there are none that hold.
    pub(super) fn limits_document(&self) -> Value {
        let number = |amount: &Amount| match amount {
            Amount::Size(number) | Amount::Count(number) => json!(number),
            Amount::Time(time) => json!(time.as_secs_f64()),
        };
        let limits = self.limits.iter().flatten();
        Value::Object(limits.map(|(name, amount)| ((*name).to_owned(), number(amount))).collect())
    }

    /// For people: a line for each request.
    pub(super) fn grant_lines(&self) -> Vec<String> {
        let line = |grant: &Grant| {
            let allowed = grant.allowed.as_ref().map_or_else(|| "all that it asks for".to_owned(), Value::to_string);
            let cap = grant.cap.as_ref().map(|cap| format!(", capped {cap} by {}", self.policy)).unwrap_or_default();
            let end = match &grant.open {
                None => String::new(),
                Some(open) => format!("; not granted: {open}"),
            };
            format!("{}: asked {}, allowed {allowed}{cap}{end}", grant.class, grant.asked)
        };
        self.grants.iter().map(line).collect()
    }

    /// For people: the limits that are not the usual ones.
    pub(super) fn limit_lines(&self) -> Vec<String> {
        let usual = LimitSettings::amounts(&Limits::default(), &CompileLimits::default());
        let amounts = match &self.limits {
            Ok(amounts) => amounts,
            Err(refusal) => return vec![refusal.clone()],
        };
        let other = amounts.iter().filter(|(name, amount)| usual.get(*name) != Some(*amount));
        let line = |(name, amount): (&&'static str, &Amount)| {
            let cap = if self.capped.contains(name) { format!(", capped by {}", self.policy) } else { String::new() };
            format!("{name}: {amount}{cap}")
        };
        other.map(line).collect()
    }
}
