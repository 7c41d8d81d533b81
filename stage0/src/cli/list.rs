//! `rkt list`: every pod, one line per app.

use std::io::Write as _;
use std::time::SystemTime;

use pod::Phase;

use super::command::Invocation;
use super::flag::{Flag, Given, switch};
use crate::exit::SUCCESS;
use crate::report::{AppReport, PodReport};
use crate::{report, table, time};

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] =
    &[switch("full", "use long output format"), switch("no-legend", "suppress a legend with the list")];

/// How much a list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Short,
    Full,
}

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let flags = &invocation.flags;
    let format = Format::from_flags(flags)?;
    let (pods, failures) = pods(invocation)?;
    let mut out = std::io::stdout();
    match format {
        Some(format) => writeln!(out, "{}", format.render(&pods)?)?,
        None => {
            let detail = if flags.switch("full") { Detail::Full } else { Detail::Short };
            let legend = if flags.switch("no-legend") { Vec::new() } else { vec![legend(detail)] };
            let now = SystemTime::now();
            let rows: Vec<_> =
                legend.into_iter().chain(pods.iter().flat_map(|pod| rows(pod, detail, now))).collect();
            out.write_all(table::aligned(&rows).as_bytes())?;
            writeln!(out)?;
        }
    }
    complain(invocation, &failures);
    Ok(SUCCESS)
}

/// How something is printed for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    JsonPretty,
}

impl Format {
    /// `--format`; `None`: for people.
    pub(crate) fn from_flags(flags: &Given) -> anyhow::Result<Option<Self>> {
        match flags.value("format") {
            None | Some("" | "tabbed") => Ok(None),
            Some("json") => Ok(Some(Self::Json)),
            Some("json-pretty") => Ok(Some(Self::JsonPretty)),
            Some(other) => {
                anyhow::bail!("invalid argument {other:?} for --format: it is json or json-pretty")
            }
        }
    }

    /// A value as text.
    pub(crate) fn render(self, value: &impl serde::Serialize) -> serde_json::Result<String> {
        match self {
            Self::Json => serde_json::to_string(value),
            Self::JsonPretty => pretty(value),
        }
    }
}

/// JSON as Go's `MarshalIndent` with a tab.
pub(crate) fn pretty(value: &impl serde::Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Every pod that is worth showing, and why the others cannot be shown.
fn pods(invocation: &Invocation) -> anyhow::Result<(Vec<PodReport>, Vec<anyhow::Error>)> {
    let (mut pods, mut failures) = (Vec::new(), Vec::new());
    let Some(data) = invocation.existing_data_dir()? else { return Ok((pods, failures)) };
    for dir in data.pods()? {
        // These never were, or are no more.
        if matches!(dir.phase(), Phase::Embryo | Phase::Garbage) {
            continue;
        }
        match report::pod(&dir) {
            Ok(report) => pods.push(report),
            // It went away while we looked: that is no error.
            Err(_) if data.pod(dir.id()).is_ok_and(|found| found.is_none()) => {}
            Err(e) => failures.push(anyhow::Error::new(e)),
        }
    }
    Ok((pods, failures))
}

fn complain(invocation: &Invocation, failures: &[anyhow::Error]) {
    if failures.is_empty() {
        return;
    }
    let log = invocation.log();
    let line = "-".repeat(40);
    log.say(format_args!("{} error(s) encountered when listing pods:", failures.len()));
    log.say(&line);
    failures.iter().for_each(|e| log.error(e));
    log.say(&line);
    log.say("Misc:");
    log.say(format_args!("  rkt's appc version: {}", pod::manifest::AC_VERSION));
    log.say(&line);
}

fn legend(detail: Detail) -> Vec<String> {
    let words: &[&str] = match detail {
        Detail::Short => &["UUID", "APP", "IMAGE NAME", "STATE", "CREATED", "STARTED", "NETWORKS"],
        Detail::Full => &["UUID", "APP", "IMAGE NAME", "IMAGE ID", "STATE", "CREATED", "STARTED", "NETWORKS"],
    };
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// A pod's lines: the first has everything, the others only the app.
fn rows(pod: &PodReport, detail: Detail, now: SystemTime) -> Vec<Vec<String>> {
    let when = |time: Option<SystemTime>| match (time, detail) {
        (None, _) => String::new(),
        (Some(time), Detail::Short) => time::age(time, now),
        (Some(time), Detail::Full) => time::full(time),
    };
    let uuid = match detail {
        Detail::Short => pod.name.chars().take(8).collect(),
        Detail::Full => pod.name.clone(),
    };
    let tail = [pod.state.to_string(), when(pod.times.0), when(pod.times.1), pod.networks_text()];
    let mut rows = Vec::new();
    for app in pod.apps.iter().map(Some).chain(pod.apps.is_empty().then_some(None)) {
        let first = rows.is_empty();
        let uuid = if first { uuid.clone() } else { String::new() };
        let tail = if first { tail.clone() } else { Default::default() };
        rows.push(std::iter::once(uuid).chain(app_cells(app, detail)).chain(tail).collect());
    }
    rows
}

fn app_cells(app: Option<&AppReport>, detail: Detail) -> Vec<String> {
    let Some(app) = app else {
        let cells = if detail == Detail::Full { 3 } else { 2 };
        return vec!["-".to_owned(); cells];
    };
    let image = app.image_name.clone().unwrap_or_else(|| "--".to_owned());
    let mut cells = vec![app.name.clone(), image];
    if detail == Detail::Full {
        cells.push(short_id(&app.image_id));
    }
    cells
}

/// `sha256-` and twelve hexadecimal digits.
pub(crate) fn short_id(id: &str) -> String {
    id.chars().take("sha256-".len() + 12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod::State;
    use pod::attempt::AppState;
    use std::time::Duration;

    fn app(name: &str) -> AppReport {
        AppReport {
            name: name.to_owned(),
            state: AppState::Running,
            created_at: None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            image_id: format!("sha256-{}", "ab".repeat(32)),
            mounts: Vec::new(),
            user_annotations: Default::default(),
            user_labels: Default::default(),
            image_name: Some("busybox:1".to_owned()),
            pid: None,
            attempt_count: 1,
            attempts: Vec::new(),
        }
    }

    fn pod(apps: Vec<AppReport>) -> PodReport {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        PodReport {
            name: "6f2a1b3c-0000-4000-8000-00000000000a".to_owned(),
            state: State::Running,
            networks: Vec::new(),
            app_names: apps.iter().map(|a| a.name.clone()).collect(),
            apps,
            created_at: Some(1000),
            started_at: None,
            user_annotations: Default::default(),
            user_labels: Default::default(),
            annotations: Default::default(),
            stage1: None,
            launcher: None,
            net: None,
            times: (Some(start), None),
        }
    }

    #[test]
    fn a_pod_of_two_apps_has_two_lines() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1180);
        let rows: Vec<_> = [legend(Detail::Short)]
            .into_iter()
            .chain(rows(&pod(vec![app("a"), app("b")]), Detail::Short, now))
            .collect();
        let expected = "UUID\t\tAPP\tIMAGE NAME\tSTATE\tCREATED\t\tSTARTED\tNETWORKS\n\
                        6f2a1b3c\ta\tbusybox:1\trunning\t3 minutes ago\t\t\n\
                        \t\tb\tbusybox:1\t\t\t\t\t\n";
        assert_eq!(table::aligned(&rows), expected);
    }

    #[test]
    fn without_apps_there_are_dashes_and_full_has_the_image() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(rows(&pod(Vec::new()), Detail::Short, now)[0][1..3], ["-", "-"]);
        let full = rows(&pod(vec![app("a")]), Detail::Full, now);
        assert_eq!((full[0].len(), full[0][3].as_str()), (8, "sha256-abababababab"));
    }

    #[test]
    fn json_is_rkts() {
        let json = serde_json::to_value(pod(vec![app("a")])).unwrap();
        assert_eq!(json["name"], "6f2a1b3c-0000-4000-8000-00000000000a");
        assert_eq!((&json["state"], &json["created_at"]), (&"running".into(), &1000.into()));
        assert_eq!(json["app_names"], serde_json::json!(["a"]));
        assert_eq!(json["apps"][0]["state"], "running");
        assert!(json.get("started_at").is_none() && json.get("networks").is_none());
    }
}
