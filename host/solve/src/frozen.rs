//! Trees that outlive a process: a frozen tree as the names of its layers, and back.

use cooperage_store::layers::LayerId;

use crate::build::Build;
use crate::evaluate::Evaluated;
use crate::tree::Op;
use crate::{Error, Origin, Tree};

impl Tree {
    /// The layers of a tree that [`Build::freeze`] gave, the lowest first; None for any other tree.
    pub fn frozen(&self) -> Option<&[LayerId]> {
        match &self.0.op {
            Op::Layers(evaluated) => Some(&evaluated.layers),
            _ => None,
        }
    }
}

impl Build {
    /// The tree of layers that an earlier process froze; None if one of them is no longer in the store.
    pub fn thaw(&self, layers: Vec<LayerId>) -> Result<Option<Tree>, Error> {
        for id in &layers {
            if self.options().store.layers().get(id)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Tree::of(Op::Layers(Evaluated::layers(layers)), Origin::default())))
    }
}
