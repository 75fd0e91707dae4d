//! A part of a frame.

/// Whole pixels of a frame; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl Rectangle {
    /// Whether this is a part of a frame of this size that cuts no chroma sample apart where it begins.
    pub fn is_part_of(&self, width: usize, height: usize) -> bool {
        let within = |start: usize, length: usize, size: usize| {
            length > 0
                && start.is_multiple_of(2)
                && start.checked_add(length).is_some_and(|end| end <= size)
        };
        within(self.x, self.width, width) && within(self.y, self.height, height)
    }
}
