//! The order of the calls, seen by strace: what a power cut on ext4 cannot show, since there a new file that was
//! synced survives although nobody synced its directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use pitwire::spill::Config;

use crate::books::{Key, open_at_once};
use crate::life::{runtime, small, soon};
use crate::rig::{KIB, cannot, figure, folder, run};

/// Set in the process that is watched: the directory of its queue.
const WATCHED: &str = "PITWIRE_DURABILITY_WATCHED";
const APPENDS: usize = 6;
const ANSWERED: &str = "the append was answered";

/// What the watched process does: a few appends, each of which says aloud that it was answered.
fn append(dir: &Path) {
    let config = Config { segment_bytes: ByteSize::b(64 * KIB), ..small(dir) };
    runtime().block_on(async {
        let spill = open_at_once(&config);
        for number in 0..APPENDS as u64 {
            // Two fit into a segment.
            let record = Key { life: 0, writer: 0, number }.record(25_000);
            soon("an answer", spill.append(vec![record])).await.unwrap();
            std::io::stderr().write_all(ANSWERED.as_bytes()).unwrap();
        }
        soon("close", spill.close()).await;
    });
}

/// What is not durable yet, as the calls go by.
#[derive(Default)]
struct Dirt {
    files: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
}

/// `"text"` in the arguments of a call.
fn quoted(call: &str) -> Vec<PathBuf> {
    call.split('"').skip(1).step_by(2).map(PathBuf::from).collect()
}

/// The path of the descriptor that a call is about: `name(3</path>, …`.
fn descriptor(call: &str) -> Option<PathBuf> {
    let (_, rest) = call.split_once('<')?;
    Some(PathBuf::from(rest.split_once('>')?.0))
}

impl Dirt {
    /// Books a call that has ended with `result`.
    fn book(&mut self, call: &str, result: &str) {
        let name = call.split('(').next().unwrap();
        if result.starts_with('-') {
            return;
        }
        let parent = |path: &PathBuf| path.parent().unwrap().to_path_buf();
        match name {
            "openat" if call.contains("O_CREAT") => self.directories.extend(quoted(call).iter().map(parent)),
            "mkdir" | "mkdirat" | "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" => {
                self.directories.extend(quoted(call).iter().map(parent));
            }
            "pwrite64" | "ftruncate" | "fallocate" => {
                // That one holds nothing under this name.
                let of_notes = |path: &PathBuf| path.file_name().is_some_and(|name| name == "notes");
                self.files.extend(descriptor(call).filter(|path| !of_notes(path)));
            }
            "fsync" | "fdatasync" => {
                let path = descriptor(call).unwrap();
                self.files.remove(&path);
                self.directories.remove(&path);
            }
            _ => {}
        }
    }
}

#[test]
fn an_append_is_answered_after_its_data_and_each_new_name_are_synced_in_this_order() {
    if let Some(dir) = std::env::var_os(WATCHED) {
        return append(Path::new(&dir));
    }
    let place = folder();
    let (log, dir) = (place.path().join("calls"), place.path().join("new/spill"));
    let me = std::env::current_exe().unwrap();
    let variable = format!("--env={WATCHED}={}", dir.display());
    let calls = "trace=openat,pwrite64,ftruncate,fallocate,fsync,fdatasync,mkdir,mkdirat,rename,renameat,renameat2,\
                 unlink,unlinkat,write";
    let mut arguments = vec!["-f", "-y", "-s", "200", "-e", calls, &variable, "-o", log.to_str().unwrap()];
    let name = crate::rig::test_name();
    arguments.extend([me.to_str().unwrap(), "--exact", &name, "--nocapture"]);
    if let Err(reason) = run("strace", &arguments) {
        let here = run("strace", &["-o", "/dev/null", "true"]).is_ok();
        assert!(!here, "strace works here, but: {reason}");
        return cannot(false, &format!("the order of the calls needs strace here: {reason}"));
    }
    let log = std::fs::read_to_string(&log).unwrap();
    let (mut dirt, mut answers, mut syncs) = (Dirt::default(), 0, 0);
    // A call of one thread may be cut in two by those of others: it counts when it ends.
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let inside = |call: &str| call.contains(place.path().to_str().unwrap());
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some((first, _)) = call.split_once(" <unfinished ...>") {
            begun.insert(thread, first);
            continue;
        }
        let first = if call.starts_with("<... ") { begun.remove(thread).unwrap_or_default() } else { call };
        let Some((_, result)) = call.rsplit_once(" = ") else { continue };
        if first.contains(ANSWERED) {
            answers += 1;
            assert!(dirt.files.is_empty(), "answer {answers} came before the sync of {:?}:\n{log}", dirt.files);
            let names = &dirt.directories;
            assert!(names.is_empty(), "answer {answers} came before the sync of the directory {names:?}:\n{log}");
        } else if inside(first) {
            syncs += usize::from(first.starts_with('f') && first.contains("sync("));
            dirt.book(first, result);
        }
    }
    figure(&format!("{answers} answers, {syncs} syncs: each answer after the sync of its data and of each new name"));
    assert_eq!(answers, APPENDS);
    assert!(syncs > APPENDS, "{log}");
}
