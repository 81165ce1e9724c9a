//! What a component imports and exports, by name and function. Comes from the binary, so that nothing has to be
//! compiled or run to know it, or from a component that is compiled already; what fits is decided elsewhere (`link`).

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentType, ComponentTypeRef,
    InstanceTypeDeclaration, Payload,
};
use wasmtime::component::types::{Component, ComponentItem};

/// One import of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name, for instance `cooperage:plugin/trees@0.1.0`.
    pub name: String,
    /// The functions that it takes from there, as the binary format names them (`[method]tree.copy`).
    pub functions: Vec<String>,
}

/// Imports and exports, in the order of the component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// What it wants.
    pub imports: Vec<Import>,
    /// What it offers.
    pub exports: Vec<String>,
}

impl Outside {
    /// Of a component that is compiled.
    pub(crate) fn of(component: &Component, engine: &wasmtime::Engine) -> Self {
        let import = |(name, item): (&str, wasmtime::component::types::ComponentExtern)| {
            let functions = match item.ty {
                ComponentItem::ComponentInstance(instance) => {
                    let functions = instance.exports(engine);
                    let functions = functions.filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
                    functions.map(|(name, _)| name.to_owned()).collect()
                }
                _ => Vec::new(),
            };
            Import { name: name.to_owned(), functions }
        };
        let imports = component.imports(engine).map(import).collect();
        Self { imports, exports: component.exports(engine).map(|(name, _)| name.to_owned()).collect() }
    }
}

/// Collects the outside while a component is parsed. An import names its type by number, and numbers are given to types
/// in the order in which sections of several kinds introduce them, so all of these are counted.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    outside: Outside,
    /// The functions of each type that is an instance's.
    types: Vec<Vec<String>>,
}

impl Collector {
    /// Takes a payload of the top level.
    pub(crate) fn payload(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ComponentTypeSection(types) => {
                for ty in types.clone() {
                    self.types.push(functions(&ty?));
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    if is_type(&alias?) {
                        self.types.push(Vec::new());
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    let import = import?;
                    let functions = match import.ty {
                        ComponentTypeRef::Instance(number) => self.functions_of(number),
                        _ => Vec::new(),
                    };
                    if matches!(import.ty, ComponentTypeRef::Type(_)) {
                        self.types.push(Vec::new());
                    }
                    self.outside.imports.push(Import { name: import.name.name.to_owned(), functions });
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Type {
                        self.types.push(Vec::new());
                    }
                    self.outside.exports.push(export.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn imports(&self) -> usize {
        self.outside.imports.len()
    }

    pub(crate) fn finish(self) -> Outside {
        self.outside
    }

    /// A number that is none is for the compiler to refuse.
    fn functions_of(&self, number: u32) -> Vec<String> {
        usize::try_from(number).ok().and_then(|number| self.types.get(number)).cloned().unwrap_or_default()
    }
}

fn functions(ty: &ComponentType<'_>) -> Vec<String> {
    let ComponentType::Instance(declarations) = ty else { return Vec::new() };
    let function = |declaration: &InstanceTypeDeclaration<'_>| match declaration {
        InstanceTypeDeclaration::Export { name, ty: ComponentTypeRef::Func(_) } => Some(name.name.to_owned()),
        _ => None,
    };
    declarations.iter().filter_map(function).collect()
}

fn is_type(alias: &ComponentAlias<'_>) -> bool {
    matches!(
        alias,
        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Type, .. }
            | ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, .. }
    )
}
