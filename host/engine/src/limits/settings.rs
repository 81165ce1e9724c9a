//! Limits by name, as a flow file, the configuration and the policy of a host write them: sizes with units, times, and
//! numbers; those of calls, and those of compiling. Knows no file and no plugin.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::Limits;
use crate::engine::CompileLimits;

/// What a limit bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Amount {
    /// Bytes.
    Size(u64),
    /// Things.
    Count(u64),
    /// Time.
    Time(Duration),
}

/// Limits that somebody has set. Those that bound the host's own work, such as how deep trees are nested, cannot be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitSettings(BTreeMap<&'static str, Amount>);

/// A limit that cannot be read, or that is more than another one permits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// There is no limit of that name.
    #[error("`{name}` is no limit; there are {}", LimitSettings::NAMES.join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// The value is not of the form that the limit has.
    #[error("`{name}: {value}` is not {expected}")]
    Value {
        /// The name of the limit.
        name: &'static str,
        /// What is written.
        value: String,
        /// What it may look like.
        expected: &'static str,
    },
}

/// More than is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooMuch {
    /// The name of the limit.
    pub name: &'static str,
    /// What is asked for.
    pub asked: Amount,
    /// The most there is.
    pub most: Amount,
}

const SIZE: &str = "a size such as `512MiB` or `1GiB`";
const TIME: &str = "a time such as `90s`, `10m` or `1h 30m`";
const COUNT: &str = "a whole number greater than 0";

/// Limits whose values have names.
pub trait Settable {
    /// What there is under a name; none if it is no name of these limits.
    fn of(&self, name: &str) -> Option<Amount>;

    /// Sets it; another name, or an amount of another kind, changes nothing.
    fn set(&mut self, name: &str, amount: Amount);
}

macro_rules! settable {
    ($($limits:ty { $($name:ident = $field:ident: $kind:ident,)* })*) => {
        impl LimitSettings {
            /// The names of all limits that can be set: those of the fields of [`Limits`], and those of compiling.
            pub const NAMES: &'static [&'static str] = &[$($(stringify!($name),)*)*];

            fn name(text: &str) -> Option<(&'static str, &'static str)> {
                match text {
                    $($(stringify!($name) => Some((stringify!($name), settable!(@form $kind))),)*)*
                    _ => None,
                }
            }
        }

        $(impl Settable for $limits {
            fn of(&self, name: &str) -> Option<Amount> {
                match name {
                    $(stringify!($name) => Some(settable!(@get $kind, self.$field)),)*
                    _ => None,
                }
            }

            fn set(&mut self, name: &str, amount: Amount) {
                match (name, amount) {
                    $((stringify!($name), settable!(@pattern $kind, value)) => settable!(@put $kind, self.$field, value),)*
                    _ => {}
                }
            }
        })*
    };
    (@form Size) => { SIZE };
    (@form Count) => { COUNT };
    (@form Time) => { TIME };
    (@get Time, $field:expr) => { Amount::Time($field) };
    (@get $kind:ident, $field:expr) => { Amount::$kind(u64::try_from($field).unwrap_or(u64::MAX)) };
    (@pattern $kind:ident, $value:ident) => { Amount::$kind($value) };
    (@put Time, $field:expr, $value:ident) => { $field = $value };
    (@put $kind:ident, $field:expr, $value:ident) => { $field = $value.try_into().unwrap_or($field) };
}

settable! {
    Limits {
        memory = memory: Size,
        table_elements = table_elements: Count,
        time = time: Time,
        cpu = cpu: Time,
        host_call = host_call: Size,
        handles = handles: Count,
        random = random: Size,
        http_fields = http_fields: Size,
        log_lines = log_lines: Count,
        log_bytes = log_bytes: Size,
        steps = steps: Count,
        blob_bytes = blob_bytes: Size,
        writers = writers: Count,
        archives = archives: Count,
        connections = connections: Count,
        read_file = read_file: Size,
        operations = operations: Count,
        operation_bytes = operation_bytes: Size,
    }
    CompileLimits {
        component = component: Size,
        compile_memory = memory: Size,
        compile_cpu = cpu: Time,
        compile_time = time: Time,
    }
}

impl LimitSettings {
    /// Reads limits by name.
    ///
    /// # Errors
    /// With the list of names if one is unknown, and with the expected form if a value is wrong.
    pub fn parse(map: &BTreeMap<String, Value>) -> Result<Self, LimitError> {
        let mut settings = BTreeMap::new();
        for (name, value) in map {
            let (name, expected) = Self::name(name).ok_or_else(|| LimitError::Unknown { name: name.clone() })?;
            let amount = amount(expected, value).ok_or_else(|| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                LimitError::Value { name, value, expected }
            })?;
            settings.insert(name, amount);
        }
        Ok(Self(settings))
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of this is more than `most` permits, by name.
    pub fn beyond(&self, most: &Self) -> Vec<TooMuch> {
        let beyond = |(name, asked): (&&'static str, &Amount)| {
            let most = *most.0.get(name).filter(|most| asked > most)?;
            Some(TooMuch { name, asked: *asked, most })
        };
        self.0.iter().filter_map(beyond).collect()
    }

    /// `limits` with what is set here of theirs, and nothing above `most`.
    pub fn apply<L: Settable>(&self, mut limits: L, most: &Self) -> L {
        for (name, amount) in &self.0 {
            limits.set(name, *amount);
        }
        for (name, most) in &most.0 {
            if limits.of(name).is_some_and(|now| now > *most) {
                limits.set(name, *most);
            }
        }
        limits
    }

    /// What there is under each of [`Self::NAMES`].
    pub fn amounts(limits: &Limits, compiling: &CompileLimits) -> BTreeMap<&'static str, Amount> {
        let of = |name| Some((name, limits.of(name).or_else(|| compiling.of(name))?));
        Self::NAMES.iter().filter_map(|name| of(*name)).collect()
    }

    /// Whether `most` is what this name comes to.
    pub fn is_capped(&self, name: &str, amount: Amount) -> bool {
        self.0.get(name) == Some(&amount)
    }
}

/// The name of a limit and twice what it is, as a user would write it to raise it.
pub(crate) fn doubled(limits: &impl Settable, name: &str) -> Option<String> {
    Some(format!("{name}: {}", limits.of(name)?.twice()))
}

impl Amount {
    fn twice(self) -> Self {
        match self {
            Self::Size(bytes) => Self::Size(bytes.saturating_mul(2)),
            Self::Count(count) => Self::Count(count.saturating_mul(2)),
            Self::Time(time) => Self::Time(time.saturating_mul(2)),
        }
    }
}

fn amount(expected: &str, value: &Value) -> Option<Amount> {
    match expected {
        TIME => humantime::parse_duration(value.as_str()?.trim()).ok().filter(|time| !time.is_zero()).map(Amount::Time),
        SIZE => size(value).filter(|bytes| *bytes > 0).map(Amount::Size),
        _ => value.as_u64().filter(|count| *count > 0).map(Amount::Count),
    }
}

/// Bytes, as a number or with a unit: powers of 1024 with an `i`, of 1000 without.
pub(crate) fn size(value: &Value) -> Option<u64> {
    let Some(text) = value.as_str() else { return value.as_u64() };
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Time(time) => write!(f, "{}", humantime::format_duration(*time)),
            Self::Size(bytes) => {
                let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
                let whole = units.into_iter().find(|(shift, _)| *bytes > 0 && bytes % (1 << shift) == 0);
                let (shift, unit) = whole.unwrap_or((0, "B"));
                write!(f, "{}{unit}", bytes >> shift)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(value: Value) -> Result<LimitSettings, String> {
        LimitSettings::parse(&serde_json::from_value(value).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_have_units() {
        for (value, expected) in [
            (json!({ "memory": "1GiB" }), "1GiB"),
            (json!({ "memory": 1_048_576 }), "1MiB"),
            (json!({ "blob_bytes": "5 GB" }), "5000000000B"),
            (json!({ "time": "1h 30m" }), "1h 30m"),
            (json!({ "cpu": "500ms" }), "500ms"),
            (json!({ "handles": 7 }), "7"),
        ] {
            let read = settings(value.clone()).unwrap();
            let (name, amount) = read.0.first_key_value().unwrap();
            assert_eq!(amount.to_string(), expected, "{value}");
            let limits = read.apply(Limits::default(), &LimitSettings::default());
            let compiling = read.apply(CompileLimits::default(), &LimitSettings::default());
            assert_eq!(LimitSettings::amounts(&limits, &compiling)[name], *amount, "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (value, expected) in [
            (json!({ "memroy": "1GiB" }), "`memroy` is no limit; there are memory, table_elements, time, cpu"),
            (json!({ "memory": "1 gig" }), "`memory: 1 gig` is not a size such as `512MiB` or `1GiB`"),
            (json!({ "memory": "0" }), "is not a size"),
            (json!({ "memory": "99999999999GiB" }), "is not a size"),
            (json!({ "memory": -1 }), "`memory: -1` is not a size"),
            (json!({ "time": 10 }), "`time: 10` is not a time such as"),
            (json!({ "time": "0s" }), "is not a time"),
            (json!({ "handles": "many" }), "is not a whole number"),
        ] {
            let message = settings(value).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_cap_lowers_what_is_not_set_and_tells_what_is_beyond() {
        let most = settings(json!({ "memory": "256MiB", "time": "10m" })).unwrap();
        let asked = settings(json!({ "memory": "1GiB", "time": "5m", "cpu": "2h" })).unwrap();
        let limits = LimitSettings::default().apply(Limits::default(), &most);
        assert_eq!((limits.memory, limits.time), (256 << 20, Duration::from_secs(600)));
        let [beyond] = &asked.beyond(&most)[..] else { panic!("one is beyond") };
        assert_eq!(
            (beyond.name, beyond.asked, beyond.most),
            ("memory", Amount::Size(1 << 30), Amount::Size(256 << 20))
        );
        let limits = asked.apply(Limits::default(), &most);
        assert_eq!((limits.memory, limits.time), (256 << 20, Duration::from_secs(300)));
        assert_eq!(limits.cpu, Duration::from_secs(7200));
    }

    #[test]
    fn limits_of_compiling_are_set_and_capped_as_those_of_calls() {
        let set = settings(json!({ "component": "128MiB", "compile_time": "1h", "memory": "1GiB" })).unwrap();
        let most = settings(json!({ "compile_memory": "1GiB", "compile_time": "20m" })).unwrap();
        let limits = set.apply(CompileLimits::default(), &most);
        assert_eq!((limits.component, limits.memory), (128 << 20, 1 << 30));
        assert_eq!((limits.time, limits.cpu), (Duration::from_secs(1200), CompileLimits::default().cpu));
        assert_eq!(set.beyond(&most).iter().map(|beyond| beyond.name).collect::<Vec<_>>(), ["compile_time"]);
        assert_eq!(LimitSettings::default().apply(Limits::default(), &set), Limits::default(), "a cap raises nothing");
        assert_eq!(doubled(&limits, "compile_memory").as_deref(), Some("compile_memory: 2GiB"));
        let all = LimitSettings::amounts(&Limits::default(), &limits);
        assert_eq!(all.len(), LimitSettings::NAMES.len());
        assert!(most.is_capped("compile_memory", all["compile_memory"]) && !most.is_capped("cpu", all["cpu"]));
    }

    #[test]
    fn raising_is_shown_as_it_is_written() {
        assert_eq!(doubled(&Limits::default(), "memory").as_deref(), Some("memory: 1GiB"));
        assert_eq!(doubled(&Limits::default(), "time").as_deref(), Some("time: 2h"));
        assert_eq!(doubled(&Limits::default(), "tree_depth"), None);
    }
}
