//! Device code needs neither std nor an allocator.
//!
//! `tests/no-std-proof` is a static library with its own panic handler. It builds only if nothing
//! below it links std or alloc; the counter-proofs show that it would not build otherwise. It needs
//! no other target and no network: the crates are those of this build, at the same versions.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn proof() -> &'static Path {
    static PROOF: OnceLock<PathBuf> = OnceLock::new();
    PROOF.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let proof = root.join("tests/no-std-proof");
        // The workspace's lock file is the only one to maintain; cargo drops what is not needed.
        std::fs::copy(root.join("Cargo.lock"), proof.join("Cargo.lock")).unwrap();
        proof
    })
}

fn build(features: &[&str]) -> Output {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(proof())
        .args(["build", "--offline", "--features", &features.join(",")])
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-std-proof"))
        // Flags meant for the tests, such as coverage, bring std-using runtimes with them.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .unwrap()
}

#[track_caller]
fn assert_builds(features: &[&str]) {
    let output = build(features);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "features {features:?}:\n{stderr}");
}

#[track_caller]
fn assert_fails(features: &[&str], reason: &str) {
    let output = build(features);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "features {features:?} built");
    assert!(stderr.contains(reason), "features {features:?} failed, but not by {reason:?}:\n{stderr}");
}

#[test]
fn the_wire_links_without_std_and_without_an_allocator() {
    assert_builds(&[]);
}

#[test]
fn the_simulators_device_side_links_without_std_and_without_an_allocator() {
    assert_builds(&["sim"]);
}

#[test]
fn the_proof_notices_a_dependency_that_uses_std() {
    assert_fails(&["uses-std"], "E0152");
}

#[test]
fn the_proof_notices_a_dependency_that_allocates() {
    assert_fails(&["uses-alloc"], "no global memory allocator found");
}
