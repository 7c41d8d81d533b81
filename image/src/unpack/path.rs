//! Names in archives: outside text that says where to write.
//!
//! A leading slash and `.` and empty components mean nothing and are dropped, as every tool does. `..` is refused: no
//! image builder writes it, and an archive that does wants something. Names that the kernel could not take are
//! refused here, with the name in the error.

use serde::{Deserialize, Serialize};

use super::Refusal;

const NAME_MAX: usize = 255;
pub(super) const PATH_MAX: usize = 4095;

/// What makes a name a whiteout.
const WHITEOUT: &[u8] = b".wh.";
/// A directory that hides everything beneath it.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// AUFS' own bookkeeping, which means nothing to anybody else.
const BOOKKEEPING: &[u8] = b".wh..wh.";

/// A path within a tree: components joined by single slashes, none of them `.` or `..`; empty for the root itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TreePath(Vec<u8>);

/// What an entry's name asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Something at this path.
    Entry(TreePath),
    /// Hide what lower layers have at this path.
    Whiteout(TreePath),
    /// Hide everything that lower layers have in this directory.
    Opaque(TreePath),
    /// Nothing.
    Bookkeeping,
    /// The manifest of an ACI.
    Manifest,
}

impl TreePath {
    pub(super) fn parse(name: &[u8]) -> Result<Self, Refusal> {
        let mut path = Vec::with_capacity(name.len());
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(Refusal::DotDot),
                _ if component.len() > NAME_MAX => return Err(Refusal::TooLong),
                _ if component.contains(&0) => return Err(Refusal::Nul),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        if path.len() > PATH_MAX { Err(Refusal::TooLong) } else { Ok(Self(path)) }
    }

    pub(super) fn root() -> Self {
        Self(Vec::new())
    }

    /// What the paths of everything in this directory begin with. Not a path itself: it is for comparing.
    pub(super) fn inside(&self) -> Self {
        Self([self.as_bytes(), b"/"].concat())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory, and the last component.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => {
                let (parent, base) = self.0.split_at(slash);
                (parent, base.get(1..).unwrap_or_default())
            }
            None => (&[], &self.0),
        }
    }
}

/// Whether a link leads to the standard output or error of whoever follows it.
pub(crate) fn is_output(link: &[u8]) -> bool {
    matches!(
        link,
        b"/dev/stdout"
            | b"/dev/stderr"
            | b"/dev/fd/1"
            | b"/dev/fd/2"
            | b"/proc/self/fd/1"
            | b"/proc/self/fd/2"
    )
}

/// What the names of an archive mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A layer of OCI and Docker: names are paths of the tree, some of them whiteouts.
    #[default]
    Layer,
    /// An ACI: what is in `rootfs` is the tree, and there is nothing else but a `manifest`. No name is a whiteout.
    Aci,
    /// The tree was made from the trees of ACIs: there is no archive.
    Rendered,
}

impl Shape {
    /// What an entry's name asks for.
    pub(crate) fn target(self, name: &[u8]) -> Result<Target, Refusal> {
        match self {
            Self::Layer => Target::parse(name),
            Self::Aci | Self::Rendered => member(name),
        }
    }

    /// What a hardlink leads to.
    pub(super) fn link(self, target: &[u8]) -> Result<TreePath, Refusal> {
        match self {
            Self::Layer => TreePath::parse(target),
            Self::Aci | Self::Rendered => match member(target)? {
                Target::Entry(path) => Ok(path),
                _ => Err(Refusal::LinkTarget),
            },
        }
    }
}

/// The name of the manifest in an ACI.
const MANIFEST: &[u8] = b"manifest";
/// The name of the tree in an ACI.
const ROOTFS: &[u8] = b"rootfs";

fn member(name: &[u8]) -> Result<Target, Refusal> {
    let path = TreePath::parse(name)?;
    match path.as_bytes().strip_prefix(ROOTFS) {
        Some([]) => Ok(Target::Entry(TreePath::root())),
        Some([b'/', rest @ ..]) => Ok(Target::Entry(TreePath(rest.to_vec()))),
        _ if path.as_bytes() == MANIFEST => Ok(Target::Manifest),
        // The directory that was archived.
        _ if path.is_root() => Ok(Target::Bookkeeping),
        _ => Err(Refusal::NotInAci),
    }
}

impl Target {
    fn parse(name: &[u8]) -> Result<Self, Refusal> {
        let path = TreePath::parse(name)?;
        if path.as_bytes().starts_with(BOOKKEEPING) && path.as_bytes() != OPAQUE {
            return Ok(Self::Bookkeeping);
        }
        let (parent, base) = path.split();
        if parent.split(|byte| *byte == b'/').any(|component| component.starts_with(WHITEOUT)) {
            return Err(Refusal::InsideWhiteout);
        }
        let Some(hidden) = base.strip_prefix(WHITEOUT) else { return Ok(Self::Entry(path)) };
        match hidden {
            _ if base == OPAQUE => Ok(Self::Opaque(TreePath(parent.to_vec()))),
            _ if base.starts_with(BOOKKEEPING) => Ok(Self::Bookkeeping),
            b"" | b"." | b".." => Err(Refusal::WhiteoutName),
            _ if parent.is_empty() => Ok(Self::Whiteout(TreePath(hidden.to_vec()))),
            _ => Ok(Self::Whiteout(TreePath([parent, b"/", hidden].concat()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_understood() {
        let path = |text: &str| TreePath(text.as_bytes().to_vec());
        let entry = |text| Ok(Target::Entry(path(text)));
        let long = "n".repeat(256);
        let deep = "d/".repeat(2100);
        let table = [
            ("a/b", entry("a/b")),
            ("./a//b/.", entry("a/b")),
            ("/etc/passwd", entry("etc/passwd")),
            ("", entry("")),
            ("./", entry("")),
            ("..a/b..", entry("..a/b..")),
            ("../a", Err(Refusal::DotDot)),
            ("a/../b", Err(Refusal::DotDot)),
            ("a/..", Err(Refusal::DotDot)),
            ("a\0b", Err(Refusal::Nul)),
            (&long, Err(Refusal::TooLong)),
            (&deep, Err(Refusal::TooLong)),
            (".wh.a", Ok(Target::Whiteout(path("a")))),
            ("d/.wh.a", Ok(Target::Whiteout(path("d/a")))),
            ("d/.wh.", Err(Refusal::WhiteoutName)),
            (".wh..", Err(Refusal::WhiteoutName)),
            ("d/.wh...", Err(Refusal::WhiteoutName)),
            (".wh.../x", Err(Refusal::InsideWhiteout)),
            ("d/.wh.a/b", Err(Refusal::InsideWhiteout)),
            ("d/.wh..wh..opq", Ok(Target::Opaque(path("d")))),
            (".wh..wh..opq", Ok(Target::Opaque(path("")))),
            (".wh..wh.plnk/1.2", Ok(Target::Bookkeeping)),
            ("d/.wh..wh.aufs", Ok(Target::Bookkeeping)),
        ];
        for (name, expected) in table {
            assert_eq!(Target::parse(name.as_bytes()), expected, "{name:?}");
        }
    }

    #[test]
    fn an_aci_has_a_manifest_and_a_root() {
        let entry = |text: &str| Ok(Target::Entry(TreePath(text.as_bytes().to_vec())));
        for (name, expected) in [
            ("manifest", Ok(Target::Manifest)),
            ("./manifest", Ok(Target::Manifest)),
            ("./", Ok(Target::Bookkeeping)),
            ("rootfs", entry("")),
            ("rootfs/", entry("")),
            ("/rootfs/etc/passwd", entry("etc/passwd")),
            // No name has a meaning of its own.
            ("rootfs/d/.wh.a", entry("d/.wh.a")),
            ("rootfs/.wh..wh..opq", entry(".wh..wh..opq")),
            ("rootfs/manifest", entry("manifest")),
            ("rootfs2", Err(Refusal::NotInAci)),
            ("manifest/x", Err(Refusal::NotInAci)),
            ("etc/passwd", Err(Refusal::NotInAci)),
            ("rootfs/../x", Err(Refusal::DotDot)),
        ] {
            assert_eq!(Shape::Aci.target(name.as_bytes()), expected, "{name:?}");
        }
        assert_eq!(Shape::Aci.link(b"rootfs/a"), Ok(TreePath(b"a".to_vec())));
        assert_eq!(Shape::Aci.link(b"manifest"), Err(Refusal::LinkTarget));
        assert_eq!(Shape::Aci.link(b"a"), Err(Refusal::NotInAci));
    }

    proptest! {
        #[test]
        fn no_name_leads_out(name in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'w'), Just(b'h'), any::<u8>()], 0..60)) {
            if let Ok(Target::Entry(path) | Target::Whiteout(path) | Target::Opaque(path)) = Target::parse(&name) {
                prop_assert!(!path.as_bytes().starts_with(b"/"));
                let bad = |component: &[u8]| component.is_empty() || component == b"." || component == b"..";
                prop_assert!(path.is_root() || !path.as_bytes().split(|byte| *byte == b'/').any(bad));
            }
        }
    }
}
