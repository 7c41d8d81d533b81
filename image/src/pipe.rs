//! Bytes from one thread to the next, in large buffers that go back to be filled again.
//!
//! A pipe has at most [`DEPTH`] buffers of [`CHUNK`] bytes, so memory is bounded and a fast stage waits for a slow
//! one. Dropping the [`Writer`] is the end of the stream; dropping the [`Reader`] makes the writer stop with
//! [`Closed`], which is an outcome and not an error: whoever closed knows why.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::digest::{Algorithm, Digest, Hasher};

/// Fits a core's second-level cache: what one stage wrote, the next finds warm.
pub(crate) const CHUNK: usize = 256 << 10;
const DEPTH: usize = 6;

/// Part of the stream.
struct Chunk {
    bytes: Box<[u8]>,
    filled: usize,
}

/// The end where bytes go in.
pub(crate) struct Writer {
    full: SyncSender<Chunk>,
    empty: Receiver<Chunk>,
    made: usize,
}

/// The end where bytes come out. Hashes them on the way if asked to.
pub(crate) struct Reader {
    full: Receiver<Chunk>,
    empty: SyncSender<Chunk>,
    current: Option<Chunk>,
    at: usize,
    hasher: Option<Hasher>,
}

/// Nobody reads any more.
#[derive(Debug)]
pub(crate) struct Closed;

/// Makes a pipe.
pub(crate) fn pipe() -> (Writer, Reader) {
    let (full, fulls) = sync_channel(DEPTH);
    let (empty, empties) = sync_channel(DEPTH);
    let writer = Writer { full, empty: empties, made: 0 };
    (writer, Reader { full: fulls, empty, current: None, at: 0, hasher: None })
}

impl Writer {
    /// Fills one buffer from `source`, shows it to `look`, and passes it on. Returns the number of bytes: zero at the
    /// end of `source`.
    pub(crate) fn fill_from(
        &mut self,
        source: &mut dyn Read,
        look: impl FnOnce(&[u8]),
    ) -> Result<io::Result<usize>, Closed> {
        let mut chunk = self.buffer()?;
        while let Some(room) = chunk.bytes.get_mut(chunk.filled..).filter(|room| !room.is_empty()) {
            match source.read(room) {
                Ok(0) => break,
                Ok(count) => chunk.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let filled = chunk.filled;
        if filled > 0 {
            look(chunk.bytes.get(..filled).unwrap_or_default());
            self.full.send(chunk).map_err(|_| Closed)?;
        }
        Ok(Ok(filled))
    }

    fn buffer(&mut self) -> Result<Chunk, Closed> {
        if let Ok(mut chunk) = self.empty.try_recv() {
            chunk.filled = 0;
            return Ok(chunk);
        }
        if self.made < DEPTH {
            self.made += 1;
            return Ok(Chunk { bytes: vec![0; CHUNK].into_boxed_slice(), filled: 0 });
        }
        let mut chunk = self.empty.recv().map_err(|_| Closed)?;
        chunk.filled = 0;
        Ok(chunk)
    }
}

impl Reader {
    /// From now on, every byte that comes is hashed.
    pub(crate) fn hashing(mut self, algorithm: Algorithm) -> Self {
        self.hasher = Some(Hasher::new(algorithm));
        self
    }

    /// Reads what is left, and returns the digest of everything that came.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        loop {
            match self.fill_buf()?.len() {
                0 => return Ok(self.hasher.take().unwrap_or_default().finish()),
                count => self.consume(count),
            }
        }
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.as_ref().is_none_or(|chunk| self.at >= chunk.filled) {
            if let Some(used) = self.current.take() {
                // The writer may be gone: then nobody needs the buffer.
                let _ = self.empty.try_send(used);
            }
            self.at = 0;
            self.current = self.full.recv().ok();
            if let (Some(hasher), Some(chunk)) = (&mut self.hasher, &self.current) {
                hasher.update(chunk.bytes.get(..chunk.filled).unwrap_or_default());
            }
        }
        Ok(self.current.as_ref().and_then(|chunk| chunk.bytes.get(self.at..chunk.filled)).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = {
            let mut available = self.fill_buf()?;
            available.read(buffer)?
        };
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_hashed() {
        let data: Vec<u8> = (0..5 * CHUNK + 17).map(|at| (at % 251) as u8).collect();
        let (mut writer, reader) = pipe();
        let reader = reader.hashing(Algorithm::Sha256);
        std::thread::scope(|scope| {
            let _ = scope.spawn(|| {
                let mut source = &data[..];
                while writer.fill_from(&mut source, |_| {}).unwrap().unwrap() > 0 {}
                drop(writer);
            });
            let mut reader = reader;
            let mut first = vec![0; CHUNK + 5];
            reader.read_exact(&mut first).unwrap();
            assert_eq!(first, data[..CHUNK + 5]);
            assert_eq!(reader.finish().unwrap(), Digest::of(&data));
        });
    }

    #[test]
    fn a_writer_without_a_reader_stops() {
        let (mut writer, reader) = pipe();
        drop(reader);
        assert!(writer.fill_from(&mut std::io::repeat(1), |_| {}).is_err());
    }
}
