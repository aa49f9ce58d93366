//! Real file systems: power cuts, full and read-only disks on a loop mount.
//! They need root; without it they say that they are skipped.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::*;

/// An ext4 of its own in a file.
struct Mount {
    _place: tempfile::TempDir,
    image: PathBuf,
    dir: PathBuf,
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let failed = || format!("{program} {args:?}: {text}");
    output.status.success().then_some(()).ok_or_else(failed)
}

impl Mount {
    /// `None`, loudly, where loop mounts cannot be had.
    fn new(mib: u64) -> Option<Self> {
        Self::make(tempfile::tempdir().unwrap(), mib, true)
    }

    /// The same within a directory that may be too small for it.
    fn in_dir(dir: &Path, mib: u64) -> Option<Self> {
        Self::make(tempfile::tempdir_in(dir).unwrap(), mib, true)
    }

    fn tmpfs(mib: u64) -> Option<Self> {
        Self::make(tempfile::tempdir().unwrap(), mib, false)
    }

    fn make(place: tempfile::TempDir, mib: u64, ext4: bool) -> Option<Self> {
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        if std::fs::metadata("/proc/self").map_or(1, |m| m.uid()) != 0 {
            eprintln!("SKIPPED {test}: a loop mount needs root");
            return None;
        }
        let (image, dir) = (place.path().join("image"), place.path().join("mount"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        let mount = Self { _place: place, image, dir };
        let image = mount.image.to_str().unwrap();
        let lazy = "nodiscard,lazy_itable_init=1,lazy_journal_init=1";
        let made = if ext4 {
            let made = run("mkfs.ext4", &["-q", "-m", "0", "-E", lazy, image]);
            made.and_then(|()| mount.mount("loop"))
        } else {
            let size = format!("size={mib}m");
            run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", mount.path()])
        };
        if let Err(error) = made {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{error}");
            eprintln!("SKIPPED {test}: no loop mount here: {error}");
            return None;
        }
        Some(mount)
    }

    fn mount(&self, options: &str) -> Result<(), String> {
        run("mount", &["-o", options, self.image.to_str().unwrap(), self.path()])
    }

    fn remount(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), self.path()]).unwrap();
    }

    fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// `FS_IOC_SHUTDOWN` without flushing the log: what was not synced is gone.
    fn cut_power(&self) {
        let script = "open(my $d, '<', $ARGV[0]) or die $!; my $flag = pack('L', 2); \
                      ioctl($d, 0x8004587d, $flag) or die $!";
        run("perl", &["-e", script, self.path()]).unwrap();
    }

    /// Each request of a page. Of a larger one that a full file system behind it cuts short, a loop device says that it is
    /// done, and so does the sync: a disk that nothing above it can find out.
    fn page_by_page(&self) {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let device = mounts.lines().find(|line| line.split(' ').nth(1) == Some(self.path())).unwrap();
        let name = device.split(' ').next().unwrap().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/block/{name}/queue/max_sectors_kb"), "4").unwrap();
    }

    fn power_on(&self) {
        run("umount", &[self.path()]).unwrap();
        self.mount("loop").unwrap();
    }

    fn config(&self, overflow: Overflow) -> Config {
        Config {
            dir: self.dir.join("spill"),
            disk_max: ByteSize::mib(64),
            segment_bytes: ByteSize::mib(1),
            ..config(overflow)
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", self.path()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_no_record_that_was_said_to_be_durable() {
    let Some(mount) = Mount::new(64) else { return };
    let config = mount.config(Overflow::Block);
    let next = Arc::new(AtomicU64::new(0));
    let mut expected: Vec<u64> = Vec::new();
    let (mut durable, mut ghosts, mut replays) = (0, 0, 0);
    for cycle in 0..12u64 {
        let (spill, recovery, _) = open(&config, &RealFs);
        for gap in &recovery.gaps {
            assert_eq!(gap.reason, GapReason::Torn, "{gap:?}");
        }
        let found = soon(take_all(&spill)).await;
        let all = numbers(&found);
        let mut rest = all.iter();
        for wanted in &expected {
            let there = rest.any(|n| n == wanted);
            assert!(there, "cycle {cycle}: {wanted} is lost or out of order: {all:?}");
        }
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "none twice: {all:?}");
        let drawn = next.load(Ordering::SeqCst);
        assert!(all.iter().all(|n| *n < drawn), "invented: {all:?}");
        ghosts += all.len() - expected.len();
        expected = all;
        // Every other cycle it drains at the same time.
        for (position, _) in &found {
            if cycle % 2 == 0 {
                spill.nack(*position)
            } else {
                spill.ack(*position)
            };
        }
        if cycle % 2 == 1 {
            replays += expected.len();
            expected.clear();
        }
        // A sync that is under way while the ioctl runs may say yes and be lost
        // (seen with twenty lines of Python, too). With real power nobody would
        // be left to hear it, so only what was answered before counts.
        let cutting = Arc::new(AtomicBool::new(false));
        let appenders: Vec<_> = (0..3)
            .map(|_| {
                let (spill, next, cutting) = (spill.clone(), next.clone(), cutting.clone());
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    loop {
                        let n = next.fetch_add(1, Ordering::SeqCst);
                        let size = 100 + (n as usize * 7919) % 30_000;
                        match spill.append(vec![record(n, size)]).await {
                            Ok(_) if cutting.load(Ordering::SeqCst) => {}
                            Ok(positions) => mine.push((positions[0], n)),
                            Err(error) => {
                                assert_eq!(error.into_records(), [record(n, size)]);
                                return mine;
                            }
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(30 + cycle * 13 % 50)).await;
        cutting.store(true, Ordering::SeqCst);
        mount.cut_power();
        let mut answered = Vec::new();
        for appender in appenders {
            answered.extend(soon(appender).await.unwrap());
        }
        durable += answered.len();
        assert!(spill.stats().failing);
        spill.close().await;
        drop(spill);
        // Numbers were drawn before the queue gave the order.
        answered.sort_unstable();
        expected.extend(answered.into_iter().map(|(_, n)| n));
        mount.power_on();
    }
    eprintln!("12 power cuts: {durable} durable records, 0 lost, {ghosts} more came back, {replays} acked");
    assert!(durable > 12, "too slow to say anything: {durable}");
}

#[tokio::test]
async fn a_full_disk_gives_the_records_back_and_space_makes_it_work_again() {
    let Some(mount) = Mount::new(16) else { return };
    let (spill, ..) = open(&mount.config(Overflow::Block), &RealFs);
    let mut sent = 0;
    let error = loop {
        match spill.append(vec![record(sent, 64 << 10)]).await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Full { .. }), "{error}");
    assert!(sent > 100, "{sent} records of 64 KiB on 16 MiB");
    for _ in 0..20 {
        let again = spill.append(vec![record(sent, 64 << 10)]).await.unwrap_err();
        assert_eq!(again.into_records(), [record(sent, 64 << 10)]);
    }
    let start = Instant::now();
    for n in 0..32 {
        let (position, record) = spill.next().await.unwrap();
        assert_eq!(number(&record), n);
        spill.ack(position);
    }
    let mut records = error.into_records();
    while let Err(error) = spill.append(records).await {
        records = error.into_records();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(numbers(&take_all(&spill).await), (32..=sent).collect::<Vec<_>>());
    eprintln!("full after {sent} records; works again after {:?}", start.elapsed());
}

#[tokio::test]
async fn drop_oldest_on_a_full_disk_counts_exactly() {
    let Some(mount) = Mount::new(16) else { return };
    // Somebody else fills most of it: no budget of ours knows.
    std::fs::write(mount.dir.join("other"), vec![1; 6 << 20]).unwrap();
    let (spill, _, books) = open(&mount.config(Overflow::DropOldest), &RealFs);
    for n in 0..400 {
        spill.append(vec![record(n, 60_000)]).await.unwrap();
    }
    let stats = spill.stats();
    let dropped: Vec<_> = books.dropped.lock().unwrap().iter().map(|gone| gone.meta.clone().unwrap()).collect();
    assert!(dropped.len() > 200);
    assert_eq!(dropped, (0..dropped.len() as u64).map(|n| record(n, 0).meta).collect::<Vec<_>>());
    assert_eq!(stats.backlog_records + stats.dropped_records, 400);
    assert_eq!(stats.dropped_records, dropped.len() as u64);
    let left = numbers(&take_all(&spill).await);
    assert_eq!(left, (dropped.len() as u64..400).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_read_only_disk_ends_nothing() {
    let Some(mount) = Mount::new(16) else { return };
    let config = mount.config(Overflow::DropOldest);
    let (spill, ..) = open(&config, &RealFs);
    spill.append(vec![record(0, 10)]).await.unwrap();
    spill.close().await;
    mount.remount("ro");
    let (spill, recovery, _) = open(&config, &RealFs);
    assert_eq!(recovery.records, 1, "it starts and reads");
    let error = spill.append(vec![record(1, 10)]).await.unwrap_err();
    assert!(matches!(error, AppendError::Io { .. }), "{error}");
    assert!(spill.stats().failing);
    let (position, _) = soon(spill.next()).await.unwrap();
    spill.ack(position);
    spill.settled().await;
    assert_eq!(spill.stats().segments, 1, "it cannot be removed yet");
    mount.remount("rw");
    spill.append(error.into_records()).await.unwrap();
    assert!(!spill.stats().failing);
    assert_eq!(number(&soon(spill.next()).await.unwrap().1), 1);
    soon(async {
        while spill.stats().segments > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn directories_and_files_are_private_and_links_are_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("a/b/spill");
    let config = Config { dir: dir.clone(), ..config(Overflow::Block) };
    let (spill, ..) = open(&config, &RealFs);
    spill.append(vec![record(0, 10)]).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    let file = dir.join(segment(1));
    assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
    let second = Spill::open(config.clone(), Arc::new(RealFs), Arc::new(()));
    assert!(matches!(second.unwrap_err(), SpillError::Locked { .. }));
    assert_eq!(scan(&dir).unwrap().map(|s| s.records.len()).sum::<usize>(), 1, "a scan needs no lock");
    spill.close().await;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let elsewhere = place.path().join("elsewhere");
    std::fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    let (spill, recovery, _) = open(&config, &RealFs);
    assert_eq!(mode(&dir), 0o700, "made private again");
    assert_eq!(recovery.records, 0);
    spill.append(vec![record(1, 10)]).await.unwrap();
    assert!(recovery.gaps.iter().any(|gap| (gap.segment, gap.reason) == (1, GapReason::Missing)));
    assert_eq!(std::fs::read(&elsewhere).unwrap()[4096..], [0; (64 << 10) - 4096], "nothing more was written");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let config = Config { dir: file.clone(), ..config(Overflow::Block) };
    let error = Spill::open(config, Arc::new(RealFs), Arc::new(())).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()) && error.contains("is not a directory"), "{error}");
}

#[tokio::test]
async fn a_disk_whose_syncs_fail_and_then_say_yes_is_not_believed() {
    let Some(small) = Mount::tmpfs(24) else { return };
    let Some(mount) = Mount::in_dir(&small.dir, 64) else { return };
    mount.page_by_page();
    let config = mount.config(Overflow::Block);
    let (spill, ..) = open(&config, &RealFs);
    let (mut durable, mut refused) = (Vec::new(), 0);
    for n in 0..900 {
        match spill.append(vec![record(n, 64 << 10)]).await {
            Ok(_) => durable.push(n),
            Err(error) => {
                refused += 1;
                assert_eq!(error.into_records().len(), 1);
            }
        }
        if refused > 8 {
            break;
        }
    }
    let stats = spill.stats();
    assert!(stats.failed_syncs > 0, "{stats:?}");
    spill.close().await;
    drop(spill);
    // What ext4 itself still has to write when it is unmounted is not the test.
    small.remount("size=256m");
    mount.power_on();
    // Read without the lock: this disk has no room for changes.
    let found: Vec<u64> = scan(&config.dir)
        .unwrap()
        .flat_map(|segment| segment.records.iter().map(|info| number(&segment.read(info).unwrap())).collect::<Vec<_>>())
        .collect();
    let lost: Vec<_> = durable.iter().filter(|n| !found.contains(n)).collect();
    assert!(lost.is_empty(), "{lost:?} of {} were lost", durable.len());
    eprintln!("{} durable, {} syncs failed, {refused} appends refused, 0 lost", durable.len(), stats.failed_syncs);
}
