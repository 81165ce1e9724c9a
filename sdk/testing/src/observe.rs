//! Keeps the text of what is reported during a call.

use std::sync::{Mutex, PoisonError};

use cooperage_solve::{Event, Observer};

/// A log that goes on and on says nothing new after this many bytes.
const MOST: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Heard(Mutex<String>);

impl Heard {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Heard {
    fn event(&self, event: Event) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if text.len() > MOST {
            return;
        }
        match event {
            Event::Log { message, .. } => {
                text.push_str(&message);
                text.push('\n');
            }
            Event::Output { bytes, .. } => text.push_str(&String::from_utf8_lossy(&bytes)),
            _ => {}
        }
    }
}
