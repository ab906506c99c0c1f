//! `hotad methods`.

use hotad_engine::Result;
use hotad_models::{Registration, methods};
use serde_json::{Value, json};

use crate::args::MethodsArgs;
use crate::{OK, output};

/// Lists methods.
pub fn run(args: &MethodsArgs) -> Result<u8> {
    if args.json {
        let entry = |m: &Registration| json!({"name": m.name, "summary": m.summary, "supervised": m.supervised});
        output::line(&Value::from_iter(methods().iter().map(entry)).to_string())?;
        return Ok(OK);
    }
    let width = methods().iter().map(|m| m.name.len()).max().unwrap_or(0);
    for method in methods() {
        output::line(&format!("{:width$}  {}", method.name, method.summary))?;
    }
    Ok(OK)
}
