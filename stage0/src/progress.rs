//! Progress of a fetch: a bar for each layer, on a terminal only.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use image::{Digest, LayerEvent, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bars on standard error; nothing at all when that is no terminal.
#[derive(Debug)]
pub(crate) struct Bars(Option<Terminal>);

#[derive(Debug)]
struct Terminal {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    /// Bars for the fetch of one image.
    pub(crate) fn new(image: &str, quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        // A terminal that cannot be written to is no reason not to fetch.
        let _ = all.println(format!("fetch: {image}"));
        Self(Some(Terminal { all, layers: Mutex::default() }))
    }
}

impl Progress for Bars {
    fn layer(&self, layer: Digest, event: LayerEvent) {
        let Some(terminal) = &self.0 else { return };
        let mut layers = terminal.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = layers.entry(layer).or_insert_with(|| terminal.all.add(new_bar(layer)));
        match event {
            LayerEvent::Present => bar.finish_with_message("already here"),
            LayerEvent::Waiting => bar.set_message("another process is fetching it"),
            LayerEvent::Started { size } => {
                bar.set_length(size);
                bar.set_position(0);
                bar.set_message("");
            }
            LayerEvent::Received { bytes } => bar.inc(bytes),
            LayerEvent::Done => bar.finish_with_message("done"),
            LayerEvent::Failed => bar.abandon_with_message("failed"),
        }
    }
}

fn new_bar(layer: Digest) -> ProgressBar {
    let short: String = layer.hex().chars().take(12).collect();
    let bar = ProgressBar::new(0).with_prefix(short);
    // The template is ours and valid; the default style is no disaster.
    if let Ok(style) = ProgressStyle::with_template("{prefix}  {bar:30}  {bytes:>10}/{total_bytes:<10} {msg}")
    {
        bar.set_style(style);
    }
    bar
}
