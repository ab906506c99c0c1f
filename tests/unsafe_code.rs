//! Unsafe code is where docs/unsafe.md says, and nowhere else.

use std::collections::BTreeMap;
use std::path::Path;

/// Adds up where the keyword stands, outside comments and text, in the sources below a folder.
fn count(folder: &Path, found: &mut BTreeMap<String, usize>) {
    for entry in std::fs::read_dir(folder).expect("sources").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            count(&entry, found);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            let source = std::fs::read_to_string(&entry).expect("a source");
            let uses = source.lines().map(uses).sum();
            if uses > 0 {
                found.insert(entry.to_str().expect("our names are text").replace('\\', "/"), uses);
            }
        }
    }
}

/// How often a line of code makes a block, function, implementation or trait of unsafe code.
fn uses(line: &str) -> usize {
    let code = line.split("//").next().unwrap_or_default();
    ["{", "fn ", "impl", "trait ", "extern "].iter().map(|after| code.matches(&format!("unsafe {after}")).count()).sum()
}

#[test]
fn unsafe_code_is_listed() {
    let mut found = BTreeMap::new();
    for folder in ["bin", "capi/src", "engine", "kernels", "models", "python/src", "src"] {
        count(Path::new(folder), &mut found);
    }
    let table = std::fs::read_to_string("docs/unsafe.md").expect("docs/unsafe.md");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let file = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((file.to_string(), cells.get(2)?.parse().ok()?))
    };
    let listed: BTreeMap<String, usize> = table.lines().filter_map(row).collect();
    assert_eq!(found, listed, "as found, and as docs/unsafe.md lists it");
}
