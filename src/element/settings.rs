//! What the user sets: the properties, with their defaults in one place.

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;
use once_cell::sync::Lazy;

use super::hash_settings::HashSettings;
use super::lateness_settings::LatenessSettings;
use super::output_settings::OutputSettings;
use super::overlay_settings::OverlaySettings;
use super::sharing_settings::SharingSettings;
use super::tracking_settings::TrackingSettings;
use crate::decode::Selection;
use crate::decode::classes::{ClassFilter, ClassFilterError};
use crate::decode::cuda::MAX_DETECTIONS;
use crate::detector::{self, DetectorOptions};
use crate::engine::tensorrt;
use crate::meta::{Choice, Kinds, MetadataError};
use crate::model::Labels;
use crate::preprocess::Shrinking;
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

/// The arithmetic of an engine on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRsDetectNetPrecision")]
pub enum Precision {
    #[default]
    #[enum_value(
        name = "float16 where it is faster, or as the model is quantised",
        nick = "auto"
    )]
    Auto,
    #[enum_value(name = "float32", nick = "fp32")]
    Fp32,
    #[enum_value(name = "float16", nick = "fp16")]
    Fp16,
    #[enum_value(name = "int8, of models that are quantised (QDQ)", nick = "int8")]
    Int8,
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
    /// -1 chooses.
    pub gpu_id: i32,
    pub dla_core: i32,
    pub precision: Precision,
    pub engine_cache: Option<String>,
    pub batch_size: u32,
    pub workspace: u32,
    pub threshold: f32,
    pub iou_threshold: f32,
    pub max_detections: u32,
    pub classes: Option<String>,
    pub interval: u32,
    pub metadata: String,
    pub post_messages: bool,
    pub qos: bool,
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
            gpu_id: 0,
            dla_core: -1,
            precision: Precision::default(),
            engine_cache: None,
            batch_size: 0,
            workspace: 0,
            threshold: 0.5,
            iou_threshold: 0.5,
            max_detections: 100,
            classes: None,
            interval: 0,
            metadata: "auto".into(),
            post_messages: false,
            qos: true,
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
}

impl Settings {
    /// What the model is loaded from, on this GPU if on any.
    pub fn detector_options(&self, gpu_id: u32) -> DetectorOptions {
        DetectorOptions {
            model: self.model.clone(),
            labels: self.labels.as_ref().map(Into::into),
            backend: match self.backend {
                Backend::Auto => detector::Backend::Auto,
                Backend::TensorRt => detector::Backend::TensorRt,
                Backend::OnnxRuntime => detector::Backend::OnnxRuntime,
            },
            threads: self.threads as usize,
            gpu_id,
            dla_core: self.dla_core.try_into().ok(),
            precision: match self.precision {
                Precision::Auto => tensorrt::Precision::Auto,
                Precision::Fp32 => tensorrt::Precision::Fp32,
                Precision::Fp16 => tensorrt::Precision::Fp16,
                Precision::Int8 => tensorrt::Precision::Int8,
            },
            engine_cache: self.engine_cache.as_ref().map(Into::into),
            batch_size: self.batch_size,
            workspace_bytes: (self.workspace > 0).then(|| u64::from(self.workspace) << 20),
            shrinking: match self.scaling {
                Scaling::Bilinear => Shrinking::Bilinear,
                Scaling::Area => Shrinking::Average,
            },
            instance: self.sharing.instance.clone().unwrap_or_default(),
        }
    }

    /// What is followed of what is found; None where nothing is.
    pub fn tracking_rules(&self, labels: &Labels) -> Result<Option<Rules>, SettingsError> {
        let thresholds = self.selection(labels)?.thresholds;
        let method = self.tracking.method();
        Ok(method.map(|method| Rules { method, thresholds }))
    }

    pub fn selection(&self, labels: &Labels) -> Result<Selection, SettingsError> {
        let filter = ClassFilter::parse(self.classes.as_deref().unwrap_or_default())?;
        Ok(Selection {
            thresholds: filter.thresholds(labels, self.threshold)?,
            iou_threshold: self.iou_threshold,
            max_detections: self.max_detections as usize,
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
            specs.extend(gpu_specs(&Settings::default()));
            specs.extend(SharingSettings::default().specs());
            specs.extend(selection_specs(&Settings::default()));
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
            "gpu-id" => self.gpu_id.to_value(),
            "dla-core" => self.dla_core.to_value(),
            "precision" => self.precision.to_value(),
            "engine-cache" => self.engine_cache.to_value(),
            "batch-size" => self.batch_size.to_value(),
            "workspace" => self.workspace.to_value(),
            "threshold" => self.threshold.to_value(),
            "iou-threshold" => self.iou_threshold.to_value(),
            "max-detections" => self.max_detections.to_value(),
            "classes" => self.classes.to_value(),
            "interval" => self.interval.to_value(),
            "metadata" => self.metadata.to_value(),
            "post-messages" => self.post_messages.to_value(),
            "qos" => self.qos.to_value(),
            _ => {
                let sharing = self.sharing.value(name);
                return sharing
                    .or_else(|| self.tracking.value(name))
                    .or_else(|| self.overlay.value(name))
                    .or_else(|| self.lateness.value(name))
                    .or_else(|| self.hash.value(name))
                    .or_else(|| self.outputs.value(name));
            }
        })
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
            "gpu-id" => take(&mut self.gpu_id, value),
            "dla-core" => take(&mut self.dla_core, value),
            "precision" => take(&mut self.precision, value),
            "engine-cache" => take(&mut self.engine_cache, value),
            "batch-size" => take(&mut self.batch_size, value),
            "workspace" => take(&mut self.workspace, value),
            "threshold" => take(&mut self.threshold, value),
            "iou-threshold" => take(&mut self.iou_threshold, value),
            "max-detections" => take(&mut self.max_detections, value),
            "classes" => take(&mut self.classes, value),
            "interval" => take(&mut self.interval, value),
            "metadata" => take_text(&mut self.metadata, value, Self::default().metadata),
            "post-messages" => take(&mut self.post_messages, value),
            "qos" => take(&mut self.qos, value),
            _ if self.sharing.set(name, value)
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
                "File with the name of one class a line; without it the model's own metadata, \
                 MODEL.labels.txt, MODEL.txt or labels.txt beside the model",
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

fn gpu_specs(default: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecInt::builder("gpu-id")
            .nick("GPU")
            .blurb(
                "The GPU that runs the model, counted from 0 (-1 = the one that the frames are on, or else the one \
                 with the fewest streams of this process)",
            )
            .minimum(-1)
            .maximum(127)
            .default_value(default.gpu_id)
            .mutable_ready()
            .build(),
        glib::ParamSpecInt::builder("dla-core")
            .nick("DLA core")
            .blurb("The deep learning accelerator of a Jetson that runs what it can of the model (-1 = none)")
            .minimum(-1)
            .maximum(15)
            .default_value(default.dla_core)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("precision", default.precision)
            .nick("Precision")
            .blurb("The arithmetic of the engine that TensorRT builds")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("engine-cache")
            .nick("Engine cache")
            .blurb("Folder in which built engines are kept (none = rsdetectnet in the user's cache folder)")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("batch-size")
            .nick("Batch size")
            .blurb("Most frames that an engine takes at once, for the batches of nvstreammux (0 = one)")
            .maximum(32)
            .default_value(default.batch_size)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("workspace")
            .nick("Workspace")
            .blurb("Most scratch memory, in MiB, that TensorRT may plan for a layer when it builds an engine (0 = no limit)")
            .default_value(default.workspace)
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
