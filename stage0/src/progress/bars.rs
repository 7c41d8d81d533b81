//! Progress on a terminal: a line for each layer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pod::fetch_event::{FetchStep, LayerState};

/// A layer of which bytes are to come.
const BAR: &str =
    "{prefix}  {bar:30}  {binary_bytes:>10}/{binary_total_bytes:<10} {binary_bytes_per_sec:>12}  {msg}";
/// A layer of which there is nothing to measure.
const WORDS: &str = "{prefix}  {msg}";

/// Bars on standard error.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    /// Bars for the fetch of one image. A terminal that cannot be written to is no reason not to fetch.
    pub(super) fn new(image: &str) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        // What comes from outside must not move the cursor.
        let _ = all.println(format!("fetch: {}", crate::exit::harmless(image)));
        Self { all, layers: Mutex::default() }
    }

    pub(super) fn show(&self, step: &FetchStep) {
        let FetchStep::Layer { layer, state, received, size } = step else { return };
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = layers.entry(layer.clone()).or_insert_with(|| self.all.add(new_bar(layer)));
        match state {
            LayerState::Present => bar.finish_with_message("already here"),
            LayerState::Waiting => bar.set_message("another process is fetching it"),
            LayerState::Started => {
                bar.set_style(style(BAR));
                bar.set_length(*size);
                bar.set_position(0);
                bar.set_message("");
            }
            LayerState::Receiving => {
                bar.set_position(*received);
                bar.set_message("");
            }
            LayerState::Retrying => bar.set_message("interrupted; trying again"),
            LayerState::Unpacked => bar.set_message("storing"),
            LayerState::Done => bar.finish_with_message("done"),
            LayerState::Failed => bar.abandon_with_message("failed"),
            LayerState::Other => {}
        }
    }
}

fn new_bar(layer: &str) -> ProgressBar {
    let hex = layer.split_once(':').map_or(layer, |(_, hex)| hex);
    let short: String = hex.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    ProgressBar::new(0).with_prefix(short).with_style(style(WORDS))
}

/// The templates are ours and valid; the default style is no disaster.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
