//! What of a frame is inspected: regions, tiles of them, and what is found in each put together.
//!
//! 1. Each region, or else the whole frame, is inspected on its own, as if it were a frame.
//! 2. With tiles, a region that is larger than one is inspected as a whole and tile by tile: objects that are too small
//!    to be seen in the whole are seen in a tile, and those that are larger than a tile in the whole. Tiles overlap; the
//!    last of a row or column ends with the region.
//! 3. Parts begin at even columns and rows, so that no chroma sample is cut apart, and lie within the frame.
//! 4. Networks that want frames cropped see the middle of each part, in the proportions of their input.
//! 5. What is found in a polygon counts where the middle of its box lies within the polygon.
//! 6. From the most confident down, a box joins the first one of its class, from another part, of which the intersection
//!    covers more than half of the smaller of the two: that one becomes the box around both. (So does greedy
//!    non-maximum merging by "intersection over smaller" of SAHI: Akyon et al., "Slicing Aided Hyper Inference", 2022.)

mod merge;
mod parse;

use std::sync::{Arc, Mutex};

use crate::frame::Rectangle;
use crate::lock;

pub use merge::merge;
pub use parse::{Region, RegionError, Tiles};

/// Parts of a frame are inspected one by one: more are a mistake.
const MOST_PARTS: usize = 256;

/// Why frames cannot be inspected as it is wanted.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum ViewError {
    #[error("inference-region={region}: this lies outside of frames of {width}x{height}")]
    Outside {
        region: Region,
        width: usize,
        height: usize,
    },
    #[error(
        "tiles={tiles}: frames of {width}x{height} have {parts} parts, and at most {MOST_PARTS} are inspected: larger \
         tiles are needed, or less overlap"
    )]
    TooManyParts {
        tiles: Tiles,
        width: usize,
        height: usize,
        parts: usize,
    },
}

/// Corners of a polygon, in pixels of the frame.
pub type Polygon = Arc<[[f32; 2]]>;

/// A part of a frame that is inspected on its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub rectangle: Rectangle,
    /// Only objects in here count.
    pub polygon: Option<Polygon>,
}

/// What of each frame is inspected.
#[derive(Debug, Default)]
pub struct View {
    regions: Vec<Region>,
    tiles: Option<Tiles>,
    latest: Mutex<Option<(Shape, Arc<[Part]>)>>,
}

/// What parts depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    frame: (usize, usize),
    proportions: Option<(usize, usize)>,
}

impl View {
    /// These regions, or all of the frame if there are none, in tiles if so wanted.
    pub fn new(regions: Vec<Region>, tiles: Option<Tiles>) -> Self {
        Self {
            regions,
            tiles,
            latest: Mutex::default(),
        }
    }

    /// Whether frames are inspected as they are.
    pub fn is_whole(&self) -> bool {
        self.regions.is_empty() && self.tiles.is_none()
    }

    /// The parts of a frame of this size. Where `proportions` are given, width and height of the network's input, parts
    /// are cropped to them.
    pub fn parts(
        &self,
        frame: (usize, usize),
        proportions: Option<(usize, usize)>,
    ) -> Result<Arc<[Part]>, ViewError> {
        let shape = Shape { frame, proportions };
        let mut latest = lock(&self.latest);
        if let Some((_, parts)) = latest.as_ref().filter(|(known, _)| *known == shape) {
            return Ok(Arc::clone(parts));
        }
        let parts: Arc<[Part]> = self.divide(shape)?.into();
        *latest = Some((shape, Arc::clone(&parts)));
        Ok(parts)
    }

    fn divide(&self, Shape { frame, proportions }: Shape) -> Result<Vec<Part>, ViewError> {
        let (width, height) = frame;
        let mut wholes = Vec::with_capacity(self.regions.len().max(1));
        for region in &self.regions {
            let part = region.within(frame).ok_or_else(|| ViewError::Outside {
                region: region.clone(),
                width,
                height,
            })?;
            wholes.push(part);
        }
        if wholes.is_empty() {
            let rectangle = Rectangle {
                x: 0,
                y: 0,
                width,
                height,
            };
            let polygon = None;
            wholes.push(Part { rectangle, polygon });
        }
        let mut parts = Vec::new();
        for whole in wholes {
            if let Some(tiles) = self.tiles {
                let count = parts.len() + tiles.count(whole.rectangle);
                if count > MOST_PARTS {
                    return Err(ViewError::TooManyParts {
                        tiles,
                        width,
                        height,
                        parts: count,
                    });
                }
                parts.extend(tiles.of(whole.rectangle).map(|rectangle| Part {
                    rectangle,
                    polygon: whole.polygon.clone(),
                }));
            }
            parts.push(whole);
        }
        if let Some(proportions) = proportions {
            for part in &mut parts {
                part.rectangle = middle(part.rectangle, proportions);
            }
        }
        Ok(parts)
    }
}

impl Tiles {
    /// Where tiles begin on an axis of a part of this size, and how long they are.
    fn along(self, size: usize, tile: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let tile = tile.clamp(2, size.max(2));
        let step = ((tile as f32 * (1.0 - self.overlap)) as usize & !1).max(2);
        let steps = size.saturating_sub(tile).div_ceil(step);
        (0..=steps).map(move |i| match i == steps {
            // The last one ends with the part.
            true => {
                let start = size.saturating_sub(tile) & !1;
                (start, size - start)
            }
            false => (i * step, tile),
        })
    }

    /// Whether a part is no larger than a tile.
    fn holds(self, part: Rectangle) -> bool {
        part.width <= self.width && part.height <= self.height
    }

    /// Tiles of a part; none where it is no larger than one.
    fn of(self, part: Rectangle) -> impl Iterator<Item = Rectangle> {
        let rows = self.along(part.height, self.height);
        let columns = self.along(part.width, self.width);
        let tiles = rows.flat_map(move |(y, height)| {
            columns.clone().map(move |(x, width)| Rectangle {
                x: part.x + x,
                y: part.y + y,
                width,
                height,
            })
        });
        tiles.filter(move |_| !self.holds(part))
    }

    /// Parts that a part becomes, itself included.
    fn count(self, part: Rectangle) -> usize {
        let rows = self.along(part.height, self.height).count();
        let columns = self.along(part.width, self.width).count();
        match self.holds(part) {
            true => 1,
            false => rows.saturating_mul(columns).saturating_add(1),
        }
    }
}

/// The largest rectangle of these proportions in the middle of a part.
fn middle(part: Rectangle, (width, height): (usize, usize)) -> Rectangle {
    let ratio = (part.width as f64 / width as f64).min(part.height as f64 / height as f64);
    let cut = |size: usize, wanted: usize| {
        let length = ((wanted as f64 * ratio).round() as usize).clamp(1, size);
        (((size - length) / 2) & !1, length)
    };
    let (x, width) = cut(part.width, width);
    let (y, height) = cut(part.height, height);
    Rectangle {
        x: part.x + x,
        y: part.y + y,
        width,
        height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(regions: &str, tiles: &str) -> View {
        let tiles = Tiles::parse(tiles, 0.2).unwrap();
        View::new(Region::parse_all(regions).unwrap(), tiles)
    }

    fn rectangles(view: &View, frame: (usize, usize)) -> Vec<[usize; 4]> {
        let parts = view.parts(frame, None).unwrap();
        let sides = parts.iter().map(|part| part.rectangle);
        sides.map(|r| [r.x, r.y, r.width, r.height]).collect()
    }

    #[test]
    fn without_regions_and_tiles_all_of_the_frame_is_one_part() {
        let view = view("", "");
        assert!(view.is_whole());
        assert_eq!(rectangles(&view, (1920, 1080)), [[0, 0, 1920, 1080]]);
    }

    #[test]
    fn regions_are_in_pixels_or_per_cent_and_begin_at_even_pixels() {
        let view = view("11,21,100,99; 0%,50%,100%,50%; 10,10 90%,10 10,80", "");
        let expected = [[10, 20, 101, 100], [0, 240, 640, 240], [10, 10, 566, 70]];
        assert_eq!(rectangles(&view, (640, 480)), expected);
        let parts = view.parts((640, 480), None).unwrap();
        assert_eq!(parts[1].polygon, None);
        let corners = [[10.0, 10.0], [576.0, 10.0], [10.0, 80.0]];
        assert_eq!(parts[2].polygon.as_deref(), Some(&corners[..]));
        // What reaches beyond the frame ends with it.
        assert_eq!(
            rectangles(&view, (60, 31)),
            [[10, 20, 50, 11], [0, 14, 60, 17], [10, 10, 44, 21]]
        );
        let error = view.parts((8, 480), None).unwrap_err().to_string();
        assert!(
            error.contains("11,21,100,99") && error.contains("8x480"),
            "{error}"
        );
    }

    #[test]
    fn tiles_overlap_and_the_last_ends_with_the_part() {
        let view = view("", "640x640");
        let parts = rectangles(&view, (1920, 1080));
        let expected = [
            [0, 0, 640, 640],
            [512, 0, 640, 640],
            [1024, 0, 640, 640],
            [1280, 0, 640, 640],
            [0, 440, 640, 640],
            [512, 440, 640, 640],
            [1024, 440, 640, 640],
            [1280, 440, 640, 640],
            [0, 0, 1920, 1080],
        ];
        assert_eq!(parts, expected);
        assert_eq!(rectangles(&view, (640, 480)), [[0, 0, 640, 480]]);
        // Every pixel of odd sizes is in some tile, and no tile leaves the frame.
        for size in [641, 773, 1151, 1153, 1281] {
            let parts = rectangles(&view, (size, 99));
            assert!(
                parts
                    .iter()
                    .all(|[x, y, w, h]| x % 2 == 0 && x + w <= size && y + h <= 99)
            );
            let mut covered = vec![false; size];
            for [x, _, w, _] in &parts[..parts.len() - 1] {
                covered[*x..x + w].fill(true);
            }
            assert!(covered.iter().all(|&covered| covered), "{size}: {parts:?}");
        }
    }

    #[test]
    fn too_many_tiles_are_an_error_that_says_how_many() {
        let error = view("", "32x32").parts((3840, 2160), None).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("tiles=32x32") && error.contains("3840x2160"),
            "{error}"
        );
    }

    #[test]
    fn cropped_parts_are_the_middle_in_the_proportions_of_the_input() {
        let view = View::default();
        let crop = |frame, input| view.parts(frame, Some(input)).unwrap()[0].rectangle;
        let rectangle = |x, y, width, height| Rectangle {
            x,
            y,
            width,
            height,
        };
        assert_eq!(
            crop((1920, 1080), (300, 300)),
            rectangle(420, 0, 1080, 1080)
        );
        assert_eq!(
            crop((1080, 1920), (300, 300)),
            rectangle(0, 420, 1080, 1080)
        );
        assert_eq!(crop((640, 480), (640, 480)), rectangle(0, 0, 640, 480));
    }
}
