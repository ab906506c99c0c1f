//! How a command goes on that an interruption or an error has ended.

use hotad_engine::Error;

/// How a command is continued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Continued {
    /// Not at all: it begins anew.
    #[default]
    Not,
    /// With the option `--resume`; without it, `--force` begins anew.
    ByOption,
    /// By the same command; what is finished is not done again.
    BySameCommand,
}

impl Continued {
    /// What to do about a checkpoint that a training continues from, after a semicolon; nothing where nothing does.
    pub fn after_checkpoint(self) -> &'static str {
        match self {
            Self::Not => "",
            Self::ByOption => "; continue with --resume",
            Self::BySameCommand => "; the same command continues",
        }
    }

    /// What to do about an error, after a semicolon.
    pub fn after(self, error: &Error) -> &'static str {
        match (error, self) {
            (Error::Interrupted(Some(_)), _) | (Error::Interrupted(None), Self::BySameCommand) => {
                self.after_checkpoint()
            }
            (Error::Checkpoint { .. } | Error::OtherRun { .. }, Self::ByOption) => {
                "; --force in place of --resume begins anew"
            }
            (Error::Checkpoint { .. } | Error::OtherRun { .. }, Self::BySameCommand) => "; delete it to begin anew",
            _ => "",
        }
    }
}
