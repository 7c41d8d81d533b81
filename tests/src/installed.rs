//! A node on which `make install` was run: units, groups and directories are where a machine has them.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{Kind, Node, artifact};

/// What a command finds in its environment that is to use nothing but what was installed.
pub const ONLY_INSTALLED: &str = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// A node of one's own: this writes to /usr, /etc and /var/lib. Nothing when nodes are the machine itself: nobody wants
/// that there.
///
/// # Errors
///
/// When it does not boot, or something cannot be installed.
pub fn installed() -> Result<Option<Node>> {
    if Kind::Hybrid.effective() != Kind::Hybrid {
        return Ok(None);
    }
    let node = Node::boot(Kind::Hybrid)?;
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has no directory")?;
    let binary = artifact::binary("rkt")?;
    let build = binary.parent().context("rkt has no directory")?;
    let install = format!(
        "make --no-print-directory -C {} install BUILD={}; systemctl daemon-reload
         systemd-sysusers rkt.conf; systemd-tmpfiles --create rkt.conf",
        workspace.display(),
        build.display()
    );
    let _ = node.sh(&install)?.checked().context("cannot install")?;
    Ok(Some(node))
}
