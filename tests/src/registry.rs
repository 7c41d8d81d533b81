//! A real registry (Debian's `docker-registry`) on loopback inside a node.
//!
//! Its storage is filled once, on the machine, and kept in the cache; every node's registry serves that,
//! read-only, so that starting one copies nothing. Registries with an empty storage take pushes. Logs are
//! in the node's journal, identifier `test-registry-*`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, net, thread};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::artifact;
use crate::fixtures::Fixture;
use crate::kernel::run;
use crate::{Kind, Node};

/// The user that registries with a password know.
pub const USER: &str = "rkt";

/// That user's password.
pub const PASSWORD: &str = "secret";

/// `USER:bcrypt(PASSWORD)`, at the lowest cost there is: it protects nothing.
const HTPASSWD: &str = "rkt:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Who may read and write a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Anonymous,
    /// [`USER`] with [`PASSWORD`], by basic authentication.
    Password,
}

/// What a registry has at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Every [`Fixture`], tagged `1` and `latest`; nothing can be pushed.
    Fixtures,
    /// Nothing; images can be pushed.
    Nothing,
}

/// A registry that runs in a node, until this is dropped.
pub struct Registry<'n> {
    node: &'n Node,
    process: Mutex<crate::Child>,
    /// Host and port, reachable inside the node.
    pub address: String,
}

impl<'n> Registry<'n> {
    /// A registry of all fixtures that asks for no password.
    ///
    /// # Errors
    ///
    /// When the fixtures cannot be built, or it does not start.
    pub fn start(node: &'n Node) -> Result<Self> {
        Self::start_with(node, Content::Fixtures, Access::Anonymous)
    }

    /// A registry.
    ///
    /// # Errors
    ///
    /// As [`Registry::start`].
    pub fn start_with(node: &'n Node, content: Content, access: Access) -> Result<Self> {
        let port = port(node.kind())?;
        let (name, place) = (format!("test-registry-{port}"), format!("/tmp/test-registry-{port}"));
        let storage = match content {
            Content::Fixtures => storage()?.to_string_lossy().into_owned(),
            Content::Nothing => format!("{place}/storage"),
        };
        let users = (access == Access::Password).then(|| format!("{place}/htpasswd"));
        if let Some(users) = &users {
            node.write_file(users, HTPASSWD)?;
        }
        let configuration = configuration(&storage, content, port, users.as_deref());
        let file = format!("{place}/config.yml");
        node.write_file(&file, configuration)?;
        // A child of the agent, and not a unit: on a host it has to end with the tests.
        let process =
            node.spawn(&["systemd-cat", "--identifier", &name, "docker-registry", "serve", &file])?;
        let wait = format!(
            "until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do
                kill -0 {} || {{ journalctl -t {name} >&2; exit 1; }}
                sleep 0.02
            done",
            process.pid()
        );
        let _ = node.sh(&wait)?.checked().context("a registry does not answer")?;
        Ok(Self { node, process: Mutex::new(process), address: format!("127.0.0.1:{port}") })
    }

    /// The registry that all tests in [`Node::shared`] of this kind share.
    ///
    /// # Panics
    ///
    /// When it does not start: no test that needs it can go on.
    #[expect(clippy::panic, reason = "the assertion of every test that needs a registry")]
    pub fn shared(kind: Kind) -> &'static Registry<'static> {
        static REGISTRIES: [OnceLock<Result<Registry<'static>, String>>; 4] = [const { OnceLock::new() }; 4];
        let [hybrid, unified, vm, host] = &REGISTRIES;
        let cell = match kind.effective() {
            Kind::Hybrid => hybrid,
            Kind::Unified => unified,
            Kind::Vm => vm,
            Kind::Host => host,
        };
        match cell.get_or_init(|| Registry::start(Node::shared(kind)).map_err(|e| format!("{e:#}"))) {
            Ok(registry) => registry,
            Err(e) => panic!("no registry: {e}"),
        }
    }

    /// The reference of a fixture here: `127.0.0.1:5000/busybox:1`.
    #[must_use]
    pub fn image(&self, fixture: Fixture) -> String {
        format!("{}/{}:1", self.address, fixture.name())
    }

    /// The node it runs in.
    #[must_use]
    pub fn node(&self) -> &'n Node {
        self.node
    }

    /// Stops answering, for tests of registries that are not there.
    ///
    /// # Errors
    ///
    /// When the node is dead.
    pub fn stop(&self) -> Result<()> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).signal(9)
    }
}

/// The storage with every fixture, in the cache; filled if need be.
///
/// # Errors
///
/// When a fixture cannot be built, or the registry on this machine does not take it.
pub fn storage() -> Result<PathBuf> {
    let keys: Vec<String> = Fixture::ALL.iter().map(|f| f.key()).collect();
    let hash: String = Sha256::digest(keys.join(" ")).iter().take(6).map(|b| format!("{b:02x}")).collect();
    artifact::cached(&format!("registry/{hash}"), |staging| {
        let images = Fixture::ALL.iter().map(|f| f.layout().map(|layout| (f.name(), layout)));
        fill(staging, &images.collect::<Result<Vec<_>>>()?)
    })
}

/// Pushes layouts (whose image is tagged `1`) as `name:1` and `name:latest` into a storage directory.
///
/// # Errors
///
/// When the registry does not start, or does not take them.
pub fn fill(storage: &Path, images: &[(&str, PathBuf)]) -> Result<()> {
    let port = port(Kind::Host)?;
    let file = tempfile::NamedTempFile::new().context("no place for a configuration")?;
    let text = configuration(&storage.to_string_lossy(), Content::Nothing, port, None);
    fs::write(file.path(), text).context("cannot write the registry's configuration")?;
    let _server = Server::start(file.path(), port)?;
    for (name, layout) in images {
        for tag in ["1", "latest"] {
            let (from, to) =
                (format!("oci:{}:1", layout.display()), format!("docker://127.0.0.1:{port}/{name}:{tag}"));
            let copy = ["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", &from, &to];
            run(Command::new("skopeo").args(copy)).with_context(|| format!("cannot push {name}"))?;
        }
    }
    Ok(())
}

/// Writes the configuration of a read-only registry over `storage` to a file that stays, and returns it.
///
/// # Errors
///
/// When the directory for temporary files takes no file.
pub fn write_configuration(storage: &Path, port: u16) -> Result<PathBuf> {
    let text = configuration(&storage.to_string_lossy(), Content::Fixtures, port, None);
    let path = std::env::temp_dir().join(format!("registry-{port}.json"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// A registry on the machine itself, while its storage is filled or a benchmark reads from it.
pub struct Server(Child);

impl Server {
    /// Serves a storage directory, read-only, on a free port of loopback, and returns the address.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn serve(storage: &Path) -> Result<(Self, String)> {
        let port = port(Kind::Host)?;
        let file = tempfile::NamedTempFile::new().context("no place for a configuration")?;
        let text = configuration(&storage.to_string_lossy(), Content::Fixtures, port, None);
        fs::write(file.path(), text).context("cannot write the registry's configuration")?;
        Ok((Self::start(file.path(), port)?, format!("127.0.0.1:{port}")))
    }

    fn start(configuration: &Path, port: u16) -> Result<Self> {
        // It ends with the thread that starts it, so also with a process that is killed.
        let mut command = Command::new("setpriv");
        let _ = command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(configuration);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self(command.spawn().context("cannot run docker-registry")?);
        let deadline = Instant::now() + Duration::from_secs(30);
        while net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline || server.0.try_wait()?.is_some() {
                bail!("docker-registry does not answer on port {port}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody uses. In a node of one's own they are counted from 5000; on the machine the kernel
/// names one.
fn port(kind: Kind) -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(5000);
    if kind != Kind::Host {
        return Ok(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
    Ok(listener.local_addr().context("no free port on loopback")?.port())
}

/// <https://distribution.github.io/distribution/about/configuration/>, in JSON, which is YAML too.
fn configuration(storage: &str, content: Content, port: u16, users: Option<&str>) -> String {
    let read_only = content == Content::Fixtures;
    let mut configuration = serde_json::json!({
        "version": 0.1,
        "log": { "level": "warn", "accesslog": { "disabled": true } },
        "storage": {
            "filesystem": { "rootdirectory": storage },
            "maintenance": { "uploadpurging": { "enabled": false }, "readonly": { "enabled": read_only } },
            "delete": { "enabled": !read_only },
        },
        "http": { "addr": format!("127.0.0.1:{port}"), "secret": "no cluster, no secret" },
    });
    if let Some(users) = users {
        let auth = serde_json::json!({ "htpasswd": { "realm": "rktnetes", "path": users } });
        drop(configuration.as_object_mut().and_then(|c| c.insert("auth".to_owned(), auth)));
    }
    configuration.to_string()
}
