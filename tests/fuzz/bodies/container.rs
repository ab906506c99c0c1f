//! Bytes of a model, checkpoint or backbone file.

use std::path::Path;

use hotad_engine::container::{Contents, read_bytes};
use sha2::{Digest, Sha256};

use super::is_one_line;

/// What a digest follows in a file.
const BEFORE: &[u8] = br#"{\"container\":2,\"sha256\":\""#;

/// Whether bytes are read once their digest is right.
pub fn check(bytes: &[u8]) -> bool {
    let _ = read(bytes);
    read(&with_right_digest(bytes)).is_some()
}

fn read(bytes: &[u8]) -> Option<Contents> {
    let mut found = None;
    for kind in ["model", "checkpoint", "backbone"] {
        match read_bytes(bytes, Path::new("fuzzed"), kind) {
            Ok(contents) => {
                assert_eq!(contents.kind, kind);
                let stored: usize = contents.tensors.values().map(|t| t.shape().iter().product::<usize>()).sum();
                assert!(stored <= bytes.len(), "every value is in the file");
                found = Some(contents);
            }
            Err(error) => is_one_line(&error.to_string().replace(char::is_control, " "), 2000 + 8 * bytes.len()),
        }
    }
    found
}

/// The bytes under the digest that they have, where there is place for one.
fn with_right_digest(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some(before) = bytes.windows(BEFORE.len()).position(|w| w == BEFORE) else { return bytes };
    let start = before + BEFORE.len();
    let Some(place) = bytes.get_mut(start..start + 64) else { return bytes };
    place.fill(b'0');
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bytes[start..start + 64].copy_from_slice(digest.as_bytes());
    bytes
}
