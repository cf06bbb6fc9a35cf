//! A few lines that are drawn over and over on a terminal.

use crate::output::{Screen, clean};

const WIDTH: usize = 80;
const HEIGHT: usize = 24;

/// The lines drawn last.
#[derive(Debug, Default)]
pub(crate) struct Live {
    drawn: usize,
}

impl Live {
    /// Draws lines over the last ones. Each is cut to the terminal's width, since a wrapped one could not be drawn over.
    pub(crate) fn draw(&mut self, screen: &Screen, lines: &[String]) {
        let (width, height) = terminal_size::terminal_size()
            .map_or((WIDTH, HEIGHT), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        let mut text = self.erase();
        let room = height.saturating_sub(2).max(1);
        for line in lines.iter().take(room) {
            text.extend(
                clean(line).chars().filter(|character| !matches!(character, '\n' | '\t')).take(width.saturating_sub(1)),
            );
            text.push('\n');
        }
        self.drawn = lines.len().min(room);
        screen.say_raw(&text);
    }

    /// Takes the lines away.
    pub(crate) fn clear(&mut self, screen: &Screen) {
        screen.say_raw(&self.erase());
        self.drawn = 0;
    }

    fn erase(&self) -> String {
        match self.drawn {
            0 => String::new(),
            lines => format!("\u{1b}[{lines}A\u{1b}[J"),
        }
    }
}
