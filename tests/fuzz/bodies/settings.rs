//! Settings: a TOML text, and `--set` line by line.

use hotad_models::config::set;
use hotad_models::{Registration, methods};
use toml::Table;

use super::is_one_line;

/// Whether a method takes settings; the first byte says which method, the others are the text.
pub fn check(bytes: &[u8]) -> bool {
    let Some((first, text)) = bytes.split_first() else { return false };
    let method = &methods()[usize::from(*first) % methods().len()];
    let text = String::from_utf8_lossy(text);
    let mut table = Table::new();
    for line in text.lines() {
        if let Err(error) = set(&mut table, line) {
            is_one_line(&error, 1000 + 8 * text.len());
        }
    }
    let of_lines = accepted(method, &table, text.len());
    text.parse::<Table>().is_ok_and(|whole| accepted(method, &whole, text.len())) || of_lines
}

fn accepted(method: &Registration, table: &Table, length: usize) -> bool {
    let outcome = method.check(table);
    if let Err(error) = &outcome {
        // The program prints control characters of what it quotes as spaces.
        is_one_line(&error.to_string().replace(char::is_control, " "), 2000 + 8 * length);
    }
    outcome.is_ok()
}
