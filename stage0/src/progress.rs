//! Progress of a fetch: bars on a terminal, lines of JSON for programs, or nothing.
//!
//! A [`Watch`] belongs to the fetch of one image. It adds up what the layers' threads report, drops what comes too often
//! to be of use, and passes the rest on as [`FetchStep`]s: that is also what comes from the fetch service, whose client
//! shows it in the same way. Nobody waits for progress: a place that cannot be written to is not written to again.

mod bars;
mod lines;

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::{Digest, LayerEvent, Progress};
use pod::fetch_event::{FetchStep, LayerState};

use bars::Bars;
use lines::Lines;

pub(crate) use lines::Sink;

/// How often the bytes of a layer are told.
const INTERVAL: Duration = Duration::from_millis(100);

/// Where progress goes.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    /// Nowhere.
    None,
    /// To standard error, if that is a terminal.
    Bars,
    /// As lines of JSON.
    Json(Arc<Sink>),
}

/// Watches the fetch of one image.
#[derive(Debug)]
pub(crate) struct Watch {
    display: Display,
    layers: Mutex<HashMap<Digest, Tally>>,
}

#[derive(Debug)]
enum Display {
    None,
    Bars(Bars),
    Lines(Lines),
}

/// What has been told about a layer.
#[derive(Debug, Default)]
struct Tally {
    received: u64,
    size: u64,
    told: Option<Instant>,
    /// What happened last, told or not.
    state: Option<LayerState>,
}

impl Output {
    /// Begins to watch the fetch of `image`.
    pub(crate) fn watch(&self, image: &str) -> Watch {
        let display = match self {
            Self::Bars if std::io::stderr().is_terminal() => Display::Bars(Bars::new(image)),
            Self::None | Self::Bars => Display::None,
            Self::Json(sink) => Display::Lines(Lines::new(Arc::clone(sink), image)),
        };
        Watch { display, layers: Mutex::default() }
    }
}

impl Watch {
    /// Shows a step.
    pub(crate) fn show(&self, step: &FetchStep) {
        match &self.display {
            Display::None => {}
            Display::Bars(bars) => bars.show(step),
            Display::Lines(lines) => lines.show(step),
        }
    }
}

impl Watch {
    /// How many bytes have come, and whether more have to.
    pub(crate) fn received(&self) -> (u64, bool) {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = layers.values().map(|tally| tally.received).fold(0, u64::saturating_add);
        let comes = |tally: &Tally| matches!(tally.state, Some(LayerState::Started | LayerState::Receiving));
        (bytes, layers.is_empty() || layers.values().any(comes))
    }
}

impl Progress for Watch {
    fn layer(&self, layer: Digest, event: LayerEvent) {
        if matches!(self.display, Display::None) {
            return;
        }
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = layers.entry(layer).or_default();
        if let Some(state) = tally.add(event, Instant::now()) {
            let Tally { received, size, .. } = *tally;
            self.show(&FetchStep::Layer { layer: layer.to_string(), state, received, size });
        }
    }
}

impl Tally {
    /// Takes an event in. `None`: it is not worth telling yet.
    fn add(&mut self, event: LayerEvent, now: Instant) -> Option<LayerState> {
        let state = match event {
            LayerEvent::Present => LayerState::Present,
            LayerEvent::Waiting => LayerState::Waiting,
            LayerEvent::Started { size } => {
                (self.received, self.size, self.told) = (0, size, None);
                LayerState::Started
            }
            LayerEvent::Received { bytes } => {
                self.received = self.received.saturating_add(bytes);
                LayerState::Receiving
            }
            LayerEvent::Unpacked => LayerState::Unpacked,
            LayerEvent::Done => LayerState::Done,
            LayerEvent::Failed => LayerState::Failed,
        };
        self.state = Some(state);
        if state == LayerState::Receiving {
            let early = self.told.is_some_and(|told| now.duration_since(told) < INTERVAL);
            if early && self.received < self.size {
                return None;
            }
            self.told = Some(now);
        }
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_added_up_and_told_now_and_then() {
        let mut tally = Tally::default();
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!(tally.add(LayerEvent::Started { size: 10 }, at(0)), Some(LayerState::Started));
        let steps = [(0, true), (1, false), (99, false), (101, true), (102, false), (300, true)];
        for (ms, told) in steps {
            assert_eq!(tally.add(LayerEvent::Received { bytes: 1 }, at(ms)).is_some(), told, "{ms}");
        }
        assert_eq!(tally.received, 6);
        assert!(tally.add(LayerEvent::Received { bytes: 4 }, at(301)).is_some(), "the last byte is told");
        assert_eq!(tally.add(LayerEvent::Done, at(301)), Some(LayerState::Done));
        // Tried from the beginning.
        let _ = tally.add(LayerEvent::Started { size: 10 }, at(302));
        assert_eq!((tally.received, tally.size), (0, 10));
    }

    #[test]
    fn lines_are_written_for_each_step() {
        let file = tempfile::tempfile().unwrap();
        let output = Output::Json(Arc::new(Sink::new(file.try_clone().unwrap())));
        let watch = output.watch("a/b:1");
        let digest = Digest::of(b"x");
        watch.show(&FetchStep::Resolving);
        for event in [LayerEvent::Started { size: 3 }, LayerEvent::Received { bytes: 3 }, LayerEvent::Done] {
            watch.layer(digest, event);
        }
        use std::io::{Read as _, Seek as _};
        let (mut file, mut text) = (file, String::new());
        file.rewind().unwrap();
        let _ = file.read_to_string(&mut text).unwrap();
        let events: Vec<_> =
            text.lines().map(|line| pod::fetch_event::FetchEvent::parse(line).unwrap().step).collect();
        let layer =
            |state, received| FetchStep::Layer { layer: digest.to_string(), state, received, size: 3 };
        assert_eq!(
            events,
            [
                FetchStep::Resolving,
                layer(LayerState::Started, 0),
                layer(LayerState::Receiving, 3),
                layer(LayerState::Done, 3)
            ]
        );
    }
}
