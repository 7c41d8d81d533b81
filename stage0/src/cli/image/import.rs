//! `rkt image import`: files as images.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use image::{FetchOptions, ImageName, Reference};
use oci_spec::image::{Config, ConfigBuilder};

use crate::cli::command::Invocation;
use crate::cli::flag::{Flag, Given, value, values};
use crate::cli::values::pair;
use crate::exit::SUCCESS;
use crate::images;

/// The command's own flags: what an image says of its app.
pub(crate) const FLAGS: &[Flag] = &[
    values("env", "a variable of the app's environment, as NAME=VALUE"),
    value("exec", "", "the program that the image runs"),
    values("label", "a label of the image, as NAME=VALUE"),
    values("port", "a port that the app listens on, as 80 or 53/udp"),
    value("stop-signal", "", "the signal that the app is to be stopped with"),
    value("user", "", "who the app runs as: a name or number, with :GROUP if wanted"),
    values("volume", "a directory that is to be a volume"),
    value("working-dir", "", "the app's working directory"),
];

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let flags = &invocation.flags;
    let data = invocation.data_dir()?;
    let store = images::open_store(data.path())?;
    let options = FetchOptions::default();
    let imported = match invocation.words.as_slice() {
        [] => bail!("a file is needed (see --help)"),
        [file] => {
            let given = FLAGS.iter().find(|flag| flags.has(flag.name));
            ensure!(
                given.is_none(),
                "--{} is for a root file system, and that needs a NAME (see --help)",
                given.map_or("", |flag| flag.name)
            );
            let images = image::import_archive(&store, Path::new(file), (&options, &()));
            images.with_context(|| format!("cannot import {file:?}"))?
        }
        [file, name, arguments @ ..] => {
            let name = local_name(&store, name)?;
            let config = config(flags, arguments)?;
            let image = image::import_rootfs(&store, Path::new(file), &name, config, (&options, &()));
            vec![image.with_context(|| format!("cannot import {file:?}"))?]
        }
    };
    for image in imported {
        writeln!(std::io::stdout(), "{}", image.id)?;
    }
    Ok(SUCCESS)
}

/// A name that can be given to an image.
pub(super) fn local_name(store: &image::Store, text: &str) -> anyhow::Result<Reference> {
    match images::parse_name(Some(store), text)? {
        ImageName::Registry(name) if name.digest().is_none() => Ok(name),
        _ => bail!("{text:?} cannot be given to an image: a name is REPOSITORY[:TAG]"),
    }
}

fn config(flags: &Given, arguments: &[String]) -> anyhow::Result<Config> {
    let list = |name: &'static str| flags.values(name).map(str::to_owned).collect::<Vec<_>>();
    let mut config = ConfigBuilder::default();
    for variable in flags.values("env") {
        let _ = pair("env", variable)?;
    }
    let labels: HashMap<String, String> =
        flags.values("label").map(|text| pair("label", text)).collect::<anyhow::Result<_>>()?;
    for path in flags.values("volume").chain(flags.value("working-dir")) {
        ensure!(path.starts_with('/'), "{path:?} is not an absolute path");
    }
    for port in flags.values("port") {
        let number = port.split('/').next().unwrap_or_default();
        ensure!(number.parse::<u16>().is_ok(), "--port: {port:?} is not a port, as 80 or 53/udp");
    }
    if flags.has("env") {
        config = config.env(list("env"));
    }
    if flags.has("port") {
        config = config.exposed_ports(list("port"));
    }
    if flags.has("volume") {
        config = config.volumes(list("volume"));
    }
    if !labels.is_empty() {
        config = config.labels(labels);
    }
    if let Some(program) = flags.value("exec") {
        config = config.entrypoint(vec![program.to_owned()]);
    }
    if !arguments.is_empty() {
        config = config.cmd(arguments.to_vec());
    }
    if let Some(user) = flags.value("user") {
        config = config.user(user);
    }
    if let Some(dir) = flags.value("working-dir") {
        config = config.working_dir(dir);
    }
    if let Some(signal) = flags.value("stop-signal") {
        config = config.stop_signal(signal);
    }
    config.build().context("cannot describe the image")
}
