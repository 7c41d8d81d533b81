//! Both sides of sd_notify(3), against each other and through a child process.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::notify::{ENV_NOTIFY_SOCKET, Listener, Notifier};

const SOON: Option<Duration> = Some(Duration::from_secs(5));

fn listener() -> (tempfile::TempDir, Listener) {
    let dir = tempfile::tempdir().unwrap();
    let listener = Listener::bind(std::fs::File::open(dir.path()).unwrap()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the socket left a name behind");
    (dir, listener)
}

#[test]
fn descriptors_arrive_with_their_name_and_sender() {
    let (_dir, listener) = listener();
    let notifier = Notifier::connect(listener.address().as_ref()).unwrap();
    let file = std::fs::File::open("/proc/self/ns/uts").unwrap();
    notifier.send("FDSTORE=1\nFDNAME=uts", &[file.as_fd()]).unwrap();
    let message = listener.receive(SOON).unwrap().unwrap();
    assert_eq!((message.sender, message.fd_name(), message.fds.len()), (std::process::id(), Some("uts"), 1));
    let (sent, got) = (rustix::fs::fstat(&file).unwrap(), rustix::fs::fstat(&message.fds[0]).unwrap());
    assert_eq!(sent.st_ino, got.st_ino);
    assert!(listener.receive(Some(Duration::ZERO)).unwrap().is_none());
}

#[test]
fn a_barrier_waits_until_it_is_read_and_no_longer() {
    let (_dir, listener) = listener();
    let notifier = Notifier::connect(listener.address().as_ref()).unwrap();
    assert!(notifier.barrier(Duration::from_millis(20)).is_err(), "nobody has read it");
    drop(listener.receive(SOON).unwrap());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| notifier.barrier(Duration::from_secs(5)));
        let message = listener.receive(SOON).unwrap().unwrap();
        assert!(message.is_barrier() && !waiting.is_finished());
        drop(message);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn systemds_own_client_is_understood() {
    let (_dir, listener) = listener();
    let mut child = std::process::Command::new("systemd-notify")
        .args(["--ready", "--status=it runs", "--pid=4711", "--no-block"])
        .env(ENV_NOTIFY_SOCKET, listener.address())
        .spawn()
        .unwrap();
    let message = listener.receive(SOON).unwrap().unwrap();
    assert!(message.is_ready());
    assert_eq!((message.get("STATUS"), message.main_pid()), (Some("it runs"), Some(4711)));
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_no_notification_is_dropped() {
    let (_dir, listener) = listener();
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let _ = socket.send_to(&[0xff, 0xfe], listener.address()).unwrap();
    let _ = socket.send_to(&[b'A'; 10_000], listener.address()).unwrap();
    assert!(listener.receive(SOON).unwrap().is_none());
    assert!(listener.receive(SOON).unwrap().is_none());
}

#[test]
fn an_address_that_is_none_is_an_error_that_names_it() {
    for bad in ["relative", "/nonexistent/socket", "@"] {
        let error = Notifier::connect(bad.as_ref()).unwrap_err();
        assert!(error.to_string().contains(bad), "{error}");
    }
}
