"""The overrides of gst-python read the entries that rsdetectnet attached, and they equal its regions of interest."""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstAnalytics", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstAnalytics, GstApp, GstVideo  # noqa: E402

PIPELINE = """
    filesrc location=tests/media/astronaut.png ! pngdec ! videoconvert ! video/x-raw,format=NV12
    ! rsdetectnet threshold=0.3 ! appsink name=sink sync=false
"""

Gst.init(None)
pipeline = Gst.parse_launch(PIPELINE)
pipeline.set_state(Gst.State.PLAYING)
sample = pipeline.get_by_name("sink").try_pull_sample(60 * Gst.SECOND)
message = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
assert sample is not None, message.parse_error() if message else "no frame within a minute"
buffer = sample.get_buffer()

entries = [
    (GLib.quark_to_string(entry.get_obj_type()), *entry.get_location()[1:])
    for entry in GstAnalytics.buffer_get_analytics_relation_meta(buffer)
    if isinstance(entry, GstAnalytics.ODMtd)
]
assert len(entries) >= 1, "the astronaut was not found"

# Plain PyGObject has no way to iterate over regions; the first is the most confident one, as is the first entry.
region = GstVideo.buffer_get_video_region_of_interest_meta_id(buffer, 0)
detection = region.get_param("detection")
label, x, y, width, height, confidence = entries[0]
assert label == GLib.quark_to_string(region.roi_type) == "Person", entries
assert (x, y, width, height) == (region.x, region.y, region.w, region.h), entries
assert abs(confidence - detection.get_double("confidence").value) < 1e-6, entries
pipeline.set_state(Gst.State.NULL)
