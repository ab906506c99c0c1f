//! Settings: defaults, a TOML file over them, `key=value` over both; unknown keys and values out of
//! range are errors that name them.

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Settings that say how long training is at most, of most methods.
const LENGTH: [&str; 6] = ["epochs", "encoder_epochs", "backbone_epochs", "color_epochs", "iterations", "patience"];

/// Settings of one method.
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// What each key means, in the order they are printed.
    const DOCS: &'static [(&'static str, &'static str)];

    /// Keys that only scoring depends on, not training: a run may be continued under other values of them.
    const SCORING: &'static [&'static str] = &[];

    /// Keys that say how long training is at most: a run may be continued for longer.
    const LENGTH: &'static [&'static str] = &LENGTH;

    /// The settings that training depends on, without how long it is.
    fn learning(&self) -> serde_json::Value {
        let mut all = serde_json::to_value(self).expect("settings are plain data");
        if let Some(map) = all.as_object_mut() {
            map.retain(|key, _| !Self::SCORING.contains(&key.as_str()) && !Self::LENGTH.contains(&key.as_str()));
        }
        all
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key, the value and the range.
    fn check(&self) -> Result<()>;

    /// What a table implies where it does not say, e.g. by naming a preset.
    ///
    /// # Errors
    /// When it names what does not exist.
    fn under(_table: &Table) -> Result<Table> {
        Ok(Table::new())
    }

    /// Settings from a table.
    ///
    /// # Errors
    /// For an unknown key, a value of the wrong type or out of range.
    fn from_table(table: &Table) -> Result<Self> {
        let known = |key: &str| Self::DOCS.iter().any(|(k, _)| *k == key);
        if let Some(key) = table.keys().find(|k| !known(k)) {
            let keys: Vec<&str> = Self::DOCS.iter().map(|(k, _)| *k).collect();
            return Err(Error::Config(format!("unknown setting {key:?}; known are {}", keys.join(", "))));
        }
        for (key, value) in table {
            let alone = Value::Table(Table::from_iter([(key.clone(), value.clone())]));
            let read: std::result::Result<Self, toml::de::Error> = alone.try_into();
            read.map_err(|e| Error::Config(format!("setting {key} = {value}: {}", e.message().trim())))?;
        }
        let mut whole = Self::under(table)?;
        whole.extend(table.clone());
        let settings: Self = Value::Table(whole)
            .try_into()
            .map_err(|e: toml::de::Error| Error::Config(format!("settings: {}", e.message().trim())))?;
        settings.check()?;
        Ok(settings)
    }

    /// Settings that a model file holds; they are believed no more than those of a table.
    ///
    /// # Errors
    /// When they are damaged or out of range.
    fn of_file(saved: &serde_json::Value) -> Result<Self> {
        checked(saved.clone()).map_err(damaged)
    }

    /// The defaults as a commented TOML file.
    fn documented() -> String {
        let table = Table::try_from(Self::default()).expect("settings are plain data");
        let line = |(key, doc): &(&str, &str)| {
            let value = table.get(*key).map(ToString::to_string).unwrap_or_default();
            format!("# {doc}\n{key} = {value}\n")
        };
        Self::DOCS.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The error of settings in a model file that make no sense; says what of them.
pub fn damaged(what: impl std::fmt::Display) -> Error {
    Error::Config(format!("damaged settings in the model file ({what})"))
}

/// Fails for a model file whose images are not those of its settings.
///
/// # Errors
/// Names both.
pub fn require_square(image: ImageSpec, side: usize) -> Result<()> {
    if (image.height, image.width) == (side, side) {
        return Ok(());
    }
    Err(damaged(format!("images of {} x {} under image_size = {side}", image.height, image.width)))
}

/// Reads settings and checks their ranges, for fields of what a model file holds.
///
/// # Errors
/// Those of the settings.
pub fn checked<'de, S: Settings, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<S, D::Error> {
    let settings = S::deserialize(from)?;
    settings.check().map_err(serde::de::Error::custom)?;
    Ok(settings)
}

/// What a setting means: its key, and a line.
pub type Doc = (&'static str, &'static str);

/// The settings of a method and those that it shares with others.
pub const fn join<const A: usize, const B: usize, const N: usize>(own: [Doc; A], shared: [Doc; B]) -> [Doc; N] {
    concatenated(own, shared)
}

/// What a method says of its settings, and what it shares with others.
pub const fn concatenated<T: Copy, const A: usize, const B: usize, const N: usize>(
    own: [T; A],
    shared: [T; B],
) -> [T; N] {
    assert!(A + B == N && A > 0);
    let mut all = [own[0]; N];
    let mut i = 0;
    while i < N {
        all[i] = if i < A { own[i] } else { shared[i - A] };
        i += 1;
    }
    all
}

/// Fails unless `value` is in range.
///
/// # Errors
/// Names the key, the value and what is allowed.
pub fn require(ok: bool, key: &str, value: impl std::fmt::Display, allowed: &str) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Config(format!("setting {key} = {value} is out of range; allowed: {allowed}"))) }
}

/// Most epochs of a training; more than any that ends.
const MOST_EPOCHS: usize = 1_000_000;

/// Fails unless a number of epochs is in range.
///
/// # Errors
/// Names the key, the value and what is allowed.
pub fn check_epochs(key: &str, epochs: usize) -> Result<()> {
    require((1..=MOST_EPOCHS).contains(&epochs), key, epochs, &format!("1 to {MOST_EPOCHS}"))
}

/// A number, or how it is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choice {
    /// This value.
    Fixed(f64),
    /// `"auto"`: as the setting's documentation says.
    Word(String),
}

impl Choice {
    /// The value, when it is fixed.
    pub fn fixed(&self) -> Option<f64> {
        match self {
            Self::Fixed(v) => Some(*v),
            Self::Word(_) => None,
        }
    }

    /// Fails unless it is `"auto"` or a value that is in range.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub fn check(&self, key: &str, allowed: &str, ok: impl Fn(f64) -> bool) -> Result<()> {
        match self {
            Self::Word(word) => require(word == "auto", key, word, allowed),
            Self::Fixed(v) => require(ok(*v), key, v, allowed),
        }
    }
}

/// Puts one `key=value` into a table; the value is read as TOML, or as text where it is none.
///
/// # Errors
/// When there is no `=`.
pub fn set(table: &mut Table, assignment: &str) -> Result<()> {
    let (key, value) = assignment
        .split_once('=')
        .ok_or_else(|| Error::Config(format!("--set {assignment:?}: expected key=value, e.g. alpha=0.05")))?;
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    table.insert(key.trim().into(), parsed.unwrap_or_else(|| Value::String(value.trim().into())));
    Ok(())
}
