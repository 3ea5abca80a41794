//! Colours, emphasis and frames.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Block;

/// Colours and emphasis, or none of them.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    pub colour: bool,
}

impl Paint {
    pub fn fg(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    pub fn emphasis(self, modifier: Modifier) -> Style {
        if self.colour {
            Style::new().add_modifier(modifier)
        } else {
            Style::new()
        }
    }
}

/// A frame with a title.
pub fn panel(title: &str, paint: Paint) -> Block<'static> {
    Block::bordered()
        .border_style(paint.emphasis(Modifier::DIM))
        .title(Line::styled(
            format!(" {title} "),
            paint.emphasis(Modifier::BOLD),
        ))
}
