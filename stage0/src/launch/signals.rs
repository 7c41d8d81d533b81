//! Signals of the direct launcher, as a descriptor to poll.
//!
//! They are blocked and read, never ignored: `SIG_IGN` would be inherited by every program that we start, while a blocked
//! mask is not (the standard library starts programs with an empty one).

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Signal;
use sys::signal::{self, Set};

/// A descriptor that becomes readable when a signal arrives.
#[derive(Debug)]
pub(super) struct Signals {
    fd: OwnedFd,
    /// How often we were asked to stop and have not taken notice.
    stops: Cell<usize>,
}

/// What the app reads, and with it who gets the keyboard's signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing. Ctrl-C stops the pod.
    Nothing,
    /// What we would read. Ctrl-C stops the pod.
    Stream,
    /// Our terminal, which becomes the app's: Ctrl-C means what the app makes of it.
    Terminal,
}

impl Signals {
    pub(super) fn watch(input: Input) -> io::Result<Self> {
        let ours = [Signal::CHILD, Signal::TERM, Signal::HUP].map(Signal::as_raw);
        let typed = [Signal::INT, Signal::QUIT].map(Signal::as_raw);
        signal::block(&Set::of(ours.into_iter().chain(typed)))?;
        let read = match input {
            Input::Nothing | Input::Stream => Set::of(ours.into_iter().chain(typed)),
            Input::Terminal => Set::of(ours),
        };
        Ok(Self { fd: signal::descriptor(&read)?, stops: Cell::new(0) })
    }

    /// Reads what has arrived, so that the descriptor is quiet again. That a child has ended is only a reason to wake up.
    pub(super) fn drain(&self) -> io::Result<()> {
        while let Some(signal) = signal::read(&self.fd)? {
            self.stops.set(self.stops.get() + usize::from(signal != Signal::CHILD.as_raw()));
        }
        Ok(())
    }

    /// How often we have been asked to stop since the last call.
    pub(super) fn take_stops(&self) -> usize {
        self.stops.take()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
