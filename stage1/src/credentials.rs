//! Becoming the app's user, with the app's privileges and no others.
//!
//! The order is the kernel's, credentials(7): the bounding set while CAP_SETPCAP is there, groups before the user,
//! capabilities kept over the change of user and set after it, no-new-privileges last.

use oci_spec::runtime::Process;
use rustix::process::{Gid, Uid};

use crate::capabilities::AppCapabilities;
use crate::failure::{Failure, StepError};
use crate::seccomp::Filter;
use crate::users::Identity;

/// The app's user could not be assumed.
#[derive(Debug, thiserror::Error)]
#[error("{act}")]
pub struct CredentialError {
    act: &'static str,
    source: std::io::Error,
}

impl StepError for CredentialError {}

/// What the app may do.
#[derive(Debug)]
pub struct Privileges {
    identity: Identity,
    capabilities: AppCapabilities,
    no_new_privileges: bool,
    seccomp: Option<Filter>,
}

/// Privileges that have been assumed but for the filter, which comes right before exec.
#[derive(Debug)]
#[must_use = "the seccomp filter is not loaded yet"]
pub struct FilterDue(Option<Filter>);

impl Privileges {
    /// Collects what `process` says.
    pub fn of(process: &Process, identity: Identity, seccomp: Option<Filter>) -> Result<Self, Failure> {
        Ok(Self {
            identity,
            capabilities: AppCapabilities::of(process.capabilities().as_ref())?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            seccomp,
        })
    }

    /// Who.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Gives up everything else. With no-new-privileges the filter is left to be loaded right before exec, so that it
    /// need not allow what comes between; without, loading it takes CAP_SYS_ADMIN, which is about to go.
    pub fn assume(self) -> Result<FilterDue, Failure> {
        let due = if self.no_new_privileges {
            self.seccomp
        } else {
            self.seccomp.map_or(Ok(()), |filter| filter.load())?;
            None
        };
        self.capabilities.drop_bounding()?;
        become_user(&self.identity)?;
        self.capabilities.apply()?;
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(error("set no-new-privileges"))?;
        }
        Ok(FilterDue(due))
    }
}

impl FilterDue {
    /// Loads the filter, if it is still to be loaded. The next call is exec.
    pub fn load(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), |filter| filter.load()).map_err(Failure::from)
    }
}

fn become_user(identity: &Identity) -> Result<(), CredentialError> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let groups: Vec<Gid> = identity.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    rustix::thread::set_keep_capabilities(true).map_err(error("keep capabilities"))?;
    rustix::thread::set_thread_groups(&groups).map_err(error("set the supplementary groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(error("set the group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(error("set the user"))?;
    rustix::thread::set_keep_capabilities(false).map_err(error("stop keeping capabilities"))
}

fn error(act: &'static str) -> impl Fn(rustix::io::Errno) -> CredentialError {
    move |e| CredentialError { act, source: e.into() }
}
