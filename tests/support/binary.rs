//! Where the `eye` that cargo built lies. It is built when it is missing, older than its sources, or made from another
//! work tree that shares the target folder, so a test never tries an old binary and is never skipped for want of one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Returns the path of a current `eye` of the running program's own cargo profile.
pub fn eye() -> &'static Path {
    static EYE: OnceLock<PathBuf> = OnceLock::new();
    EYE.get_or_init(|| {
        let profile_folder = profile_folder();
        let binary = profile_folder.join("eye");
        if !is_current(&binary) {
            build(&profile_folder);
        }
        assert!(binary.is_file(), "cargo built no {}", binary.display());
        binary
    })
}

/// Returns the root of the workspace whose tests these are.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `…/target/debug` for a program that lies in `…/target/debug/deps`.
fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("the running program has a path");
    let folder = program.parent().expect("a program lies in a folder");
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    if is_deps {
        folder.parent().unwrap().to_owned()
    } else {
        folder.to_owned()
    }
}

/// Cargo writes the sources of a binary beside it (`eye.d`): every one must be there, no younger than the binary, and ours.
fn is_current(binary: &Path) -> bool {
    let Ok(built) = modified(binary) else {
        return false;
    };
    let Ok(sources) = std::fs::read_to_string(binary.with_extension("d")) else {
        return false;
    };
    let Some((_, sources)) = sources.split_once(": ") else {
        return false;
    };
    let sources: Vec<PathBuf> = sources
        .replace("\\ ", "\0")
        .split_whitespace()
        .map(|path| PathBuf::from(path.replace('\0', " ")))
        .collect();
    let manifests = [
        "Cargo.toml",
        "Cargo.lock",
        "eye-client/Cargo.toml",
        "eye-log/Cargo.toml",
        "eye-index/Cargo.toml",
        "eye-server/Cargo.toml",
    ];
    sources.contains(&workspace().join("eye-server/src/main.rs"))
        && sources
            .iter()
            .cloned()
            .chain(manifests.iter().map(|name| workspace().join(name)))
            .all(|source| modified(&source).is_ok_and(|changed| changed <= built))
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    path.metadata()?.modified()
}

fn build(profile_folder: &Path) {
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building eye ({profile}) for the tests");
    let built = Command::new(cargo)
        // The whole workspace is selected so that dependencies keep the features `cargo test --workspace` gave them;
        // with `-p eye-server` alone they would be compiled a second time.
        .args([
            "build",
            "--workspace",
            "--bin",
            "eye",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(
            profile_folder
                .parent()
                .expect("a profile's folder lies in the target folder"),
        )
        .current_dir(workspace())
        .status()
        .expect("cargo can be started");
    assert!(
        built.success(),
        "cargo could not build the binary `eye`: {built}"
    );
}
