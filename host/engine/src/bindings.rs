//! The contract `cooperage:plugin@0.1.0` as Rust types and traits, generated from `wit/`. The role worlds
//! share the types of the one `imports` world, so the host implements every interface once. So does what changed in the
//! unreleased version: the rest of it is that of 0.1.0.

#![allow(missing_docs, clippy::all, unused_qualifications)]

/// What plugins may import.
pub mod imports {
    wasmtime::component::bindgen!({
        path: "../../wit/cooperage-plugin-0.1.0",
        world: "imports",
        imports: {
            "cooperage:plugin/events": trappable,
            "cooperage:plugin/content.[constructor]writer": trappable,
            "cooperage:plugin/content.[method]writer.size": trappable,
            "cooperage:plugin/content.[method]reader.size": trappable,
            "cooperage:plugin/content.[method]reader.seek": trappable,
            "cooperage:plugin/secrets": trappable,
            "cooperage:plugin/trees.[static]tree.scratch": trappable,
            "cooperage:plugin/trees.[static]tree.image": trappable,
            "cooperage:plugin/trees.[static]tree.context": trappable,
            "cooperage:plugin/trees.[static]tree.fetch": trappable,
            "cooperage:plugin/connections.[method]connection.peer": trappable,
            "cooperage:plugin/connections.[method]connection.subscribe": trappable,
            "cooperage:plugin/trees.[method]tree.copy": trappable,
            "cooperage:plugin/trees.[method]tree.run": trappable,
            "cooperage:plugin/trees.[method]tree.make-directory": trappable,
            "cooperage:plugin/trees.[method]tree.write-file": trappable,
            "cooperage:plugin/trees.[method]tree.remove": trappable,
            "cooperage:plugin/images.[method]base.reference": trappable,
            "cooperage:plugin/images.[method]base.manifest": trappable,
            "cooperage:plugin/images.[method]base.config": trappable,
            "cooperage:plugin/images.[method]base.platform": trappable,
            default: async | trappable,
        },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "cooperage:plugin/events.step": crate::host::events::GuestStep,
            "cooperage:plugin/content.writer": crate::host::content::Writer,
            "cooperage:plugin/content.reader": crate::host::content::Reader,
            "cooperage:plugin/content.archive": crate::host::content::GuestArchive,
            "cooperage:plugin/connections.connection": crate::host::connections::Connection,
            "cooperage:plugin/images.base": crate::host::images::GuestBase,
            "cooperage:plugin/trees.tree": crate::host::trees::GuestTree,
        },
    });
}

/// A plugin that builds images.
pub mod builder {
    wasmtime::component::bindgen!({
        path: "../../wit/cooperage-plugin-0.1.0",
        world: "builder-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "cooperage:plugin": crate::bindings::imports::cooperage::plugin },
    });
}

/// A plugin that does a step of a flow.
pub mod task {
    wasmtime::component::bindgen!({
        path: "../../wit/cooperage-plugin-0.1.0",
        world: "task-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "cooperage:plugin": crate::bindings::imports::cooperage::plugin },
    });
}

/// A plugin that keeps images somewhere.
pub mod registry {
    wasmtime::component::bindgen!({
        path: "../../wit/cooperage-plugin-0.1.0",
        world: "registry-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "cooperage:plugin": crate::bindings::imports::cooperage::plugin },
    });
}

/// A plugin that brings files from elsewhere.
pub mod source {
    wasmtime::component::bindgen!({
        path: "../../wit/cooperage-plugin-0.1.0",
        world: "source-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "cooperage:plugin": crate::bindings::imports::cooperage::plugin },
    });
}

/// A plugin that builds images, as the unreleased version has it.
pub mod next_builder {
    wasmtime::component::bindgen!({
        path: "../../wit/cooperage-plugin-next",
        world: "builder-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "cooperage:plugin@0.1.0": crate::bindings::imports::cooperage::plugin },
    });
}

pub use imports::cooperage::plugin::types as wit;
