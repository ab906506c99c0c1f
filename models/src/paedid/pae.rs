//! PAE: PAEDID without decomposition, the baseline of the paper's table 2. The defect is the
//! difference between the image and the background prior. The table has Dice alone; the paper has no image score for it
//! either, so it is PAEDID's, which the decomposition has no part in.

use hotad_engine::Result;
use hotad_engine::model_file::ModelFile;

use super::{Config, Paedid, fit_prior};
use crate::fit::FitContext;
use crate::method::{LoadContext, Method};

/// PAE; it does not use the settings `lambda`, `steps`, `decompose_lr`, `despeckle` and `shrink`.
pub struct Pae;

impl Method for Pae {
    type Config = Config;
    type Trained = Paedid;

    const NAME: &'static str = "pae";
    const SUMMARY: &'static str = "PAEDID without decomposition (baseline)";
    const BANK: bool = true;
    const WARM_START: bool = true;
    const EXPLAINABLE: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Paedid> {
        let mut model = fit_prior(config, context, Self::NAME)?;
        model.choose(context, false)?;
        Ok(model)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Paedid> {
        Paedid::load(file, context)
    }
}
