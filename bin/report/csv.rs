//! Tables of a report as CSV files.

use std::path::Path;

use hotad_engine::{Result, atomic_file};

/// A text as a CSV field.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

/// A line of CSV.
pub fn line(fields: &[&str]) -> String {
    fields.iter().map(|f| field(f)).collect::<Vec<_>>().join(",") + "\n"
}

/// Writes lines, whole or not at all.
pub fn write(path: &Path, lines: &[String]) -> Result<()> {
    atomic_file::write(path, |out| lines.iter().try_for_each(|l| out.write_all(l.as_bytes())))
}
