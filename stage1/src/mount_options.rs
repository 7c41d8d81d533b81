//! Options of a mount, as the runtime-spec lists them: what belongs to the mount, what to its propagation, and what to
//! the file system.

use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use sys::mount_attributes::{Change, Reach};

/// Parsed options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// `bind` or `rbind`, and how far.
    pub bind: Option<Reach>,
    /// Attributes of the mount (`ro`, `nosuid`, …).
    pub attributes: Change,
    /// Attributes of the mount and all below it (`rro`, …).
    pub recursive: Change,
    /// `idmap` or `ridmap`, and how far: the source's ids are those of the pod's user namespace.
    pub id_map: Option<Reach>,
    /// Propagation; `rprivate` when nothing is said.
    pub propagation: Change,
    /// What is left: options of the file system, `key` or `key=value`.
    pub data: Vec<(String, Option<String>)>,
}

/// An option cannot be obeyed. Nothing is ignored silently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// It is known, and not supported.
    #[error("the mount option {0:?} is not supported")]
    Unsupported(String),
}

/// Attributes by name: which, and whether the name sets or clears it.
const ATTRIBUTES: &[(&str, MountAttrFlags, Act)] = &[
    ("ro", MountAttrFlags::MOUNT_ATTR_RDONLY, Act::Set),
    ("rw", MountAttrFlags::MOUNT_ATTR_RDONLY, Act::Clear),
    ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID, Act::Set),
    ("suid", MountAttrFlags::MOUNT_ATTR_NOSUID, Act::Clear),
    ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV, Act::Set),
    ("dev", MountAttrFlags::MOUNT_ATTR_NODEV, Act::Clear),
    ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC, Act::Set),
    ("exec", MountAttrFlags::MOUNT_ATTR_NOEXEC, Act::Clear),
    ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, Act::Set),
    ("diratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, Act::Clear),
    ("nosymfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, Act::Set),
    ("symfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, Act::Clear),
    ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME, Act::Set),
    ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME, Act::Set),
    ("relatime", MountAttrFlags::empty(), Act::Time),
    ("atime", MountAttrFlags::empty(), Act::Time),
    ("norelatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME, Act::Set),
    ("nostrictatime", MountAttrFlags::empty(), Act::Time),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Set,
    Clear,
    /// Back to the default access times (relatime).
    Time,
}

const TIMES: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOATIME.union(MountAttrFlags::MOUNT_ATTR_STRICTATIME);

/// `MOUNT_ATTR__ATIME`: the whole group, which is cleared together (mount_setattr(2)).
const TIME_GROUP: MountAttrFlags = MountAttrFlags::MOUNT_ATTR__ATIME;

const PROPAGATION: &[(&str, MountPropagationFlags, Reach)] = &[
    ("private", MountPropagationFlags::PRIVATE, Reach::Mount),
    ("rprivate", MountPropagationFlags::PRIVATE, Reach::Tree),
    ("slave", MountPropagationFlags::DOWNSTREAM, Reach::Mount),
    ("rslave", MountPropagationFlags::DOWNSTREAM, Reach::Tree),
    ("shared", MountPropagationFlags::SHARED, Reach::Mount),
    ("rshared", MountPropagationFlags::SHARED, Reach::Tree),
    ("unbindable", MountPropagationFlags::UNBINDABLE, Reach::Mount),
    ("runbindable", MountPropagationFlags::UNBINDABLE, Reach::Tree),
];

const UNSUPPORTED: &[&str] = &["remount", "tmpcopyup", "copy-symlink"];

impl Default for MountOptions {
    /// Options that change nothing.
    fn default() -> Self {
        Self {
            bind: None,
            attributes: Change::new(Reach::Mount),
            recursive: Change::new(Reach::Tree),
            id_map: None,
            propagation: Change::new(Reach::Tree),
            data: Vec::new(),
        }
    }
}

impl MountOptions {
    /// Parses the list of a mount. A later option overrides an earlier one.
    pub fn parse<S: AsRef<str>>(options: impl IntoIterator<Item = S>) -> Result<Self, OptionError> {
        let propagation =
            Change { propagation: Some(MountPropagationFlags::PRIVATE), ..Change::new(Reach::Tree) };
        let mut parsed = Self { propagation, ..Self::default() };
        for option in options {
            parsed.add(option.as_ref())?;
        }
        // As Docker since 25: a tree that is bound read-only is read-only as a whole, or the option would lie.
        if parsed.bind == Some(Reach::Tree) {
            parsed.recursive.set |= parsed.attributes.set & MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> Result<(), OptionError> {
        if UNSUPPORTED.contains(&option) {
            return Err(OptionError::Unsupported(option.to_owned()));
        }
        match option {
            "" | "defaults" | "async" | "nomand" | "nolazytime" => return Ok(()),
            "bind" => self.bind = Some(Reach::Mount),
            "rbind" => self.bind = Some(Reach::Tree),
            "idmap" => self.id_map = Some(Reach::Mount),
            "ridmap" => self.id_map = Some(Reach::Tree),
            _ => return self.add_attribute(option),
        }
        Ok(())
    }

    fn add_attribute(&mut self, option: &str) -> Result<(), OptionError> {
        let attribute = |name: &str| ATTRIBUTES.iter().find(|(n, _, _)| *n == name);
        if let Some((_, propagation, reach)) = PROPAGATION.iter().find(|(name, _, _)| *name == option) {
            self.propagation = Change { propagation: Some(*propagation), ..Change::new(*reach) };
        } else if let Some((_, flag, act)) = attribute(option) {
            apply(&mut self.attributes, *flag, *act);
        } else if let Some((_, flag, act)) = option.strip_prefix('r').and_then(attribute) {
            apply(&mut self.recursive, *flag, *act);
        } else {
            let (key, value) = option.split_once('=').map_or((option, None), |(k, v)| (k, Some(v)));
            self.data.push((key.to_owned(), value.map(str::to_owned)));
        }
        Ok(())
    }

    /// The attributes for a mount that is being made, fsmount(2).
    pub fn new_mount_attributes(&self) -> MountAttrFlags {
        self.attributes.set | self.recursive.set
    }
}

fn apply(change: &mut Change, flag: MountAttrFlags, act: Act) {
    if act == Act::Time || TIMES.intersects(flag) {
        change.clear |= TIME_GROUP;
        change.set -= TIMES;
    }
    match act {
        Act::Set => {
            change.set |= flag;
            if !TIMES.intersects(flag) {
                change.clear -= flag;
            }
        }
        Act::Clear => {
            change.set -= flag;
            change.clear |= flag;
        }
        Act::Time => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> MountOptions {
        MountOptions::parse(options.split(',')).unwrap()
    }

    #[test]
    fn attributes_and_data() {
        let o = parse("nosuid,strictatime,mode=755,size=65536k,newinstance");
        let set = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
        assert_eq!((o.attributes.set, o.attributes.clear, o.bind), (set, TIME_GROUP, None));
        let data: Vec<_> = o.data.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        assert_eq!(data, [("mode", Some("755")), ("size", Some("65536k")), ("newinstance", None)]);
    }

    #[test]
    fn the_last_of_opposites_wins() {
        assert!(parse("ro,rw").attributes.set.is_empty());
        assert_eq!(parse("rw,ro").attributes.set, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert!(parse("rw,ro").attributes.clear.is_empty());
        assert!(parse("noatime,relatime").attributes.set.is_empty());
    }

    #[test]
    fn read_only_trees_are_read_only_to_the_bottom() {
        assert_eq!(parse("rbind,ro").recursive.set, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert_eq!(parse("rro,rbind").recursive.set, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert!(parse("bind,ro").recursive.set.is_empty());
    }

    #[test]
    fn nothing_propagates_unless_asked_for() {
        let private = Some(MountPropagationFlags::PRIVATE);
        assert_eq!(
            (parse("rbind").propagation.propagation, parse("rbind").propagation.reach),
            (private, Reach::Tree)
        );
        assert_eq!(parse("rbind,rshared").propagation.propagation, Some(MountPropagationFlags::SHARED));
        assert_eq!(parse("bind,slave").propagation.reach, Reach::Mount);
    }

    #[test]
    fn ids_are_mapped_where_that_is_asked_for() {
        let reach = |options| parse(options).id_map;
        assert_eq!((reach("bind,idmap"), reach("rbind,ridmap,ro")), (Some(Reach::Mount), Some(Reach::Tree)));
        assert_eq!(reach("rbind,rw"), None);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for bad in UNSUPPORTED {
            assert_eq!(MountOptions::parse([bad]), Err(OptionError::Unsupported((*bad).to_owned())));
        }
    }
}
