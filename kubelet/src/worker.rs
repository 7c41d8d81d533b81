//! One task per pod.
//!
//! ```text
//!          ┌──────────── something happened, or it is time ────────────┐
//!          ▼                                                            │
//!   Look ─────▶ [plan] ── an action is due ──▶ Act ── done or failed ──▶ Look
//!    │ ▲           │                            │
//!    │ │           └─ nothing to do, or it is ─▶ Rest ──────────────────┘
//!    │ │              too early for it
//!    │ └─ look again ── could not look
//!    └── nothing is wanted and nothing is left ──▶ Gone
//! ```
//!
//! Each round looks at what there is, and [`plan`] (pure) names the one next action. An action only begins something;
//! whether it succeeded is seen by looking again. So nothing has to be remembered across a restart, and whatever died in
//! between is repaired by the same rules that handle everything else. [`restart`] keeps a failing action from being
//! repeated too fast.

pub(crate) mod lifecycle;
pub(crate) mod plan;
pub(crate) mod restart;
mod state;

pub(crate) use state::{Trouble, Worker};

#[cfg(test)]
pub(crate) mod tests;
