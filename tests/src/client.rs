//! The harness's end of the stream to a node's agent: many commands over one connection.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::wire::{Frame, Start};

/// A connection to an agent; clones share it. It outlives no node: when the node dies, every command's
/// events end.
#[derive(Clone)]
pub(crate) struct Client {
    stream: Arc<Mutex<UnixStream>>,
    commands: Commands,
    next: Arc<AtomicU32>,
}

/// Where the events of each command go; `None` once the stream has ended.
type Commands = Arc<Mutex<Option<HashMap<u32, Sender<Frame>>>>>;

/// What happens to one command.
pub(crate) struct Events {
    /// The command's id on the wire.
    pub(crate) id: u32,
    /// Its frames, until it ended or the node died.
    pub(crate) receiver: Receiver<Frame>,
}

impl Client {
    /// Takes over a connected stream.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        let commands: Commands = Arc::new(Mutex::new(Some(HashMap::new())));
        let (mut from, table) = (stream.try_clone()?, Arc::clone(&commands));
        drop(thread::spawn(move || {
            while let Ok(Some((id, frame))) = Frame::read(&mut from) {
                let table = table.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(events) = table.as_ref().and_then(|t| t.get(&id)) {
                    let _ = events.send(frame);
                }
            }
            // Dropping the senders is how everyone who waits learns of the node's end.
            drop(table.lock().unwrap_or_else(PoisonError::into_inner).take());
        }));
        Ok(Self { stream: Arc::new(Mutex::new(stream)), commands, next: Arc::default() })
    }

    /// Asks the agent to start a command.
    pub(crate) fn start(&self, start: Start) -> io::Result<Events> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        match self.commands.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(table) => drop(table.insert(id, sender)),
            None => return Err(io::Error::new(io::ErrorKind::NotConnected, "the node is dead")),
        }
        self.send(id, &Frame::Start(start))?;
        Ok(Events { id, receiver })
    }

    /// Sends a frame about command `id`.
    pub(crate) fn send(&self, id: u32, frame: &Frame) -> io::Result<()> {
        frame.write(id, &mut *self.stream.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the connection: the agent kills what it started, and ends.
    pub(crate) fn close(&self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// Drops further events of command `id`.
    pub(crate) fn forget(&self, id: u32) {
        if let Some(table) = self.commands.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            drop(table.remove(&id));
        }
    }
}
