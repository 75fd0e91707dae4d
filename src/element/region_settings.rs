//! What of each frame is inspected.

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::settings::take;
use crate::region::{Region, RegionError, Tiles, View};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RegionSettings {
    regions: Option<String>,
    tiles: Option<String>,
    overlap: f32,
}

impl Default for RegionSettings {
    fn default() -> Self {
        Self {
            regions: None,
            tiles: None,
            overlap: 0.2,
        }
    }
}

impl RegionSettings {
    pub fn view(&self) -> Result<View, RegionError> {
        let regions = Region::parse_all(self.regions.as_deref().unwrap_or_default())?;
        let tiles = Tiles::parse(self.tiles.as_deref().unwrap_or_default(), self.overlap)?;
        Ok(View::new(regions, tiles))
    }

    pub fn specs(&self) -> Vec<glib::ParamSpec> {
        vec![
            glib::ParamSpecString::builder("inference-region")
                .nick("Inference region")
                .blurb(
                    "Parts of the frame to inspect, each on its own: x,y,width,height or the corners x,y of a polygon \
                     between spaces, in pixels or per cent of the frame (50%); semicolons between parts (none = all of \
                     the frame)",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("tiles")
                .nick("Tiles")
                .blurb(
                    "Width and height in pixels of the tiles, such as 640x640, in which larger frames or regions are \
                     inspected besides as a whole, so that small objects are found (none = no tiles)",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecFloat::builder("tile-overlap")
                .nick("Tile overlap")
                .blurb("What neighbouring tiles have in common, as a part of their width and height")
                .minimum(0.0)
                .maximum(0.9)
                .default_value(self.overlap)
                .mutable_playing()
                .build(),
        ]
    }

    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "inference-region" => self.regions.to_value(),
            "tiles" => self.tiles.to_value(),
            "tile-overlap" => self.overlap.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value; says whether it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "inference-region" => take(&mut self.regions, value),
            "tiles" => take(&mut self.tiles, value),
            "tile-overlap" => take(&mut self.overlap, value),
            _ => return false,
        }
        true
    }
}
