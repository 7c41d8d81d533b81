//! Images that attack the machinery that starts them. Each test is named for the attack.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::launcher::{Pod, config};

fn replace_with_link(root: &Path, name: &str, target: &str) {
    symlink(target, root.join(name)).unwrap();
}

#[test]
fn proc_that_is_a_link_is_refused() {
    for name in ["proc", "sys"] {
        let mut pod = Pod::new(config("true"), &[&|root| replace_with_link(root, name, "/tmp")]);
        let ended = pod.run();
        assert_eq!(ended.status.code(), Some(226), "{ended:?}");
        assert!(ended.stderr.contains("symbolic link"), "{ended:?}");
    }
}

#[test]
fn dev_that_is_a_link_stays_in_the_root() {
    let host = tempfile::tempdir().unwrap();
    let target = host.path().to_str().unwrap().to_owned();
    let mut pod = Pod::new(
        config("ls -d /dev/null; echo x > /dev/null"),
        &[&|root| replace_with_link(root, "dev", &target)],
    );
    let ended = pod.run();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 0, "something was made on the host");
}

#[test]
fn etc_that_leads_outside_resolves_inside() {
    // /etc -> /proc/1/root/etc would be the host's, for whoever follows magic links.
    let mut config = config("true");
    config["annotations"] = json!({"rkt/user": "daemon"});
    let layer = |root: &Path| replace_with_link(root, "etc", "/proc/1/root/etc");
    let ended = Pod::new(config, &[&layer]).run();
    assert_eq!(ended.status.code(), Some(217), "{ended:?}");
}

#[test]
fn a_passwd_that_blocks_does_not() {
    let mut config = config("true");
    config["annotations"] = json!({"rkt/user": "web"});
    let layer = |root: &Path| {
        std::fs::create_dir(root.join("etc")).unwrap();
        let path = root.join("etc/passwd");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
    };
    assert_eq!(Pod::new(config, &[&layer]).run().status.code(), Some(217));
}

#[test]
fn a_working_directory_behind_a_leaked_descriptor() {
    // runc's CVE-2024-21626.
    for cwd in ["/proc/self/fd/7", "/proc/self/fd/8", "/proc/self/cwd", "/proc/1/root", "/link"] {
        let mut config = config("pwd");
        config["process"]["cwd"] = json!(cwd);
        let ended = Pod::new(config, &[&|root| replace_with_link(root, "link", "/proc/self/fd/9")]).run();
        assert_eq!(ended.status.code(), Some(200), "{cwd}: {ended:?}");
    }
}

#[test]
fn a_working_directory_that_is_a_link_outside_resolves_inside() {
    let mut config = config("pwd; ls");
    config["process"]["cwd"] = json!("/link");
    let layer = |root: &Path| {
        std::fs::create_dir(root.join("inside")).unwrap();
        replace_with_link(root, "link", "../../../../inside");
    };
    assert_eq!(Pod::new(config, &[&layer]).run().stdout, "/inside\n");
}

#[test]
fn a_mount_point_that_is_a_link_outside_is_made_inside() {
    let host = tempfile::tempdir().unwrap();
    let target = format!("{}/made", host.path().display());
    let mut config = config("ls -d /data/sub");
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/data/sub", "type": "tmpfs", "source": "tmpfs"}));
    let ended = Pod::new(config, &[&|root| replace_with_link(root, "data", &target)]).run();
    assert_eq!(ended.stdout, "/data/sub\n", "{ended:?}");
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 0);
}

#[test]
fn an_app_cannot_write_to_the_stage1() {
    // runc's CVE-2019-5736: the program is the stage1 itself, by a link or as an interpreter.
    let before = std::fs::read(env!("CARGO_BIN_EXE_stage1-ns")).unwrap();
    for args in [json!(["/evil"]), json!(["/script"]), json!(["/proc/self/exe", "up", "/x"])] {
        let mut config = config("");
        config["process"]["args"] = args;
        let layer = |root: &Path| {
            replace_with_link(root, "evil", "/proc/self/exe");
            std::fs::write(root.join("script"), "#!/proc/self/exe\n").unwrap();
            std::fs::set_permissions(
                root.join("script"),
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )
            .unwrap();
        };
        let ended = Pod::new(config, &[&layer]).run();
        assert!(!ended.status.success(), "{ended:?}");
    }
    // The link itself, held by a process that has become something else.
    let watch = "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || \
        case $(readlink $p/exe) in *stage1*) (exec 3<$p/exe; echo caught; echo x > /proc/self/fd/3 && echo wrote) 2>&1;; esac; done; done";
    let mut pod = Pod::new(config(watch), &[]);
    pod.up();
    let mut child = pod.start();
    pod.ready(&mut child);
    for _ in 0..20 {
        assert!(pod.call(&["enter", "a", "--", "/bin/true"]).status.success());
    }
    assert!(pod.call(&["stop", "--force"]).status.success());
    let _ = pod.reap();
    let mut seen = String::new();
    let _ = std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut seen).unwrap();
    assert!(!seen.contains("wrote"), "{seen}");
    assert_eq!(before, std::fs::read(env!("CARGO_BIN_EXE_stage1-ns")).unwrap());
}

#[test]
fn our_own_executable_is_on_a_read_only_mount() {
    // A shell of the app whose interpreter is the stage1: what /proc/self/exe of the last process of ours would lead to.
    let mut pod = Pod::new(config("echo up; while :; do sleep 0.05; done"), &[]);
    pod.up();
    let mut child = pod.start();
    pod.ready(&mut child);
    let mut command = pod.command(&["enter", "a", "--", "/bin/sleep", "100"]);
    let mut entered = command.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let exe = format!("/proc/{}/exe", entered.id());
    let file = std::fs::File::open(&exe).unwrap();
    let stat = rustix::fs::fstatvfs(&file).unwrap();
    assert!(stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    entered.kill().unwrap();
    let _ = entered.wait().unwrap();
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    // With truncation the mount is looked at first; without, ETXTBSY wins as long as another test runs the stage1.
    let error = std::fs::OpenOptions::new().write(true).truncate(true).open(again).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
}

#[test]
fn a_masked_path_under_an_impostor_is_refused() {
    let mut config = config("true");
    // No procfs: /proc is the image's own directory.
    config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/proc");
    let layer = |root: &Path| {
        std::fs::create_dir(root.join("proc")).unwrap();
        std::fs::write(root.join("proc/kcore"), "fake").unwrap();
    };
    let ended = Pod::new(config, &[&layer]).run();
    assert_eq!(ended.status.code(), Some(226), "{ended:?}");
    assert!(ended.stderr.contains("kernel's own"), "{ended:?}");
}

#[test]
fn devices_that_the_image_has_put_there_are_not_trusted() {
    let mut config = config("true");
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    let layer = |root: &Path| {
        std::fs::create_dir(root.join("dev")).unwrap();
        std::fs::write(root.join("dev/null"), "a file").unwrap();
    };
    let ended = Pod::new(config, &[&layer]).run();
    assert_eq!(ended.status.code(), Some(226), "{ended:?}");
}
