//! One container to one appc app.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use pod::manifest::App;

use super::{Image, NodeFacts, Refusal, env, security};
use crate::desired::Desired;
use crate::expand::expand;
use crate::image;

/// The app: the image's, with everything that the manifest says differently.
pub(super) fn app(
    desired: &Desired,
    container: &Container,
    image: &Image,
    node: &NodeFacts,
) -> Result<App, Refusal> {
    let spec = desired.spec();
    let mut app = image.manifest.app.clone().unwrap_or_else(nothing);
    let variables = env::variables(desired, container, node)?;
    app.exec = command(container, image, &variables)?;
    // As other runtimes do; the image and the manifest have the last word.
    if app.env("HOSTNAME").is_none() {
        app.set_env("HOSTNAME", &hostname(spec, &desired.name.name));
    }
    for (name, value) in &variables {
        app.set_env(name, value);
    }
    if let Some(dir) = container.working_dir.as_ref().filter(|d| !d.is_empty()) {
        app.working_directory = Some(dir.clone());
    }
    security::apply(spec, container, &mut app)?;
    Ok(app)
}

/// The host name of a pod: what its manifest says, or its name, cut to what a host name can be.
pub(crate) fn hostname(spec: &PodSpec, pod: &str) -> String {
    let name = spec.hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod);
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Kubernetes' table: `command` replaces the image's entrypoint and drops its command; `args` replaces the command.
fn command(
    container: &Container,
    image: &Image,
    variables: &[(String, String)],
) -> Result<Vec<String>, Refusal> {
    let words = |list: &Option<Vec<String>>| list.clone().filter(|l| !l.is_empty());
    let expanded =
        |list: Vec<String>| list.iter().map(|w| expand(w, env::lookup(variables))).collect::<Vec<String>>();
    let (entrypoint, cmd) = image::entrypoint_and_cmd(&image.manifest);
    let (first, rest) = match (words(&container.command), words(&container.args)) {
        (Some(command), args) => (expanded(command), args.map(expanded).unwrap_or_default()),
        (None, Some(args)) => (entrypoint, expanded(args)),
        (None, None) => (entrypoint, cmd),
    };
    let exec: Vec<String> = first.into_iter().chain(rest).collect();
    if exec.first().is_none_or(String::is_empty) {
        return Err(Refusal {
            reason: "CreateContainerError",
            ..Refusal::config(container, "there is no command: neither the manifest nor the image says one")
        });
    }
    Ok(exec)
}

fn nothing() -> App {
    App {
        exec: Vec::new(),
        event_handlers: Vec::new(),
        user: "0".to_owned(),
        group: "0".to_owned(),
        supplementary_gids: Vec::new(),
        working_directory: None,
        environment: Vec::new(),
        mount_points: Vec::new(),
        ports: Vec::new(),
        isolators: Vec::new(),
        user_annotations: std::collections::BTreeMap::new(),
        user_labels: std::collections::BTreeMap::new(),
    }
}
