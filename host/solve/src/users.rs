//! Users and groups by name, from a tree's own /etc/passwd and /etc/group. Knows nothing of the host's users.

use crate::Error;
use crate::files::{Files, resolve};

/// Larger files of users than any real one are a mistake or an attack.
const MAX_BYTES: u64 = 4 << 20;

/// Who a process runs as or a file belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Further groups of the user, sorted.
    pub(crate) groups: Vec<u32>,
    /// The home directory, if the tree says.
    pub(crate) home: Option<String>,
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Splits `user[:group]`; an empty group counts as none.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    }
}

/// Whether both parts are numbers, so that no file needs to be looked at to own files.
pub(crate) fn numeric_owner(text: &str) -> Option<(u32, u32)> {
    let (user, group) = split(text);
    let uid = user.parse().ok()?;
    match group {
        Some(group) => Some((uid, group.parse().ok()?)),
        None => Some((uid, uid)),
    }
}

/// The owner that `--chown` means. A number without a group is its own group, as BuildKit has it.
pub(crate) fn owner(files: &dyn Files, text: &str) -> Result<(u32, u32), Error> {
    if let Some(owner) = numeric_owner(text) {
        return Ok(owner);
    }
    let (user, group) = split(text);
    let (uid, own_gid) = match user.parse() {
        Ok(uid) => (uid, uid),
        Err(_) if user.is_empty() || is_unlisted_root(&users(files)?, user) => (0, 0),
        Err(_) => {
            let found = users(files)?.into_iter().find(|known| known.name == user);
            let known = found.ok_or_else(|| unknown("user", user, "/etc/passwd"))?;
            (known.uid, known.gid)
        }
    };
    let gid = match group {
        Some(group) => group_id(files, group)?,
        None => own_gid,
    };
    Ok((uid, gid))
}

/// Who a process runs as, with home and further groups. A number that the tree does not know is fine.
pub(crate) fn identity(files: &dyn Files, text: &str) -> Result<Identity, Error> {
    let (user, group) = split(text);
    let users = users(files)?;
    let user = if user.is_empty() || is_unlisted_root(&users, user) { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let found = users.into_iter().find(|known| known.name == user || Some(known.uid) == number);
    let (uid, own_gid) = match (&found, number) {
        (Some(known), _) => (known.uid, known.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(unknown("user", user, "/etc/passwd")),
    };
    let home = found.as_ref().map(|known| known.home.clone()).filter(|home| !home.is_empty());
    let (gid, mut further) = match (group, &found) {
        (Some(group), _) => (group_id(files, group)?, Vec::new()),
        (None, Some(known)) => {
            let all = groups(files)?;
            let mine = all.into_iter().filter(|group| group.members.contains(&known.name));
            (own_gid, mine.map(|group| group.gid).collect())
        }
        (None, None) => (own_gid, Vec::new()),
    };
    further.sort_unstable();
    further.dedup();
    Ok(Identity { uid, gid, groups: further, home })
}

/// Root is who it is even where no file says so.
fn is_unlisted_root(users: &[User], name: &str) -> bool {
    name == "root" && !users.iter().any(|known| known.name == name)
}

fn group_id(files: &dyn Files, group: &str) -> Result<u32, Error> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let found = groups(files)?.into_iter().find(|known| known.name == group);
    if found.is_none() && group == "root" {
        return Ok(0);
    }
    found.map(|known| known.gid).ok_or_else(|| unknown("group", group, "/etc/group"))
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::not_found(format!("there is no {what} {name:?} in {file} of the image"))
        .hint(format!("create the {what} in an earlier instruction, or give its number"))
}

fn users(files: &dyn Files) -> Result<Vec<User>, Error> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(User {
            name: (*fields.first()?).to_owned(),
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: fields.get(5).copied().unwrap_or_default().to_owned(),
        })
    };
    Ok(text(files, b"etc/passwd")?.lines().filter_map(parse).collect())
}

fn groups(files: &dyn Files) -> Result<Vec<Group>, Error> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let members = fields.get(3).copied().unwrap_or_default();
        Some(Group {
            name: (*fields.first()?).to_owned(),
            gid: fields.get(2)?.parse().ok()?,
            members: members.split(',').map(|member| member.trim().to_owned()).filter(|m| !m.is_empty()).collect(),
        })
    };
    Ok(text(files, b"etc/group")?.lines().filter_map(parse).collect())
}

/// The text of a file, empty if there is none.
fn text(files: &dyn Files, path: &[u8]) -> Result<String, Error> {
    match resolve(files, path, true)?.item {
        Some(item) if matches!(item.entry.kind, cooperage_store::layer::Kind::File { .. }) => {
            Ok(String::from_utf8_lossy(&files.read(&item, MAX_BYTES)?).into_owned())
        }
        _ => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::Listed;

    #[test]
    fn root_needs_no_list_of_users() {
        let files = Listed::default();
        assert_eq!(owner(&files, "root").unwrap(), (0, 0));
        assert_eq!(owner(&files, "5:root").unwrap(), (5, 0));
        assert_eq!(identity(&files, "root").unwrap().uid, 0);
        assert!(owner(&files, "mallory").is_err());
        assert!(identity(&files, "mallory").is_err());
    }
}
