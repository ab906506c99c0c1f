//! `hotad train METHOD --cv FOLDS --imbalance SHARES`: F1 over the share of defective images (LEA-Net's paper, section 4-4 and
//! figure 4).

use std::path::{Path, PathBuf};

use hotad_engine::error::shown;
use hotad_engine::train::Difference;
use hotad_engine::{AtPath, Error, Result, input_file};
use hotad_models::fit::checkpoints;
use hotad_models::jobs::{Begin, Selection, TrainJob};
use hotad_models::method;
use serde_json::{Value, json};

use super::{cross_validation, train};
use crate::args::Common;
use crate::report::imbalance;
use crate::{OK, output};

/// The setting that leaves defective images out.
const SHARE: &str = "positive_share";

/// `out` with words before its ending: `study.json` and `-0.25` give `study-0.25.json`.
fn named(out: &Path, more: &str, ending: &str) -> PathBuf {
    let mut name = out.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("{more}.{ending}"));
    out.with_file_name(name)
}

/// The cross-validation at one share, with a file of its own.
fn at(job: &TrainJob, out: &Path, share: f64) -> TrainJob {
    let mut one = TrainJob { out: Some(named(out, &format!("-{share}"), "json")), ..job.clone() };
    one.settings.insert(SHARE.into(), share.into());
    one
}

/// The results of a job that is finished, where it resumes.
fn finished(job: &TrainJob, folds: usize) -> Result<Option<Value>> {
    let Some(out) = job.out.as_deref().filter(|out| job.begin == Begin::Resume && out.exists()) else {
        return Ok(None);
    };
    if !checkpoints(out).is_empty() {
        return Ok(None);
    }
    let results = read(out)?;
    let own = json!((method(&job.method)?.settings)(&job.settings)?);
    let whole = results["results"]["done"] == folds && results["results"]["folds"] == folds;
    match whole && results["settings"] == own && results["seed"] == job.seed {
        true => Ok(Some(results)),
        false => Err(Error::Config(format!("--out {}: is of another run; --force begins anew", shown(out)))),
    }
}

fn read(path: &Path) -> Result<Value> {
    let text = input_file::text(path)?;
    serde_json::from_str(&text).map_err(std::io::Error::other).at(path)
}

/// Refuses results that are of other images than those of a selection.
fn check_data(results: &Value, selection: &Selection, job: &TrainJob) -> Result<()> {
    let Some(difference) = Difference::between(&results["data"], &selection.chosen) else { return Ok(()) };
    let (out, difference) = (shown(job.out.as_deref().unwrap_or(Path::new(""))), difference.calling(output::option));
    Err(Error::Config(format!("--out {out}: is of another run: {difference}; --force begins anew")))
}

/// Cross-validates at every share, those that are finished aside, and draws F1 over the share.
pub fn run(job: &TrainJob, out: &Path, folds: usize, shares: &[f64], common: &Common) -> Result<u8> {
    if !method(&job.method)?.has(SHARE) {
        return Err(Error::Config(format!("--imbalance: {} has no setting {SHARE}", job.method)));
    }
    if let Some(twice) = (1..shares.len()).find(|i| shares[..*i].contains(&shares[*i])) {
        return Err(Error::Config(format!("--imbalance: {} is there twice", shares[twice])));
    }
    let jobs: Vec<TrainJob> = shares.iter().map(|share| at(job, out, *share)).collect();
    let known: Vec<Option<Value>> = jobs.iter().map(|job| finished(job, folds)).collect::<Result<_>>()?;
    let missing = |(job, known): (TrainJob, &Option<Value>)| {
        let begun = job.out.as_deref().is_some_and(|out| !checkpoints(out).is_empty());
        let begin = if job.begin == Begin::Resume && !begun { Begin::Afresh } else { job.begin };
        known.is_none().then_some(TrainJob { begin, ..job })
    };
    let missing: Vec<Option<TrainJob>> = jobs.iter().cloned().zip(&known).map(missing).collect();
    missing.iter().flatten().try_for_each(|job| train::check(job, common))?;
    let page = named(out, "", "html");
    if job.begin == Begin::Afresh {
        output::result_file(&page, job.begin)?;
    }
    // The share leaves images out of what is learned from and tested on, not of what a run is of.
    let selection = TrainJob { out: None, ..job.clone() }.select_all(&common.terminal)?;
    for (job, results) in jobs.iter().zip(&known) {
        results.as_ref().map_or(Ok(()), |results| check_data(results, &selection, job))?;
    }
    let mut all = Vec::new();
    for (known, missing) in known.into_iter().zip(missing) {
        all.push(match (known, missing) {
            (Some(results), _) => results,
            (None, Some(job)) => {
                let path = job.out.clone().unwrap_or_default();
                cross_validation::validate(job, &selection, folds, common)?;
                read(&path)?
            }
            (None, None) => continue,
        });
    }
    imbalance::write(&page, &job.method, &all)?;
    output::line(&format!("F1 over the share of defective images: {}", shown(&page)))?;
    Ok(OK)
}
