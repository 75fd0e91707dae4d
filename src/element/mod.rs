//! The GStreamer element: pads, properties, state, latency and quality of service; no inference code.

mod branch;
mod crop_caps;
mod crop_pool;
mod crops_pad;
mod decoding_settings;
mod detections_pad;
mod device_crops;
mod device_pools;
mod events;
mod gpu_settings;
mod hash_settings;
mod hashing;
mod imp;
mod inspection;
mod lateness_settings;
mod ledger;
mod lineup;
mod loader;
mod loading;
mod memory;
mod output_settings;
mod outputs;
mod overlay_settings;
mod passage;
mod producer;
mod punctuality;
mod quality;
mod queries;
mod region_settings;
mod request_pad;
mod settings;
mod sharing_settings;
mod statistics;
pub mod stats;
mod streaming;
mod tracking;
mod tracking_settings;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element `rsdetectnet` finds objects in video frames where they lie, attaches what it found as metadata,
    /// and passes the same buffers on.
    ///
    /// Frames may be in system memory, in GStreamer's CUDA memory (`memory:CUDAMemory`) or in NVIDIA's
    /// (`memory:NVMM`). TensorRT runs the model where a GPU and TensorRT are, else ONNX Runtime on the CPU; both are
    /// found when the element starts. `gst-inspect-1.0 rsdetectnet` lists the properties.
    ///
    /// A frame that is late already, as downstream says by its QoS events, passes uninspected; none is dropped unless
    /// `late-policy=drop`.
    ///
    /// ```text
    /// gst-launch-1.0 videotestsrc num-buffers=100 ! rsdetectnet overlay=box,label ! videoconvert ! autovideosink
    /// ```
    ///
    /// prints the objects of each frame with `-m` and `post-messages=true`:
    ///
    /// ```text
    /// gst-launch-1.0 -m videotestsrc num-buffers=100 ! rsdetectnet post-messages=true ! fakesink
    /// ```
    pub struct RsDetectNet(ObjectSubclass<imp::RsDetectNet>) @extends gst::Element, gst::Object;
}

/// Registers the element with a plugin.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    for enumeration in [
        settings::Backend::static_type(),
        gpu_settings::Precision::static_type(),
        settings::Scaling::static_type(),
        tracking_settings::TrackerKind::static_type(),
        lateness_settings::LatePolicy::static_type(),
        branch::queue::Overflow::static_type(),
        crate::crop::render::CropResize::static_type(),
    ] {
        enumeration.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    crate::meta::crop::register();
    crate::meta::frame::register();
    gst::Element::register(
        Some(plugin),
        "rsdetectnet",
        gst::Rank::NONE,
        RsDetectNet::static_type(),
    )
}

/// The element's own properties, as `gst-inspect-1.0` lists them.
pub fn properties() -> &'static [glib::ParamSpec] {
    settings::Settings::specs()
}
