//! Every operation against the golden vectors.
//!
//! `HOTAD_GOLDEN` names the folder, `../shared/golden` by default. A case of an operation that does
//! not exist yet is listed as `unknown`, and fails the run when `HOTAD_GOLDEN_STRICT=1`.

mod case;
mod convolution;
mod elementwise;
mod images;
mod memory;
mod metrics;
mod spatial;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use case::{Case, Outputs};

/// Runs the operation of a case; `None` when it is not known.
fn run(case: &Case) -> Option<Outputs> {
    elementwise::run(case)
        .or_else(|| convolution::run(case))
        .or_else(|| spatial::run(case))
        .or_else(|| images::run(case))
        .or_else(|| memory::run(case))
        .or_else(|| metrics::run(case))
}

fn main() -> ExitCode {
    let folder = PathBuf::from(std::env::var("HOTAD_GOLDEN").unwrap_or_else(|_| "../shared/golden".into()));
    let strict = std::env::var("HOTAD_GOLDEN_STRICT").is_ok_and(|v| v == "1");
    let only = std::env::args().nth(1).filter(|a| !a.starts_with('-')).unwrap_or_default();
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(e) => {
            let demanded = strict || std::env::var("HOTAD_REQUIRE_DATA").is_ok_and(|v| v == "1");
            let verdict = if demanded { "FAILED" } else { "skipped" };
            println!("{verdict}: no golden vectors in {} ({e}); HOTAD_GOLDEN names their folder", folder.display());
            return if demanded { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    files.retain(|f| f.extension().is_some_and(|e| e == "safetensors") && f.to_string_lossy().contains(&only));
    files.sort();
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for file in &files {
        let case = Case::read(file);
        let (column, verdict) = match run(&case) {
            None => (2, "unknown".to_string()),
            Some(outputs) => match case.compare(&outputs) {
                Ok(margin) => (0, format!("ok ({margin:.2} of the tolerance)")),
                Err(why) => (1, format!("FAILED: {why}")),
            },
        };
        counts.entry(case.op.clone()).or_default()[column] += 1;
        println!("{} ... {verdict}", case.name);
    }
    let mut total = [0; 3];
    for (op, count) in &counts {
        println!("{op}: {} passed, {} failed, {} unknown", count[0], count[1], count[2]);
        (0..3).for_each(|i| total[i] += count[i]);
    }
    println!("{} files: {} passed, {} failed, {} unknown", files.len(), total[0], total[1], total[2]);
    println!("{} passed, {} failed", total[0], total[1]);
    let wrong = total[1] > 0 || files.is_empty() || (strict && total[2] > 0);
    if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
