//! Names for what the file system names in its own way: text of any file name, and each of them once.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt::Write;

/// The text of a file name or path; bytes that are no text and control characters are written as numbers.
pub(crate) fn text(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        chunk.valid().chars().for_each(|c| match c.is_control() {
            true => text.extend(c.escape_unicode()),
            false => text.push(c),
        });
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Makes names distinct where they are not, also on file systems that do not tell `A` from `a`: the first keeps its name, others
/// get a number.
pub fn make_distinct<'a>(names: impl Iterator<Item = &'a mut String>) {
    let mut used = HashSet::new();
    let again: Vec<&mut String> = names.filter_map(|name| (!used.insert(key(name))).then_some(name)).collect();
    let mut next: HashMap<String, usize> = HashMap::new();
    for name in again {
        let number = next.entry(key(name)).or_insert(2);
        let mut numbered = format!("{name}-{number}");
        while !used.insert(key(&numbered)) {
            *number += 1;
            numbered = format!("{name}-{number}");
        }
        *name = numbered;
    }
}

/// What two names are compared by: file systems may ignore the case.
fn key(name: &str) -> String {
    name.to_lowercase()
}
