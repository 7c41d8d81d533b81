//! Joins the caller's stdin, stdout and stderr, or its terminal, to a command in a node.

use std::io::{self, Read, Write};
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::{Command, Status};

/// How often the streams in the other direction, and the size of the terminal, are looked at.
const TICK: Duration = Duration::from_millis(20);

/// Runs `command` with this process's streams until it ends; with a terminal of its own if `terminal`.
///
/// # Errors
///
/// When it cannot be started, or the node dies under it.
pub fn attach(command: Command, terminal: bool) -> Result<Status> {
    let raw = if terminal { Some(Raw::enter().context("cannot take over the terminal")?) } else { None };
    let mut size = raw.as_ref().map(|_| window());
    let command = match size {
        Some((rows, columns)) => command.terminal(rows, columns),
        None => command,
    };
    let mut child = command.spawn()?;
    let input = read_stdin();
    let mut open = true;
    while let Some((stdout, stderr)) = child.take(TICK)? {
        io::stdout().write_all(&stdout).and_then(|()| io::stdout().flush()).context("cannot write")?;
        io::stderr().write_all(&stderr).context("cannot write")?;
        while open {
            match input.try_recv() {
                Ok(bytes) => child.write(&bytes)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    open = false;
                    child.close_stdin()?;
                }
            }
        }
        if raw.is_some() && size != Some(window()) {
            let (rows, columns) = window();
            child.resize(rows, columns)?;
            size = Some((rows, columns));
        }
    }
    drop(raw);
    Ok(child.wait(TICK)?.status)
}

/// Our stdin, read by a thread that is left behind: nothing can interrupt its read.
fn read_stdin() -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    drop(thread::spawn(move || {
        let mut chunk = [0u8; 4096];
        while let Ok(n @ 1..) = io::stdin().read(&mut chunk) {
            if sender.send(chunk.get(..n).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    }));
    receiver
}

/// Rows and columns of our terminal; the usual ones where it does not know.
fn window() -> (u16, u16) {
    match tcgetwinsize(io::stdin()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

/// The terminal in raw mode; as it was when this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
