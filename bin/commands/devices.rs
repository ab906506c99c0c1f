//! `hotad devices`.

use hotad_engine::Result;
use hotad_engine::device::devices;

use crate::args::DevicesArgs;
use crate::{OK, output};

/// Lists devices.
pub fn run(args: &DevicesArgs) -> Result<u8> {
    let found = devices();
    if args.json {
        output::line(&serde_json::to_string(&found).expect("devices are plain data"))?;
        return Ok(OK);
    }
    for d in found {
        let auto = if d.auto { " (auto)" } else { "" };
        output::line(&format!("{}{auto}: {}, {} threads, {}", d.device, d.name, d.threads, d.instruction_set))?;
    }
    Ok(OK)
}
