//! Who a process runs as: `user[:group]` by name or number, resolved with the image's own account files; pure.
//!
//! The result is always numeric, so that nothing later reads the name in another way.

/// The highest user or group id: above, runtimes have wrapped to 0 (CVE-2024-40635).
const ID_MAX: u32 = i32::MAX as u32;

/// A resolved user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Further groups, sorted.
    pub(crate) groups: Vec<u32>,
}

/// An image's account files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    /// `/etc/passwd`; empty where there is none.
    pub(crate) passwd: String,
    /// `/etc/group`; empty where there is none.
    pub(crate) group: String,
}

/// Whether the wanted user can be known without the image's account files.
pub(crate) fn is_plain(wanted: &str) -> bool {
    matches!(wanted, "" | "0" | "root" | "0:0")
}

/// Resolves a user; the error is one line for people.
pub(crate) fn resolve(wanted: &str, accounts: &Accounts) -> Result<User, String> {
    if is_plain(wanted) {
        return Ok(User::default());
    }
    let (user, group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let number = parse_id(user)?;
    let known = accounts.passwd.lines().filter_map(Account::parse).find(|account| match number {
        Some(uid) => account.id == uid,
        None => account.name == user,
    });
    let uid = match (number, &known) {
        (Some(uid), _) => uid,
        (None, Some(account)) => account.id,
        (None, None) => return Err(format!("user `{user}` is not in the image's /etc/passwd; use a number")),
    };
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        // With an explicit group nothing of the image's memberships is wanted.
        return Ok(User { uid, gid: group_id(group, accounts)?, groups: Vec::new() });
    }
    let gid = known.as_ref().map_or(0, |account| account.gid);
    let mut groups: Vec<u32> = known.map_or_else(Vec::new, |account| memberships(account.name, accounts));
    groups.retain(|id| *id != gid);
    groups.sort_unstable();
    groups.dedup();
    if uid > ID_MAX || gid > ID_MAX {
        return Err(format!("user `{wanted}` is above {ID_MAX}"));
    }
    Ok(User { uid, gid, groups })
}

struct Account<'a> {
    name: &'a str,
    id: u32,
    gid: u32,
}

impl<'a> Account<'a> {
    /// Reads `name:password:uid:gid:…`; a malformed line is no account.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (id, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (id <= ID_MAX && gid <= ID_MAX).then_some(Self { name, id, gid })
    }
}

/// Reads a number; `None` for a name.
fn parse_id(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_digit()) {
        return if text.starts_with(['+', '-']) || text.is_empty() {
            Err(format!("`{text}` is not a user or group"))
        } else {
            Ok(None)
        };
    }
    match text.parse::<u32>() {
        Ok(id) if id <= ID_MAX => Ok(Some(id)),
        Ok(_) | Err(_) => Err(format!("user or group {text} is above {ID_MAX}")),
    }
}

fn group_id(group: &str, accounts: &Accounts) -> Result<u32, String> {
    if let Some(gid) = parse_id(group)? {
        return Ok(gid);
    }
    groups(accounts)
        .find(|(name, ..)| *name == group)
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| format!("group `{group}` is not in the image's /etc/group; use a number"))
}

fn memberships(user: &str, accounts: &Accounts) -> Vec<u32> {
    groups(accounts)
        .filter(|(_, _, members)| members.split(',').any(|name| name == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

/// The lines `name:password:gid:members` of the group file.
fn groups(accounts: &Accounts) -> impl Iterator<Item = (&str, u32, &str)> {
    accounts.group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid: u32 = fields.nth(1)?.parse().ok()?;
        (gid <= ID_MAX).then(|| (name, gid, fields.next().unwrap_or_default().trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_resolved_with_the_images_files() {
        let user = |uid, gid, groups: &[u32]| Ok(User { uid, gid, groups: groups.to_vec() });

        assert_eq!(resolve("", &accounts()), user(0, 0, &[]));
        assert_eq!(resolve("web", &accounts()), user(1000, 1001, &[20, 44]));
        assert_eq!(resolve("1000", &accounts()), user(1000, 1001, &[20, 44]));
        assert_eq!(resolve("4242", &accounts()), user(4242, 0, &[]));
        assert_eq!(resolve("web:audio", &accounts()), user(1000, 20, &[]));
        assert_eq!(resolve("7:8", &Accounts::default()), user(7, 8, &[]));
    }

    #[test]
    fn what_could_wrap_to_root_or_is_unknown_is_refused() {
        for wanted in
            ["nobody-here", "2147483648", "4294967296", "0:4294967296", "-1", "+0", "web:nothing", ":5", "evil"]
        {
            assert!(resolve(wanted, &accounts()).is_err(), "{wanted} was accepted");
        }
    }

    fn accounts() -> Accounts {
        Accounts {
            passwd:
                "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/:/bin/sh\nevil:x:4294967295:0::/:/bin/sh\nbroken\n"
                    .to_owned(),
            group: "root:x:0:\naudio:x:20:web,other\nvideo:x:44:web\nweb:x:1001:web\n".to_owned(),
        }
    }
}
