//! `hotad config`.

use hotad_engine::Result;
use hotad_models::method;

use crate::args::ConfigArgs;
use crate::{OK, output};

/// Prints documented settings.
pub fn run(args: &ConfigArgs) -> Result<u8> {
    let method = method(&args.method)?;
    output::line(&format!("# {}: {}\n\n{}", method.name, method.summary, (method.documented)().trim_end()))?;
    Ok(OK)
}
