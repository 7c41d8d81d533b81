//! The flags of `run` and `prepare`: those of the pod and those of each app, and the request that they add up to.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use pod::manifest::{Isolator, PodManifest, Resource};

use super::apps::{self, AppWords, Tables};
use super::command::Invocation;
use super::flag::{Flag, Given, Refused, refused, switch, value, values};
use super::global::{GLOBAL_FLAGS, insecure};
use super::values as parse;
use crate::prepare::{AppRequest, Apps, Content, Request, Users};
use crate::{spec, stage1};

/// The pod's flags.
pub(crate) const POD_FLAGS: &[Flag] = &[
    switch("inherit-env", "inherit all environment variables not set by apps"),
    refused("no-overlay", Refused::Switch, "roots are always overlays"),
    switch("no-store", "deprecated: use --pull-policy=update"),
    value(
        "pod-manifest",
        "",
        "the path to the pod manifest. If it's non-empty, then only '--net', '--dns…', '--hosts-entry', '--hostname', '--ipc', '--stage1-…' and '--quiet' have effect",
    ),
    refused(
        "port",
        Refused::Value,
        "pods have no network of their own yet; with --net=host the ports of apps are the host's",
    ),
    switch(
        "private-users",
        "run within a user namespace: root in the pod is nobody on the host; its 65536 ids are nobody else's",
    ),
    value("pull-policy", "new", "when to pull an image: new, never or update"),
    values("set-env", "environment variable to set for all apps, in the form name=value"),
    values("set-env-file", "path to an environment variables file"),
    refused("stage1-from-dir", Refused::Value, "use --stage1-path"),
    refused("stage1-hash", Refused::Value, "use --stage1-name or --stage1-path"),
    value(
        "stage1-name",
        "ns",
        "name of the stage1: ns, fly, kvm, or rkt's name for one (coreos.com/rkt/stage1-…)",
    ),
    value("stage1-path", "", "path to the stage1's executable"),
    refused("stage1-url", Refused::Value, "use --stage1-name or --stage1-path"),
    switch("store-only", "deprecated: use --pull-policy=never"),
    values(
        "volume",
        "volumes to make available in the pod: NAME,kind=host|empty[,source=PATH][,readOnly=BOOL][,recursive=BOOL][,mode=MODE][,uid=UID][,gid=GID]",
    ),
];

/// The signature of one image.
pub(crate) const SIGNATURE: Flag = value(
    "signature",
    "",
    "local signature file of the ACI before it, to use in place of NAME.aci.asc beside the ACI",
);

/// The file with the signature of an image.
pub(crate) fn signature(flags: &Given) -> Option<&Path> {
    flags.value("signature").filter(|path| !path.is_empty()).map(Path::new)
}

/// An app's flags; they follow its image.
pub(crate) const APP_FLAGS: &[Flag] = &[
    values("annotation", "set the app's annotations, in the form name=value"),
    values("cap-remove", "deprecated: use --caps-remove"),
    values("cap-retain", "deprecated: use --caps-retain"),
    values("caps-remove", "capabilities to take from the default set, comma-separated"),
    values("caps-retain", "the only capabilities to leave, comma-separated"),
    value("cpu", "", "CPU limit: cores (0.5, 500m)"),
    value("cpu-shares", "", "CPU shares: 2 to 262144"),
    values("environment", "set the app's environment variables, in the form name=value"),
    value("exec", "", "override the exec command of the image"),
    value("group", "", "group override: a name, a number, or an absolute path whose group is meant"),
    value("memory", "", "memory limit: bytes (4096, 128Mi); at least 4096"),
    values(
        "mount",
        "mount point binding a volume to a path in the app: volume=NAME,target=PATH; before any image: in every app",
    ),
    value("name", "", "set the name of the app; the last part of the image's name by default"),
    value("oom-score-adj", "", "oom-score-adj isolator override: -1000 to 1000"),
    switch("readonly-rootfs", "mount the root file system read-only"),
    value("seccomp", "", "system call filter: mode=retain|remove[,errno=ERRNO],CALL[,CALL…]"),
    SIGNATURE,
    refused("stderr", Refused::Value, "apps' output goes where rkt's goes, or to the journal"),
    refused("stdin", Refused::Value, "use --interactive"),
    refused("stdout", Refused::Value, "apps' output goes where rkt's goes, or to the journal"),
    values("supplementary-gids", "supplementary group IDs, comma-separated"),
    value("user", "", "user override: a name, a number, or an absolute path whose owner is meant"),
    values("user-annotation", "set the app's user annotations, in the form name=value"),
    values("user-label", "set the app's user labels, in the form name=value"),
    value("working-dir", "", "override the working directory of the image"),
];

/// Flags of apps that may stand before the first image.
const BOTH: &[&str] = &["mount"];

/// Reads images and flags, and adds them up. `flags` gets the pod's flags that stand between images.
pub(crate) fn request(
    invocation: &Invocation,
    flags: &mut Given,
    tables: &[&'static [Flag]],
) -> anyhow::Result<Request> {
    let pod_tables: Vec<&'static [Flag]> = tables.iter().copied().chain([GLOBAL_FLAGS]).collect();
    let tables = Tables { pod: &pod_tables, app: APP_FLAGS, both: BOTH };
    let words =
        apps::parse(invocation.words.clone(), flags, &tables).context("error parsing app image arguments")?;
    for sentence in words.iter().flat_map(|app| app.flags.deprecations(&[APP_FLAGS])) {
        invocation.log().say(sentence);
    }
    let content = match flags.value("pod-manifest").filter(|path| !path.is_empty()) {
        Some(path) => {
            ensure!(
                words.is_empty() && !conflicts(flags),
                "conflicting flags set with --pod-manifest (see --help)"
            );
            Content::Manifest(manifest(Path::new(path))?)
        }
        None if words.is_empty() => bail!("must provide at least one image or specify the pod manifest"),
        None => Content::Apps(wishes(flags, &words)?),
    };
    let users = if flags.switch("private-users") { Users::Own } else { Users::Host };
    let (stage1, lifted) = (choose_stage1(flags)?, insecure(flags)?.lifted);
    Ok(Request { content, stage1, lifted, users, terminal: false })
}

/// Whether flags were given that a pod manifest makes meaningless.
fn conflicts(flags: &Given) -> bool {
    const SILENT: [&str; 7] =
        ["inherit-env", "mount", "no-store", "set-env", "set-env-file", "store-only", "volume"];
    SILENT.iter().any(|name| flags.has(name))
        || flags.value("pull-policy").is_some_and(|policy| policy != "new")
}

fn manifest(path: &Path) -> anyhow::Result<PodManifest> {
    let text =
        std::fs::read(path).with_context(|| format!("cannot read the pod manifest {}", path.display()))?;
    let manifest: PodManifest =
        serde_json::from_slice(&text).with_context(|| format!("{} is not a pod manifest", path.display()))?;
    manifest.validate().with_context(|| format!("pod manifest {}", path.display()))?;
    Ok(manifest)
}

pub(crate) fn choose_stage1(flags: &Given) -> anyhow::Result<pod::stage1::Stage1> {
    let path = flags.value("stage1-path").filter(|path| !path.is_empty());
    match (path, flags.value("stage1-name").filter(|name| !name.is_empty())) {
        (Some(_), Some(_)) => bail!("--stage1-name and --stage1-path exclude each other"),
        (Some(path), None) => Ok(stage1::by_path(Path::new(path))?),
        (None, name) => Ok(stage1::by_name(name.unwrap_or(stage1::DEFAULT))?),
    }
}

fn wishes(flags: &Given, words: &[AppWords]) -> anyhow::Result<Apps> {
    let mut names = std::collections::BTreeSet::new();
    let volumes = flags.values("volume").map(parse::volume).collect::<anyhow::Result<Vec<_>>>()?;
    for volume in &volumes {
        ensure!(names.insert(&volume.name), "duplicate volume name: {:?}", volume.name.as_str());
    }
    let mounts = flags.values("mount").map(parse::mount).collect::<anyhow::Result<_>>()?;
    let inherited = if flags.switch("inherit-env") { inherited() } else { Vec::new() };
    Ok(Apps {
        apps: words.iter().map(app).collect::<anyhow::Result<_>>()?,
        volumes,
        mounts,
        environment: environment(flags)?,
        inherited,
        annotations: Vec::new(),
        user_annotations: BTreeMap::new(),
        user_labels: BTreeMap::new(),
    })
}

/// What of our own environment can be an app's: names and values that are text.
fn inherited() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// `--set-env` and `--set-env-file`; a variable may be set once, and the command line wins over files.
fn environment(flags: &Given) -> anyhow::Result<Vec<(String, String)>> {
    let (mut from_files, mut from_flags) = (Vec::new(), Vec::new());
    for path in flags.values("set-env-file") {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the environment file {path}"))?;
        let pairs = parse::environment_file(&text).with_context(|| format!("environment file {path}"))?;
        pairs.into_iter().try_for_each(|pair| set_once(&mut from_files, pair))?;
    }
    for text in flags.values("set-env") {
        set_once(&mut from_flags, parse::pair("set-env", text)?)?;
    }
    from_files.retain(|(name, _)| from_flags.iter().all(|(n, _)| n != name));
    Ok(from_files.into_iter().chain(from_flags).collect())
}

fn set_once(environment: &mut Vec<(String, String)>, pair: (String, String)) -> anyhow::Result<()> {
    let is_new = environment.iter().all(|(name, _)| *name != pair.0);
    ensure!(is_new, "environment variable {:?} is already set", pair.0);
    environment.push(pair);
    Ok(())
}

fn app(words: &AppWords) -> anyhow::Result<AppRequest> {
    let flags = &words.flags;
    let text = |name: &str| flags.value(name).filter(|v| !v.is_empty()).map(str::to_owned);
    let pairs =
        |name: &'static str| flags.values(name).map(|v| parse::pair(name, v)).collect::<anyhow::Result<_>>();
    let gids: Vec<Vec<u32>> =
        flags.values("supplementary-gids").map(parse::gids).collect::<anyhow::Result<_>>()?;
    Ok(AppRequest {
        image: words.image.clone(),
        signature: signature(flags).map(Path::to_owned),
        name: text("name").map(|name| name.parse().context("--name")).transpose()?,
        exec: text("exec"),
        args: words.args.clone().unwrap_or_default(),
        user: text("user"),
        group: text("group"),
        supplementary_gids: flags.has("supplementary-gids").then(|| gids.concat()),
        working_dir: text("working-dir"),
        environment: flags
            .values("environment")
            .map(|v| parse::pair("environment", v))
            .collect::<anyhow::Result<_>>()?,
        read_only_root: flags.switch("readonly-rootfs"),
        mounts: flags.values("mount").map(parse::mount).collect::<anyhow::Result<_>>()?,
        isolators: isolators(flags)?,
        annotations: flags
            .values("annotation")
            .map(|v| parse::annotation("annotation", v))
            .collect::<anyhow::Result<_>>()?,
        user_annotations: pairs("user-annotation")?,
        user_labels: pairs("user-label")?,
    })
}

fn isolators(flags: &Given) -> anyhow::Result<Vec<Isolator>> {
    let mut isolators = Vec::new();
    let limit = |text: &str| Resource { request: None, limit: Some(text.to_owned()) };
    if let Some(text) = flags.value("memory") {
        let bytes = spec::bytes(text).context("--memory")?;
        ensure!(bytes >= 4096, "--memory: {text:?} is less than 4096 bytes");
        isolators.push(Isolator::Memory(limit(text)));
    }
    if let Some(text) = flags.value("cpu") {
        ensure!(spec::millicores(text).context("--cpu")? > 0, "--cpu: {text:?} is nothing");
        isolators.push(Isolator::Cpu(limit(text)));
    }
    if let Some(text) = flags.value("cpu-shares") {
        let shares = text.parse().with_context(|| format!("--cpu-shares: {text:?} is not a number"))?;
        isolators.push(Isolator::CpuShares(shares));
    }
    if let Some(text) = flags.value("oom-score-adj") {
        let score = text.parse().with_context(|| format!("--oom-score-adj: {text:?} is not a number"))?;
        isolators.push(Isolator::OomScoreAdj(score));
    }
    let capabilities = |names: [&'static str; 2]| {
        let lists = names.into_iter().flat_map(|name| flags.values(name)).flat_map(|list| list.split(','));
        lists.filter(|c| !c.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (retain, remove) = (["caps-retain", "cap-retain"], ["caps-remove", "cap-remove"]);
    let has = |names: [&str; 2]| names.iter().any(|name| flags.has(name));
    ensure!(!(has(retain) && has(remove)), "--caps-retain and --caps-remove exclude each other");
    if has(retain) {
        isolators.push(Isolator::CapabilitiesRetain(capabilities(retain)));
    }
    if has(remove) {
        isolators.push(Isolator::CapabilitiesRemove(capabilities(remove)));
    }
    isolators.extend(flags.value("seccomp").map(parse::seccomp).transpose()?);
    Ok(isolators)
}
