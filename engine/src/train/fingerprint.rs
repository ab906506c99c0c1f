//! What a checkpoint must have been made for.

use std::fmt;

use serde_json::{Map, Value};

/// What names of arguments stand behind in a fingerprint, so that each caller can call them as its users do.
const ARGUMENT: &str = "argument ";

/// The name in a fingerprint of an argument, such as a field of a job.
pub fn argument(name: &str) -> String {
    format!("{ARGUMENT}{name}")
}

/// Something in which two runs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    name: String,
    had: String,
    has: String,
}

impl Difference {
    /// The first thing in which two fingerprints differ, arguments before what follows from them.
    pub fn between(had: &Value, has: &Map<String, Value>) -> Option<Self> {
        let none = Map::new();
        let had = had.as_object().unwrap_or(&none);
        let differs = |name: &&String| had.get(*name) != has.get(*name);
        let names = || has.keys().chain(had.keys()).filter(differs);
        let name = names().find(|name| name.starts_with(ARGUMENT)).or_else(|| names().next())?;
        let shown = |side: Option<&Value>| side.map_or("not set".into(), ToString::to_string);
        Some(Self { name: name.clone(), had: shown(had.get(name)), has: shown(has.get(name)) })
    }

    /// The same, an [`argument`] called as `call` says.
    #[must_use]
    pub fn calling(&self, call: impl Fn(&str) -> String) -> Self {
        match self.name.split_once(ARGUMENT) {
            Some((before, name)) => Self { name: format!("{before}{}", call(name)), ..self.clone() },
            None => self.clone(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { name, had, has } = self;
        write!(f, "{name} was {had}, is {has}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(had: &Value, has: &Map<String, Value>) -> Option<String> {
        Difference::between(had, has).map(|difference| difference.to_string())
    }

    #[test]
    fn fingerprints_name_what_differs() {
        let of = |seed: u64, more: bool| {
            let mut map = Map::from_iter([(argument("seed"), Value::from(seed))]);
            if more {
                map.insert("setting lr".into(), 0.5.into());
            }
            map
        };
        assert_eq!(told(&of(1, false).into(), &of(1, false)), None);
        assert_eq!(told(&of(1, false).into(), &of(2, false)).as_deref(), Some("argument seed was 1, is 2"));
        let drawn = |seed: u64| Map::from_iter([argument("seed"), "SHA-256".into()].map(|name| (name, seed.into())));
        assert_eq!(told(&drawn(1).into(), &drawn(2)).as_deref(), Some("argument seed was 1, is 2"));
        let gone = told(&of(1, true).into(), &of(1, false));
        assert_eq!(gone.as_deref(), Some("setting lr was 0.5, is not set"));
        assert!(told(&Value::Null, &of(1, false)).is_some());
    }

    #[test]
    fn arguments_are_called_as_callers_call_them() {
        let called = |name: &str| {
            let has = Map::from_iter([(name.to_string(), Value::from(1))]);
            let difference = Difference::between(&Value::Null, &has).expect("one of the two has nothing");
            difference.calling(|argument| format!("--{argument}")).to_string()
        };
        assert_eq!(called(&argument("seed")), "--seed was not set, is 1");
        assert_eq!(called(&format!("SHA-256 of {}", argument("init"))), "SHA-256 of --init was not set, is 1");
        assert_eq!(called("setting lr"), "setting lr was not set, is 1");
    }
}
