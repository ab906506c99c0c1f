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

/// The fields of each line of a text.
pub fn read(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                line.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut line));
            }
            other => field.push(other),
        }
    }
    lines
}

/// Writes lines, whole or not at all.
pub fn write(path: &Path, lines: &[String]) -> Result<()> {
    atomic_file::write(path, |out| lines.iter().try_for_each(|l| out.write_all(l.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let fields = ["a", "", "b,c", "\"d\"", "two\nlines", "\""];
        let text = line(&fields) + &line(&fields[..1]);
        assert_eq!(read(&text), [&fields[..], &fields[..1]]);
        assert!(read("cut short").is_empty());
    }
}
