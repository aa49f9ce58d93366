//! Serial sources on real pseudo-terminals.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::super::serial;
use super::*;

/// A device on a cable that can be pulled: drop it.
struct Plug {
    master: File,
}

impl Plug {
    /// A new terminal, found at `path` from now on.
    fn into(path: &Path) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let mut modes = tcgetattr(&master).unwrap();
        modes.make_raw();
        tcsetattr(&master, OptionalActions::Now, &modes).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let _ = std::fs::remove_file(path);
        symlink(name.to_str().unwrap(), path).unwrap();
        Self { master: master.into() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).unwrap();
    }
}

fn config(path: &Path) -> SerialConfig {
    toml::from_str(&format!("name = 'src'\npath = '{}'", path.display())).unwrap()
}

fn start(path: &Path) -> (Ends, tokio::task::JoinHandle<()>) {
    let (outlet, ends) = ends("serial");
    (ends, tokio::spawn(run_serial(config(path), outlet)))
}

async fn bytes(ends: &mut Ends, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        match ends.next().await.body {
            Body::Stream(bytes) => all.extend_from_slice(&bytes),
            other => panic!("{other:?} after {} bytes", all.len()),
        }
    }
    all
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ttyACM0");
    (dir, path)
}

#[tokio::test]
async fn a_port_that_is_unplugged_is_opened_again_by_its_path() {
    let (_dir, path) = place();
    let mut plug = Plug::into(&path);
    let (mut ends, source) = start(&path);
    assert!(matches!(ends.next().await.body, Body::Opened));
    plug.send(b"first");
    assert_eq!(bytes(&mut ends, 5).await, b"first");
    drop(plug);
    ends.until(SourceState::Down, "").await;
    std::fs::remove_file(&path).unwrap();
    ends.until(SourceState::Down, "check the cable").await;
    let mut plug = Plug::into(&path);
    assert!(matches!(ends.next().await.body, Body::Opened), "half a frame from before is not continued");
    plug.send(b"second");
    assert_eq!(bytes(&mut ends, 6).await, b"second");
    ends.until(SourceState::Connected, "").await;
    assert_eq!((ends.gauges.connects.load(Ordering::Relaxed), ends.gauges.bytes.load(Ordering::Relaxed)), (2, 11));
    ends.stop.cancel();
    source.await.unwrap();
}

#[tokio::test]
async fn a_missing_port_says_where_and_what_to_do_and_is_found_when_it_comes() {
    let (_dir, path) = place();
    let (mut ends, source) = start(&path);
    ends.until(SourceState::Down, "check the cable and source.serial.path").await;
    assert!(ends.gauges.condition().detail.contains(&path.display().to_string()));
    assert!(!ends.gauges.was_connected());
    let _plug = Plug::into(&path);
    assert!(matches!(ends.next().await.body, Body::Opened));
    ends.stop.cancel();
    source.await.unwrap();
}

#[tokio::test]
async fn a_port_that_another_program_holds_says_so() {
    let (_dir, path) = place();
    let _plug = Plug::into(&path);
    let (mut first, a) = start(&path);
    assert!(matches!(first.next().await.body, Body::Opened));
    let (second, b) = start(&path);
    second.until(SourceState::Down, "another program has the port open").await;
    first.stop.cancel();
    a.await.unwrap();
    second.until(SourceState::Connected, "").await;
    second.stop.cancel();
    b.await.unwrap();
}

#[tokio::test]
async fn a_path_that_is_no_port_says_so() {
    let (_dir, path) = place();
    std::fs::write(&path, "").unwrap();
    let (ends, source) = start(&path);
    ends.until(SourceState::Down, "check that source.serial.path is a serial port").await;
    ends.stop.cancel();
    source.await.unwrap();
}

#[test]
fn each_reason_why_a_port_does_not_open_has_its_remedy() {
    use tokio_serial::{Error, ErrorKind};
    let says = |kind, text: &str| serial::remedy(&Error::new(kind, text), 12_345);
    assert!(says(ErrorKind::Io(std::io::ErrorKind::PermissionDenied), "Permission denied").contains("group dialout"));
    assert!(says(ErrorKind::InvalidInput, "").contains("12345 baud"));
    assert!(says(ErrorKind::NoDevice, "No such device").contains("check the cable"));
    assert!(says(ErrorKind::NoDevice, "Device or resource busy").contains("another program"));
    assert!(says(ErrorKind::Unknown, "Not a typewriter").contains("is a serial port"));
}

#[tokio::test]
async fn a_full_pipeline_holds_the_port_back_and_loses_nothing_that_was_read() {
    let (_dir, path) = place();
    let mut plug = Plug::into(&path);
    let (mut ends, source) = start(&path);
    assert!(matches!(ends.next().await.body, Body::Opened));
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || {
        plug.send(&copy);
        plug
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bytes(&mut ends, sent.len()).await, sent);
    let _plug = writer.join().unwrap();
    ends.stop.cancel();
    source.await.unwrap();
}
