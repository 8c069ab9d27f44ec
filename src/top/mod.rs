//! `pointsman top`: the status as a screen that can be walked through.
//!
//! Pure: [`App`] is what the screen knows, [`App::update`] takes one [`Input`] at a time, and
//! [`draw`] shows it. Keys, answers of the daemon and time come in from `cli::top`, which owns the
//! terminal.

mod app;
mod curve;
mod detail;
mod draw;
mod header;
mod keys;
mod list;
mod palette;
mod rows;
mod selected;
mod words;

pub use app::{App, Ask, Input};
pub use draw::draw;
