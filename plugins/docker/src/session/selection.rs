//! Which part of a directory the engine asked for.

use cooperage_sdk::Result;

use super::Files;
use super::glob::{Look, Pattern, names};
use super::links;

/// Patterns, or none for everything.
pub struct Selection(Option<Vec<Pattern>>);

impl Selection {
    /// What matches a pattern, and what the paths lead to.
    ///
    /// # Errors
    /// Those of the directory.
    pub fn of(files: &dyn Files, include: &[String], follow: &[String]) -> Result<Self> {
        if include.iter().chain(follow).all(|path| names(path).is_empty()) {
            return Ok(Self(None));
        }
        // Exceptions only make what is asked for smaller, and no frontend asks in this way.
        let include = include.iter().filter(|pattern| !pattern.starts_with('!'));
        let mut patterns: Vec<_> = include.map(|pattern| Pattern::of(&names(pattern))).collect();
        Ok(Self(links::follow(files, follow, &mut patterns)?.then_some(patterns)))
    }

    /// Whether a path is asked for, or something below it may be.
    pub fn look(&self, path: &str) -> Look {
        let Some(patterns) = &self.0 else { return Look::Matches };
        let names = names(path);
        patterns.iter().map(|pattern| pattern.look(&names)).max().unwrap_or(Look::Apart)
    }
}
