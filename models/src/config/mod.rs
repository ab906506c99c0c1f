//! Settings: defaults, a TOML file over them, `key=value` over both; unknown keys and values out of
//! range are errors that name them.

mod bank_type;
mod channels;
mod choice;
mod declare;
mod interval;
mod sides;

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use bank_type::BankType;
pub use channels::Channels;
pub use choice::Choice;
pub(crate) use declare::settings;
pub use declare::{Affects, Declared, Setting};
pub use interval::{BATCH, BLUR, EPOCHS, Interval, POSITIVE, RATE, SHARE, WEIGHT};
pub use sides::{Sides, SidesChoice};

/// Settings of one method, declared by `settings!`.
pub trait Settings: Declared + Serialize + DeserializeOwned + Default {
    /// Checks what some settings allow of others, or what a type allows by itself.
    ///
    /// # Errors
    /// Names a key, its value and what is allowed.
    fn check_together(&self) -> Result<()> {
        Ok(())
    }

    /// Checks all values.
    ///
    /// # Errors
    /// Names a key, its value and what is allowed.
    fn check(&self) -> Result<()> {
        self.check_each()?;
        self.check_together()
    }

    /// Keys of the settings that a part of a method's work depends on.
    fn keys_of(affected: Affects) -> Vec<&'static str> {
        Self::declared().iter().filter(|s| s.affects == affected).map(|s| s.key).collect()
    }

    /// The settings that training depends on, without how long it is.
    fn learning(&self) -> serde_json::Value {
        let keys = [Affects::Learning, Affects::Shapes].map(Self::keys_of).concat();
        let mut all = serde_json::json!(self);
        if let Some(map) = all.as_object_mut() {
            map.retain(|key, _| keys.contains(&key.as_str()));
        }
        all
    }

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
        let keys: Vec<&str> = Self::declared().iter().map(|s| s.key).collect();
        if let Some(key) = table.keys().find(|k| !keys.contains(&k.as_str())) {
            return Err(Error::Config(format!("unknown setting {key:?}; known are {}", keys.join(", "))));
        }
        for (key, value) in table {
            let alone = Value::Table(Table::from_iter([(key.clone(), value.clone())]));
            let read: std::result::Result<Self, toml::de::Error> = alone.try_into();
            read.map_err(|e| Error::Config(format!("setting {key} = {value}: {}", reason(e.message()))))?;
        }
        let mut whole = Self::default().to_table();
        whole.extend(Self::under(table)?);
        whole.extend(table.clone());
        let settings: Self = Value::Table(whole)
            .try_into()
            .map_err(|e: toml::de::Error| Error::Config(format!("settings: {}", e.message().trim())))?;
        settings.check()?;
        Ok(settings)
    }

    /// Settings that a model file holds, checked like those of a table.
    ///
    /// # Errors
    /// When they are damaged or out of range.
    fn of_file(saved: &serde_json::Value) -> Result<Self> {
        checked(saved.clone()).map_err(damaged)
    }

    /// All of them as a table.
    fn to_table(&self) -> Table {
        Table::try_from(self).expect("settings are plain data")
    }

    /// The defaults as a commented TOML file.
    fn documented() -> String {
        let table = Self::default().to_table();
        let line = |Setting { key, help, allowed, .. }: Setting| {
            let allowed = allowed.map(|values| format!("# allowed: {values}\n")).unwrap_or_default();
            format!("# {help}\n{allowed}{key} = {}\n", table[key])
        };
        Self::declared().into_iter().map(line).collect::<Vec<_>>().join("\n")
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
pub fn require_sides(image: ImageSpec, sides: impl Into<Sides>) -> Result<()> {
    let sides = sides.into();
    if Sides::from(image) == sides {
        return Ok(());
    }
    Err(damaged(format!("images of {} x {} under image_size = {sides}", image.height, image.width)))
}

/// Reads settings over the defaults and checks their ranges, for fields of what a model file holds.
///
/// # Errors
/// Those of the settings.
pub fn checked<'de, S: Settings, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<S, D::Error> {
    let mut whole = serde_json::to_value(S::default()).map_err(serde::de::Error::custom)?;
    if let Some(all) = whole.as_object_mut() {
        all.extend(serde_json::Map::deserialize(from)?);
    }
    let settings = S::deserialize(whole).map_err(serde::de::Error::custom)?;
    settings.check().map_err(serde::de::Error::custom)?;
    Ok(settings)
}

/// What is wrong with the type of a value, without the names of Rust's types.
fn reason(message: &str) -> String {
    let message = message.trim();
    if message.contains("untagged enum") {
        return "no value of this type is allowed".into();
    }
    let Some((what, expected)) = message.rsplit_once("expected ") else { return message.into() };
    let expected = match expected {
        "f32" | "f64" => "a number",
        "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        same => same,
    };
    format!("{what}expected {expected}")
}

/// A share above 0 and below 1, or a whole number from 1 on.
pub struct ShareOrCount {
    /// The largest whole number.
    pub most: u32,
}

impl ShareOrCount {
    /// Whether it is one.
    pub fn contains(&self, value: f64) -> bool {
        (value > 0.0 && value < 1.0) || (value >= 1.0 && value.fract() == 0.0 && value <= f64::from(self.most))
    }
}

impl std::fmt::Display for ShareOrCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a share above 0 and below 1, or a whole number from 1 to {}", self.most)
    }
}

/// Patches of a coreset.
pub const CORESET: ShareOrCount = ShareOrCount { most: 10_000_000 };

/// Fails unless `value` is in range.
///
/// # Errors
/// Names the key, the value and what is allowed.
pub fn require(ok: bool, key: &str, value: impl std::fmt::Display, allowed: impl std::fmt::Display) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Config(format!("setting {key} = {value} is out of range; allowed: {allowed}"))) }
}

/// Puts one `key=value` into a table; the value is read as TOML, or as text where it is none.
///
/// # Errors
/// When there is no `=`.
pub fn set(table: &mut Table, assignment: &str) -> Result<()> {
    let (key, value) = assignment
        .split_once('=')
        .ok_or_else(|| Error::Config(format!("setting {assignment:?}: expected key=value, e.g. alpha=0.05")))?;
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    table.insert(key.trim().into(), parsed.unwrap_or_else(|| Value::String(value.trim().into())));
    Ok(())
}
