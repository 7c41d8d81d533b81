//! `rkt image export`: an image of the store as a file or directory that other programs take.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use image::{Existing, Exported, Image, ImageName, Reference, Store};

use super::extract::existing;
use super::{existing_store, find};
use crate::cli::command::Invocation;
use crate::cli::flag::{Flag, switch};
use crate::exit::SUCCESS;
use crate::images;

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] =
    &[switch("overwrite", "replace the output file, or what the name stands for in the layout")];

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let [text, output] = invocation.words.as_slice() else {
        bail!("an image and an output are needed (see --help)")
    };
    let target = target(output)?;
    let store = existing_store(invocation)?;
    let name = images::parse_name(store.as_ref(), text)?;
    let (store, id) = find(store, text, &name)?;
    let image = store.image(id)?;
    let exported = write(&store, &image, &target, existing(invocation));
    let exported = exported.with_context(|| format!("cannot export image {text:?}"))?;
    if let (false, Some(digest)) = (exported.own_manifest, exported.manifest) {
        invocation.log().say(format_args!(
            "the exported manifest has the digest {digest}, and not {}: the store has layers that it did not keep in the form they came in, and they are written uncompressed",
            id.digest()
        ));
    }
    Ok(SUCCESS)
}

/// Where to export to.
enum Target {
    Aci(PathBuf),
    Named(ImageName),
}

fn target(output: &str) -> anyhow::Result<Target> {
    use ImageName::{DockerArchive, Oci, OciArchive};
    match output.parse() {
        Ok(name @ (Oci { .. } | OciArchive { .. } | DockerArchive { .. })) => Ok(Target::Named(name)),
        _ if output.ends_with(".aci") => Ok(Target::Aci(output.into())),
        _ => bail!(
            "{output:?} is no output: it is oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF] or FILE.aci"
        ),
    }
}

fn write(store: &Store, image: &Image, target: &Target, existing: Existing) -> anyhow::Result<Exported> {
    Ok(match target {
        Target::Aci(path) => image::export_aci(store, image, path, existing)?,
        Target::Named(ImageName::Oci { path, tag }) => {
            image::export_oci(store, image, path, tag.as_deref(), existing)?
        }
        Target::Named(ImageName::OciArchive { path, tag }) => {
            image::export_oci_archive(store, image, path, tag.as_deref(), existing)?
        }
        Target::Named(ImageName::DockerArchive { path, name }) => {
            let name = name.as_deref().map(str::parse::<Reference>).transpose()?;
            image::export_docker_archive(store, image, path, name.as_ref(), existing)?
        }
        Target::Named(other) => bail!("{other} is no output"),
    })
}
