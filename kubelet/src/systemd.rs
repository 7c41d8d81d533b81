//! systemd over D-Bus.
//!
//! [`units`] is what a pod's units look like, [`classes`] weighs the slices above them, [`watch`] keeps the connection and
//! turns signals into wake-ups, this file has the few calls that are made. Every value travels as a typed argument; nothing is ever written as unit-file text.

pub(crate) mod classes;
pub(crate) mod units;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch as cell;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant};

use crate::runtime::UnitState;
use units::UnitSpec;

/// An answer takes milliseconds; this is for a systemd that is stuck.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that is not there yet, or is lost, usually is there a moment later.
const PATIENCE: Duration = Duration::from_secs(3);

const DESTINATION: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// systemd, through a connection that comes and goes.
#[derive(Debug, Clone)]
pub(crate) struct Systemd {
    connection: cell::Receiver<Option<Connection>>,
}

/// A call to systemd failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// There is no connection at the moment.
    #[error("there is no connection to the system bus")]
    NotConnected,
    /// No answer.
    #[error("{method}: systemd has not answered for {seconds} s", seconds = TIMEOUT.as_secs())]
    Timeout {
        /// What was called.
        method: &'static str,
    },
    /// The call was refused, or could not be made.
    #[error("{method}")]
    Call {
        /// What was called.
        method: &'static str,
        /// Why.
        source: Box<zbus::Error>,
    },
}

impl BusError {
    /// Whether the unit that was to be made is there already.
    pub(crate) fn is_unit_exists(&self) -> bool {
        self.error_name() == Some("org.freedesktop.systemd1.UnitExists")
    }

    /// Whether there is no such unit.
    pub(crate) fn is_no_such_unit(&self) -> bool {
        self.error_name() == Some("org.freedesktop.systemd1.NoSuchUnit")
    }

    fn error_name(&self) -> Option<&str> {
        let Self::Call { source, .. } = self else { return None };
        match source.as_ref() {
            zbus::Error::MethodError(name, _, _) => Some(name.as_str()),
            _ => None,
        }
    }
}

/// One row of `ListUnitsByPatterns`.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A unit that has failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Its name.
    pub(crate) name: String,
    path: OwnedObjectPath,
}

/// One command of the property `ExecStart`, as it is read: path, arguments, and what became of it.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

impl Systemd {
    /// The units whose names fit one of these patterns, with what they are doing.
    pub(crate) async fn list(&self, patterns: &[String]) -> Result<BTreeMap<String, UnitState>, BusError> {
        let states: [&str; 0] = [];
        let rows: Vec<Row> = self.call("ListUnitsByPatterns", &(states.as_slice(), patterns)).await?;
        Ok(rows.into_iter().map(|row| (row.0, unit_state(&row.3))).collect())
    }

    /// The units that have failed and whose names fit this pattern.
    pub(crate) async fn failed(&self, pattern: &str) -> Result<Vec<Failed>, BusError> {
        let (states, patterns) = (["failed"], [pattern]);
        let rows: Vec<Row> =
            self.call("ListUnitsByPatterns", &(states.as_slice(), patterns.as_slice())).await?;
        Ok(rows.into_iter().map(|row| Failed { name: row.0, path: row.6 }).collect())
    }

    /// The arguments of what a service executes.
    pub(crate) async fn arguments(&self, unit: &Failed) -> Result<Vec<String>, BusError> {
        let property = ("org.freedesktop.systemd1.Service", "ExecStart");
        let value: OwnedVariant =
            self.call_at(unit.path.as_str(), "org.freedesktop.DBus.Properties", "Get", &property).await?;
        let commands: Vec<Command> = Variant::from(value).downcast().unwrap_or_default();
        Ok(commands.into_iter().flat_map(|command| command.1).collect())
    }

    /// Changes properties of a unit, loaded or not, until the machine is started anew.
    pub(crate) async fn set_properties(&self, unit: &UnitSpec) -> Result<(), BusError> {
        self.call("SetUnitProperties", &(unit.name.as_str(), true, properties(unit))).await
    }

    /// Makes units and starts the first of them; the others are started when it asks for them.
    pub(crate) async fn start_transient(&self, unit: &UnitSpec, others: &[UnitSpec]) -> Result<(), BusError> {
        let others: Vec<(&str, Vec<(&str, &Variant<'_>)>)> =
            others.iter().map(|u| (u.name.as_str(), properties(u))).collect();
        let body = (unit.name.as_str(), "replace", properties(unit), others);
        let _job: OwnedObjectPath = self.call("StartTransientUnit", &body).await?;
        Ok(())
    }

    /// Starts a unit that is loaded.
    pub(crate) async fn start(&self, unit: &str) -> Result<(), BusError> {
        let _job: OwnedObjectPath = self.call("StartUnit", &(unit, "replace")).await?;
        Ok(())
    }

    /// Stops a unit, and what is bound to it. One that is not there has stopped.
    pub(crate) async fn stop(&self, unit: &str) -> Result<(), BusError> {
        match self.call::<OwnedObjectPath>("StopUnit", &(unit, "replace")).await {
            Err(e) if !e.is_no_such_unit() => Err(e),
            _ => Ok(()),
        }
    }

    /// Forgets that a unit failed. One that is not there has not failed.
    pub(crate) async fn reset_failed(&self, unit: &str) -> Result<(), BusError> {
        match self.call::<()>("ResetFailedUnit", &(unit,)).await {
            Err(e) if !e.is_no_such_unit() => Err(e),
            _ => Ok(()),
        }
    }

    async fn call<R>(
        &self,
        method: &'static str,
        body: &(impl serde::Serialize + zbus::wire::DynamicType + Sync),
    ) -> Result<R, BusError>
    where
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        self.call_at(PATH, MANAGER, method, body).await
    }

    async fn call_at<R>(
        &self,
        path: &str,
        interface: &str,
        method: &'static str,
        body: &(impl serde::Serialize + zbus::wire::DynamicType + Sync),
    ) -> Result<R, BusError>
    where
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        let connection = self.connected().await.ok_or(BusError::NotConnected)?;
        let call = connection.call_method(Some(DESTINATION), path, Some(interface), method, body);
        let failed = |source| BusError::Call { method, source: Box::new(source) };
        let reply = tokio::time::timeout(TIMEOUT, call).await.map_err(|_| BusError::Timeout { method })?;
        reply.map_err(failed)?.body().deserialize().map_err(failed)
    }

    /// The connection, as soon as there is one.
    async fn connected(&self) -> Option<Connection> {
        let mut connection = self.connection.clone();
        let there = connection.wait_for(Option::is_some);
        tokio::time::timeout(PATIENCE, there).await.ok()?.ok()?.clone()
    }
}

fn properties(unit: &UnitSpec) -> Vec<(&str, &Variant<'static>)> {
    unit.properties.iter().map(|(name, value)| (*name, value)).collect()
}

/// `ActiveState` of a unit, systemd(1).
fn unit_state(active: &str) -> UnitState {
    match active {
        "active" | "reloading" | "refreshing" => UnitState::Active,
        "activating" => UnitState::Activating,
        "deactivating" => UnitState::Deactivating,
        "failed" => UnitState::Failed,
        _ => UnitState::Inactive,
    }
}
