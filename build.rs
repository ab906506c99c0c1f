//! What `hotad --version` says: the version, the commit where there is a git folder, and the features.

use std::path::Path;
use std::process::Command;

/// Answer of git, when it has one.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_string()).filter(|text| !text.is_empty())
}

/// The commit, looked at again when another one is checked out or made.
fn commit() -> Option<String> {
    // Within the repository of another program, its commit would be told.
    if !Path::new(".git").exists() {
        return None;
    }
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file]).filter(|p| Path::new(p).exists());
        path.iter().for_each(|p| println!("cargo:rerun-if-changed={p}"));
    }
    git(&["rev-parse", "--short", "HEAD"])
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let feature = |name: &str| std::env::var_os(format!("CARGO_FEATURE_{}", name.to_uppercase())).is_some();
    let features: Vec<&str> = ["cuda", "wgpu"].into_iter().filter(|name| feature(name)).collect();
    let commit = commit().map(|c| format!("commit {c}, ")).unwrap_or_default();
    let features = if features.is_empty() { "CPU alone".into() } else { format!("features {}", features.join(" ")) };
    println!("cargo:rustc-env=HOTAD_VERSION={} ({commit}{features})", env!("CARGO_PKG_VERSION"));
}
