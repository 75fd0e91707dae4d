//! Text as bitmaps: monospaced fonts of several sizes, and lines in the characters they have.

use std::fmt;
use std::sync::LazyLock;

use embedded_graphics::geometry::{OriginDimensions, Point};
use embedded_graphics::image::GetPixel;
use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::iso_8859_1::{
    FONT_5X8, FONT_6X10, FONT_7X13_BOLD, FONT_9X18_BOLD,
};
use embedded_graphics::pixelcolor::BinaryColor;

/// The glyphs of a monospaced font, by ISO 8859-1 code. A pixel is covered or not.
#[derive(Debug, PartialEq, Eq)]
pub struct Font {
    /// Size of every glyph's cell in pixels; cells follow each other without a gap. At most 16 wide.
    pub width: u32,
    pub height: u32,
    rows: Vec<u16>,
}

// Each is rasterised when it is first used, once for the process.
static TINY: LazyLock<Font> = LazyLock::new(|| Font::rasterise(&FONT_5X8));
static SMALL: LazyLock<Font> = LazyLock::new(|| Font::rasterise(&FONT_6X10));
static MEDIUM: LazyLock<Font> = LazyLock::new(|| Font::rasterise(&FONT_7X13_BOLD));
static LARGE: LazyLock<Font> = LazyLock::new(|| Font::rasterise(&FONT_9X18_BOLD));

impl Font {
    /// The font, and the factor to enlarge it by, for text of about this height in pixels: not higher, unless
    /// the smallest font is.
    pub fn of_height(height: u32) -> (&'static Font, u32) {
        match height {
            0..10 => (&TINY, 1),
            10..13 => (&SMALL, 1),
            13..18 => (&MEDIUM, 1),
            18..26 => (&LARGE, 1),
            26..36 => (&MEDIUM, 2),
            _ => (&LARGE, height / 18),
        }
    }

    fn rasterise(source: &MonoFont<'_>) -> Self {
        let cell = source.character_size;
        let cells_per_row = source.image.size().width / cell.width;
        let row = |code: u8, y: u32| {
            let index = source.glyph_mapping.index(char::from(code)) as u32;
            let left = index % cells_per_row * cell.width;
            let top = index / cells_per_row * cell.height;
            let covered = |x: &u32| {
                let pixel = Point::new((left + x) as i32, (top + y) as i32);
                source.image.pixel(pixel) == Some(BinaryColor::On)
            };
            (0..cell.width)
                .filter(covered)
                .fold(0, |row, x| row | 1 << x)
        };
        Self {
            width: cell.width,
            height: cell.height,
            rows: (0..=u8::MAX)
                .flat_map(|code| (0..cell.height).map(move |y| (code, y)))
                .map(|(code, y)| row(code, y))
                .collect(),
        }
    }

    /// All fonts that [`Font::of_height`] chooses from.
    pub fn all() -> [&'static Font; 4] {
        [&TINY, &SMALL, &MEDIUM, &LARGE]
    }

    /// The rows of all glyphs, as of [`Font::row`], by code and from top to bottom.
    pub fn rows(&self) -> &[u16] {
        &self.rows
    }

    /// One row of pixels of a glyph; the lowest bit is the leftmost pixel, a set bit a covered one.
    /// `row` is below [`Font::height`].
    pub fn row(&self, code: u8, row: u32) -> u16 {
        self.rows[usize::from(code) * self.height as usize + row as usize]
    }
}

/// Adds words to a text in ISO 8859-1, up to a length. Control characters are left out, characters that the
/// fonts do not have become `?`.
pub struct Line<'a> {
    text: &'a mut Vec<u8>,
    start: usize,
    limit: usize,
}

impl<'a> Line<'a> {
    /// A line that begins at the end of `text` and holds at most `limit` characters.
    pub fn new(text: &'a mut Vec<u8>, limit: usize) -> Self {
        Self {
            start: text.len(),
            text,
            limit,
        }
    }

    /// Adds a word, after a space where it is not the first; nothing at all if the word has no character that
    /// can be drawn or no room.
    pub fn push_word(&mut self, word: impl fmt::Display) {
        let before = self.text.len();
        if before > self.start {
            self.push(' ');
        }
        let after_space = self.text.len();
        // An error only says that the line is full.
        let _ = fmt::Write::write_fmt(self, format_args!("{word}"));
        if self.text.len() == after_space {
            self.text.truncate(before);
        }
    }

    fn push(&mut self, character: char) {
        if !self.is_full() && !character.is_control() {
            self.text.push(u8::try_from(character).unwrap_or(b'?'));
        }
    }

    fn is_full(&self) -> bool {
        self.text.len() - self.start >= self.limit
    }
}

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, characters: &str) -> fmt::Result {
        for character in characters.chars() {
            if self.is_full() {
                return Err(fmt::Error);
            }
            self.push(character);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(limit: usize, words: &[&str]) -> String {
        let mut text = b"before".to_vec();
        let mut line = Line::new(&mut text, limit);
        for word in words {
            line.push_word(word);
        }
        text[6..].iter().map(|&code| char::from(code)).collect()
    }

    #[test]
    fn a_line_holds_latin_1_and_replaces_the_rest_but_control_characters() {
        assert_eq!(line(99, &["Caf\u{e9}", "0.87"]), "Caf\u{e9} 0.87");
        assert_eq!(line(99, &["\u{732b}\u{1f408}", "cat"]), "?? cat");
        assert_eq!(line(99, &["a\0\n\u{7f}\u{85}b", "\r\n", "c"]), "ab c");
    }

    #[test]
    fn a_line_stops_at_its_limit_and_never_ends_with_the_space_before_a_word() {
        assert_eq!(line(7, &["person", "0.87"]), "person");
        assert_eq!(line(8, &["person", "0.87"]), "person 0");
        assert_eq!(line(0, &["person"]), "");
    }

    #[test]
    fn glyphs_are_those_of_the_font() {
        let (font, scale) = Font::of_height(8);
        assert_eq!((font.width, font.height, scale), (5, 8, 1));
        let picture: Vec<String> = (0..font.height)
            .map(|row| format!("{:05b}", font.row(b'L', row).reverse_bits() >> 11))
            .collect();
        assert_eq!(
            picture,
            [
                "00000", "10000", "10000", "10000", "10000", "10000", "11110", "00000"
            ]
        );
        assert!((0..font.height).all(|row| font.row(b' ', row) == 0));
    }

    #[test]
    fn every_font_has_a_glyph_of_its_own_for_all_of_latin_1() {
        for font in Font::all() {
            let glyph =
                |code| -> Vec<u16> { (0..font.height).map(|y| font.row(code, y)).collect() };
            for code in (0x21..=0x7e).chain(0xa1..=0xff) {
                let rows = glyph(code);
                assert!(rows.iter().any(|&row| row != 0), "{code}");
                assert!(rows.iter().all(|&row| u32::from(row) >> font.width == 0));
                assert_eq!(rows == glyph(b'?'), code == b'?', "{code}");
            }
        }
    }

    #[test]
    fn text_keeps_close_to_the_height_asked_for() {
        let actual = |asked| {
            let (font, scale) = Font::of_height(asked);
            font.height * scale
        };
        assert!((0..8).all(|asked| actual(asked) == 8));
        for asked in 8..500 {
            let range = asked * 2 / 3..=asked;
            assert!(range.contains(&actual(asked)), "{asked}: {}", actual(asked));
        }
    }
}
