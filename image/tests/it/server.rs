//! Servers on loopback: a real registry, and one that misbehaves as told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Debian's docker-registry, with its storage in a directory. Stopped when dropped.
pub(crate) struct DockerRegistry {
    child: Child,
    pub(crate) host: String,
}

impl DockerRegistry {
    pub(crate) fn start(dir: &Path, extra: &str) -> Self {
        Self::serve(dir, "", extra)
    }

    pub(crate) fn with_tls(dir: &Path, certificate: &str, key: &str) -> Self {
        Self::serve(dir, &format!(", tls: {{certificate: {certificate}, key: {key}}}"), "")
    }

    /// Clients have to show a certificate that `authority` signed.
    pub(crate) fn with_client_certificates(
        dir: &Path,
        certificate: &str,
        key: &str,
        authority: &str,
    ) -> Self {
        let tls = format!(", tls: {{certificate: {certificate}, key: {key}, clientcas: [{authority}]}}");
        Self::serve(dir, &tls, "")
    }

    fn serve(dir: &Path, http: &str, extra: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let storage = dir.join("registry");
        std::fs::create_dir_all(&storage).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"127.0.0.1:{port}\"{http}}}\n{extra}",
            storage.display()
        );
        let file = dir.join("registry.yml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(dir.join("registry.log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("docker-registry is needed");
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, host: format!("127.0.0.1:{port}") }
    }

    /// Where a blob is stored.
    pub(crate) fn blob_file(dir: &Path, digest: &str) -> std::path::PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        dir.join(format!("registry/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client asked for. Header names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What to answer. `length` may lie about the body; the connection is closed after it either way, sooner or later.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) length: Option<usize>,
    /// How many bytes of the answer, head and body, are sent before nothing more is, until the client goes away.
    pub(crate) stall_at: Option<usize>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), length: None, stall_at: None }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A server whose every answer is up to the test. It lives as long as the process.
pub(crate) struct Server {
    pub(crate) host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let answer = Arc::new(answer);
        let _ = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                let _ = std::thread::spawn(move || serve(stream, &log, answer.as_ref()));
            }
        });
        Self { host, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Answer) {
    let mut reader = BufReader::new(&stream);
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let mut words = request.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
    let header =
        |line: String| line.split_once(": ").map(|(key, value)| (key.to_lowercase(), value.to_owned()));
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(header).collect();
    let mut asked = Asked { method, path, headers, body: String::new() };
    let length = asked.header("content-length").map_or(0, |text| text.parse().unwrap());
    let _ = reader.by_ref().take(length).read_to_string(&mut asked.body).unwrap();
    log.lock().unwrap().push(asked.clone());
    let answer = answer(&asked);
    let length = answer.length.unwrap_or(answer.body.len());
    let mut head =
        format!("HTTP/1.1 {} X\r\ncontent-length: {length}\r\nconnection: close\r\n", answer.status);
    answer.headers.iter().for_each(|(key, value)| head += &format!("{key}: {value}\r\n"));
    let mut all = format!("{head}\r\n").into_bytes();
    all.extend(answer.body);
    let end = answer.stall_at.unwrap_or(all.len()).min(all.len());
    // The client may have heard enough.
    let _ = (&stream).write_all(&all[..end]);
    if answer.stall_at.is_some() {
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    }
}

/// A proxy for CONNECT that takes every name for `target`, and wants `authorization` if there is one.
pub(crate) struct ConnectProxy {
    pub(crate) host: String,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    pub(crate) fn start(target: &str, authorization: Option<&'static str>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (asked, target) = (Arc::new(Mutex::new(Vec::new())), target.to_owned());
        let log = asked.clone();
        let _ = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, target) = (log.clone(), target.clone());
                let _ = std::thread::spawn(move || tunnel(stream, &log, &target, authorization));
            }
        });
        Self { host, asked }
    }
}

fn tunnel(client: TcpStream, log: &Mutex<Vec<String>>, target: &str, authorization: Option<&str>) {
    let lines = BufReader::new(&client).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    log.lock().unwrap().extend(head.first().cloned());
    if authorization.is_some_and(|value| !head.contains(&format!("Proxy-Authorization: {value}"))) {
        let _ = (&client).write_all(b"HTTP/1.1 407 X\r\n\r\n");
        return;
    }
    let server = TcpStream::connect(target).unwrap();
    let _ = (&client).write_all(b"HTTP/1.1 200 X\r\n\r\n");
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let _ = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut &server, &mut &client);
    let _ = client.shutdown(std::net::Shutdown::Write);
}

/// Serves a layout's blobs as the repository `x`: the manifest under any tag.
pub(crate) fn serve_layout(blobs: std::path::PathBuf, manifest: String) -> impl Fn(&Asked) -> Answer {
    move |asked| {
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        let digest = if name.starts_with("sha256:") { name } else { manifest.as_str() };
        match asked.path.as_str() {
            "/v2/" => Answer::new(200, "{}"),
            _ => match std::fs::read(blobs.join(digest.trim_start_matches("sha256:"))) {
                Ok(bytes) if asked.path.contains("/manifests/") => {
                    Answer::new(200, bytes).header("docker-content-digest", digest)
                }
                Ok(bytes) => Answer::new(200, bytes),
                Err(_) => Answer::new(404, "{}"),
            },
        }
    }
}
