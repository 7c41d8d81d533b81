//! What a recipe cannot take from the tree any more, because a later entry replaced it.
//!
//! Files that were replaced are in the directory `aside`, as `f<inode>`, or somewhere in a directory that was replaced
//! as a whole, as `<number>`. Those are taken apart first, without descending: what is in one moves up, and is then
//! one more of them. Then the recipe is written again, with the contents that are no longer in the tree.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::Content;
use super::reader::{Reader, Record};
use super::rebuild::Files;
use super::recording::{RECIPE, create};
use super::writer::Writer;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The recipe while it is written for the second time.
const SETTLED: &str = "recipe.settled";

/// Writes the recipe in `work` again. `inodes` has those of its files, in order.
pub(crate) fn settle(
    inodes: &[u64],
    work: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    aside: BorrowedFd<'_>,
) -> io::Result<()> {
    take_apart(aside)?;
    let mut reader = Reader::new(open_at(work, RECIPE)?)?;
    let mut writer = Writer::new(create(work, SETTLED)?)?;
    let mut files = Files::new(root.try_clone_to_owned()?);
    let mut inodes = inodes.iter();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.next()? {
            Record::Raw(left) => copy(left, &mut buffer, |room| reader.raw(room), &mut writer)?,
            Record::File(content) => {
                let inode = *inodes.next().ok_or(io::ErrorKind::UnexpectedEof)?;
                match files.open(&content.path)? {
                    Some(file) if file.metadata()?.ino() == inode => writer.file(&content)?,
                    _ => take_in(&content, inode, aside, &mut buffer, &mut writer)?,
                }
            }
            Record::End => break,
        }
    }
    writer.finish()?;
    Ok(renameat(work, SETTLED, work, RECIPE)?)
}

/// The content of a file that was replaced.
fn take_in(
    content: &Content,
    inode: u64,
    aside: BorrowedFd<'_>,
    buffer: &mut [u8],
    writer: &mut Writer,
) -> io::Result<()> {
    let mut file = open_at(aside, &format!("f{inode}"))?;
    copy(content.size, buffer, |room| file.read(room), writer)
}

fn copy(
    mut left: u64,
    buffer: &mut [u8],
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    writer: &mut Writer,
) -> io::Result<()> {
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = read(buffer.get_mut(..room).unwrap_or_default())?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        writer.raw(buffer.get(..count).unwrap_or_default())?;
        left -= count as u64;
    }
    Ok(())
}

/// Leaves files, as `f<inode>`, and nothing else in `aside`. In rounds: what is found in a directory moves up, and is
/// found there by the next round. Nothing is remembered, so that memory does not depend on how much there is.
fn take_apart(aside: BorrowedFd<'_>) -> io::Result<()> {
    let mut moved = 0_u64;
    let mut more = true;
    while more {
        more = false;
        each(&openat(aside, ".", DIRECTORY, Mode::empty())?, |aside, name, stat| {
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Ok(());
            }
            more = true;
            let dir = openat(aside, name, DIRECTORY, Mode::empty())?;
            each(&dir, |dir, name, stat| match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    moved += 1;
                    renameat(dir, name, aside, format!("d{moved}"))
                }
                FileType::RegularFile => keep(dir, name, stat, aside.as_fd()),
                _ => unlinkat(dir, name, AtFlags::empty()),
            })?;
            unlinkat(aside, name, AtFlags::REMOVEDIR)
        })?;
    }
    Ok(())
}

/// Does something with each entry of a directory.
fn each(
    dir: &OwnedFd,
    mut act: impl FnMut(&OwnedFd, &CStr, &Stat) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let mut entries = Dir::read_from(dir)?;
    while let Some(entry) = entries.next().transpose()? {
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            act(dir, name, &statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)?;
        }
    }
    Ok(())
}

/// Moves a file that is being replaced to where it is found when the recipe is settled.
pub(crate) fn keep(
    dir: &OwnedFd,
    name: impl rustix::path::Arg + Copy,
    stat: &Stat,
    aside: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    renameat(dir, name, aside, format!("f{}", stat.st_ino))?;
    if stat.st_nlink > 1 {
        // If another name of it is there already, renaming does nothing (rename(2)).
        match unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
    }
    Ok(())
}

fn open_at(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?.into())
}
