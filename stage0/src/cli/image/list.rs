//! `rkt image list`: what the store has.

use std::io::{self, Write as _};
use std::time::SystemTime;

use anyhow::{bail, ensure};
use image::ImageRecord;
use jiff::Timestamp;
use serde::Serialize;

use super::existing_store;
use crate::cli::command::Invocation;
use crate::cli::flag::{Flag, Given, switch, value};
use crate::cli::list::{Format, short_id};
use crate::exit::SUCCESS;
use crate::{table, time};

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[
    value("fields", "id,name,size,importtime,lastused", "comma-separated list of fields to display"),
    switch("full", "use long output format"),
    switch("no-legend", "suppress a legend with the list"),
    value("order", "asc", "choose the sorting order: asc or desc"),
    value("sort", "importtime", "sort the output by name, lastused, importtime or size, comma-separated"),
];

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

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
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

/// The image's first name; an ACI's is that with its version, as rkt writes it.
fn name(record: &ImageRecord) -> String {
    let mut acis = record.names.iter().filter_map(|name| name.strip_prefix("aci:"));
    let aci = acis.clone().find(|name| name.contains(':')).or_else(|| acis.next());
    aci.or(record.names.first().map(String::as_str)).unwrap_or("--").to_owned()
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
