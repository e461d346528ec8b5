//! What is shown while it goes on: one line on a terminal, on standard error; nothing elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that is written anew a few times a second.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// One for so many messages, or for as many as there will be. Hidden unless somebody looks.
    pub(super) fn new(total: Option<u64>, is_wanted: bool) -> Self {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let is_shown = is_wanted && std::io::stderr().is_terminal();
        let target =
            if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        bar.set_draw_target(target);
        let template = match total {
            Some(_) => "{bar:30} {pos}/{len} {msg} ({elapsed})",
            None => "{spinner} {msg} ({elapsed})",
        };
        // A template that indicatif cannot read is a mistake of ours that costs the style only.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if is_shown {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }

    /// So many are done, of which so many were processed.
    pub(super) fn show(&self, processed: u64, failed: u64) {
        self.0.set_position(processed + failed);
        self.0.set_message(format!("{processed} processed, {failed} not"));
    }

    /// Makes room for a line of output.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
