//! Where targets that write files do so: a root of their own.
//!
//! The thread that unpacks has an empty file system in memory as its root directory, in a mount namespace of its own.
//! Whatever leaves the tree, by `..` or by an absolute link, arrives beside the tree, where the check finds it; the
//! machine never notices. libFuzzer itself runs in another thread and keeps the machine's files: it has a corpus to
//! write to. Needs root.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::ThreadNameSpaceType;

/// What a jailed target does with an input and the root directory.
pub type Check = fn(&[u8], &Path);

/// The way to the thread and back.
struct Jail {
    inputs: SyncSender<(Check, Vec<u8>)>,
    done: Receiver<()>,
}

static JAIL: LazyLock<Mutex<Jail>> = LazyLock::new(|| {
    let (inputs, todo) = sync_channel::<(Check, Vec<u8>)>(1);
    let (finished, done) = sync_channel(1);
    drop(std::thread::spawn(move || {
        enter().expect("fuzzing what writes files needs root");
        for (check, input) in todo {
            // A panic aborts the process before this thread ends: libFuzzer sees to that.
            check(&input, Path::new("/"));
            if finished.send(()).is_err() {
                return;
            }
        }
    }));
    Mutex::new(Jail { inputs, done })
});

/// Runs `check` in the jail.
///
/// # Panics
/// When there is no jail.
pub fn jailed(check: Check, input: &[u8]) {
    let jail = JAIL.lock().unwrap_or_else(PoisonError::into_inner);
    jail.inputs.send((check, input.to_vec())).expect("the jail is open");
    jail.done.recv().expect("the jail is open");
}

/// Changes what this thread alone sees: with a mount namespace, it gets a root directory of its own (unshare(2)).
fn enter() -> std::io::Result<()> {
    sys::namespace::unshare(ThreadNameSpaceType::MOUNT)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    mount("tmpfs", "/mnt", "tmpfs", MountFlags::NOSUID, Some(c"size=512m,mode=0755"))?;
    rustix::process::chroot("/mnt")?;
    rustix::process::chdir("/")?;
    Ok(())
}
