//! What a plugin says of itself, and the macro that exports it.

use std::marker::PhantomData;

use serde_json::Value;

use crate::bindings::plugin::exports::cooperage::plugin::plugin as contract;

/// Every plugin says what it is before it is asked to do anything.
pub trait Plugin {
    /// Pure: called with no grants at all, and its answer is kept. The parameters of the roles are added to it.
    fn describe() -> Description;
}

/// What a plugin is.
#[derive(Debug, Clone)]
pub struct Description {
    name: String,
    version: String,
    summary: String,
    capabilities: Vec<Capability>,
    provides: Vec<String>,
    annotations: Vec<(String, String)>,
}

impl Description {
    /// Short name as in `uses:`, semantic version (`env!("CARGO_PKG_VERSION")`), and one line on what it does.
    #[must_use]
    pub fn new(name: impl Into<String>, version: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            summary: summary.into(),
            capabilities: Vec::new(),
            provides: Vec::new(),
            annotations: Vec::new(),
        }
    }

    /// Asks to be allowed something.
    #[must_use]
    pub fn asks(mut self, capability: Capability) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// A URL scheme or reference prefix that it can serve.
    #[must_use]
    pub fn provides(mut self, name: impl Into<String>) -> Self {
        self.provides.push(name.into());
        self
    }

    /// Licence, home page and the like, by OCI annotation keys.
    #[must_use]
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.push((key.into(), value.into()));
        self
    }
}

/// Something the plugin asks to be allowed. It has it only if the user grants it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    class: String,
    request: Value,
    reason: String,
}

impl Capability {
    /// Any class, with what exactly is asked for in the form that the contract has for it, and a sentence for the user.
    #[must_use]
    pub fn new(class: impl Into<String>, request: Value, reason: impl Into<String>) -> Self {
        Self { class: class.into(), request, reason: reason.into() }
    }

    /// HTTP to hosts: `https://host`, `https://host:8443`, or `registry` for the registry that a call is about.
    #[must_use]
    pub fn http<S: AsRef<str>>(hosts: impl IntoIterator<Item = S>, reason: impl Into<String>) -> Self {
        Self::new("http", strings(hosts), reason)
    }

    /// Secrets by name.
    #[must_use]
    pub fn secrets<S: AsRef<str>>(names: impl IntoIterator<Item = S>, reason: impl Into<String>) -> Self {
        Self::new("secrets", strings(names), reason)
    }

    /// Moving images between the store and registries: `resolve`, `pull`, `push`, each with a pattern of references
    /// behind it if it is about some only. A registry plugin needs none for its own registry.
    #[must_use]
    pub fn registries<S: AsRef<str>>(actions: impl IntoIterator<Item = S>, reason: impl Into<String>) -> Self {
        Self::new("registries", strings(actions), reason)
    }

    /// Files behind URLs, by patterns in which `*` stands for any characters but `/` and `**` for any; `**` alone is any
    /// URL that the user allows. For URLs of parameters there is [`named`](Self::named).
    #[must_use]
    pub fn sources<S: AsRef<str>>(urls: impl IntoIterator<Item = S>, reason: impl Into<String>) -> Self {
        Self::new("sources", strings(urls), reason)
    }

    /// TCP connections: `host:port`, `host:first-last`, `host:*`.
    #[must_use]
    pub fn tcp<S: AsRef<str>>(places: impl IntoIterator<Item = S>, reason: impl Into<String>) -> Self {
        Self::new("tcp", strings(places), reason)
    }

    /// What the parameters of a call name, for the classes `http` and `sources` (URLs), `tcp` (URLs that are not HTTP, and
    /// `host:port`) and `secrets`. The user has written it into the flow and need not allow it a second time; defaults of
    /// the schema are not the user's words and do not count. For images there is [`images`](Self::images).
    #[must_use]
    pub fn named(class: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(class, serde_json::json!([{ "from": "parameters" }]), reason)
    }

    /// The images that the parameters of a call name: `resolve` and `pull` need no second yes of the user, `push` does.
    #[must_use]
    pub fn images<S: AsRef<str>>(actions: impl IntoIterator<Item = S>, reason: impl Into<String>) -> Self {
        let item = |action: S| serde_json::json!({ "action": action.as_ref(), "from": "parameters" });
        Self::new("registries", actions.into_iter().map(item).collect(), reason)
    }

    /// Running processes in trees, with no secrets mounted: who wants those asks for `{ mounts: ["secret NAME"] }`.
    #[must_use]
    pub fn run(reason: impl Into<String>) -> Self {
        Self::new("run", Value::Bool(true), reason)
    }

    /// Keeping small values between calls.
    #[must_use]
    pub fn state(reason: impl Into<String>) -> Self {
        Self::new("state", Value::Bool(true), reason)
    }
}

fn strings<S: AsRef<str>>(all: impl IntoIterator<Item = S>) -> Value {
    all.into_iter().map(|one| one.as_ref().to_owned()).collect()
}

/// The parameters of the roles that [`plugin!`](crate::plugin) exports.
#[doc(hidden)]
pub trait Parameters {
    /// Role and JSON Schema.
    fn parameters() -> Vec<(String, String)>;
}

/// Stands for a plugin towards the generated bindings.
#[doc(hidden)]
pub struct Exported<T>(PhantomData<T>);

impl<T: Plugin + Parameters> contract::Guest for Exported<T> {
    fn describe() -> contract::Description {
        let this = T::describe();
        let capabilities = this.capabilities.into_iter();
        contract::Description {
            name: this.name,
            version: this.version,
            summary: this.summary,
            parameters: T::parameters(),
            capabilities: capabilities
                .map(|c| contract::Capability { class: c.class, request: c.request.to_string(), reason: c.reason })
                .collect(),
            provides: this.provides,
            annotations: this.annotations,
        }
    }
}

/// Exports a type as the plugin of this component: `plugin!(Name: task)`, `plugin!(Name: builder, task)`.
///
/// The type implements [`Plugin`] and the trait of each role named: `builder`, `task`, `source`, `registry`. Nothing but these
/// roles becomes an export of the component. Used once per crate.
#[macro_export]
macro_rules! plugin {
    ($plugin:ident : $($role:ident),+ $(,)?) => {
        impl $crate::__private::Parameters for $plugin {
            fn parameters() -> ::std::vec::Vec<(::std::string::String, ::std::string::String)> {
                let mut all = ::std::vec::Vec::new();
                $($crate::__role!(parameters $role $plugin all);)+
                all
            }
        }

        // Symbols of the component model are no valid symbols of native shared libraries.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::__private::Exported<$plugin>;
            $crate::__private::bindings::plugin::export_plugin!(
                Exported with_types_in $crate::__private::bindings::plugin
            );
            $($crate::__role!(export $role Exported);)+
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn plugin<T: $crate::Plugin>() {}
            plugin::<$plugin>();
            $($crate::__role!(check $role $plugin);)+
        };
    };
}

/// What [`plugin!`](crate::plugin) does for each role.
#[doc(hidden)]
#[macro_export]
macro_rules! __role {
    (parameters task $plugin:ident $all:ident) => {
        $all.push(("task".into(), $crate::__private::schema::<<$plugin as $crate::roles::task::Task>::Parameters>()));
    };
    (parameters builder $plugin:ident $all:ident) => {
        $all.push(("builder".into(), $crate::__private::schema::<<$plugin as $crate::roles::builder::Builder>::Parameters>()));
    };
    (parameters registry $plugin:ident $all:ident) => { let _ = &mut $all; };
    (export task $exported:ident) => {
        $crate::__private::bindings::task::export_task!($exported with_types_in $crate::__private::bindings::task);
    };
    (export builder $exported:ident) => {
        $crate::__private::bindings::builder::export_builder!($exported with_types_in $crate::__private::bindings::builder);
    };
    (export registry $exported:ident) => {
        $crate::__private::bindings::registry::export_registry!($exported with_types_in $crate::__private::bindings::registry);
    };
    (parameters source $plugin:ident $all:ident) => {
        $all.push(("source".into(), $crate::__private::schema::<<$plugin as $crate::roles::source::Source>::Parameters>()));
    };
    (export source $exported:ident) => {
        $crate::__private::bindings::source::export_source!($exported with_types_in $crate::__private::bindings::source);
    };
    (check source $plugin:ident) => { { fn role<T: $crate::roles::source::Source>() {} role::<$plugin>() } };
    (check task $plugin:ident) => { { fn role<T: $crate::roles::task::Task>() {} role::<$plugin>() } };
    (check builder $plugin:ident) => { { fn role<T: $crate::roles::builder::Builder>() {} role::<$plugin>() } };
    (check registry $plugin:ident) => { { fn role<T: $crate::roles::registry::Registry>() {} role::<$plugin>() } };
    ($do:ident $role:ident $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!("no role `", ::std::stringify!($role), "`; there are builder, task, source and registry"));
    };
}
