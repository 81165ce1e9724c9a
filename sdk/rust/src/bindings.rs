//! The contract as wit-bindgen sees it: the imports once, and each role on top of them, so that a `Tree` or an
//! `Error` is the same type in every role.
//!
//! A role's component type is written into the plugin only where its `export_*` macro is used, so a plugin exports
//! the roles it names and no others.

/// What a plugin may import.
pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit/cooperage-plugin-0.1.0",
        inline: "package cooperage:sdk; world sdk-imports { include cooperage:plugin/imports@0.1.0; }",
        world: "cooperage:sdk/sdk-imports",
        with: { "wasi:io/poll@0.2.12": wasip2::io::poll },
        generate_all,
        generate_unused_types: true,
        additional_type_attributes: {
            "cooperage:plugin/types@0.1.0/location": [#[derive(PartialEq, Eq)]],
            "cooperage:plugin/types@0.1.0/error": [#[derive(PartialEq, Eq)]],
            "cooperage:plugin/types@0.1.0/descriptor": [#[derive(PartialEq, Eq)]],
            "cooperage:plugin/types@0.1.0/platform": [#[derive(PartialEq, Eq, Hash)]],
            "cooperage:plugin/trees@0.1.0/file-info": [#[derive(PartialEq, Eq)]],
            "cooperage:plugin/sources@0.1.0/version": [#[derive(PartialEq, Eq)]],
        },
    });
}

/// The export that every plugin has.
pub mod plugin {
    wit_bindgen::generate!({
        path: "../../wit/cooperage-plugin-0.1.0",
        inline: "package cooperage:sdk; world sdk-plugin { export cooperage:plugin/plugin@0.1.0; }",
        world: "cooperage:sdk/sdk-plugin",
        with: {
            "cooperage:plugin/types@0.1.0": crate::bindings::imports::cooperage::plugin::types,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_plugin",
    });
}

/// The role `task`.
pub mod task {
    wit_bindgen::generate!({
        path: "../../wit/cooperage-plugin-0.1.0",
        inline: "package cooperage:sdk; world sdk-task { export cooperage:plugin/task@0.1.0; }",
        world: "cooperage:sdk/sdk-task",
        with: {
            "cooperage:plugin/types@0.1.0": crate::bindings::imports::cooperage::plugin::types,
            "cooperage:plugin/content@0.1.0": crate::bindings::imports::cooperage::plugin::content,
            "cooperage:plugin/images@0.1.0": crate::bindings::imports::cooperage::plugin::images,
            "cooperage:plugin/trees@0.1.0": crate::bindings::imports::cooperage::plugin::trees,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_task",
    });
}

/// The role `builder`.
pub mod builder {
    wit_bindgen::generate!({
        path: "../../wit/cooperage-plugin-0.1.0",
        inline: "package cooperage:sdk; world sdk-builder { export cooperage:plugin/builder@0.1.0; }",
        world: "cooperage:sdk/sdk-builder",
        with: {
            "cooperage:plugin/types@0.1.0": crate::bindings::imports::cooperage::plugin::types,
            "cooperage:plugin/content@0.1.0": crate::bindings::imports::cooperage::plugin::content,
            "cooperage:plugin/images@0.1.0": crate::bindings::imports::cooperage::plugin::images,
            "cooperage:plugin/trees@0.1.0": crate::bindings::imports::cooperage::plugin::trees,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_builder",
    });
}

/// The role `registry`.
pub mod registry {
    wit_bindgen::generate!({
        path: "../../wit/cooperage-plugin-0.1.0",
        inline: "package cooperage:sdk; world sdk-registry { export cooperage:plugin/registry@0.1.0; }",
        world: "cooperage:sdk/sdk-registry",
        with: {
            "cooperage:plugin/types@0.1.0": crate::bindings::imports::cooperage::plugin::types,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_registry",
    });
}

/// The role `source`.
pub mod source {
    wit_bindgen::generate!({
        path: "../../wit/cooperage-plugin-0.1.0",
        inline: "package cooperage:sdk; world sdk-source { export cooperage:plugin/source@0.1.0; }",
        world: "cooperage:sdk/sdk-source",
        with: {
            "cooperage:plugin/types@0.1.0": crate::bindings::imports::cooperage::plugin::types,
            "cooperage:plugin/content@0.1.0": crate::bindings::imports::cooperage::plugin::content,
            "cooperage:plugin/images@0.1.0": crate::bindings::imports::cooperage::plugin::images,
            "cooperage:plugin/sources@0.1.0": crate::bindings::imports::cooperage::plugin::sources,
            "cooperage:plugin/trees@0.1.0": crate::bindings::imports::cooperage::plugin::trees,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_source",
    });
}
