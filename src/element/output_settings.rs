//! What the user sets for the pads `crops` and `detections`.

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::branch::queue::Overflow;
use super::settings::{SettingsError, take};
use crate::crop::render::CropResize;
use crate::crop::select::Rules;
use crate::decode::classes::ClassFilter;
use crate::model::Labels;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct OutputSettings {
    pub crop_resize: CropResize,
    pub crop_margin: f32,
    pub crop_classes: Option<String>,
    pub crop_min_size: u32,
    pub crop_max_per_frame: u32,
    pub crop_interval_ms: u32,
    pub crop_overflow: Overflow,
    pub json_empty: bool,
    pub json_source: Option<String>,
    pub json_overflow: Overflow,
}

impl Default for OutputSettings {
    fn default() -> Self {
        Self {
            crop_resize: CropResize::default(),
            crop_margin: 0.0,
            crop_classes: None,
            crop_min_size: 0,
            crop_max_per_frame: 0,
            crop_interval_ms: 0,
            crop_overflow: Overflow::default(),
            json_empty: true,
            json_source: None,
            json_overflow: Overflow::default(),
        }
    }
}

impl OutputSettings {
    pub fn specs(&self) -> Vec<glib::ParamSpec> {
        let mut specs = crop_specs(self);
        specs.extend(json_specs(self));
        specs
    }

    /// Which detections are cut out, for a model with these labels.
    pub fn crop_rules(&self, labels: &Labels) -> Result<Rules, SettingsError> {
        let classes = self.crop_classes.as_deref().unwrap_or_default();
        let thresholds = ClassFilter::parse(classes)
            .and_then(|filter| filter.thresholds(labels, 0.0))
            .map_err(SettingsError::CropClasses)?;
        Ok(Rules {
            margin: self.crop_margin,
            thresholds,
            min_size: self.crop_min_size,
            max_per_frame: self.crop_max_per_frame as usize,
            interval: gst::ClockTime::from_mseconds(self.crop_interval_ms.into()),
        })
    }

    /// The value of a property that is one of these settings.
    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "crop-resize" => self.crop_resize.to_value(),
            "crop-margin" => self.crop_margin.to_value(),
            "crop-classes" => self.crop_classes.to_value(),
            "crop-min-size" => self.crop_min_size.to_value(),
            "crop-max-per-frame" => self.crop_max_per_frame.to_value(),
            "crop-interval-ms" => self.crop_interval_ms.to_value(),
            "crop-overflow" => self.crop_overflow.to_value(),
            "json-empty" => self.json_empty.to_value(),
            "json-source" => self.json_source.to_value(),
            "json-overflow" => self.json_overflow.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "crop-resize" => take(&mut self.crop_resize, value),
            "crop-margin" => take(&mut self.crop_margin, value),
            "crop-classes" => take(&mut self.crop_classes, value),
            "crop-min-size" => take(&mut self.crop_min_size, value),
            "crop-max-per-frame" => take(&mut self.crop_max_per_frame, value),
            "crop-interval-ms" => take(&mut self.crop_interval_ms, value),
            "crop-overflow" => take(&mut self.crop_overflow, value),
            "json-empty" => take(&mut self.json_empty, value),
            "json-source" => take(&mut self.json_source, value),
            "json-overflow" => take(&mut self.json_overflow, value),
            _ => {}
        }
    }
}

fn crop_specs(default: &OutputSettings) -> Vec<glib::ParamSpec> {
    let number = |name: &'static str, nick: &'static str, blurb: &'static str, value: u32| {
        glib::ParamSpecUInt::builder(name)
            .nick(nick)
            .blurb(blurb)
            .default_value(value)
            .mutable_playing()
            .build()
    };
    vec![
        glib::ParamSpecEnum::builder_with_default("crop-resize", default.crop_resize)
            .nick("Crop resize")
            .blurb("How crops fit where the caps of the pad 'crops' fix their size")
            .mutable_playing()
            .build(),
        glib::ParamSpecFloat::builder("crop-margin")
            .nick("Crop margin")
            .blurb("What a crop shows around its object on each side, as a part of the box's width and height")
            .minimum(0.0)
            .maximum(10.0)
            .default_value(default.crop_margin)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("crop-classes")
            .nick("Crop classes")
            .blurb(
                "Labels (or numbers) of the classes to cut out, each with a least confidence if wanted: \
                 person:0.8,car; without it all that are detected",
            )
            .mutable_playing()
            .build(),
        number(
            "crop-min-size",
            "Crop minimum size",
            "Objects with a shorter side than this, in pixels of the frame, are not cut out",
            default.crop_min_size,
        ),
        number(
            "crop-max-per-frame",
            "Crops per frame",
            "Most crops of one frame, of the most confident objects (0 = no limit)",
            default.crop_max_per_frame,
        ),
        number(
            "crop-interval-ms",
            "Crop interval",
            "Least time between two crops of one tracked object, in milliseconds; others are cut out in every frame",
            default.crop_interval_ms,
        ),
        glib::ParamSpecEnum::builder_with_default("crop-overflow", default.crop_overflow)
            .nick("Crop overflow")
            .blurb(
                "What happens to crops when those of more than 16 frames wait for what is linked to the pad 'crops'",
            )
            .mutable_playing()
            .build(),
    ]
}

fn json_specs(default: &OutputSettings) -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecBoolean::builder("json-empty")
            .nick("JSON of empty frames")
            .blurb("Send a line on the pad 'detections' also for inspected frames in which nothing was found")
            .default_value(default.json_empty)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("json-source")
            .nick("JSON source")
            .blurb("What the lines on the pad 'detections' call this stream; without it the element's name")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("json-overflow", default.json_overflow)
            .nick("JSON overflow")
            .blurb(
                "What happens to the lines on the pad 'detections' when more than 1024 wait for what is linked to it",
            )
            .mutable_playing()
            .build(),
    ]
}
