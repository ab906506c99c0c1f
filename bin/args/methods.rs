//! The name of a method as an argument: help and completions know all there are.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command};
use hotad_models::METHODS;

/// Takes any name, so that the registry refuses an unknown one in its own words.
#[derive(Clone)]
pub struct Methods;

impl TypedValueParser for Methods {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(METHODS.iter().map(|m| PossibleValue::new(m.name).help(m.summary))))
    }
}
