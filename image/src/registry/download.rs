//! A blob on its way: reads that survive broken connections.
//!
//! When a connection breaks, the rest is asked for with `Range` (RFC 9110 section 14); a server that sends everything
//! again is read up to where we were. The length is the descriptor's: a server that announces another is refused
//! before a byte is read, one that sends less fails after [`FAILURES`] attempts without a byte of progress, one that
//! sends more fails at the first byte too many.

use std::io::{self, Read};
use std::time::Duration;

use ureq::BodyReader;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE};

use super::http::Request;
use super::{Registry, RegistryError};

/// Breaks in a row without progress until a download has failed.
const FAILURES: u32 = 4;
/// Breaks altogether.
const TOTAL_FAILURES: u32 = 32;

/// A blob being read.
pub(super) struct Download<'a> {
    registry: &'a Registry,
    url: String,
    body: BodyReader<'static>,
    at: u64,
    size: u64,
    failures: u32,
    total_failures: u32,
}

impl<'a> Download<'a> {
    pub(super) fn start(registry: &'a Registry, url: String, size: u64) -> Result<Self, RegistryError> {
        let body = open(registry, &url, 0, size)?;
        Ok(Self { registry, url, body, at: 0, size, failures: 0, total_failures: 0 })
    }

    fn resume(&mut self, cause: io::Error) -> io::Result<()> {
        self.failures += 1;
        self.total_failures += 1;
        if self.failures >= FAILURES || self.total_failures >= TOTAL_FAILURES {
            return Err(cause);
        }
        std::thread::sleep(Duration::from_millis(100) * self.failures);
        self.body = open(self.registry, &self.url, self.at, self.size).map_err(io::Error::other)?;
        Ok(())
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
                    self.failures = 0;
                    return Ok(count);
                }
                Err(error) => error,
            };
            self.resume(cause)?;
        }
    }
}

/// Asks for the blob from byte `from` on.
fn open(registry: &Registry, url: &str, from: u64, size: u64) -> Result<BodyReader<'static>, RegistryError> {
    let answer = registry.get(Request { url, from, ..Request::default() })?;
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let resumed = answer.status().as_u16() == 206;
    let begins = header(CONTENT_RANGE).is_some_and(|range| range.starts_with(&format!("bytes {from}-")));
    if resumed && !begins {
        return Err(RegistryError::Status { url: url.to_owned(), status: 206 });
    }
    let (expected, skip) = if resumed { (size - from, 0) } else { (size, from) };
    if let Some(found) =
        header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok()).filter(|n| *n != expected)
    {
        let digest = url.rsplit('/').next().unwrap_or(url).to_owned();
        let reference = registry.reference.to_string();
        return Err(RegistryError::BlobSize { reference, digest, expected, found });
    }
    let mut body = answer.into_body().into_with_config().limit(u64::MAX).reader();
    let broke = |source| RegistryError::Read { url: url.to_owned(), source };
    let _ = io::copy(&mut (&mut body).take(skip), &mut io::sink()).map_err(broke)?;
    Ok(body)
}
