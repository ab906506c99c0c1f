//! `hotad methods`.

use hotad_engine::Result;
use hotad_models::{METHODS, Registration};
use serde_json::{Value, json};

use crate::args::MethodsArgs;
use crate::{OK, output};

/// Lists methods.
pub fn run(args: &MethodsArgs) -> Result<u8> {
    if args.json {
        let entry = |m: &Registration| json!({"name": m.name, "summary": m.summary, "supervised": m.supervised});
        output::line(&Value::from_iter(METHODS.iter().map(entry)).to_string())?;
        return Ok(OK);
    }
    let width = METHODS.iter().map(|m| m.name.len()).max().unwrap_or(0);
    for method in METHODS {
        output::line(&format!("{:width$}  {}", method.name, method.summary))?;
    }
    Ok(OK)
}
