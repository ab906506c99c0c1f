//! What the rows of the benches launch, as `benches/nvidia/static` reads it.

use std::collections::HashMap;
use std::path::Path;

use hotad_kernels::device::offline::{self, Launched};
use hotad_kernels::device::{Device, Gpu, Precision};

use crate::work::Work;
use crate::{timed, work};

/// Rows that run on the host, or whose launches depend on what is read back.
const UNKNOWN: [&str; 2] = ["aupro", "i3ad_score"];

/// Launches of a call after the first two, which make tables and recordings.
fn of_a_call(work: &mut Work, gpu: &Gpu) -> Vec<Launched> {
    let mut last = Vec::new();
    for _ in 0..3 {
        gpu.synchronize().expect("nothing runs");
        offline::launched();
        (work.run)();
        gpu.synchronize().expect("nothing runs");
        last = offline::launched();
    }
    last
}

/// The row as a line of JSON.
fn line(work: &Work, precision: Precision, launches: &[Launched]) -> String {
    let entry = |l: &Launched| {
        let buffers: Vec<[u64; 2]> = l.buffers.iter().map(|(address, bytes)| [*address, *bytes]).collect();
        format!(r#"{{"variant": {}, "grid": {:?}, "buffers": {buffers:?}, "info": {:?}}}"#, l.variant, l.grid, l.info)
    };
    let launches: Vec<String> = launches.iter().map(entry).collect();
    let (title, units, precision) = (work.title, work.units, precision.name());
    format!(
        r#"{{"work": {title:?}, "precision": {precision:?}, "units": {units}, "launches": [{}]}}"#,
        launches.join(", ")
    )
}

/// Writes `launches.jsonl`: the rows in f32, in tf32 and f16 those that take other kernels then.
pub fn write(folder: &Path, gpu: &Gpu) {
    let mut lines = Vec::new();
    let mut in_f32: HashMap<&str, Vec<usize>> = HashMap::new();
    for precision in [Precision::F32, Precision::Tf32, Precision::F16] {
        let device = Device::Gpu(gpu.with_precision(precision).expect("it has tensor cores"));
        let known = |work: &Work| !UNKNOWN.contains(&work.name);
        for mut work in work::all(&device).into_iter().chain(timed::all(&device)).filter(known) {
            let launches = of_a_call(&mut work, gpu);
            let variants: Vec<usize> = launches.iter().map(|l| l.variant).collect();
            if precision == Precision::F32 {
                in_f32.insert(work.title, variants);
            } else if in_f32[work.title] == variants {
                continue;
            }
            lines.push(line(&work, precision, &launches));
        }
    }
    std::fs::write(folder.join("launches.jsonl"), lines.join("\n")).expect("the folder can be written to");
}
