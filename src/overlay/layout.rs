//! From detections to a list of shapes: where boxes, tails, plates and text lie, and in which colour.

use std::ops::Range;

use super::color::Color;
use super::tail::{self, LENGTH, Point, Tails};
use super::text::{Font, Line};
use super::{Look, Parts};
use crate::detection::{BoundingBox, Detection};

/// Something to draw, in pixels of the frame. It may reach over the edges of the frame; what lies outside is
/// not drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A filled rectangle.
    Fill {
        left: i32,
        top: i32,
        width: u32,
        height: u32,
        color: Color,
    },
    /// A line of glyphs; every pixel of the font is a square of `scale` pixels.
    Glyphs {
        left: i32,
        top: i32,
        font: &'static Font,
        scale: u32,
        /// Where its characters lie in [`Picture::text`].
        text: Range<usize>,
        color: Color,
    },
}

/// All that is drawn into one frame. Keep one for many frames: its buffers are used again.
#[derive(Debug, Default)]
pub struct Picture {
    /// In the order in which they are drawn.
    pub shapes: Vec<Shape>,
    /// The characters of all glyph shapes, in ISO 8859-1.
    pub text: Vec<u8>,
    numbers: Vec<u8>,
}

/// Pixels from `left`, `top` to the exclusive `right`, `bottom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

impl Area {
    fn middle(self) -> Point {
        let (width, height) = (self.right - self.left, self.bottom - self.top);
        (self.left + width / 2, self.top + height / 2)
    }

    fn grown(self, by: i32) -> Self {
        Self {
            left: self.left - by,
            top: self.top - by,
            right: self.right + by,
            bottom: self.bottom + by,
        }
    }
}

/// Around outlines, so that they stand out from what has their own colour.
const SHADOW: Color = Color {
    alpha: 120,
    ..Color::BLACK
};

/// Opacity of the latest piece of a tail; earlier ones have less.
const TAIL_ALPHA: usize = 230;

/// Sizes that depend on the frame alone, in pixels of it.
struct Style {
    frame_width: i32,
    frame_height: i32,
    /// Of the lines of an outline.
    thickness: i32,
    /// Of the shadow around them.
    shadow: i32,
    font: &'static Font,
    scale: u32,
    /// Between text and the edges of its plate.
    margin_x: i32,
    margin_y: i32,
}

impl Style {
    fn for_frame(width: usize, height: usize) -> Self {
        let frame_width = i32::try_from(width).unwrap_or(i32::MAX);
        let frame_height = i32::try_from(height).unwrap_or(i32::MAX);
        // The shorter side, so that video held upright is drawn like the same video lying.
        let side = frame_width.min(frame_height);
        let thickness = (side.saturating_add(220) / 280).max(1);
        // Small frames need larger text for their size, as a glyph needs some pixels whatever the frame.
        let text_height = (8 + side / 70).max(side / 50);
        let (font, scale) = Font::of_height(text_height.unsigned_abs());
        Self {
            frame_width,
            frame_height,
            thickness,
            shadow: (thickness / 2).max(1),
            font,
            scale,
            margin_x: (font.width * scale / 2) as i32,
            margin_y: (font.height / 10).max(1) as i32 * scale as i32,
        }
    }

    /// Width of one character.
    fn advance(&self) -> i32 {
        (self.font.width * self.scale) as i32
    }

    fn plate_height(&self) -> i32 {
        (self.font.height * self.scale) as i32 + 2 * self.margin_y
    }

    /// Number of characters that a plate as wide as the frame holds; none in a frame lower than a plate.
    fn room(&self) -> usize {
        if self.plate_height() > self.frame_height {
            return 0;
        }
        let width = self.frame_width - 2 * self.margin_x;
        usize::try_from(width / self.advance()).unwrap_or(0)
    }

    /// The pixels of the frame that a box covers, at least one; none if it has no area within the frame, and so
    /// also for coordinates that are not a number.
    fn visible_area(&self, bounding_box: &BoundingBox) -> Option<Area> {
        let visible = bounding_box.clipped_to(self.frame_width as f32, self.frame_height as f32);
        let span = |start: f32, end: f32, limit: i32| {
            let start = (start.round() as i32).min(limit - 1);
            (start, (end.round() as i32).clamp(start + 1, limit))
        };
        (visible.area() > 0.0).then(|| {
            let (left, right) = span(visible.x, visible.right(), self.frame_width);
            let (top, bottom) = span(visible.y, visible.bottom(), self.frame_height);
            Area {
                left,
                top,
                right,
                bottom,
            }
        })
    }

    /// Where a plate lies for an object there: above it, or inside where there is no room above; moved to the
    /// left and up as far as the frame asks.
    fn plate(&self, object: Area, characters: usize) -> Area {
        let width = characters as i32 * self.advance() + 2 * self.margin_x;
        let left = object.left.min(self.frame_width - width).max(0);
        let above = object.top - self.plate_height();
        let top = if above >= 0 {
            above
        } else {
            object.top.min(self.frame_height - self.plate_height())
        };
        Area {
            left,
            top,
            right: left + width,
            bottom: top + self.plate_height(),
        }
    }
}

impl Picture {
    /// Replaces the picture by that of `detections`, for a frame of this size in pixels. All fillings lie below all
    /// outlines, those below all tails, and those below all text; a detection lies below those that come before it in
    /// the list.
    pub(super) fn lay_out<L: AsRef<str>>(
        &mut self,
        look: &Look,
        tails: &mut Tails,
        detections: &[Detection],
        labels: &[L],
        frame_width: usize,
        frame_height: usize,
    ) {
        self.shapes.clear();
        self.text.clear();
        let style = Style::for_frame(frame_width, frame_height);
        let visible = || {
            let upwards = detections.iter().rev();
            upwards.filter_map(|d| Some((d, style.visible_area(&d.bounding_box)?)))
        };
        let parts = look.parts;
        if parts.fill {
            for (detection, area) in visible() {
                let alpha = look.fill_alpha;
                let color = look.color(detection.class_id);
                self.push_fill(area, Color { alpha, ..color });
            }
        }
        if parts.outline {
            for (detection, area) in visible() {
                self.push_outline(&style, area, look.color(detection.class_id));
            }
        }
        if parts.tail {
            tails.begin();
            for (detection, area) in visible() {
                if let Some(object_id) = detection.object_id {
                    tails.extend(object_id, area.middle());
                    let color = look.color(detection.class_id);
                    self.push_tail(&style, tails, object_id, color);
                }
            }
        }
        if parts.any_text() && style.room() > 0 {
            for (detection, area) in visible() {
                let label = labels.get(detection.class_id as usize).map(L::as_ref);
                self.push_caption(&style, look, detection, label, area);
            }
        }
    }

    /// The lines along the inner edges of a box and a shadow around them. In a small box the lines are thinner,
    /// so that its inside stays visible.
    fn push_outline(&mut self, style: &Style, object: Area, color: Color) {
        let shorter = (object.right - object.left).min(object.bottom - object.top);
        let thickness = style.thickness.min((shorter / 4).max(1));
        let shadows = ring(object.grown(style.shadow), style.shadow);
        // Side by side, as what lies close together in memory is drawn fastest one after the other.
        for (shadow, line) in shadows.into_iter().zip(ring(object, thickness)) {
            self.push_fill(shadow, SHADOW);
            self.push_fill(line, color);
        }
    }

    fn push_tail(&mut self, style: &Style, tails: &Tails, object_id: u64, color: Color) {
        for (from, to, age) in tails.pieces(object_id) {
            let alpha = (TAIL_ALPHA * (LENGTH - age) / LENGTH) as u8;
            for [left, top, right, bottom] in tail::rectangles(from, to, style.thickness) {
                let area = Area {
                    left,
                    top,
                    right,
                    bottom,
                };
                self.push_fill(area, Color { alpha, ..color });
            }
        }
    }

    /// Text on a plate; nothing if there is no text.
    fn push_caption(
        &mut self,
        style: &Style,
        look: &Look,
        detection: &Detection,
        label: Option<&str>,
        object: Area,
    ) {
        let text = self.push_text(look.parts, detection, label, style.room());
        if text.is_empty() {
            return;
        }
        let color = look.color(detection.class_id);
        let plate = style.plate(object, text.len());
        self.push_fill(plate, color);
        self.shapes.push(Shape::Glyphs {
            left: plate.left + style.margin_x,
            top: plate.top + style.margin_y,
            font: style.font,
            scale: style.scale,
            text,
            color: color.for_text_on_it(),
        });
    }

    /// Adds text like `Person 0.87 #12` and returns where it lies. Where the room is short the label is cut, so
    /// that the numbers stay whole.
    fn push_text(
        &mut self,
        parts: Parts,
        detection: &Detection,
        label: Option<&str>,
        room: usize,
    ) -> Range<usize> {
        self.numbers.clear();
        let mut numbers = Line::new(&mut self.numbers, room);
        if parts.confidence {
            numbers.push_word(format_args!("{:.2}", detection.confidence));
        }
        if let Some(object_id) = detection.object_id.filter(|_| parts.track) {
            numbers.push_word(format_args!("#{object_id}"));
        }

        let start = self.text.len();
        let room_for_label = match self.numbers.len() {
            0 => room,
            numbers => room.saturating_sub(numbers + 1),
        };
        if parts.label {
            let mut line = Line::new(&mut self.text, room_for_label);
            match label {
                Some(label) => line.push_word(label),
                None => line.push_word(format_args!("class {}", detection.class_id)),
            }
        }
        if self.text.len() > start && !self.numbers.is_empty() {
            self.text.push(b' ');
        }
        self.text.extend_from_slice(&self.numbers);
        start..self.text.len()
    }

    fn push_fill(&mut self, area: Area, color: Color) {
        let width = u32::try_from(area.right - area.left).unwrap_or(0);
        let height = u32::try_from(area.bottom - area.top).unwrap_or(0);
        if width > 0 && height > 0 {
            self.shapes.push(Shape::Fill {
                left: area.left,
                top: area.top,
                width,
                height,
                color,
            });
        }
    }
}

/// Four lines along the inner edges of an area, none over another: top, left, right and bottom.
fn ring(area: Area, thickness: i32) -> [Area; 4] {
    let left = (area.left + thickness).min(area.right);
    let top = (area.top + thickness).min(area.bottom);
    let right = (area.right - thickness).max(left);
    let bottom = (area.bottom - thickness).max(top);
    let sides = Area {
        top,
        bottom,
        ..area
    };
    [
        Area {
            bottom: top,
            ..area
        },
        Area {
            right: left,
            ..sides
        },
        Area {
            left: right,
            ..sides
        },
        Area {
            top: bottom,
            ..area
        },
    ]
}

#[cfg(test)]
mod tests;
