//! Methods on the command line: their names as an argument, which help and completions know, and options for some of them.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command};
use hotad_models::method::names;
use hotad_models::{Registration, methods};

/// Takes any name, so that the registry refuses an unknown one in its own words.
#[derive(Clone)]
pub struct Methods;

impl TypedValueParser for Methods {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(methods().iter().map(|m| PossibleValue::new(m.name).help(m.summary))))
    }
}

/// The help of an option for the methods that can do something.
pub fn for_those(can: impl Fn(&Registration) -> bool, what: &str) -> String {
    format!("{}: {what}", names(methods(), can))
}
