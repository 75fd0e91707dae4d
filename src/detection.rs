//! The words that every stage shares: a detection and its bounding box.

/// An axis-aligned rectangle in pixels of the frame (or, where a name says so, of the network's input).
/// `x`, `y` is the top left corner; the right and bottom edges are exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoundingBox {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl BoundingBox {
    /// The box between two corners; corners in the wrong order give a box without area.
    pub fn from_corners(left: f32, top: f32, right: f32, bottom: f32) -> Self {
        Self {
            x: left,
            y: top,
            width: (right - left).max(0.0),
            height: (bottom - top).max(0.0),
        }
    }

    /// The box of this size around a centre, as YOLO networks return it.
    pub fn from_center(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self {
            x: x - width / 2.0,
            y: y - height / 2.0,
            width,
            height,
        }
    }

    pub fn right(&self) -> f32 {
        self.x + self.width
    }

    pub fn bottom(&self) -> f32 {
        self.y + self.height
    }

    pub fn area(&self) -> f32 {
        self.width * self.height
    }

    /// The part of this box that lies within a frame of the given size; without area if none does.
    pub fn clipped_to(&self, frame_width: f32, frame_height: f32) -> Self {
        Self::from_corners(
            self.x.clamp(0.0, frame_width),
            self.y.clamp(0.0, frame_height),
            self.right().clamp(0.0, frame_width),
            self.bottom().clamp(0.0, frame_height),
        )
    }

    /// Left, top, width and height of the box in whole pixels of a frame: at least one pixel, within the frame.
    pub fn covering_pixels(&self, frame_width: u32, frame_height: u32) -> (u32, u32, u32, u32) {
        let span = |from: f32, to: f32, limit: u32| {
            let start = (from.round().max(0.0) as u32).min(limit.saturating_sub(1));
            let end = (to.round().max(0.0) as u32).clamp(start + 1, limit.max(start + 1));
            (start, end - start)
        };
        let (x, pixels_wide) = span(self.x, self.right(), frame_width);
        let (y, pixels_high) = span(self.y, self.bottom(), frame_height);
        (x, y, pixels_wide, pixels_high)
    }

    /// The box around both.
    pub fn union(&self, other: &Self) -> Self {
        Self::from_corners(
            self.x.min(other.x),
            self.y.min(other.y),
            self.right().max(other.right()),
            self.bottom().max(other.bottom()),
        )
    }

    /// Intersection over union, 0 to 1; 0 for boxes without area.
    pub fn iou(&self, other: &Self) -> f32 {
        let width = self.right().min(other.right()) - self.x.max(other.x);
        let height = self.bottom().min(other.bottom()) - self.y.max(other.y);
        if width <= 0.0 || height <= 0.0 {
            return 0.0;
        }
        let intersection = width * height;
        intersection / (self.area() + other.area() - intersection)
    }
}

/// A rectangle that is turned about its centre, in pixels of the frame. It can reach beyond the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OrientedBox {
    /// Before it is turned.
    pub rectangle: BoundingBox,
    /// Clockwise, in radians.
    pub angle: f32,
}

impl OrientedBox {
    /// The upright box around it.
    pub fn bounding_box(&self) -> BoundingBox {
        let (sine, cosine) = (self.angle.sin().abs(), self.angle.cos().abs());
        let BoundingBox {
            x,
            y,
            width,
            height,
        } = self.rectangle;
        BoundingBox::from_center(
            x + width / 2.0,
            y + height / 2.0,
            width * cosine + height * sine,
            width * sine + height * cosine,
        )
    }
}

/// One object that the network found in a frame. Its label is the entry `class_id` of the model's labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    pub class_id: u32,
    /// 0 to 1.
    pub confidence: f32,
    /// In pixels of the frame, within the frame.
    pub bounding_box: BoundingBox,
    /// The identity a tracker gave, stable over frames.
    pub object_id: Option<u64>,
    /// The box as a network for turned boxes returned it; `bounding_box` is the upright one around it.
    pub oriented: Option<OrientedBox>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounded_boxes_have_a_pixel_and_stay_within_the_frame(
            (x, y, w, h) in (-9f32..3000.0, -9f32..3000.0, 0f32..3000.0, 0f32..3000.0),
            (width, height) in (1u32..2000, 1u32..2000),
        ) {
            let clipped = BoundingBox { x, y, width: w, height: h }
                .clipped_to(width as f32, height as f32);
            let (x, y, w, h) = clipped.covering_pixels(width, height);
            prop_assert!(w >= 1 && h >= 1 && x + w <= width && y + h <= height);
        }
    }

    #[test]
    fn iou_of_equal_disjoint_and_half_overlapping_boxes() {
        let a = BoundingBox::from_corners(0.0, 0.0, 10.0, 10.0);
        let shifted = BoundingBox::from_corners(5.0, 0.0, 15.0, 10.0);
        let apart = BoundingBox::from_corners(10.0, 0.0, 20.0, 10.0);
        assert_eq!(a.iou(&a), 1.0);
        assert_eq!(a.iou(&shifted), 50.0 / 150.0);
        assert_eq!(a.iou(&apart), 0.0);
        assert_eq!(BoundingBox::default().iou(&BoundingBox::default()), 0.0);
    }

    #[test]
    fn clipping_keeps_the_inside_and_leaves_no_area_outside() {
        let over_edge = BoundingBox::from_corners(-5.0, 90.0, 20.0, 120.0);
        assert_eq!(
            over_edge.clipped_to(100.0, 100.0),
            BoundingBox::from_corners(0.0, 90.0, 20.0, 100.0)
        );
        let outside = BoundingBox::from_corners(-5.0, -5.0, -1.0, -1.0);
        assert_eq!(outside.clipped_to(100.0, 100.0).area(), 0.0);
    }
}
