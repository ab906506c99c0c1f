//! PAE: PAEDID without decomposition, the baseline of the paper's table 2. The defect is the
//! difference between the image and the background prior.

use hotad_engine::Result;

use crate::detector::FitContext;
use crate::paedid::{Config, Paedid, choose, fit_prior};

/// Trains PAE; `lambda`, `steps` and `decompose_lr` are not used.
///
/// # Errors
/// Bad settings or images, divergence, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<Paedid> {
    let mut model = fit_prior(config, context, "pae")?;
    choose(&mut model, context, false)?;
    Ok(model)
}
