//! What `rkt … --progress=json` says: one [`FetchEvent`] per line. `docs/images/progress.md`.
//!
//! A contract between programs of different ages. Within a version, fields, events and states may be added: a reader
//! passes over those that it does not know. A writer leaves none out.

use serde::{Deserialize, Serialize};

/// The version of the lines.
pub const FETCH_EVENT_VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchEvent {
    /// [`FETCH_EVENT_VERSION`].
    pub v: u32,
    /// The image, as it was asked for.
    pub image: String,
    /// What happened.
    #[serde(flatten)]
    pub step: FetchStep,
}

/// What happened to the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum FetchStep {
    /// Its source is being asked for it.
    Resolving,
    /// Something about one of its layers.
    Layer {
        /// The digest of the layer as it is transported.
        layer: String,
        /// Where the layer is.
        state: LayerState,
        /// Bytes that have come, as transported.
        received: u64,
        /// Bytes that will have come in the end; 0 as long as nobody has to know.
        size: u64,
    },
    /// It is in the store. The last line about this image.
    Done {
        /// The image's id.
        id: String,
    },
    /// It is not to be had. The last line about this image.
    Error {
        /// The sentence that people get.
        message: String,
    },
    /// Something that a later version says.
    #[serde(other)]
    Other,
}

/// Where a layer is on its way into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerState {
    /// The store has it.
    Present,
    /// Another process is fetching it.
    Waiting,
    /// It is about to come.
    Started,
    /// It comes.
    Receiving,
    /// The transport broke off and is tried again.
    Retrying,
    /// It is verified and unpacked, and is being made durable.
    Unpacked,
    /// It is in the store.
    Done,
    /// It failed; the reason is in the error that follows.
    Failed,
    /// Something that a later version says.
    #[serde(other)]
    Other,
}

impl FetchEvent {
    /// A line of this version.
    #[must_use]
    pub fn new(image: &str, step: FetchStep) -> Self {
        Self { v: FETCH_EVENT_VERSION, image: image.to_owned(), step }
    }

    /// Reads a line. `None`: it is something else, a sentence for people perhaps, or of another version.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let event: Self = line.starts_with('{').then(|| serde_json::from_str(line).ok())??;
        (event.v == FETCH_EVENT_VERSION).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_documented() {
        let layer = |state| FetchStep::Layer { layer: "sha256:00".to_owned(), state, received: 1, size: 2 };
        let table = [
            (FetchStep::Resolving, r#"{"v":1,"image":"a/b:1","event":"resolving"}"#),
            (
                layer(LayerState::Receiving),
                r#"{"v":1,"image":"a/b:1","event":"layer","layer":"sha256:00","state":"receiving","received":1,"size":2}"#,
            ),
            (
                FetchStep::Done { id: "sha256-00".to_owned() },
                r#"{"v":1,"image":"a/b:1","event":"done","id":"sha256-00"}"#,
            ),
            (
                FetchStep::Error { message: "no\n\"x\"".to_owned() },
                r#"{"v":1,"image":"a/b:1","event":"error","message":"no\n\"x\""}"#,
            ),
        ];
        for (step, line) in table {
            let event = FetchEvent::new("a/b:1", step);
            assert_eq!(serde_json::to_string(&event).unwrap(), line);
            assert_eq!(FetchEvent::parse(line), Some(event));
        }
    }

    #[test]
    fn what_is_newer_is_passed_over() {
        let more = r#"{"v":1,"image":"a","event":"layer","layer":"x","state":"warped","received":1,"size":2,"speed":9}"#;
        let Some(FetchEvent { step: FetchStep::Layer { state, .. }, .. }) = FetchEvent::parse(more) else {
            panic!("a state of a later version made the line unreadable");
        };
        assert_eq!(state, LayerState::Other);
        let event = FetchEvent::parse(r#"{"v":1,"image":"a","event":"signed","by":"x"}"#);
        assert_eq!(event.map(|e| e.step), Some(FetchStep::Other));
        for other in [
            r#"{"v":2,"image":"a","event":"resolving"}"#,
            "fetch: no such image",
            "",
            "{",
            r#"{"v":1,"event":"resolving"}"#,
        ] {
            assert_eq!(FetchEvent::parse(other), None, "{other}");
        }
    }
}
