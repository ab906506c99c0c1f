//! `settings!`: all that is known of a setting, written once.

use std::fmt::Display;

use hotad_engine::Result;

/// What a setting affects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affects {
    /// What is learned.
    #[default]
    Learning,
    /// Shapes of networks or what they see, and so what is learned: training starts only from a model with the same value.
    Shapes,
    /// How long training is at most: a run may be continued for longer.
    Length,
    /// Scoring alone: a run may be continued, and a model score, under another value.
    Scoring,
}

/// What is known of a setting, its default aside.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Name in a TOML file and of `--set`.
    pub key: &'static str,
    /// What it means, in a line.
    pub help: &'static str,
    /// Which values it may have, where its help does not list them.
    pub allowed: Option<String>,
    /// What it affects.
    pub affects: Affects,
}

impl Setting {
    /// A setting that learning depends on, of any value of its type.
    pub(crate) fn new(key: &'static str, help: &'static str) -> Self {
        Self { key, help: help.trim(), allowed: None, affects: Affects::Learning }
    }

    /// With the values that it may have.
    pub(crate) fn allowed(self, values: impl Display) -> Self {
        Self { allowed: Some(values.to_string()), ..self }
    }

    /// With what it affects.
    pub(crate) fn affects(self, affects: Affects) -> Self {
        Self { affects, ..self }
    }
}

/// What `settings!` gives a struct beside its fields and its [`Default`].
pub trait Declared {
    /// The settings, in the order they are printed.
    fn declared() -> Vec<Setting>;

    /// Checks each setting by itself.
    ///
    /// # Errors
    /// Names the first whose value is not allowed, the value, and what is.
    fn check_each(&self) -> Result<()>;
}

/// Declares settings: a struct that serde reads and writes, its [`Default`] and [`Declared`]. `impl Settings for` it follows by
/// hand, with the checks of some settings together, if there are any. One entry a setting:
///
/// ```text
/// /// Help, as `hotad config` and rustdoc print it; may go on in further lines.
/// key: Type = default, in low..=high, for Affects;
/// ```
///
/// - `in` an [`Interval`](super::Interval) of numbers or, in its place, `allowed "words" if |value| condition`, where the words, a literal
///   or a constant, are what an error says of the condition. Neither for a type that has no other values.
/// - `for Scoring`, `for Length` or `for Shapes`: see [`Affects`]; without it, learning depends on the setting.
///
/// Last come settings that are shared with other methods, themselves declared so, and their defaults here:
///
/// ```text
/// ..group: GroupSettings = GroupSettings::default();
/// ```
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $help:literal])+
                $key:ident: $type:ty = $default:expr
                $(, in $interval:expr)?
                $(, allowed $words:tt if $condition:expr)?
                $(, for $affects:ident)?;
            )*
            $(..$group:ident: $group_type:ty = $group_default:expr;)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[doc = $help])+ pub $key: $type,)*
            $(
                /// Settings shared with other methods.
                #[serde(flatten)]
                pub $group: $group_type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* $($group: $group_default,)* }
            }
        }

        impl $crate::config::Declared for $name {
            fn declared() -> Vec<$crate::config::Setting> {
                let own = vec![$(
                    $crate::config::Setting::new(stringify!($key), concat!($($help),+))
                        $(.allowed($crate::config::Interval::<$type>::from($interval)))?
                        $(.allowed($words))?
                        $(.affects($crate::config::Affects::$affects))?
                ),*];
                [own, $(<$group_type>::declared()),*].concat()
            }

            fn check_each(&self) -> hotad_engine::Result<()> {
                $(
                    $($crate::config::Interval::<$type>::from($interval).require(stringify!($key), self.$key)?;)?
                    $(
                        let condition: fn(&$type) -> bool = $condition;
                        $crate::config::require(condition(&self.$key), stringify!($key), &self.$key, $words)?;
                    )?
                )*
                $($crate::config::Settings::check(&self.$group)?;)*
                Ok(())
            }
        }
    };
}

pub(crate) use settings;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RATE, Settings};

    settings! {
        /// A group.
        pub struct Group {
            /// learning rate
            lr: f64 = 0.1, in RATE;
        }
    }

    impl Settings for Group {}

    settings! {
        /// A method's.
        pub struct Own {
            /// images
            /// of one step
            batch: usize = 4, in 1..=8, for Length;
            /// an even number
            even: u32 = 2, allowed "even numbers" if |v| v.is_multiple_of(2), for Scoring;
            /// anything
            name: String = "a".into();
            ..group: Group = Group { lr: 0.5 };
        }
    }

    impl Settings for Own {}

    fn refusal(text: &str) -> String {
        Own::from_table(&text.parse().expect("TOML")).expect_err("refused").to_string()
    }

    #[test]
    fn an_entry_says_all_that_is_known_of_a_setting() {
        let printed = "# images of one step\n# allowed: 1 to 8\nbatch = 4\n\n# an even number\n# allowed: even numbers\neven = 2\n\n\
                       # anything\nname = \"a\"\n\n# learning rate\n# allowed: above 0, below 1\nlr = 0.5\n";
        assert_eq!(Own::documented(), printed);
        assert_eq!(
            Own::from_table(&"even = 4".parse().expect("TOML")).expect("in range"),
            Own { even: 4, ..Own::default() }
        );
        assert_eq!(
            [Affects::Learning, Affects::Length, Affects::Scoring].map(Own::keys_of),
            [vec!["name", "lr"], vec!["batch"], vec!["even"]]
        );
        assert_eq!(Own::default().learning(), serde_json::json!({"name": "a", "lr": 0.5}));
    }

    #[test]
    fn a_key_that_a_model_file_lacks_is_the_default_of_the_method() {
        assert_eq!(Own::of_file(&serde_json::json!({})).expect("defaults"), Own::default());
    }

    #[test]
    fn errors_say_what_is_allowed() {
        assert!(refusal("batch = 9").ends_with("setting batch = 9 is out of range; allowed: 1 to 8"));
        assert!(refusal("even = 3").ends_with("setting even = 3 is out of range; allowed: even numbers"));
        assert!(refusal("lr = 1.0").ends_with("setting lr = 1 is out of range; allowed: above 0, below 1"));
        assert!(refusal("odd = 3").ends_with("unknown setting \"odd\"; known are batch, even, name, lr"));
    }
}
