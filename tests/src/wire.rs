//! What the harness and the agent inside a node say to each other, over any stream of bytes.
//!
//! A frame is `length: u32 LE` (of what follows), `id: u32 LE`, `kind: u8`, payload. The id names one
//! command for its whole life; many are in flight at once. Structured payloads are JSON, output is raw.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// Output is cut into frames of at most this many bytes, so that one chatty command starves no other.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Longer frames mean that the stream is out of step.
const LIMIT: u32 = 16 * 1024 * 1024;

/// One frame, either direction.
#[derive(Debug)]
pub(crate) enum Frame {
    /// To the agent: start this command.
    Start(Start),
    /// To the agent: bytes for the command's stdin; none at all closes it.
    Stdin(Vec<u8>),
    /// To the agent: send this signal to the command's process group.
    Signal(i32),
    /// To the agent: the terminal has a new size, rows and columns.
    Resize(u16, u16),
    /// From the agent: the command runs, as this process.
    Started(i32),
    /// From the agent: it wrote this to stdout.
    Stdout(Vec<u8>),
    /// From the agent: it wrote this to stderr.
    Stderr(Vec<u8>),
    /// From the agent: it ended; the last frame of its id.
    Ended(End),
}

/// A command to start in the node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Program and arguments; the program is looked up in the `PATH` of `env`.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory.
    pub(crate) cwd: String,
    /// Give it a terminal of this many rows and columns as stdin, stdout and stderr.
    pub(crate) terminal: Option<(u16, u16)>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// With an exit status.
    Exited(i32),
    /// By a signal.
    Signaled(i32),
    /// It could not be started.
    Failed(String),
}

impl Frame {
    /// Writes the frame for command `id` in one write.
    pub(crate) fn write(&self, id: u32, to: &mut impl Write) -> io::Result<()> {
        let (kind, payload) = self.encode()?;
        let length = u32::try_from(payload.len() + 5).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(payload.len() + 9);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&payload);
        to.write_all(&bytes)?;
        to.flush()
    }

    /// Reads the next frame and its id; `None` at the end of the stream.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<(u32, Self)>> {
        let mut header = [0u8; 4];
        match from.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
        let length = u32::from_le_bytes(header);
        if !(5..=LIMIT).contains(&length) {
            return Err(invalid(format!("a frame of {length} bytes")));
        }
        let (mut id, mut kind) = ([0u8; 4], [0u8; 1]);
        from.read_exact(&mut id)?;
        from.read_exact(&mut kind)?;
        let mut payload = vec![0u8; length as usize - 5];
        from.read_exact(&mut payload)?;
        Ok(Some((u32::from_le_bytes(id), Self::decode(u8::from_le_bytes(kind), payload)?)))
    }

    fn encode(&self) -> io::Result<(u8, Vec<u8>)> {
        Ok(match self {
            Self::Start(start) => (1, serde_json::to_vec(start)?),
            Self::Stdin(bytes) => (2, bytes.clone()),
            Self::Signal(signal) => (3, serde_json::to_vec(signal)?),
            Self::Resize(rows, columns) => (4, serde_json::to_vec(&(rows, columns))?),
            Self::Started(pid) => (5, serde_json::to_vec(pid)?),
            Self::Stdout(bytes) => (6, bytes.clone()),
            Self::Stderr(bytes) => (7, bytes.clone()),
            Self::Ended(end) => (8, serde_json::to_vec(end)?),
        })
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match kind {
            1 => Self::Start(serde_json::from_slice(&payload)?),
            2 => Self::Stdin(payload),
            3 => Self::Signal(serde_json::from_slice(&payload)?),
            4 => {
                let (rows, columns) = serde_json::from_slice(&payload)?;
                Self::Resize(rows, columns)
            }
            5 => Self::Started(serde_json::from_slice(&payload)?),
            6 => Self::Stdout(payload),
            7 => Self::Stderr(payload),
            8 => Self::Ended(serde_json::from_slice(&payload)?),
            other => return Err(invalid(format!("a frame of unknown kind {other}"))),
        })
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_trip_back_to_back() {
        let start = Start { argv: vec!["a\nb".into(), String::new()], cwd: "/".into(), ..Start::default() };
        let mut stream = Vec::new();
        Frame::Start(start.clone()).write(7, &mut stream).unwrap();
        Frame::Stdin(Vec::new()).write(7, &mut stream).unwrap();
        Frame::Stdout(vec![0, 255, 10]).write(u32::MAX, &mut stream).unwrap();
        Frame::Ended(End::Signaled(9)).write(7, &mut stream).unwrap();
        let mut from = stream.as_slice();
        let mut next = || Frame::read(&mut from).unwrap();
        assert!(matches!(next(), Some((7, Frame::Start(s))) if s.argv == start.argv));
        assert!(matches!(next(), Some((7, Frame::Stdin(b))) if b.is_empty()));
        assert!(matches!(next(), Some((u32::MAX, Frame::Stdout(b))) if b == [0, 255, 10]));
        assert!(matches!(next(), Some((7, Frame::Ended(End::Signaled(9))))));
        assert!(next().is_none());
    }

    #[test]
    fn a_stream_out_of_step_is_an_error() {
        for bad in [&b"\0\0\0\0rest"[..], b"\xff\xff\xff\xff", b"\x06\0\0\0\0\0\0\0\x63x", b"\x09\0\0\0\0\0"]
        {
            assert!(Frame::read(&mut &bad[..]).is_err(), "{bad:?}");
        }
    }
}
