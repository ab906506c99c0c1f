//! What a method is: a name, settings, training and reading.

use std::path::PathBuf;

use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::{Error, Result};
use serde_json::Value;
use toml::Table;

use crate::config::{Declared, Setting, Settings, damaged};
use crate::cross_validation::CrossValidationTable;
use crate::detector::Detector;
use crate::fit::FitContext;

/// A model file that a method is built on, behind the name of the setting that says so.
pub type BuiltOn = (&'static str, PathBuf);

/// A method that can be trained; implemented beside what it trains, listed in [`methods`](crate::methods).
pub trait Method {
    /// Its settings.
    type Config: Settings;
    /// What training gives; more than one method may give the same.
    type Trained: Detector + 'static;

    /// Name on the command line and in model files.
    const NAME: &'static str;
    /// What it is, in a line.
    const SUMMARY: &'static str;
    /// Whether it learns from defective images too.
    const SUPERVISED: bool = false;
    /// Whether it is built on trained models.
    const ENSEMBLE: bool = false;
    /// Whether it has a memory bank that can change after training.
    const BANK: bool = false;
    /// Whether its training can start from the weights of a trained model: [`FitContext::warm_start`].
    const WARM_START: bool = false;
    /// How it is cross-validated, if it can be.
    const CROSS_VALIDATION: Option<CrossValidation> = None;
    /// Whether it shows what happens inside: [`Detector::as_explainable`].
    const EXPLAINABLE: bool = false;
    /// Whether its network can be exported: [`Detector::as_exportable`].
    const EXPORTABLE: bool = false;

    /// Model files that settings name and that it is built on, as an ensemble is on its members; each with the setting.
    fn built_on(_config: &Self::Config) -> Vec<BuiltOn> {
        Vec::new()
    }

    /// Trains it.
    ///
    /// # Errors
    /// Settings, members or images that cannot be used, divergence, interruption.
    fn fit(config: Self::Config, context: &FitContext) -> Result<Self::Trained>;

    /// Reads a trained one, of which [`Registration::load`] has checked what all methods have in common. A model file is
    /// untrusted input: settings pass the checks of `--set`, and the shapes that they imply are compared with the tensors before
    /// memory is taken for them.
    ///
    /// # Errors
    /// Names the setting, tensor or number that cannot be.
    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self::Trained>;
}

/// Cross-validates a method with the settings of a table over its defaults, in a number of folds, on all labelled images of a
/// context; the last argument sees the results so far after each fold.
pub type CrossValidation =
    fn(&Table, &FitContext, usize, &dyn Fn(&CrossValidationTable) -> Result<()>) -> Result<CrossValidationTable>;

/// Methods that can be told apart by name.
pub type Methods = &'static [Registration];

/// What a trained method is read with.
#[derive(Clone, Copy)]
pub struct LoadContext<'a> {
    /// Where it will compute.
    pub device: &'a Device,
    /// What the members of an ensemble may be.
    pub methods: Methods,
}

/// A [`Method`] as a value.
pub struct Registration {
    /// [`Method::NAME`].
    pub name: &'static str,
    /// [`Method::SUMMARY`].
    pub summary: &'static str,
    /// [`Method::SUPERVISED`].
    pub supervised: bool,
    /// [`Method::ENSEMBLE`].
    pub ensemble: bool,
    /// [`Method::BANK`].
    pub bank: bool,
    /// [`Method::WARM_START`].
    pub warm_start: bool,
    /// [`Method::CROSS_VALIDATION`].
    pub cross_validation: Option<CrossValidation>,
    /// [`Method::EXPLAINABLE`].
    pub explainable: bool,
    /// [`Method::EXPORTABLE`].
    pub exportable: bool,
    /// What is known of each setting.
    pub declared: fn() -> Vec<Setting>,
    /// The default settings as a commented TOML file.
    pub documented: fn() -> String,
    /// All settings, those of a table over the defaults, as JSON; fails for those that the method does not take.
    pub settings: fn(&Table) -> Result<Value>,
    /// [`Method::built_on`].
    pub built_on: fn(&Table) -> Result<Vec<BuiltOn>>,
    /// Trains it with the settings of a table over its defaults.
    pub fit: fn(&Table, &FitContext) -> Result<Box<dyn Detector>>,
    load: fn(&ModelFile, &LoadContext) -> Result<Box<dyn Detector>>,
}

impl Registration {
    /// Of a method.
    pub const fn of<M: Method>() -> Self {
        Self {
            name: M::NAME,
            summary: M::SUMMARY,
            supervised: M::SUPERVISED,
            ensemble: M::ENSEMBLE,
            bank: M::BANK,
            warm_start: M::WARM_START,
            cross_validation: M::CROSS_VALIDATION,
            explainable: M::EXPLAINABLE,
            exportable: M::EXPORTABLE,
            declared: M::Config::declared,
            documented: M::Config::documented,
            settings: |table| Ok(serde_json::json!(M::Config::from_table(table)?)),
            built_on: |table| Ok(M::built_on(&M::Config::from_table(table)?)),
            fit: |table, context| Ok(Box::new(M::fit(M::Config::from_table(table)?, context)?)),
            load: |file, context| Ok(Box::new(M::load(file, context)?)),
        }
    }

    /// Whether there is a setting of this name.
    pub fn has(&self, setting: &str) -> bool {
        (self.declared)().iter().any(|s| s.key == setting)
    }

    /// Checks settings without training.
    ///
    /// # Errors
    /// For an unknown key, a value of the wrong type or one that is not allowed.
    pub fn check(&self, settings: &Table) -> Result<()> {
        (self.settings)(settings).map(drop)
    }

    /// Reads a trained one; see [`Method::load`].
    ///
    /// # Errors
    /// Names the setting, tensor or number that cannot be.
    pub fn load(&self, file: &ModelFile, context: &LoadContext) -> Result<Box<dyn Detector>> {
        file.check()?;
        let detector = (self.load)(file, context)?;
        let (says, takes) = (file.image, detector.image());
        if says == takes {
            return Ok(detector);
        }
        Err(damaged(format!("images of {says} for a method that takes {takes}")))
    }
}

/// A method by name.
///
/// # Errors
/// When there is none of that name; lists those there are.
pub fn find(methods: Methods, name: &str) -> Result<&'static Registration> {
    methods.iter().find(|m| m.name == name).ok_or_else(|| {
        let known = names(methods, |_| true);
        Error::Config(format!("unknown method {name:?}; known are {known}"))
    })
}

/// The names of methods that can do something, in one line.
pub fn names(methods: Methods, can: impl Fn(&Registration) -> bool) -> String {
    methods.iter().filter(|m| can(m)).map(|m| m.name).collect::<Vec<_>>().join(", ")
}
