//! Who the app runs as.
//!
//! `config.json` has numbers in `process.user`; where the image or the user gave a name or a path, stage0 leaves the
//! text in the annotations `rkt/user` and `rkt/group`, because only the app's own root knows what it means. The root is
//! hostile: its `/etc/passwd` and `/etc/group` are opened inside the root, must be regular files, and are read only up to
//! a limit. Numbers beyond 2³¹-1 are refused (containerd's CVE-2024-40635: they wrapped around to root).

mod database;

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use oci_spec::runtime::{Spec, User};
use pod::stage1::status;
use rustix::fs::OFlags;

use crate::failure::StepError;
use crate::target;

use database::{Account, GROUP, MAX_FILE, PASSWD, accounts, groups, read};

/// Annotation: the user as appc writes it: a name, a number, or an absolute path whose owner it is.
pub const USER_ANNOTATION: &str = "rkt/user";
/// Annotation: the group, likewise.
pub const GROUP_ANNOTATION: &str = "rkt/group";

/// The largest user or group number.
const MAX_ID: u32 = 0x7fff_ffff;

/// The user or group cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The root's database has no such name.
    #[error("{text:?} is not in {file} of the image")]
    Unknown {
        /// The name.
        text: String,
        /// The database.
        file: &'static str,
    },
    /// A number that is no user or group.
    #[error("{0:?} is not a number from 0 to {MAX_ID}")]
    OutOfRange(String),
    /// The database could not be read.
    #[error("read {0} of the image")]
    Read(&'static str, #[source] std::io::Error),
    /// The database is something else than a file.
    #[error("{0} of the image is not a regular file of at most {MAX_FILE} bytes")]
    NotAFile(&'static str),
    /// The path whose owner was asked for.
    #[error("look up the owner of {0:?} in the image")]
    Owner(String, #[source] std::io::Error),
}

impl StepError for UserError {
    const STATUS: u8 = status::USER;
}

/// A resolved identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory, when the database knows it.
    pub home: Option<String>,
}

/// Resolves the identity of `config.json` in the root.
pub fn resolve(root: impl AsFd, config: &Spec) -> Result<Identity, UserError> {
    let default = User::default();
    let user = config.process().as_ref().map_or(&default, |p| p.user());
    let annotation = |name| {
        config
            .annotations()
            .as_ref()
            .and_then(|a| a.get(name))
            .map(|text| text.trim())
            .filter(|t| !t.is_empty())
    };
    let root = root.as_fd();
    let (user_text, group_text) = (annotation(USER_ANNOTATION), annotation(GROUP_ANNOTATION));
    let (uid, account) = match user_text {
        Some(text) => self::user(root, text)?,
        None => (checked(user.uid())?, None),
    };
    let gid = match (group_text, user_text, &account) {
        (Some(text), _, _) => group(root, text)?,
        (None, Some(_), Some(account)) => checked(account.gid)?,
        (None, _, _) => checked(user.gid())?,
    };
    let mut groups: BTreeSet<u32> = user.additional_gids().iter().flatten().copied().collect();
    if let (Some(_), Some(account)) = (user_text, &account) {
        groups.extend(memberships(root, &account.name)?);
    }
    let groups = groups.into_iter().map(checked).collect::<Result<_, _>>()?;
    Ok(Identity { uid, gid, groups, home: account.map(|a| a.home).filter(|home| home.starts_with('/')) })
}

fn checked(id: u32) -> Result<u32, UserError> {
    if id <= MAX_ID { Ok(id) } else { Err(UserError::OutOfRange(id.to_string())) }
}

/// A text of digits is a number and nothing else, even one that is too large.
fn number(text: &str) -> Option<Result<u32, UserError>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = text.parse::<u32>().ok().filter(|id| *id <= MAX_ID);
    Some(number.ok_or_else(|| UserError::OutOfRange(text.to_owned())))
}

fn user(root: impl AsFd, text: &str) -> Result<(u32, Option<Account>), UserError> {
    let database = || Ok::<_, UserError>(accounts(&read(&root, PASSWD)?));
    if let Some(uid) = number(text) {
        let uid = uid?;
        return Ok((uid, database()?.into_iter().find(|a| a.uid == uid)));
    }
    if text.starts_with('/') {
        let uid = owner(&root, text)?.0;
        return Ok((checked(uid)?, database()?.into_iter().find(|a| a.uid == uid)));
    }
    let account = database()?.into_iter().find(|a| a.name == text);
    let account = account.ok_or_else(|| UserError::Unknown { text: text.to_owned(), file: PASSWD })?;
    Ok((checked(account.uid)?, Some(account)))
}

fn group(root: impl AsFd, text: &str) -> Result<u32, UserError> {
    if let Some(gid) = number(text) {
        return gid;
    }
    if text.starts_with('/') {
        return checked(owner(&root, text)?.1);
    }
    let found = groups(&read(&root, GROUP)?).find(|(name, _, _)| *name == text).map(|(_, gid, _)| gid);
    checked(found.ok_or_else(|| UserError::Unknown { text: text.to_owned(), file: GROUP })?)
}

fn memberships(root: impl AsFd, name: &str) -> Result<Vec<u32>, UserError> {
    let text = read(&root, GROUP)?;
    let member = groups(&text).filter(|(_, _, members)| members.split(',').any(|m| m == name));
    Ok(member.map(|(_, gid, _)| gid).collect())
}

fn owner(root: impl AsFd, path: &str) -> Result<(u32, u32), UserError> {
    target::open(root, path, OFlags::PATH)
        .and_then(rustix::fs::fstat)
        .map(|stat| (stat.st_uid, stat.st_gid))
        .map_err(|e| UserError::Owner(path.to_owned(), e.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::fd::OwnedFd;

    use rustix::fs::FileType;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nredis:x:101:102::/var/lib/redis:/bin/false\nevil:x:4294967296:0::/:\nhigh:x:4294967295:0::/:\nhighgroup:x:5:2147483650::/:\n";
        std::fs::write(tmp.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(tmp.path().join("etc/group"), "root:x:0:\nredis:x:102:\nssl:x:103:www,redis\n")
            .unwrap();
        let fd = rustix::fs::open(tmp.path(), OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        (tmp, fd)
    }

    fn config(user: &str, group: &str) -> Spec {
        let mut spec = Spec::default();
        let annotations = [(USER_ANNOTATION, user), (GROUP_ANNOTATION, group)];
        let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let _ = spec.set_annotations(Some(annotations.collect::<HashMap<_, _>>()));
        spec
    }

    fn ids(user: &str, group: &str) -> Result<(u32, u32, Vec<u32>), UserError> {
        let (_tmp, fd) = root();
        resolve(&fd, &config(user, group)).map(|i| (i.uid, i.gid, i.groups))
    }

    #[test]
    fn names_numbers_and_paths() {
        assert_eq!(ids("", "").unwrap(), (0, 0, vec![]));
        assert_eq!(ids("redis", "").unwrap(), (101, 102, vec![103]));
        assert_eq!(ids("redis", "ssl").unwrap(), (101, 103, vec![103]));
        assert_eq!(ids("101", "").unwrap(), (101, 102, vec![103]));
        assert_eq!(ids("4711", "").unwrap(), (4711, 0, vec![]));
        assert_eq!(ids("4711", "4712").unwrap(), (4711, 4712, vec![]));
        assert_eq!(ids("/etc/passwd", "/etc").unwrap().0, rustix::process::getuid().as_raw());
    }

    #[test]
    fn numbers_do_not_wrap_around() {
        for bad in
            ["2147483648", "4294967295", "4294967296", "18446744073709551616", "-1", "high", "highgroup"]
        {
            assert!(matches!(ids(bad, ""), Err(UserError::OutOfRange(_))), "{bad}");
            assert!(
                bad.starts_with("high") || matches!(ids("0", bad), Err(UserError::OutOfRange(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(
            ids("nobody", "").unwrap_err().to_string(),
            "\"nobody\" is not in /etc/passwd of the image"
        );
        assert!(matches!(ids("root", "wheel"), Err(UserError::Unknown { file: GROUP, .. })));
        assert!(matches!(ids("/nope", ""), Err(UserError::Owner(..))));
        assert!(
            matches!(ids("evil", ""), Err(UserError::Unknown { .. })),
            "a uid that is no number is no account"
        );
    }

    #[test]
    fn a_hostile_passwd_neither_blocks_nor_leaves_the_root() {
        let (tmp, fd) = root();
        let passwd = tmp.path().join("etc/passwd");
        std::fs::remove_file(&passwd).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert!(matches!(resolve(&fd, &config("redis", "")), Err(UserError::NotAFile(_))));
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/proc/self/status", &passwd).unwrap();
        assert!(matches!(resolve(&fd, &config("redis", "")), Err(UserError::Unknown { .. })));
        std::fs::remove_file(&passwd).unwrap();
        std::fs::File::create(&passwd).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(resolve(&fd, &config("redis", "")), Err(UserError::NotAFile(_))));
    }

    proptest::proptest! {
        /// Whatever the image's databases hold, nobody becomes a number beyond the limit, and nothing panics.
        #[test]
        fn a_hostile_database_gives_no_strange_numbers(
            passwd in "([a-z]{0,3}:x?:[0-9-]{0,11}:[0-9]{0,11}:?[/a-z]{0,4}:?\n?){0,6}",
            group in "([a-z]{0,3}:x?:[0-9-]{0,11}:[a-z,]{0,6}\n?){0,6}",
            user in "[a-z0-9]{1,3}",
        ) {
            let (tmp, fd) = root();
            std::fs::write(tmp.path().join("etc/passwd"), passwd).unwrap();
            std::fs::write(tmp.path().join("etc/group"), group).unwrap();
            if let Ok(identity) = resolve(&fd, &config(&user, "")) {
                let ids = [identity.uid, identity.gid].into_iter().chain(identity.groups);
                proptest::prop_assert!(ids.into_iter().all(|id| id <= MAX_ID));
            }
        }
    }
}
