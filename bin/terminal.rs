//! What work tells while it runs, on stderr: lines, warnings, and a bar where stderr is a terminal.

use std::cell::RefCell;
use std::path::Path;

use hotad_engine::Error;
use hotad_engine::error::shown;
use hotad_engine::observer::{Observer, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use crate::continued::Continued;
use crate::output;

/// Tells the user what is done.
#[derive(Default)]
pub struct Terminal {
    /// Say nothing but warnings.
    quiet: bool,
    /// Say details too.
    verbose: bool,
    /// How the command is continued.
    pub continued: Continued,
    /// That of the task under way.
    bar: RefCell<Option<ProgressBar>>,
}

impl Terminal {
    pub fn new(quiet: bool, verbose: bool) -> Self {
        Self { quiet, verbose, ..Self::default() }
    }

    /// Writes a line above the bar.
    fn above(&self, write: impl FnOnce()) {
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Observer for Terminal {
    fn say(&self, line: &str) {
        if !self.quiet {
            self.above(|| output::note(line));
        }
    }

    fn warn(&self, warning: &str) {
        self.above(|| output::warn(warning));
    }

    fn assume(&self, line: &str, argument: &str) {
        // Commands that are not continued by an option train without the options of training.
        let advice = match self.continued {
            Continued::ByOption => format!(" ({} says otherwise)", output::option(argument)),
            Continued::Not | Continued::BySameCommand => String::new(),
        };
        self.say(&format!("{line}{advice}"));
    }

    fn skipped(&self, error: &Error) {
        self.warn(&format!("skipped {}", output::told(error)));
    }

    fn detail(&self, line: &str) {
        if self.verbose {
            self.above(|| output::note(line));
        }
    }

    fn kept(&self, checkpoint: &Path) {
        self.say(&format!("what was learned is in {}{}", shown(checkpoint), self.continued.after_checkpoint()));
    }

    fn progress(&self, progress: &Progress) {
        if self.quiet {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| bar_of(progress));
        if let Some(state) = progress.state
            && bar.message() != state
        {
            bar.set_message(state.to_string());
        }
        bar.set_position(progress.done);
    }

    fn ended(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A new bar for a task.
fn bar_of(progress: &Progress) -> ProgressBar {
    let unit = progress.unit;
    let style = match progress.state {
        Some(_) => {
            format!("{{prefix}} [{{bar:30}}] {{pos}}/{{len}} {unit}, {{elapsed}} elapsed, {{eta}} left, {{msg}}")
        }
        None => format!("{{prefix}} [{{bar:30}}] {{pos}}/{{len}} {unit}, {{eta}} left"),
    };
    let bar = ProgressBar::new(progress.total);
    bar.set_style(ProgressStyle::with_template(&style).expect("the template is fixed").progress_chars("=> "));
    bar.with_prefix(progress.task.to_string())
}
