//! What a checkpoint must have been made for.

use serde_json::{Map, Value};

/// The first thing in which two fingerprints differ.
pub fn difference(had: &Value, has: &Map<String, Value>) -> Option<String> {
    let none = Map::new();
    let had = had.as_object().unwrap_or(&none);
    let name = has.keys().chain(had.keys()).find(|name| had.get(*name) != has.get(*name))?;
    let shown = |side: Option<&Value>| side.map_or("not set".into(), ToString::to_string);
    Some(format!("{name} was {}, is {}", shown(had.get(name)), shown(has.get(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_name_what_differs() {
        let of = |seed: u64, more: bool| {
            let mut map = Map::from_iter([("--seed".to_string(), Value::from(seed))]);
            if more {
                map.insert("setting lr".into(), 0.5.into());
            }
            map
        };
        assert_eq!(difference(&of(1, false).into(), &of(1, false)), None);
        assert_eq!(difference(&of(1, false).into(), &of(2, false)).as_deref(), Some("--seed was 1, is 2"));
        let gone = difference(&of(1, true).into(), &of(1, false));
        assert_eq!(gone.as_deref(), Some("setting lr was 0.5, is not set"));
        assert!(difference(&Value::Null, &of(1, false)).is_some());
    }
}
