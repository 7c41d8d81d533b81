//! Progress as lines of JSON.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use pod::fetch_event::{FetchEvent, FetchStep};

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Sink(Mutex<Option<File>>);

impl Sink {
    /// Writes to this.
    pub(crate) fn new(file: File) -> Self {
        Self(Mutex::new(Some(file)))
    }

    /// Writes to the descriptor with this number, which the process inherited.
    pub(crate) fn inherited(fd: i32) -> io::Result<Self> {
        Ok(Self::new(File::from(sys::descriptor::inherited(fd)?)))
    }

    fn write(&self, event: &FetchEvent) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // In one piece: error messages may go to the same place.
        if file.as_mut().is_some_and(|file| file.write_all(&line).is_err()) {
            // Whoever has stopped to listen does not stop the fetch.
            *file = None;
        }
    }
}

/// The lines about one image.
#[derive(Debug)]
pub(super) struct Lines {
    sink: Arc<Sink>,
    image: String,
}

impl Lines {
    pub(super) fn new(sink: Arc<Sink>, image: &str) -> Self {
        Self { sink, image: image.to_owned() }
    }

    pub(super) fn show(&self, step: &FetchStep) {
        self.sink.write(&FetchEvent::new(&self.image, step.clone()));
    }
}
