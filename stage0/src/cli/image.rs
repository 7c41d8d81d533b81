//! `rkt image …`: looking at the image store, and making room in it.

use std::io::{self, Write as _};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use image::{Candidates, GcPlan, ImageId, ImageName, ImageRecord, Store};
use jiff::Timestamp;
use serde::Serialize;

use super::cat_manifest;
use super::command::Invocation;
use super::flag::{Flag, Given, switch, value};
use super::list::{Format, short_id};
use crate::exit::{self, SUCCESS};
use crate::uses::{self, Use};
use crate::{appc, images, table, time};

/// Flags of `image list`.
pub(crate) const LIST_FLAGS: &[Flag] = &[
    value("fields", "id,name,size,importtime,lastused", "comma-separated list of fields to display"),
    switch("full", "use long output format"),
    switch("no-legend", "suppress a legend with the list"),
    value("order", "asc", "choose the sorting order: asc or desc"),
    value("sort", "importtime", "sort the output by name, lastused, importtime or size, comma-separated"),
];
/// Flags of `image gc`.
pub(crate) const GC_FLAGS: &[Flag] =
    &[value("grace-period", "24h0m0s", "duration to wait since an image was last used before removing it")];

/// An image in rkt's JSON; times in nanoseconds.
#[derive(Debug, Serialize)]
struct ImageReport {
    id: String,
    name: String,
    import_time: i64,
    last_used_time: i64,
    size: u64,
    /// Every name. Not in rkt.
    names: Vec<String>,
}

pub(crate) fn list(invocation: &Invocation) -> anyhow::Result<u8> {
    let flags = &invocation.flags;
    let format = Format::from_flags(flags)?;
    let fields: Vec<&str> =
        flags.value("fields").unwrap_or("id,name,size,importtime,lastused").split(',').collect();
    for field in &fields {
        ensure!(title(field).is_some(), "unknown field {field:?} (see --help)");
    }
    let store = existing_store(invocation)?;
    let mut records = store.map(|store| store.images()).transpose()?.unwrap_or_default();
    sort(&mut records, flags)?;
    let mut out = io::stdout();
    if let Some(format) = format {
        let reports: Vec<ImageReport> = records.iter().map(report).collect();
        writeln!(out, "{}", format.render(&reports)?)?;
        return Ok(SUCCESS);
    }
    let legend = fields.iter().filter_map(|f| title(f)).map(str::to_owned).collect();
    let legend = if flags.switch("no-legend") { Vec::new() } else { vec![legend] };
    let show = if flags.switch("full") { full_cell } else { short_cell };
    let row = |record: &ImageRecord| fields.iter().map(|field| show(record, field)).collect();
    let rows: Vec<Vec<String>> = legend.into_iter().chain(records.iter().map(row)).collect();
    out.write_all(table::aligned(&rows).as_bytes())?;
    writeln!(out)?;
    Ok(SUCCESS)
}

pub(crate) fn cat_manifest(invocation: &Invocation) -> anyhow::Result<u8> {
    let [text] = invocation.words.as_slice() else { bail!("exactly one image is needed (see --help)") };
    let name = images::parse_name(text)?;
    let (store, id) = find(existing_store(invocation)?, text, &name)?;
    let image = store.image(id)?;
    let named = match &name {
        ImageName::Id(_) => {
            let record = store.images()?.into_iter().find(|r| r.id == id);
            record.and_then(|r| r.names.into_iter().next()).and_then(|n| n.parse().ok()).unwrap_or(name)
        }
        _ => name,
    };
    let (name, version) = images::split_name(&named);
    cat_manifest::print(invocation, &appc::image_manifest(&name, version.as_deref(), &image.config))
}

pub(crate) fn rm(invocation: &Invocation) -> anyhow::Result<u8> {
    ensure!(!invocation.words.is_empty(), "no image IDs found");
    let log = invocation.log();
    let store = existing_store(invocation)?;
    let (mut removed, mut failed) = (0_usize, 0_usize);
    for text in &invocation.words {
        match remove(invocation, store.clone(), text) {
            Ok(id) => {
                exit::report(format_args!("successfully removed image: \"{id}\""));
                removed += 1;
            }
            Err(e) => {
                log.error(&e);
                failed += 1;
            }
        }
    }
    if removed > 0 {
        log.say(format_args!("{removed} image(s) successfully removed"));
    }
    if failed > 0 {
        bail!("{failed} image(s) cannot be removed");
    }
    Ok(SUCCESS)
}

fn remove(invocation: &Invocation, store: Option<Store>, text: &str) -> anyhow::Result<ImageId> {
    let name = images::parse_name(text)?;
    let (store, id) = find(store, text, &name)?;
    if let Some(user) = users(invocation)?.into_iter().find(|user| user.image == id) {
        bail!("image {text:?} is used by pod \"{}\"", user.pod);
    }
    let _names = store.remove(id).with_context(|| format!("cannot remove image {text:?}"))?;
    Ok(id)
}

pub(crate) fn gc(invocation: &Invocation) -> anyhow::Result<u8> {
    let log = invocation.log();
    let grace =
        time::duration(invocation.flags.value("grace-period").unwrap_or("24h")).context("--grace-period")?;
    let Some(store) = existing_store(invocation)? else { return Ok(SUCCESS) };
    let plan = GcPlan { candidates: Candidates::Unused, grace, ..GcPlan::default() };
    let used = || users(invocation).map(uses::all).map_err(io::Error::other);
    let report = store.gc(&plan, used)?;
    for tree in &report.trees {
        log.say(format_args!("removed layer \"{}-{}\"", tree.algorithm(), tree.hex()));
    }
    for id in &report.images {
        exit::report(format_args!("successfully removed image: \"{id}\""));
    }
    if !report.images.is_empty() {
        log.say(format_args!("{} image(s) successfully removed", report.images.len()));
    }
    Ok(SUCCESS)
}

fn users(invocation: &Invocation) -> anyhow::Result<Vec<Use>> {
    invocation.existing_data_dir()?.as_ref().map_or_else(|| Ok(Vec::new()), uses::of_pods)
}

/// The store. `None`: nothing was ever fetched, and a command that only looks does not make one.
fn existing_store(invocation: &Invocation) -> anyhow::Result<Option<Store>> {
    let data = invocation.data_path();
    if matches!(data.join("cas").symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    Ok(Some(images::open_store(&data)?))
}

fn find(store: Option<Store>, text: &str, name: &ImageName) -> anyhow::Result<(Store, ImageId)> {
    let found = match store {
        Some(store) => store.find(name)?.map(|id| (store, id)),
        None => None,
    };
    found.with_context(|| format!("image {text:?} is not in the store"))
}

fn sort(records: &mut [ImageRecord], flags: &Given) -> anyhow::Result<()> {
    let keys: Vec<&str> = flags.value("sort").unwrap_or("importtime").split(',').collect();
    for key in &keys {
        ensure!(
            ["importtime", "lastused", "name", "size"].contains(key),
            "cannot sort by {key:?} (see --help)"
        );
    }
    records.sort_by(|a, b| {
        let by = |key: &&str| match *key {
            "lastused" => a.last_used.cmp(&b.last_used),
            "name" => a.names.cmp(&b.names),
            "size" => a.size.cmp(&b.size),
            _ => a.import_time.cmp(&b.import_time),
        };
        keys.iter().map(by).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
    match flags.value("order") {
        None | Some("asc") => {}
        Some("desc") => records.reverse(),
        Some(other) => bail!("invalid argument {other:?} for --order: it is asc or desc"),
    }
    Ok(())
}

fn title(field: &str) -> Option<&'static str> {
    Some(match field {
        "id" => "ID",
        "name" => "NAME",
        "size" => "SIZE",
        "importtime" => "IMPORT TIME",
        "lastused" => "LAST USED",
        _ => return None,
    })
}

fn name(record: &ImageRecord) -> String {
    record.names.first().cloned().unwrap_or_else(|| "--".to_owned())
}

fn short_cell(record: &ImageRecord, field: &str) -> String {
    let age = |at: Timestamp| time::age(at.into(), SystemTime::now());
    match field {
        "id" => short_id(&record.id.to_string()),
        "size" => table::bytes(record.size),
        "importtime" => age(record.import_time),
        "lastused" => age(record.last_used),
        _ => name(record),
    }
}

fn full_cell(record: &ImageRecord, field: &str) -> String {
    match field {
        "id" => record.id.to_string(),
        "size" => record.size.to_string(),
        "importtime" => time::full(record.import_time.into()),
        "lastused" => time::full(record.last_used.into()),
        _ => name(record),
    }
}

fn report(record: &ImageRecord) -> ImageReport {
    ImageReport {
        id: record.id.to_string(),
        name: name(record),
        import_time: time::nanoseconds(record.import_time),
        last_used_time: time::nanoseconds(record.last_used),
        size: record.size,
        names: record.names.clone(),
    }
}
