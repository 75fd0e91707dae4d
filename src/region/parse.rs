//! Regions and tiles as users write them.

use std::fmt;
use std::sync::Arc;

use super::Part;
use crate::frame::Rectangle;

/// Polygons with more corners are a mistake.
const MOST_CORNERS: usize = 64;
const MOST_REGIONS: usize = 64;

/// A text is no region, or no size of tiles.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegionError {
    #[error(
        "inference-region: '{0}' is neither x,y,width,height nor three or more corners x,y between spaces, in pixels or, \
         with %, in parts of the frame"
    )]
    Region(String),
    #[error("inference-region: {0} regions are more than {MOST_REGIONS}")]
    TooMany(usize),
    #[error("tiles: '{0}' is no size in pixels, such as 640x640")]
    Tiles(String),
}

/// A number of pixels, or a part of the frame's width or height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    value: f32,
    per_cent: bool,
}

impl Length {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (number, per_cent) = match text.strip_suffix('%') {
            Some(number) => (number, true),
            None => (text, false),
        };
        let value: f32 = number.trim_end().parse().ok()?;
        let sane = value.is_finite() && value >= 0.0;
        sane.then_some(Self { value, per_cent })
    }

    fn pixels(self, size: usize) -> f32 {
        match self.per_cent {
            true => self.value * size as f32 / 100.0,
            false => self.value,
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.value, if self.per_cent { "%" } else { "" })
    }
}

/// A part of every frame, whatever its size.
#[derive(Clone, Debug, PartialEq)]
pub enum Region {
    /// Left, top, width, height.
    Rectangle([Length; 4]),
    /// Three corners or more.
    Polygon(Vec<[Length; 2]>),
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rectangle([x, y, width, height]) => write!(f, "{x},{y},{width},{height}"),
            Self::Polygon(corners) => {
                let corners: Vec<_> = corners.iter().map(|[x, y]| format!("{x},{y}")).collect();
                write!(f, "{}", corners.join(" "))
            }
        }
    }
}

impl Region {
    /// Regions between semicolons; none in an empty text.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, RegionError> {
        let regions = text
            .split(';')
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let regions =
            regions.map(|text| Self::parse(text).ok_or_else(|| RegionError::Region(text.into())));
        let regions: Vec<_> = regions.collect::<Result<_, _>>()?;
        match regions.len() {
            0..=MOST_REGIONS => Ok(regions),
            many => Err(RegionError::TooMany(many)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let lengths = |text: &str| {
            text.split(',')
                .map(Length::parse)
                .collect::<Option<Vec<_>>>()
        };
        if let Some(rectangle) = lengths(text) {
            return Some(Self::Rectangle(rectangle.try_into().ok()?));
        }
        let corners = text
            .split_whitespace()
            .map(|corner| lengths(corner)?.try_into().ok());
        let corners: Vec<_> = corners.collect::<Option<_>>()?;
        let sane = (3..=MOST_CORNERS).contains(&corners.len());
        sane.then_some(Self::Polygon(corners))
    }

    /// The region in a frame of this size; none where no pixel of it is in there.
    pub(super) fn within(&self, (width, height): (usize, usize)) -> Option<Part> {
        let side = |start: f32, end: f32, size: usize| {
            let start = (start.min(size as f32).floor() as usize) & !1;
            let end = (end.ceil().max(0.0) as usize).min(size);
            (end > start).then(|| (start, end - start))
        };
        let (left, top, right, bottom, polygon) = match self {
            Self::Rectangle([x, y, w, h]) => {
                let (x, y) = (x.pixels(width), y.pixels(height));
                (x, y, x + w.pixels(width), y + h.pixels(height), None)
            }
            Self::Polygon(corners) => {
                let corners = corners
                    .iter()
                    .map(|[x, y]| [x.pixels(width), y.pixels(height)]);
                let corners: Arc<[[f32; 2]]> = corners.collect();
                let least = |axis: usize| {
                    corners
                        .iter()
                        .map(|c| c[axis])
                        .fold(f32::INFINITY, f32::min)
                };
                let most = |axis: usize| corners.iter().map(|c| c[axis]).fold(0.0, f32::max);
                let (left, top, right, bottom) = (least(0), least(1), most(0), most(1));
                (left, top, right, bottom, Some(corners))
            }
        };
        let (x, width) = side(left, right, width)?;
        let (y, height) = side(top, bottom, height)?;
        let rectangle = Rectangle {
            x,
            y,
            width,
            height,
        };
        Some(Part { rectangle, polygon })
    }
}

/// The size of tiles in pixels of the frame, and which part of it two neighbours have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiles {
    pub width: usize,
    pub height: usize,
    pub overlap: f32,
}

impl fmt::Display for Tiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl Tiles {
    const SIDES: std::ops::RangeInclusive<usize> = 32..=65535;

    /// `640x640`; none in an empty text.
    pub fn parse(text: &str, overlap: f32) -> Result<Option<Self>, RegionError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let side = |text: &str| {
            text.trim()
                .parse()
                .ok()
                .filter(|side| Self::SIDES.contains(side))
        };
        let sides = text.split_once(['x', 'X']).and_then(|(width, height)| {
            Some(Self {
                width: side(width)?,
                height: side(height)?,
                overlap,
            })
        });
        sides
            .map(Some)
            .ok_or_else(|| RegionError::Tiles(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_region_is_named() {
        for text in [
            "1,2,3",
            "1,2,3,4,5",
            "a,b,c,d",
            "-1,2,3,4",
            "1,2 3,4",
            "1,2,nan,4",
            "1,2 3,4 5",
        ] {
            let error = Region::parse_all(&format!("0,0,8,8; {text}")).unwrap_err();
            assert_eq!(error, RegionError::Region(text.into()));
        }
        assert_eq!(Region::parse_all(" ; "), Ok(Vec::new()));
        assert_eq!(
            Region::parse_all(&"0,0,8,8;".repeat(65)),
            Err(RegionError::TooMany(65))
        );
    }

    #[test]
    fn regions_are_written_as_they_are_read() {
        for text in ["1,2,30.5,4%", "1,2 3%,4 5,6"] {
            let regions = Region::parse_all(text).unwrap();
            assert_eq!(regions[0].to_string(), text);
        }
    }

    #[test]
    fn tiles_are_a_width_and_a_height() {
        let tiles = Tiles::parse("640x480", 0.25).unwrap().unwrap();
        assert_eq!((tiles.width, tiles.height, tiles.overlap), (640, 480, 0.25));
        assert_eq!(Tiles::parse("", 0.25), Ok(None));
        for text in [
            "640",
            "640x",
            "0x640",
            "8x640",
            "-1x640",
            "axb",
            "70000x640",
        ] {
            assert_eq!(
                Tiles::parse(text, 0.2),
                Err(RegionError::Tiles(text.into()))
            );
        }
    }
}
