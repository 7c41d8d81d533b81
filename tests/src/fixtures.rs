//! Images for tests, made from Debian packages: real programs, and no public registry needed.
//!
//! Every image is an OCI layout in the cache, built by whoever needs it first. It has two layers at least:
//! the same base of libc and the usual files under `/etc`, then the program with what it links. The same
//! packages give the same bytes. What is built is described by a recipe in this file, whose hash is in the
//! name of the cache entry: changing a recipe makes a new image.

mod layout;
mod package;
mod tree;

use std::path::PathBuf;

use anyhow::{Context, Result};
use oci_spec::image::{Config, ConfigBuilder};
use sha2::{Digest, Sha256};

pub use layout::write as write_layout;
pub use tree::{Entry, Tree};

use crate::artifact;

/// Changes with the code that builds, where the recipes themselves do not show it.
const FORMAT: u32 = 2;

/// An image that tests can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixture {
    /// `sh` and 300 more commands; runs `sh`.
    Busybox,
    /// A web server on port 8080 that serves `/usr/share/nginx/html`; stops on SIGQUIT.
    Nginx,
    /// A database on port 6379, as user `redis`, without a disk.
    Redis,
    /// An interpreter with most of its standard library; runs `python3`.
    Python3,
}

/// What an image is made of.
#[derive(Debug)]
struct Recipe {
    name: &'static str,
    /// Packages, which bring what they depend on.
    packages: &'static [&'static str],
    /// Paths and contents that no package has.
    files: &'static [(&'static str, &'static str)],
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
    env: &'static [&'static str],
    user: &'static str,
    workdir: &'static str,
    ports: &'static [&'static str],
    stop_signal: Option<&'static str>,
}

impl Fixture {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Busybox, Self::Nginx, Self::Redis, Self::Python3];

    /// Its name as a repository.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.recipe().name
    }

    /// Its OCI layout on this machine, built if need be; the image in it is tagged `1`. In nodes the path
    /// is the same.
    ///
    /// # Errors
    ///
    /// When packages cannot be downloaded or the cache cannot be written.
    pub fn layout(self) -> Result<PathBuf> {
        let recipe = self.recipe();
        artifact::cached(&format!("image/{}", self.key()), |staging| {
            let base =
                package::tree(&["libc6", "zlib1g", "libcrypt1"])?.with_files(BASE_FILES)?.with_skeleton();
            let mut top = package::tree(recipe.packages)?.without(&base).with_files(recipe.files)?;
            if self == Self::Busybox {
                top = top.with_busybox_links()?;
            }
            layout::write(staging, &[base, top], recipe.config()?)
        })
        .with_context(|| format!("cannot build the image {}", recipe.name))
    }

    /// Its name and the hash of its recipe.
    pub(crate) fn key(self) -> String {
        let recipe = self.recipe();
        let hash = Sha256::digest(format!("{FORMAT} {BASE_FILES:?} {:?} {recipe:?}", package::LEFT_OUT));
        let hash: String = hash.iter().take(6).map(|b| format!("{b:02x}")).collect();
        format!("{}-{hash}", recipe.name)
    }

    fn recipe(self) -> &'static Recipe {
        match self {
            Self::Busybox => &BUSYBOX,
            Self::Nginx => &NGINX,
            Self::Redis => &REDIS,
            Self::Python3 => &PYTHON3,
        }
    }
}

impl Recipe {
    fn config(&self) -> Result<Config> {
        let strings = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<String>>();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut env = vec![path.to_owned()];
        env.extend(strings(self.env));
        let mut config = ConfigBuilder::default().env(env).user(self.user).working_dir(self.workdir);
        if !self.entrypoint.is_empty() {
            config = config.entrypoint(strings(self.entrypoint));
        }
        if !self.command.is_empty() {
            config = config.cmd(strings(self.command));
        }
        if !self.ports.is_empty() {
            config = config.exposed_ports(strings(self.ports));
        }
        if let Some(signal) = self.stop_signal {
            config = config.stop_signal(signal);
        }
        config.build().context("cannot describe the image")
    }
}

/// What every Debian has and no package ships.
const BASE_FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
redis:x:100:101:redis:/var/lib/redis:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
",
    ),
    (
        "etc/group",
        "root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
redis:x:101:
extra:x:200:redis,www-data
nogroup:x:65534:
",
    ),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/os-release", "ID=debian\nNAME=\"Debian for rktnetes tests\"\n"),
];

const BUSYBOX: Recipe = Recipe {
    name: "busybox",
    packages: &["busybox-static"],
    files: &[],
    entrypoint: &[],
    command: &["sh"],
    env: &[],
    user: "",
    workdir: "/",
    ports: &[],
    stop_signal: None,
};

/// Logs to stderr only: a descriptor that is inherited works whatever it is, while `/dev/stdout` cannot be
/// opened when it is a socket, and sockets are what the journal gives.
const NGINX: Recipe = Recipe {
    name: "nginx",
    packages: &["nginx-light"],
    files: &[
        (
            "etc/nginx/nginx.conf",
            "user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log stderr notice;
events { worker_connections 64; }
http {
    include mime.types;
    access_log off;
    server {
        listen 8080;
        root /usr/share/nginx/html;
        location / { index index.html; }
    }
}
",
        ),
        (
            "usr/share/nginx/html/index.html",
            "<!DOCTYPE html>\n<title>rktnetes</title>\n<p>A page from a pod.\n",
        ),
        ("var/lib/nginx/.keep", ""),
        ("var/log/nginx/.keep", ""),
    ],
    entrypoint: &["/usr/sbin/nginx"],
    command: &["-g", "daemon off;"],
    env: &["NGINX_PORT=8080"],
    user: "",
    workdir: "/",
    ports: &["8080/tcp"],
    stop_signal: Some("SIGQUIT"),
};

const REDIS: Recipe = Recipe {
    name: "redis",
    packages: &["redis-server"],
    files: &[],
    entrypoint: &["/usr/bin/redis-server"],
    command: &["--save", "", "--protected-mode", "no"],
    env: &[],
    user: "redis",
    workdir: "/var/lib",
    ports: &["6379/tcp"],
    stop_signal: None,
};

const PYTHON3: Recipe = Recipe {
    name: "python3",
    packages: &["python3-minimal", "libpython3-stdlib"],
    files: &[],
    entrypoint: &[],
    command: &["/usr/bin/python3"],
    env: &["PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"],
    user: "",
    workdir: "/root",
    ports: &[],
    stop_signal: None,
};
