//! The kernel and the initial RAM disk of virtual machines, from Debian's `linux-image-amd64`.
//!
//! The kernel package is downloaded once into the cache. The RAM disk is busybox, the modules that reach
//! the shared root, and a script that mounts it and hands over to `node-init machine`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::artifact;

/// What the machine needs before it sees the shared root, and what pods in it may need: no udev loads
/// modules there. Those that this kernel does not have, or has built in, are passed over.
const MODULES: [&str; 18] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_console",
    "virtio_blk",
    "virtio_net",
    "virtiofs",
    "fuse",
    "loop",
    "ext4",
    "bridge",
    "veth",
    "tun",
    "nf_tables",
    "nft_masq",
    "nft_chain_nat",
    "br_netfilter",
];

/// A kernel in the cache.
pub(crate) struct Kernel {
    /// Its release, as `uname -r` says.
    pub(crate) release: String,
    /// The unpacked package.
    pub(crate) directory: PathBuf,
}

impl Kernel {
    /// The newest kernel that this machine's package lists know.
    pub(crate) fn fetch() -> Result<Self> {
        let package = package()?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let directory = artifact::cached(&format!("kernel/{release}"), |staging| {
            run(Command::new("apt-get").args(DOWNLOAD).arg(&package).current_dir(staging))?;
            let archive = fs::read_dir(staging)?.flatten().map(|e| e.path()).next();
            let archive = archive.context("apt-get downloaded nothing")?;
            run(Command::new("dpkg").arg("-x").arg(&archive).arg(staging))?;
            fs::remove_file(archive)?;
            // Debian 13 has the modules in usr/lib only.
            if !staging.join("lib").exists() {
                std::os::unix::fs::symlink("usr/lib", staging.join("lib"))?;
            }
            run(Command::new("depmod").arg("-b").arg(staging).arg(&release))
        })?;
        Ok(Self { release, directory })
    }

    /// The kernel image.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The directory to mount on `/lib/modules`.
    pub(crate) fn modules(&self) -> PathBuf {
        self.directory.join("lib/modules")
    }

    /// Writes the RAM disk: an uncompressed archive, because QEMU loads it faster than it would inflate.
    pub(crate) fn write_ramdisk(&self, path: &Path, script_end: &str) -> Result<()> {
        let mut archive = Archive::default();
        let directories = ["bin", "modules", "proc", "sys", "dev", "lower", "upper", "newroot"];
        directories.iter().for_each(|d| archive.add(d, 0o040_755, &[]));
        archive.add("bin/busybox", 0o100_755, &fs::read("/bin/busybox").context("no busybox-static")?);
        let mut script = SCRIPT.to_owned();
        for module in self.load_order()? {
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = name.trim_end_matches(".xz");
            archive.add(&format!("modules/{name}"), 0o100_644, &plain(&module)?);
            script.push_str(&format!("insmod /modules/{name}\n"));
        }
        script.push_str(script_end);
        archive.add("init", 0o100_755, script.as_bytes());
        fs::write(path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The files of [`MODULES`] and of all they depend on, in the order to load them.
    fn load_order(&self) -> Result<Vec<PathBuf>> {
        let mut order: Vec<PathBuf> = Vec::new();
        for module in MODULES {
            let mut modprobe = Command::new("modprobe");
            let _ =
                modprobe.arg("-d").arg(&self.directory).args(["-S", &self.release, "--show-depends", module]);
            let output = modprobe.output().context("cannot run modprobe(8)")?;
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                let file = line.strip_prefix("insmod ").and_then(|l| l.split_whitespace().next());
                let Some(file) = file.map(PathBuf::from) else { continue };
                if !order.contains(&file) {
                    order.push(file);
                }
            }
        }
        Ok(order)
    }
}

/// As root, apt-get would drop its privileges and then not be able to write where we are.
pub(crate) const DOWNLOAD: [&str; 4] = ["-qq", "-o", "APT::Sandbox::User=root", "download"];

/// Loads nothing itself: the lines that do follow it.
const SCRIPT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
";

/// The package that `linux-image-<architecture>` stands for.
fn package() -> Result<String> {
    let meta = match env::consts::ARCH {
        "x86_64" => "linux-image-amd64",
        "aarch64" => "linux-image-arm64",
        other => bail!("virtual machines are not supported on {other}"),
    };
    let output =
        Command::new("apt-cache").args(["depends", meta]).output().context("cannot run apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace().skip(1);
    let found = words.find(|w| w.starts_with("linux-image-"));
    Ok(found.with_context(|| format!("apt-cache knows no {meta}: run apt-get update"))?.to_owned())
}

/// A module as the initial insmod takes it.
fn plain(module: &Path) -> Result<Vec<u8>> {
    if module.extension().is_some_and(|e| e == "xz") {
        let output = Command::new("xz").arg("-dc").arg(module).output().context("cannot run xz(1)")?;
        return Ok(output.stdout);
    }
    fs::read(module).with_context(|| format!("cannot read {}", module.display()))
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A cpio archive in the format that the kernel unpacks ("newc": Documentation/driver-api/early-userspace/
/// buffer-format.rst).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (size, name_size) = (content.len(), name.len() + 1);
        let header = format!(
            "070701{:08X}{mode:08X}{zero}{zero}{:08X}{zero}{size:08X}{zero}{zero}{zero}{zero}{name_size:08X}{zero}",
            self.entries,
            1,
            zero = "00000000",
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_what_cpio_reads() {
        let mut archive = Archive::default();
        archive.add("bin", 0o040_755, &[]);
        archive.add("bin/odd", 0o100_755, b"12345");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("archive");
        fs::write(&file, archive.finish()).unwrap();
        let unpack = format!("busybox cpio -idm < {}", file.display());
        run(Command::new("sh").args(["-c", &unpack]).current_dir(directory.path())).unwrap();
        assert_eq!(fs::read(directory.path().join("bin/odd")).unwrap(), b"12345");
    }
}
