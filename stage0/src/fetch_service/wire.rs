//! A request on its way: one line, and with its first bytes perhaps a descriptor (unix(7), SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::{MAX_REQUEST, Request, VERSION};

/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request did not come, or cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("cannot receive the request")]
    Receive(#[source] io::Error),
    #[error("the request is longer than {MAX_REQUEST} bytes")]
    TooLong,
    #[error("the request did not come to an end")]
    Cut,
    #[error("more than one open file came with the request")]
    Descriptors,
    #[error("cannot understand the request: rkt and its fetch service are of different versions")]
    Json(#[from] serde_json::Error),
    #[error("the request is of version {0}, the fetch service of version {VERSION}")]
    Version(u32),
}

/// Sends a request.
pub(super) fn send(socket: impl AsFd, request: &Request, file: Option<&impl AsFd>) -> io::Result<()> {
    let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
    line.push(b'\n');
    if line.len() > MAX_REQUEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the request is too long"));
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = file.into_iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        let _ = with.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        let sent = sendmsg(&socket, &[IoSlice::new(rest)], &mut with, SendFlags::NOSIGNAL)?;
        rest = rest.get(sent..).unwrap_or_default();
        // Once is enough.
        with.clear();
    }
    Ok(())
}

/// Receives a request, and the descriptor that came with it.
pub(super) fn receive(socket: impl AsFd) -> Result<(Request, Option<OwnedFd>), RequestError> {
    let (mut text, mut files) = (Vec::new(), Vec::new());
    let until = Instant::now() + PATIENCE;
    while text.last() != Some(&b'\n') {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RequestError::Cut);
        }
        set_socket_timeout(&socket, Timeout::Recv, Some(left))
            .map_err(|e| RequestError::Receive(e.into()))?;
        let mut bytes = [0; 4096];
        let count = part(&socket, &mut bytes, &mut files)?;
        text.extend_from_slice(bytes.get(..count).unwrap_or_default());
        match count {
            0 => return Err(RequestError::Cut),
            _ if text.len() > MAX_REQUEST => return Err(RequestError::TooLong),
            _ => {}
        }
    }
    let file = files.pop();
    if !files.is_empty() {
        return Err(RequestError::Descriptors);
    }
    let request: Request = serde_json::from_slice(&text)?;
    if request.v == VERSION { Ok((request, file)) } else { Err(RequestError::Version(request.v)) }
}

/// One read. The kernel closes descriptors for which there is no room, and says so.
fn part(socket: impl AsFd, bytes: &mut [u8], files: &mut Vec<OwnedFd>) -> Result<usize, RequestError> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut with, RecvFlags::CMSG_CLOEXEC);
    let got = got.map_err(|e| RequestError::Receive(e.into()))?;
    for message in with.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            files.extend(came);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) || files.len() > 1 {
        return Err(RequestError::Descriptors);
    }
    Ok(got.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use image::PullPolicy;

    fn request(image: &str) -> Request {
        Request::new(image, PullPolicy::New, Path::new("/d"), vec!["http".to_owned()])
    }

    fn said(bytes: &[u8]) -> Result<Request, RequestError> {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(bytes).unwrap();
        drop(here);
        receive(there).map(|(request, _)| request)
    }

    #[test]
    fn a_request_and_its_file_arrive() {
        for (image, file) in
            [("a", None), (&"a".repeat(MAX_REQUEST - 1000), Some(File::open("/dev/null").unwrap()))]
        {
            let (here, there) = UnixStream::pair().unwrap();
            let (sent, came) = (request(image), file.is_some());
            std::thread::scope(|scope| {
                let _ = scope.spawn(|| send(&here, &request(image), file.as_ref()).unwrap());
                let (got, descriptor) = receive(&there).unwrap();
                assert_eq!(got, sent);
                assert_eq!(descriptor.is_some(), came);
            });
        }
        let (here, _there) = UnixStream::pair().unwrap();
        assert!(send(&here, &request(&"a".repeat(MAX_REQUEST)), None::<&File>).is_err());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = serde_json::to_string(&request("a")).unwrap();
        assert_eq!(said(format!("{good}\n").as_bytes()).unwrap(), request("a"));
        assert!(matches!(said(good.as_bytes()), Err(RequestError::Cut)));
        assert!(matches!(said(b""), Err(RequestError::Cut)));
        let longer = good.replacen('{', r#"{"user":"root","#, 1) + "\n";
        assert!(matches!(said(longer.as_bytes()), Err(RequestError::Json(_))));
        let twice = format!("{good} {good}\n");
        assert!(matches!(said(twice.as_bytes()), Err(RequestError::Json(_))));
        let newer = good.replace(r#""v":1"#, r#""v":2"#) + "\n";
        assert!(matches!(said(newer.as_bytes()), Err(RequestError::Version(2))));
    }

    #[test]
    fn a_request_without_an_end_is_cut_off() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let receiver = std::thread::spawn(move || receive(there));
        // Refused at some point: then writing fails.
        while here.write_all(&[b' '; 4096]).is_ok() {}
        assert!(matches!(receiver.join().unwrap(), Err(RequestError::TooLong)));
    }

    #[test]
    fn more_files_than_one_are_not_kept() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(9))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd(); 9];
        assert!(with.push(SendAncillaryMessage::ScmRights(&files)));
        let _ = sendmsg(&here, &[IoSlice::new(b"{}\n")], &mut with, SendFlags::empty()).unwrap();
        assert!(matches!(receive(there), Err(RequestError::Descriptors)));
    }
}
