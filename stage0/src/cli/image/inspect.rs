//! `rkt image inspect`: everything that is known of images, for people and programs.

use std::io::Write as _;

use anyhow::ensure;
use image::{Content, Image, ImageRecord, LayerInfo, Store};
use serde_json::{Value, json};

use super::{existing_store, find};
use crate::cli::command::Invocation;
use crate::cli::list::pretty;
use crate::exit::SUCCESS;
use crate::{images, time};

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    ensure!(!invocation.words.is_empty(), "at least one image is needed (see --help)");
    let mut reports = Vec::new();
    for text in &invocation.words {
        let store = existing_store(invocation)?;
        let name = images::parse_name(store.as_ref(), text)?;
        let (store, id) = find(store, text, &name)?;
        let image = store.image(id)?;
        let record = store.images()?.into_iter().find(|record| record.id == id);
        reports.push(report(&store, &image, record)?);
    }
    let compact = invocation.flags.value("pretty-print") == Some("false");
    let text = if compact { serde_json::to_string(&reports)? } else { pretty(&reports)? };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(SUCCESS)
}

fn report(store: &Store, image: &Image, record: Option<ImageRecord>) -> anyhow::Result<Value> {
    let mut report = json!({
        "id": image.id.to_string(),
        "digest": image.id.digest().to_string(),
        "format": image.content.format(),
        "platform": image.platform,
        "size": image.size,
    });
    let known = record.map(|record| {
        json!({
            "names": record.names,
            "import_time": time::nanoseconds(record.import_time),
            "last_used_time": time::nanoseconds(record.last_used),
        })
    });
    let content = match &image.content {
        Content::Oci { manifest, config } => json!({
            "config_digest": manifest.config().digest().to_string(),
            "created": config.created(),
            "author": config.author(),
            "annotations": manifest.annotations(),
            "labels": config.config().as_ref().and_then(|config| config.labels().clone()),
            "config": config.config(),
            "history": config.history(),
            "layers": store.layers(image)?.iter().map(layer).collect::<Vec<_>>(),
        }),
        Content::Aci(manifest) => json!({ "manifest": manifest }),
    };
    for more in [known, Some(content)].into_iter().flatten() {
        if let (Value::Object(report), Value::Object(more)) = (&mut report, more) {
            report.extend(more);
        }
    }
    Ok(report)
}

fn layer(layer: &LayerInfo) -> Value {
    json!({
        "diff_id": layer.diff_id.to_string(),
        "digest": layer.digest.to_string(),
        "media_type": layer.media_type,
        "size": layer.size,
        "unpacked_size": layer.unpacked,
        "shared": layer.shared,
    })
}
