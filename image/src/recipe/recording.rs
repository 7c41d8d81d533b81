//! A stream that is recorded as it is consumed.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::BorrowedFd;

use flate2::Crc;
use rustix::fs::{Mode, OFlags, openat};

use super::Content;
use super::writer::Writer;

/// The name of a recipe in a tree's directory.
pub(crate) const RECIPE: &str = "recipe";

/// Passes a stream on, and writes its recipe if there is to be one.
pub(crate) struct Recording<R> {
    stream: R,
    recipe: Option<Draft>,
}

/// A recipe, and which inode each file in it had when it was made.
struct Draft {
    writer: Writer,
    inodes: Vec<u64>,
    /// The file whose content is passing.
    content: Option<(Content, Crc)>,
    /// Consuming cannot fail: what went wrong is told at the end.
    trouble: Option<io::Error>,
}

impl<R: BufRead> Recording<R> {
    /// Records nothing.
    pub(crate) fn off(stream: R) -> Self {
        Self { stream, recipe: None }
    }

    /// Records into [`RECIPE`] in the directory `work`.
    pub(crate) fn on(stream: R, work: BorrowedFd<'_>) -> Result<Self, (R, io::Error)> {
        match create(work, RECIPE).and_then(Writer::new) {
            Ok(writer) => {
                let draft = Draft { writer, inodes: Vec::new(), content: None, trouble: None };
                Ok(Self { stream, recipe: Some(draft) })
            }
            Err(error) => Err((stream, error)),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.recipe.is_some()
    }

    /// What is consumed from now on is the content of a file.
    pub(crate) fn begin(&mut self, path: Vec<u8>, size: u64, inode: u64) {
        if let Some(draft) = &mut self.recipe {
            draft.inodes.push(inode);
            draft.content = Some((Content { path, size, crc: 0 }, Crc::new()));
        }
    }

    /// All of the content was consumed.
    pub(crate) fn end(&mut self) {
        if let Some(draft) = &mut self.recipe
            && let Some((content, crc)) = draft.content.take()
        {
            let outcome = draft.writer.file(&Content { crc: crc.sum(), ..content });
            draft.note(outcome);
        }
    }

    /// Records what follows the archive, and ends the recipe. Returns the inodes of the files in it, in order.
    pub(crate) fn finish(mut self) -> (R, io::Result<Vec<u64>>) {
        let outcome = self.drain();
        let Self { stream, recipe } = self;
        let end = |draft: Draft| {
            draft.trouble.map_or(Ok(()), Err)?;
            draft.writer.finish()?;
            Ok(draft.inodes)
        };
        (stream, outcome.and_then(|()| recipe.map_or(Ok(Vec::new()), end)))
    }

    pub(crate) fn into_inner(self) -> R {
        self.stream
    }

    fn drain(&mut self) -> io::Result<()> {
        loop {
            match self.fill_buf()?.len() {
                0 => return Ok(()),
                count => self.consume(count),
            }
        }
    }
}

/// A file of ours in a directory of ours.
pub(crate) fn create(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

impl Draft {
    fn pass(&mut self, bytes: &[u8]) {
        match &mut self.content {
            Some((_, crc)) => crc.update(bytes),
            None if self.trouble.is_none() => {
                let outcome = self.writer.raw(bytes);
                self.note(outcome);
            }
            None => {}
        }
    }

    fn note(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            let _ = self.trouble.get_or_insert(error);
        }
    }
}

impl<R: BufRead> BufRead for Recording<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if count > 0
            && let Some(draft) = &mut self.recipe
            && let Ok(buffer) = self.stream.fill_buf()
        {
            draft.pass(buffer.get(..count).unwrap_or(buffer));
        }
        self.stream.consume(count);
    }
}

impl<R: BufRead> Read for Recording<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = {
            let mut available = self.fill_buf()?;
            available.read(buffer)?
        };
        self.consume(count);
        Ok(count)
    }
}
