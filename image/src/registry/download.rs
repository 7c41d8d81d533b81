//! A blob on its way: reads that survive broken connections.
//!
//! When a connection breaks, the rest is asked for with `Range` (RFC 9110 section 14); a server that sends everything
//! again is read up to where we were. The pauses are those of any request, and begin anew with each byte of progress.
//! A connection over which nothing comes is given up once: it may be a dead one. The second time, the registry stalls.
//!
//! The length is the descriptor's: a server that announces another is refused before a byte is read, one that sends
//! more fails at the first byte too many.

use std::io::{self, Read};

use ureq::BodyReader;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE};

use super::RegistryError;
use super::connection::Connection;
use super::http::{HttpError, Request, header, is_stall, shown};
use super::retry::Waits;

/// Breaks altogether until a download has failed.
const TOTAL_FAILURES: u32 = 32;
/// Connections that stall until a download has failed.
const STALLS: u32 = 2;

/// A blob being read.
pub(super) struct Download<'a> {
    connection: &'a Connection,
    url: String,
    body: BodyReader<'static>,
    at: u64,
    size: u64,
    waits: Waits,
    failures: u32,
    stalls: u32,
}

impl<'a> Download<'a> {
    pub(super) fn start(connection: &'a Connection, url: String, size: u64) -> Result<Self, RegistryError> {
        let mut waits = Waits::new(connection.http.patience());
        let body = open(connection, &url, 0, size, &mut waits)?;
        let waits = Waits::new(connection.http.patience());
        Ok(Self { connection, url, body, at: 0, size, waits, failures: 0, stalls: 0 })
    }

    /// Goes on where it broke, or says why not.
    fn resume(&mut self, mut cause: io::Error) -> io::Result<()> {
        loop {
            self.failures += 1;
            if is_stall(&cause) {
                self.stalls += 1;
                if self.stalls >= STALLS {
                    return Err(self.stalled());
                }
            }
            let pause = self.waits.next(None).filter(|_| self.failures < TOTAL_FAILURES);
            let Some(pause) = pause else { return Err(cause) };
            std::thread::sleep(pause);
            match open(self.connection, &self.url, self.at, self.size, &mut Waits::none()) {
                Ok(body) => {
                    self.body = body;
                    return Ok(());
                }
                Err(error) if passes(&error) => cause = io::Error::other(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn stalled(&self) -> io::Error {
        let (url, idle) = (shown(&self.url), self.connection.http.patience().idle.as_secs_f32());
        let (at, size) = (self.at, self.size);
        let message =
            format!("{url} stalls: after {at} of {size} bytes nothing came for {idle} seconds, twice");
        io::Error::new(io::ErrorKind::TimedOut, message)
    }

    /// Nothing may follow the last byte.
    fn check_end(&mut self) -> io::Result<usize> {
        match self.body.read(&mut [0]) {
            Ok(1..) => {
                let message = format!("the registry sends more than the {} bytes announced", self.size);
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
            // A connection that breaks after the last byte has done its duty.
            _ => Ok(0),
        }
    }
}

/// Whether a download should go on trying: a registry that is being restarted comes back.
fn passes(error: &RegistryError) -> bool {
    match error {
        RegistryError::Http(error) => error.is_passing() || matches!(error, HttpError::Unreachable { .. }),
        RegistryError::Busy { .. } | RegistryError::Read { .. } => true,
        _ => false,
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        if left == 0 {
            return self.check_end();
        }
        let room = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        loop {
            let cause = match self.body.read(buffer) {
                Ok(0) => {
                    let message = format!("the download ended after {} of {} bytes", self.at, self.size);
                    io::Error::new(io::ErrorKind::UnexpectedEof, message)
                }
                Ok(count) => {
                    self.at += count as u64;
                    self.waits = Waits::new(self.connection.http.patience());
                    return Ok(count);
                }
                Err(error) => error,
            };
            self.resume(cause)?;
        }
    }
}

/// Asks for the blob from byte `from` on.
fn open(
    connection: &Connection,
    url: &str,
    from: u64,
    size: u64,
    waits: &mut Waits,
) -> Result<BodyReader<'static>, RegistryError> {
    let answer = connection.get(Request { url, from, ..Request::default() }, waits)?;
    let resumed = answer.status().as_u16() == 206;
    let begins = header(&answer, CONTENT_RANGE.as_str())
        .is_some_and(|range| range.starts_with(&format!("bytes {from}-")));
    if resumed && !begins {
        let says = super::error::Complaint::default();
        return Err(RegistryError::Status { url: shown(url), status: 206, says });
    }
    let (expected, skip) = if resumed { (size - from, 0) } else { (size, from) };
    let announced = header(&answer, CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok());
    if let Some(found) = announced.filter(|length| *length != expected) {
        let digest = url.rsplit('/').next().unwrap_or(url).to_owned();
        return Err(RegistryError::BlobSize { host: connection.host(), digest, expected, found });
    }
    let mut body = answer.into_body().into_with_config().limit(u64::MAX).reader();
    let broke = |source| RegistryError::Read { url: shown(url), source };
    let _ = io::copy(&mut (&mut body).take(skip), &mut io::sink()).map_err(broke)?;
    Ok(body)
}
