//! Which GPU runs the model, and how its engine is built.

use std::path::PathBuf;

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::settings::take;
use crate::engine::tensorrt;

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

#[derive(Clone, Debug, PartialEq)]
pub(super) struct GpuSettings {
    /// -1 chooses.
    pub id: i32,
    dla_core: i32,
    precision: Precision,
    engine_cache: Option<String>,
    pub batch_size: u32,
    workspace: u32,
}

impl Default for GpuSettings {
    fn default() -> Self {
        Self {
            id: 0,
            dla_core: -1,
            precision: Precision::default(),
            engine_cache: None,
            batch_size: 0,
            workspace: 0,
        }
    }
}

impl GpuSettings {
    pub fn dla_core(&self) -> Option<u32> {
        self.dla_core.try_into().ok()
    }

    pub fn precision(&self) -> tensorrt::Precision {
        match self.precision {
            Precision::Auto => tensorrt::Precision::Auto,
            Precision::Fp32 => tensorrt::Precision::Fp32,
            Precision::Fp16 => tensorrt::Precision::Fp16,
            Precision::Int8 => tensorrt::Precision::Int8,
        }
    }

    pub fn engine_cache(&self) -> Option<PathBuf> {
        self.engine_cache.as_ref().map(Into::into)
    }

    pub fn workspace_bytes(&self) -> Option<u64> {
        (self.workspace > 0).then(|| u64::from(self.workspace) << 20)
    }

    pub fn specs(&self) -> Vec<glib::ParamSpec> {
        vec![
        glib::ParamSpecInt::builder("gpu-id")
            .nick("GPU")
            .blurb(
                "The GPU that runs the model, counted from 0 (-1 = the one that the frames are on, or else the one \
                 with the fewest streams of this process)",
            )
            .minimum(-1)
            .maximum(127)
            .default_value(self.id)
            .mutable_ready()
            .build(),
        glib::ParamSpecInt::builder("dla-core")
            .nick("DLA core")
            .blurb("The deep learning accelerator of a Jetson that runs what it can of the model (-1 = none)")
            .minimum(-1)
            .maximum(15)
            .default_value(self.dla_core)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("precision", self.precision)
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
            .default_value(self.batch_size)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("workspace")
            .nick("Workspace")
            .blurb("Most scratch memory, in MiB, that TensorRT may plan for a layer when it builds an engine (0 = no limit)")
            .default_value(self.workspace)
            .mutable_ready()
            .build(),
    ]
    }

    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "gpu-id" => self.id.to_value(),
            "dla-core" => self.dla_core.to_value(),
            "precision" => self.precision.to_value(),
            "engine-cache" => self.engine_cache.to_value(),
            "batch-size" => self.batch_size.to_value(),
            "workspace" => self.workspace.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value; says whether it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "gpu-id" => take(&mut self.id, value),
            "dla-core" => take(&mut self.dla_core, value),
            "precision" => take(&mut self.precision, value),
            "engine-cache" => take(&mut self.engine_cache, value),
            "batch-size" => take(&mut self.batch_size, value),
            "workspace" => take(&mut self.workspace, value),
            _ => return false,
        }
        true
    }
}
