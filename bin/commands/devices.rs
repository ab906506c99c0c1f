//! `hotad devices`.

use hotad_engine::Result;
use hotad_engine::device::{DeviceInfo, devices};

use crate::args::DevicesArgs;
use crate::{OK, output};

/// One line about a device.
fn line(d: &DeviceInfo) -> String {
    if let Some(problem) = &d.problem {
        return format!("{}: not usable: {problem}", d.device);
    }
    let auto = if d.auto { " (auto)" } else { "" };
    let memory = d.memory.map(|m| format!("{:.0} GiB", m as f64 / f64::from(1 << 30)));
    let features = (!d.features.is_empty()).then(|| d.features.join(", "));
    let parts = [d.name.clone(), memory, d.kind.clone(), d.driver.clone(), features];
    format!("{}{auto}: {}", d.device, parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// Lists devices.
pub fn run(args: &DevicesArgs) -> Result<u8> {
    let found = devices();
    if args.json {
        output::line(&serde_json::to_string(&found).expect("devices are plain data"))?;
        return Ok(OK);
    }
    for device in &found {
        output::line(&line(device))?;
    }
    Ok(OK)
}
