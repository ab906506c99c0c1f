//! `hotad sign`.

use hotad_engine::{Result, container, signature};

use crate::args::SignArgs;
use crate::{OK, output};

/// Makes a key, or signs files.
pub fn run(args: &SignArgs) -> Result<u8> {
    if let Some(path) = &args.new_key {
        let public = signature::new_key(path)?;
        output::note(&format!("wrote {}, to be kept secret, and {}", path.display(), public.display()));
        return Ok(OK);
    }
    // Without --new-key, the parser has asked for --key.
    let Some(key) = &args.key else { return Ok(OK) };
    for file in &args.files {
        container::check(file)?;
        output::note(&format!("wrote {}", signature::sign(file, key)?.display()));
    }
    Ok(OK)
}
