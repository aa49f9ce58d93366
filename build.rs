//! Chooses the page that the binary carries: `web/dist` if it was bundled, else `web/fallback`.
//!
//! The chosen folder is copied to `OUT_DIR/page`, and `OUT_DIR/page.rs` embeds that copy, so that a bundler
//! at work in the source folder cannot change a page half way through a build. Without either folder a
//! page of one line is made: the build never fails for want of a page.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs, io};

const BARE_PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Pitwire</title>\
    <h1>Pitwire</h1><p>This build carries no page. The agent's state: <a href=\"/api/v1/status\">status</a>, \
    <a href=\"/api/v1/channels\">channels</a>, <a href=\"/metrics\">metrics</a>.</html>\n";

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).map(PathBuf::from).expect("cargo sets it for build scripts");
    let (web, out) = (variable("CARGO_MANIFEST_DIR").join("web"), variable("OUT_DIR"));
    let (dist, fallback) = (web.join("dist"), web.join("fallback"));
    stand_in(&web, &dist);
    for watched in [Path::new("build.rs"), &dist, &fallback] {
        println!("cargo:rerun-if-changed={}", watched.display());
    }

    let page = out.join("page");
    if page.exists() {
        fs::remove_dir_all(&page)?;
    }
    match [dist, fallback].iter().find(|folder| folder.join("index.html").is_file()) {
        Some(folder) => copy(folder, &page)?,
        None => {
            fs::create_dir_all(&page)?;
            fs::write(page.join("index.html"), BARE_PAGE)?;
        }
    }
    // The folder as a literal: with a variable in its place the crate would need a crate more.
    let embed = format!("#[derive(rust_embed::RustEmbed)]\n#[folder = {page:?}]\nstruct Embedded;\n");
    fs::write(out.join("page.rs"), embed)
}

/// Cargo builds anew each time while a watched path is missing, so an empty folder stands in for `dist`,
/// dated so that its making is no change. A source folder that cannot be written is left alone.
fn stand_in(web: &Path, dist: &Path) {
    if web.is_dir() && !dist.exists() && fs::create_dir(dist).is_ok() {
        let _ = fs::File::open(dist).and_then(|folder| folder.set_modified(SystemTime::UNIX_EPOCH));
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
