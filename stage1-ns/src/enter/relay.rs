//! Waiting for the command: signals and, with a terminal, bytes are passed on until it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};
use rustix::stdio;
use stage1::failure::Failure;
use sys::signal;

use super::terminal::{Pty, Raw};

const HUP: i32 = 1;
const INT: i32 = 2;
const QUIT: i32 = 3;
const USR1: i32 = 10;
const USR2: i32 = 12;
const TERM: i32 = 15;
const WINCH: i32 = 28;
const FORWARDED: [i32; 7] = [HUP, INT, QUIT, USR1, USR2, TERM, WINCH];

/// End-of-file in a terminal's input: what is sent when the caller's input ends.
const END_OF_TRANSMISSION: u8 = 4;

/// Signals, held back since before the command was made, so that none is lost.
#[derive(Debug)]
pub(super) struct Relay {
    signals: OwnedFd,
}

impl Relay {
    pub(super) fn new() -> Result<Self, Failure> {
        let set = signal::Set::of(FORWARDED);
        signal::block(&set)
            .and_then(|()| signal::descriptor(&set))
            .map(|signals| Self { signals })
            .map_err(|e| Failure::other(format!("wait for signals: {e}")))
    }

    /// Passes things on until the command has ended; returns its status, 128 + n for signal n.
    pub(super) fn run(self, command: &OwnedFd, pty: Option<Pty>) -> Result<u8, Failure> {
        let failure = |e: Errno| Failure::other(format!("wait for the command: {e}"));
        match pty {
            None => self.pass_signals(command).map_err(failure)?,
            Some(pty) => {
                let _raw = Raw::stdin()?;
                Carrier::new(pty).run(&self, command).map_err(failure)?;
            }
        }
        reap(command).map_err(failure)
    }

    fn pass_signals(&self, command: &OwnedFd) -> rustix::io::Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(command, PollFlags::IN)];
            poll(&mut fds)?;
            let [signals, command_ended] = fds.map(|fd| !fd.revents().is_empty());
            if signals {
                self.forward(command, |_| false)?;
            }
            if command_ended {
                return Ok(());
            }
        }
    }

    /// Sends what came to the command, but what `taken` takes.
    fn forward(&self, command: &OwnedFd, mut taken: impl FnMut(i32) -> bool) -> rustix::io::Result<()> {
        while let Ok(Some(number)) = signal::read(&self.signals) {
            if taken(number) {
                continue;
            }
            match u8::try_from(number).map(|n| signal::send(command, n)) {
                Ok(Ok(()) | Err(Errno::SRCH)) | Err(_) => {}
                Ok(Err(e)) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Carries bytes between the caller's descriptors and the command's terminal.
struct Carrier {
    /// With the command's end open, too: a command that closes its terminal and goes on must not make the master report a
    /// hang-up all the time.
    pty: Pty,
    /// What the terminal has not taken yet.
    input: Vec<u8>,
    is_input_open: bool,
}

impl Carrier {
    fn new(pty: Pty) -> Self {
        Self { pty, input: Vec::new(), is_input_open: true }
    }

    fn run(mut self, relay: &Relay, command: &OwnedFd) -> rustix::io::Result<()> {
        loop {
            let wanted = if self.input.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
            let from_caller =
                if self.input.is_empty() && self.is_input_open { PollFlags::IN } else { PollFlags::empty() };
            let stdin = stdio::stdin();
            let mut fds = [
                PollFd::new(&relay.signals, PollFlags::IN),
                PollFd::new(command, PollFlags::IN),
                PollFd::new(&self.pty.master, wanted),
                PollFd::from_borrowed_fd(stdin, from_caller),
            ];
            // A descriptor that is not waited for still reports that it hung up: leave it out.
            let count = if from_caller.is_empty() { 3 } else { 4 };
            poll(fds.get_mut(..count).unwrap_or_default())?;
            let [signals, ended, terminal, caller] = fds.map(|fd| fd.revents());
            if !signals.is_empty() {
                relay.forward(command, |number| number == WINCH && self.pty.copy_size())?;
            }
            if terminal.intersects(PollFlags::OUT) {
                self.write_input()?;
            }
            if terminal.intersects(PollFlags::IN) {
                let _ = self.read_output()?;
            }
            if !caller.is_empty() {
                self.read_input(stdin)?;
            }
            if !ended.is_empty() {
                return self.drain();
            }
        }
    }

    fn read_input(&mut self, stdin: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let mut buffer = [0; 4096];
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) => {
                self.is_input_open = false;
                self.input.push(END_OF_TRANSMISSION);
            }
            Ok(n) => self.input.extend(buffer.iter().take(n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.is_input_open = false,
        }
        self.write_input()
    }

    fn write_input(&mut self) -> rustix::io::Result<()> {
        match rustix::io::write(&self.pty.master, &self.input) {
            Ok(n) => drop(self.input.drain(..n)),
            // The terminal's queue is full, or nobody has it open any more.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::IO) => self.input.clear(),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Passes on what the command wrote. `false`: there is nothing more for now.
    fn read_output(&self) -> rustix::io::Result<bool> {
        let mut buffer = [0; 16384];
        match rustix::io::read(&self.pty.master, &mut buffer) {
            Ok(0) | Err(Errno::IO | Errno::AGAIN) => Ok(false),
            Ok(n) => write_all(stdio::stdout(), buffer.get(..n).unwrap_or_default()).map(|()| true),
            Err(Errno::INTR) => Ok(true),
            Err(e) => Err(e),
        }
    }

    fn drain(&self) -> rustix::io::Result<()> {
        while self.read_output()? {}
        Ok(())
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // A caller's output that does not block: wait until it takes more.
            Err(Errno::AGAIN) => poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)])?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn poll(fds: &mut [PollFd<'_>]) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::event::poll(fds, None)).map(drop)
}

fn reap(command: &OwnedFd) -> rustix::io::Result<u8> {
    let wait = || rustix::process::waitid(WaitId::PidFd(command.as_fd()), WaitIdOptions::EXITED);
    let status = rustix::io::retry_on_intr(wait)?;
    Ok(status.as_ref().map_or(u8::MAX, code))
}

fn code(status: &WaitIdStatus) -> u8 {
    let number = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(number & 0xff).unwrap_or(u8::MAX)
}
