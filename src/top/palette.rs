//! What is emphasised and how. Words say everything that colours say.

use ratatui::style::{Color, Modifier, Style};

use crate::health::Health;

/// Colours, or bold and dim text where there are none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    /// Whether colours are wanted (`NO_COLOR`).
    pub(super) colour: bool,
}

impl Palette {
    pub(super) fn health(self, health: Health) -> Style {
        match health {
            Health::Up => self.good(),
            Health::Down => self.bad(),
            Health::Unknown => self.doubtful(),
        }
    }

    pub(super) fn good(self) -> Style {
        self.of(Color::Green, Modifier::empty())
    }

    pub(super) fn bad(self) -> Style {
        self.of(Color::Red, Modifier::BOLD)
    }

    pub(super) fn doubtful(self) -> Style {
        self.of(Color::Yellow, Modifier::empty())
    }

    pub(super) fn alarm(self) -> Style {
        self.bad().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// The line the keys act on.
    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn of(self, colour: Color, modifier: Modifier) -> Style {
        let style = Style::new().add_modifier(modifier);
        if self.colour { style.fg(colour) } else { style }
    }
}
