//! What the user sets: the properties, with their defaults in one place.

use std::sync::Arc;

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;
use once_cell::sync::Lazy;

use super::decoding_settings::DecodingSettings;
use super::gpu_settings::GpuSettings;
use super::hash_settings::HashSettings;
use super::lateness_settings::LatenessSettings;
use super::output_settings::OutputSettings;
use super::overlay_settings::OverlaySettings;
use super::region_settings::RegionSettings;
use super::sharing_settings::SharingSettings;
use super::tracking_settings::TrackingSettings;
use crate::decode::Selection;
use crate::decode::classes::{ClassFilter, ClassFilterError};
use crate::decode::cuda::MAX_DETECTIONS;
use crate::detector::{self, DetectorOptions, Search};
use crate::meta::{Choice, Kinds, MetadataError};
use crate::model::Labels;
use crate::preprocess::Shrinking;
use crate::printable::printable;
use crate::region::RegionError;
use crate::track::Rules;

/// Which engine runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRsDetectNetBackend")]
pub enum Backend {
    #[default]
    #[enum_value(
        name = "TensorRT where a GPU and TensorRT are, else ONNX Runtime",
        nick = "auto"
    )]
    Auto,
    #[enum_value(name = "TensorRT on an NVIDIA GPU", nick = "tensorrt")]
    TensorRt,
    #[enum_value(name = "ONNX Runtime on the CPU", nick = "onnxruntime")]
    OnnxRuntime,
}

/// How frames larger than the network's input are sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRsDetectNetScaling")]
pub enum Scaling {
    #[default]
    #[enum_value(
        name = "Between the nearest two pixels of each axis",
        nick = "bilinear"
    )]
    Bilinear,
    #[enum_value(
        name = "The mean of all pixels on an axis that shrinks to less than half",
        nick = "area"
    )]
    Area,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub model: String,
    pub labels: Option<String>,
    pub backend: Backend,
    pub threads: u32,
    pub scaling: Scaling,
    pub threshold: f32,
    pub iou_threshold: f32,
    pub max_detections: u32,
    pub classes: Option<String>,
    pub interval: u32,
    pub metadata: String,
    pub post_messages: bool,
    pub qos: bool,
    pub gpu: GpuSettings,
    pub decoding: DecodingSettings,
    pub region: RegionSettings,
    pub sharing: SharingSettings,
    pub tracking: TrackingSettings,
    pub overlay: OverlaySettings,
    pub lateness: LatenessSettings,
    pub hash: HashSettings,
    pub outputs: OutputSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: "ssd-mobilenet-v2".into(),
            labels: None,
            backend: Backend::default(),
            threads: 0,
            scaling: Scaling::default(),
            threshold: 0.5,
            iou_threshold: 0.5,
            max_detections: 100,
            classes: None,
            interval: 0,
            metadata: "auto".into(),
            post_messages: false,
            qos: true,
            gpu: GpuSettings::default(),
            decoding: DecodingSettings::default(),
            region: RegionSettings::default(),
            sharing: SharingSettings::default(),
            tracking: TrackingSettings::default(),
            overlay: OverlaySettings::default(),
            lateness: LatenessSettings::default(),
            hash: HashSettings::default(),
            outputs: OutputSettings::default(),
        }
    }
}

/// A property that can only be understood as a whole was not.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(super) enum SettingsError {
    #[error(transparent)]
    Classes(#[from] ClassFilterError),
    #[error("crop-{0}")]
    CropClasses(ClassFilterError),
    #[error("overlay: '{0}' is none of box, line, fill, label, confidence, track, tail, none")]
    Overlay(String),
    #[error("overlay-colors: '{0}' is no colour: write person:#ff0000,car:#00ff00,#808080")]
    Color(String),
    #[error("overlay-colors: the model has no class '{0}'")]
    ColorOfNoClass(String),
    #[error("metadata: '{0}' is none of roi, analytics, nvds, and neither auto nor none alone")]
    MetadataWord(String),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Region(#[from] RegionError),
}

impl Settings {
    /// What the model is loaded from, on this GPU if on any.
    pub fn detector_options(&self, gpu_id: u32) -> DetectorOptions {
        DetectorOptions {
            model: self.model.clone(),
            labels: self.labels.as_ref().map(Into::into),
            decoder: self.decoding.decoder(),
            input_size: self.decoding.input_size(),
            backend: match self.backend {
                Backend::Auto => detector::Backend::Auto,
                Backend::TensorRt => detector::Backend::TensorRt,
                Backend::OnnxRuntime => detector::Backend::OnnxRuntime,
            },
            threads: self.threads as usize,
            gpu_id,
            dla_core: self.gpu.dla_core(),
            precision: self.gpu.precision(),
            engine_cache: self.gpu.engine_cache(),
            batch_size: self.gpu.batch_size,
            workspace_bytes: self.gpu.workspace_bytes(),
            shrinking: match self.scaling {
                Scaling::Bilinear => Shrinking::Bilinear,
                Scaling::Area => Shrinking::Average,
            },
            instance: self.sharing.instance.clone().unwrap_or_default(),
        }
    }

    /// What is looked for, and where; where objects are followed, by these rules.
    pub fn search(&self, labels: &Labels) -> Result<(Search, Option<Rules>), SettingsError> {
        let mut selection = self.selection(labels)?;
        let method = self.tracking.method();
        let thresholds = selection.thresholds.clone();
        let rules = method.map(|method| Rules { method, thresholds });
        if let Some(rules) = &rules {
            selection.thresholds = rules.least_thresholds();
        }
        let search = Search {
            selection: Arc::new(selection),
            view: Arc::new(self.region.view()?),
        };
        Ok((search, rules))
    }

    fn selection(&self, labels: &Labels) -> Result<Selection, SettingsError> {
        let filter = ClassFilter::parse(self.classes.as_deref().unwrap_or_default())?;
        Ok(Selection {
            thresholds: filter.thresholds(labels, self.threshold)?,
            iou_threshold: self.iou_threshold,
            max_detections: self.max_detections as usize,
            filter: self.decoding.filter(),
        })
    }

    /// What `metadata=roi,analytics` asks for; `+` and `|` separate as well.
    pub fn metadata_kinds(&self) -> Result<Kinds, SettingsError> {
        match self.metadata.trim() {
            "auto" => return Ok(Kinds::Auto),
            "none" => return Ok(Kinds::Only(Choice::default())),
            _ => {}
        }
        let mut choice = Choice::default();
        for word in words(&self.metadata) {
            match word {
                "roi" => choice.roi = true,
                "analytics" => choice.analytics = true,
                "nvds" => choice.nvds = true,
                other => return Err(SettingsError::MetadataWord(other.into())),
            }
        }
        Ok(Kinds::Only(choice))
    }

    pub fn specs() -> &'static [glib::ParamSpec] {
        static SPECS: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            let mut specs = model_specs(&Settings::default());
            specs.extend(GpuSettings::default().specs());
            specs.extend(SharingSettings::default().specs());
            specs.extend(DecodingSettings::default().specs());
            specs.extend(selection_specs(&Settings::default()));
            specs.extend(RegionSettings::default().specs());
            specs.extend(TrackingSettings::default().specs());
            specs.extend(OverlaySettings::default().specs());
            specs.extend(output_specs(&Settings::default()));
            specs.extend(LatenessSettings::default().specs());
            specs.extend(HashSettings::default().specs());
            specs.extend(OutputSettings::default().specs());
            specs
        });
        &SPECS
    }

    /// The value of a property that is a setting.
    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "model" => self.model.to_value(),
            "labels" => self.labels.to_value(),
            "backend" => self.backend.to_value(),
            "threads" => self.threads.to_value(),
            "scaling" => self.scaling.to_value(),
            "threshold" => self.threshold.to_value(),
            "iou-threshold" => self.iou_threshold.to_value(),
            "max-detections" => self.max_detections.to_value(),
            "classes" => self.classes.to_value(),
            "interval" => self.interval.to_value(),
            "metadata" => self.metadata.to_value(),
            "post-messages" => self.post_messages.to_value(),
            "qos" => self.qos.to_value(),
            _ => {
                let gpu = self.gpu.value(name);
                return gpu
                    .or_else(|| self.decoding.value(name))
                    .or_else(|| self.region.value(name))
                    .or_else(|| self.sharing.value(name))
                    .or_else(|| self.tracking.value(name))
                    .or_else(|| self.overlay.value(name))
                    .or_else(|| self.lateness.value(name))
                    .or_else(|| self.hash.value(name))
                    .or_else(|| self.outputs.value(name));
            }
        })
    }

    /// The model, and what is not as it is by default, for logs.
    pub fn told(&self) -> String {
        let defaults = Self::default();
        let of = |settings: &Self, name| settings.value(name)?.serialize().ok();
        let told = Self::specs().iter().filter_map(|spec| {
            let name = spec.name();
            let value = of(self, name)?;
            let is_news = name == "model" || of(&defaults, name) != Some(value.clone());
            is_news.then(|| format!("{name}={value}"))
        });
        printable(told.collect::<Vec<_>>().join(" "))
    }

    /// Takes over a property's new value; values of another type than the property's are left out.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        fn take_text(target: &mut String, value: &glib::Value, default: String) {
            if let Ok(new) = value.get::<Option<String>>() {
                *target = new.unwrap_or(default);
            }
        }
        match name {
            "model" => take_text(&mut self.model, value, Self::default().model),
            "labels" => take(&mut self.labels, value),
            "backend" => take(&mut self.backend, value),
            "threads" => take(&mut self.threads, value),
            "scaling" => take(&mut self.scaling, value),
            "threshold" => take(&mut self.threshold, value),
            "iou-threshold" => take(&mut self.iou_threshold, value),
            "max-detections" => take(&mut self.max_detections, value),
            "classes" => take(&mut self.classes, value),
            "interval" => take(&mut self.interval, value),
            "metadata" => take_text(&mut self.metadata, value, Self::default().metadata),
            "post-messages" => take(&mut self.post_messages, value),
            "qos" => take(&mut self.qos, value),
            _ if self.gpu.set(name, value)
                || self.decoding.set(name, value)
                || self.region.set(name, value)
                || self.sharing.set(name, value)
                || self.tracking.set(name, value)
                || self.overlay.set(name, value)
                || self.lateness.set(name, value)
                || self.hash.set(name, value) => {}
            _ => self.outputs.set(name, value),
        }
    }
}

/// The words of a list that commas, `+` or `|` separate.
pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', '+', '|'])
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// Takes over a value, unless it is of another type than the property's.
pub(super) fn take<'a, T: glib::value::FromValue<'a>>(target: &mut T, value: &'a glib::Value) {
    if let Ok(new) = value.get() {
        *target = new;
    }
}

fn model_specs(default: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("model")
            .nick("Model")
            .blurb("The network: the name of a bundled one (ssd-mobilenet-v2), an .onnx file, or a TensorRT .engine or .plan")
            .default_value(Some(default.model.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("labels")
            .nick("Labels")
            .blurb(
                "File with the name of one class a line or .json, or coco-80 or coco-91; without it the model's own \
                 .modelinfo or metadata, MODEL.labels.txt, MODEL.txt, MODEL.names, MODEL.json or labels.txt beside it",
            )
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("backend", default.backend)
            .nick("Backend")
            .blurb("The engine that runs the model")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("threads")
            .nick("Threads")
            .blurb("Threads of the CPU engine (0 = one for each core, at most 8)")
            .maximum(256)
            .default_value(default.threads)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("scaling", default.scaling)
            .nick("Scaling")
            .blurb("How frames are sampled that are larger than the network's input; area keeps small objects")
            .mutable_ready()
            .build(),
    ]
}

fn selection_specs(default: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecFloat::builder("threshold")
            .nick("Threshold")
            .blurb("Least confidence of a detection, for classes that have no own threshold")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(default.threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecFloat::builder("iou-threshold")
            .nick("IoU threshold")
            .blurb(
                "Of two detections of one class that overlap more than this (intersection over union), \
                 the less confident one is dropped",
            )
            .minimum(0.0)
            .maximum(1.0)
            .default_value(default.iou_threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("max-detections")
            .nick("Maximum detections")
            .blurb("Most detections of one frame; the most confident ones are kept")
            .minimum(1)
            .maximum(MAX_DETECTIONS as u32)
            .default_value(default.max_detections)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("classes")
            .nick("Classes")
            .blurb("Labels (or numbers) of the classes to keep, each with an own threshold if wanted: person:0.4,car")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("interval")
            .nick("Interval")
            .blurb("Frames to pass on uninspected between two inspected ones")
            .default_value(default.interval)
            .mutable_playing()
            .build(),
    ]
}

fn output_specs(default: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("metadata")
            .nick("Metadata")
            .blurb(
                "What is attached to the frame: auto (all that this system has), none, or any of roi \
                 (GstVideoRegionOfInterestMeta), analytics (GstAnalyticsRelationMeta, GStreamer 1.24) and nvds \
                 (NvDsObjectMeta of DeepStream, on a batch of its own where there is none), separated by commas",
            )
            .default_value(Some(default.metadata.as_str()))
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("post-messages")
            .nick("Post messages")
            .blurb("Post an element message with the detections of each inspected frame on the bus")
            .default_value(default.post_messages)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("qos")
            .nick("Quality of service")
            .blurb("Pass frames on uninspected that are late already, when downstream says so")
            .default_value(default.qos)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Frames, detections, frames per second, and times of each stage in microseconds")
            .read_only()
            .build(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_writable_property_reads_back_as_its_default_and_takes_a_new_value() {
        let settings = Settings::default();
        for spec in Settings::specs().iter().filter(|s| s.name() != "stats") {
            let value = settings.value(spec.name());
            let value = value.unwrap_or_else(|| panic!("{} has no value", spec.name()));
            let (value, default) = (format!("{value:?}"), format!("{:?}", spec.default_value()));
            assert_eq!(value, default, "{} differs from its default", spec.name());
        }
        let mut changed = Settings::default();
        changed.set("threshold", &0.25f32.to_value());
        changed.set("model", &None::<String>.to_value());
        assert_eq!(changed.threshold, 0.25);
        assert_eq!(changed.model, "ssd-mobilenet-v2");
    }

    #[test]
    fn metadata_is_auto_none_or_a_list_of_kinds() {
        let kinds = |text: &str| {
            let metadata = text.into();
            Settings {
                metadata,
                ..Settings::default()
            }
            .metadata_kinds()
        };
        let only = |roi, analytics, nvds| {
            Ok(Kinds::Only(Choice {
                roi,
                analytics,
                nvds,
            }))
        };
        assert_eq!(kinds(&Settings::default().metadata), Ok(Kinds::Auto));
        assert_eq!(kinds("none"), only(false, false, false));
        assert_eq!(kinds(""), only(false, false, false));
        assert_eq!(kinds("roi"), only(true, false, false));
        assert_eq!(kinds("analytics | roi"), only(true, true, false));
        assert_eq!(kinds("nvds+roi"), only(true, false, true));
        let error = kinds("roi,auto").unwrap_err().to_string();
        assert!(
            error.contains("'auto' is none of roi, analytics"),
            "{error}"
        );
    }
}
