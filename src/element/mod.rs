//! The GStreamer element: pads, properties, state, latency and quality of service; no inference code.

mod imp;
mod loader;
mod memory;
mod quality;
mod settings;
mod statistics;
mod streaming;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element `rsdetectnet`; see its documentation with `gst-inspect-1.0 rsdetectnet`.
    pub struct RsDetectNet(ObjectSubclass<imp::RsDetectNet>) @extends gst::Element, gst::Object;
}

/// Registers the element with a plugin.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    for enumeration in [
        settings::Backend::static_type(),
        settings::Precision::static_type(),
    ] {
        enumeration.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
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
