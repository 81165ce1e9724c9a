//! Class `fs`: directories of this machine. A plugin asks for a path under which it will see a directory; the user
//! says which directory that is. The contents are reached through `wasi:filesystem`.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Scope, Side, list, some_list, wrong};

/// What may be done with the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read.
    #[default]
    Read,
    /// Read, make, change and remove.
    Write,
}

/// One directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where the plugin sees it: absolute, without `.` and `..`. Empty in a policy: wherever.
    #[serde(default)]
    pub mount: String,
    /// The directory of this machine; only the user's side has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What may be done with it.
    #[serde(default)]
    pub access: Access,
}

/// Directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsScope {
    any: bool,
    mounts: Vec<Mount>,
}

impl FsScope {
    /// The directories that a call sees; each has a path.
    pub fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(|mount| mount.path.is_some())
    }
}

/// Whether a directory lies in another one, or is it. Names alone do not tell: `/srv/../etc` begins with `/srv`, and
/// `/srv/link` may be a link to `/etc`. What does not exist is judged by name and cannot be opened.
fn lies_in(path: &Path, within: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let plain = |path: &Path| !path.components().any(|part| part == Component::ParentDir);
    let (path, within) = (real(path), real(within));
    plain(&path) && path.starts_with(within)
}

impl Scope for FsScope {
    const CLASS: &'static str = "fs";

    fn parse(value: &Value, side: Side) -> Result<Self, String> {
        let expected = match side {
            Side::Request => "{ \"mount\": \"/DIR\", \"access\": \"read\" or \"write\" }",
            _ => "{ \"mount\": \"/DIR\", \"path\": \"DIRECTORY\", \"access\": \"read\" or \"write\" }",
        };
        let mut mounts = Vec::new();
        for item in list(value) {
            let mount: Mount = serde_json::from_value(item.clone()).map_err(|_| wrong(item, expected))?;
            let plain = mount.mount.starts_with('/')
                && mount.mount.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
            let sided = match side {
                Side::Request => mount.path.is_none(),
                Side::Allow => mount.path.is_some(),
                Side::Policy => true,
            };
            let anywhere = side == Side::Policy && mount.mount.is_empty() && mount.path.is_some();
            if !(plain || anywhere) || !sided {
                return Err(wrong(item, expected));
            }
            mounts.push(mount);
        }
        Ok(Self { any: false, mounts })
    }

    fn everything() -> Self {
        Self { any: true, mounts: Vec::new() }
    }

    fn both(&self, other: &Self) -> Self {
        if self.any {
            return other.clone();
        }
        if other.any {
            return self.clone();
        }
        let mut mounts = Vec::new();
        for mine in &self.mounts {
            let same = |theirs: &&Mount| theirs.mount == mine.mount || theirs.mount.is_empty();
            for theirs in other.mounts.iter().filter(same) {
                let path = match (&mine.path, &theirs.path) {
                    (Some(one), Some(two)) if lies_in(one, two) => Some(one.clone()),
                    (Some(_), Some(_)) => continue,
                    (one, two) => one.clone().or_else(|| two.clone()),
                };
                mounts.push(Mount { mount: mine.mount.clone(), path, access: mine.access.min(theirs.access) });
            }
        }
        Self { any: false, mounts }
    }

    fn missing(&self, granted: &Self) -> Option<Value> {
        let open =
            |mount: &&Mount| !granted.mounts().any(|there| there.mount == mount.mount && there.access >= mount.access);
        let line = |mount: &Mount| json!({ "mount": mount.mount, "path": "DIRECTORY", "access": mount.access });
        some_list(self.mounts.iter().filter(open).map(line).collect())
    }
}
