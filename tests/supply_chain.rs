//! Every dependency comes from crates.io under a licence that deny.toml allows; `cargo deny check` reads the same file. The
//! crates of all platforms have to be there (`cargo fetch --locked`); `HOTAD_REQUIRE_CRATES=1` fails where they are not.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Where crates may come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// All packages that Cargo.lock names, as cargo describes them.
fn packages() -> Option<Vec<Value>> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(["metadata", "--locked", "--offline", "--format-version", "1"]);
    let output = cargo.output().ok().filter(|o| o.status.success());
    if let Some(output) = output {
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        return Some(metadata["packages"].as_array().expect("a list").clone());
    }
    let demanded = std::env::var("HOTAD_REQUIRE_CRATES").is_ok_and(|v| v == "1");
    assert!(!demanded, "crates are missing and HOTAD_REQUIRE_CRATES=1; run `cargo fetch --locked`");
    common::skipped("crates of other platforms are missing; `cargo fetch --locked` downloads them");
    None
}

fn deny() -> toml::Table {
    std::fs::read_to_string("deny.toml").expect("deny.toml").parse().expect("TOML")
}

/// The licences that are allowed.
fn allowed() -> BTreeSet<String> {
    let deny = deny();
    let list = deny["licenses"]["allow"].as_array().expect("a list");
    list.iter().map(|l| l.as_str().expect("text").to_string()).collect()
}

/// Stands for a part of an expression that is allowed.
const YES: &str = "yes";

/// Whether one of the choices that an SPDX expression gives is allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // Older manifests write `/` for `OR`; an inner choice is looked at before what is around it.
    let expression = expression.replace('/', " OR ");
    if let Some(open) = expression.rfind('(') {
        let close = open + expression[open..].find(')').expect("a closed parenthesis");
        let inner = if is_allowed(&expression[open + 1..close], allowed) { YES } else { "no" };
        return is_allowed(&format!("{}{inner}{}", &expression[..open], &expression[close + 1..]), allowed);
    }
    let fits = |name: &str| name == YES || allowed.contains(name);
    expression.split(" OR ").any(|choice| choice.split(" AND ").all(|name| fits(name.trim())))
}

#[test]
fn expressions_are_read() {
    let allowed = BTreeSet::from(["MIT".to_string(), "Unicode-3.0".to_string()]);
    for (expression, fits) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("Apache-2.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(GPL-3.0 OR Apache-2.0) AND Unicode-3.0", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), fits, "{expression}");
    }
}

#[test]
fn dependencies_are_from_crates_io_under_allowed_licences() {
    let Some(packages) = packages() else { return };
    let allowed = allowed();
    for package in &packages {
        let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or("none"));
        assert!(is_allowed(licence, &allowed), "{name}: licence {licence} is not allowed by deny.toml");
        if let Some(source) = package["source"].as_str() {
            assert_eq!(source, CRATES_IO, "{name}");
        }
    }
    println!("{} packages", packages.len());
}

#[test]
fn every_crate_in_the_lock_file_has_a_checksum() {
    let lock: toml::Table = std::fs::read_to_string("Cargo.lock").expect("Cargo.lock").parse().expect("TOML");
    for package in lock["package"].as_array().expect("a list") {
        if let Some(source) = package.get("source") {
            assert_eq!(source.as_str(), Some(CRATES_IO), "{}", package["name"]);
            assert!(package.get("checksum").is_some(), "{}", package["name"]);
        }
    }
}
