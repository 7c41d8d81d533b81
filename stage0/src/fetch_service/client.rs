//! The member's side: asks, shows what comes, and takes the answer.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, anyhow, bail};
use image::{Credentials, ImageName};
use pod::fetch_event::{FetchEvent, FetchStep};

use super::{Request, SOCKET, archive, wire};
use crate::images::parse_name;
use crate::progress::{Output, Watch};

/// More than the longest line that the service sends.
const MAX_LINE: u64 = 1 << 20;

/// Has an image fetched, and returns its id. `known` are the credentials of whoever runs this.
pub(crate) fn fetch(mut request: Request, known: &Credentials, progress: &Output) -> anyhow::Result<String> {
    let socket = connect()?;
    // A name that is not understood here may be there: that depends on what the store has.
    let name = parse_name(None, &request.image).ok();
    if let Some(ImageName::Registry(reference)) = &name {
        request.add_secret(reference, known)?;
    }
    let file = name.as_ref().map(archive::open).transpose()?.flatten();
    wire::send(&socket, &request, file.as_ref()).context("cannot send the request to the fetch service")?;
    follow(socket, progress)
}

fn connect() -> anyhow::Result<UnixStream> {
    UnixStream::connect(SOCKET).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => anyhow!(
            "only root and members of the group rkt may fetch: root adds you with \"usermod -aG rkt NAME\""
        ),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow!(
            "only root can fetch here: for members of the group rkt, root has to start the fetch service (\"systemctl enable --now rkt-fetch.socket\")"
        ),
        _ => anyhow::Error::new(e).context(format!("cannot connect to the fetch service at {SOCKET}")),
    })
}

/// Shows what the service says until it has said how it ended.
fn follow(socket: UnixStream, progress: &Output) -> anyhow::Result<String> {
    let mut reader = BufReader::new(socket);
    let mut watch: Option<Watch> = None;
    loop {
        let mut line = String::new();
        let read = (&mut reader).take(MAX_LINE).read_line(&mut line);
        if read.context("cannot hear the fetch service")? == 0 {
            bail!(
                "the fetch service ended without an answer: \"journalctl -u 'rkt-fetch@*'\" has the details"
            );
        }
        let Some(event) = FetchEvent::parse(line.trim_end()) else { continue };
        watch.get_or_insert_with(|| progress.watch(&event.image)).show(&event.step);
        match event.step {
            FetchStep::Done { id } => return Ok(id),
            FetchStep::Error { message } => bail!(message),
            FetchStep::Resolving | FetchStep::Layer { .. } | FetchStep::Other => {}
        }
    }
}
