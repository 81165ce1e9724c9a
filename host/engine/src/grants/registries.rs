//! Class `registries`: images moved through the user's routing and credentials, which the plugin never sees.

use serde_json::{Value, json};

use super::{Named, Scope, Side, list, some_list, wrong};
use crate::pattern::{fits, narrower, overlap};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Look up a name.
    Resolve,
    /// Bring an image into the store; includes looking it up.
    Pull,
    /// Send an image; includes looking it up.
    Push,
}

impl Action {
    const ALL: [Self; 3] = [Self::Resolve, Self::Pull, Self::Push];

    /// The word in rules.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }

    fn includes(self, other: Self) -> bool {
        self == other || other == Self::Resolve
    }
}

/// `ACTION [PATTERN]`: in the pattern of references `*` stands for any characters but `/`, `**` for any. Or
/// `{ "action": ACTION, "from": "parameters" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ActionRule {
    action: Action,
    about: About,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    All,
    Pattern(String),
    /// What the parameters of the call name.
    Parameters,
}

impl ActionRule {
    /// What is asked for and allowed too.
    fn narrower(&self, other: &Self) -> Option<Self> {
        let action = if other.action.includes(self.action) {
            self.action
        } else if self.action.includes(other.action) {
            other.action
        } else {
            return None;
        };
        let about = match (&self.about, &other.about) {
            (about, About::All) => about.clone(),
            (About::Parameters, About::Parameters) => About::Parameters,
            // Everybody says yes to what parameters name: a plugin that asks for more has to ask for that too.
            (About::Parameters, _) | (_, About::Parameters) => return None,
            (About::All, about) => about.clone(),
            (About::Pattern(one), About::Pattern(two)) => About::Pattern(narrower(one, two)?),
        };
        Some(Self { action, about })
    }

    /// Whether a policy that has `permitted` permits something of this. What parameters name is looked at in the call.
    fn overlaps(&self, permitted: &Self) -> bool {
        let about = match (&self.about, &permitted.about) {
            (About::Pattern(one), About::Pattern(two)) => overlap(one, two),
            _ => true,
        };
        about && permitted.action.includes(self.action)
    }

    fn read(value: &Value) -> Option<Self> {
        let action = |word: &str| Action::ALL.into_iter().find(|action| action.word() == word);
        if let Value::Object(map) = value {
            let whole = map.len() == 2 && map.get("from").is_some_and(|from| from == "parameters");
            let action = action(map.get("action").filter(|_| whole)?.as_str()?)?;
            return Some(Self { action, about: About::Parameters });
        }
        let text = value.as_str()?;
        let (word, pattern) = text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim()));
        let about = if pattern.is_empty() { About::All } else { About::Pattern(pattern.to_owned()) };
        Some(Self { action: action(word)?, about })
    }

    fn json(&self) -> Value {
        let word = self.action.word();
        match &self.about {
            About::All => json!(word),
            About::Pattern(pattern) => json!(format!("{word} {pattern}")),
            About::Parameters => json!({ "action": word, "from": "parameters" }),
        }
    }

    fn allows(&self, action: Action, reference: &str, named: &Named) -> bool {
        self.action.includes(action)
            && match &self.about {
                About::All => true,
                About::Pattern(pattern) => fits(pattern, reference),
                About::Parameters => named.mentions(reference),
            }
    }
}

/// Actions on references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistriesScope {
    any: bool,
    rules: Vec<ActionRule>,
    /// What the host's policy permits; none if it restricts nothing.
    cap: Option<Box<Self>>,
}

impl RegistriesScope {
    /// What a user who names an image in parameters says yes to. Sending one there changes what others get under its
    /// name, so that this is allowed in words or not at all.
    pub(super) fn named_by_user() -> Self {
        let rule = |action| ActionRule { action, about: About::Parameters };
        Self { rules: vec![rule(Action::Resolve), rule(Action::Pull)], ..Self::default() }
    }

    /// Whether the action may be done on a reference, as the plugin writes it, in a call whose parameters name `named`.
    pub fn allows(&self, action: Action, reference: &str, named: &Named) -> bool {
        let wanted = self.any || self.rules.iter().any(|rule| rule.allows(action, reference, named));
        wanted && self.cap.as_deref().is_none_or(|cap| cap.allows(action, reference, named))
    }
}

impl Scope for RegistriesScope {
    const CLASS: &'static str = "registries";

    fn parse(value: &Value, side: Side) -> Result<Self, String> {
        let expected = "`resolve`, `pull` or `push`, optionally followed by a pattern of references, or \
            {\"action\":\"pull\",\"from\":\"parameters\"}";
        let mut scope = if side == Side::Allow { Self::named_by_user() } else { Self::default() };
        for item in list(value) {
            scope.rules.push(ActionRule::read(item).ok_or_else(|| wrong(item, expected))?);
        }
        Ok(scope)
    }

    fn everything() -> Self {
        Self { any: true, ..Self::default() }
    }

    fn both(&self, other: &Self) -> Self {
        if self.any {
            return other.clone();
        }
        if other.any {
            return self.clone();
        }
        let pairs = self.rules.iter().flat_map(|mine| other.rules.iter().filter_map(|theirs| mine.narrower(theirs)));
        Self { rules: pairs.collect(), ..Self::default() }
    }

    fn capped(&self, policy: &Self) -> Self {
        if policy.any {
            return self.clone();
        }
        let mut capped = self.clone();
        capped.rules.retain(|rule| policy.rules.iter().any(|permitted| rule.overlaps(permitted)));
        Self { cap: Some(Box::new(policy.clone())), ..capped }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let open = |rule: &&ActionRule| {
            !granted.any
                && !granted
                    .rules
                    .iter()
                    .any(|there| rule.narrower(there).is_some_and(|both| both.action == rule.action))
        };
        some_list(self.rules.iter().filter(open).map(ActionRule::json).collect())
    }
}
