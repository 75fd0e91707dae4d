"""The overrides of gst-python read the entries that rsdetectnet attached, and they equal its regions of interest."""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstAnalytics", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
import rsdetectnet  # noqa: E402
from gi.repository import GLib, Gst, GstAnalytics, GstApp, GstVideo  # noqa: E402,F401

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

found = rsdetectnet.detections(buffer)
assert len(found) == len(entries), (found, entries)
for (label, x, y, width, height, confidence), detection in zip(entries, found):
    assert label == detection.label, (entries, found)
    assert abs(confidence - detection.confidence) < 1e-6, (entries, found)
    # Entries are rounded to whole pixels.
    assert abs(x - detection.x) <= 0.5 and abs(y - detection.y) <= 0.5, (entries, found)
    assert abs(x + width - detection.x - detection.width) <= 0.5, (entries, found)
    assert abs(y + height - detection.y - detection.height) <= 0.5, (entries, found)

region = GstVideo.buffer_get_video_region_of_interest_meta_id(buffer, 0)
label, *rectangle, confidence = entries[0]
assert GLib.quark_to_string(region.roi_type) == label == "Person", entries
assert [region.x, region.y, region.w, region.h] == rectangle, entries
assert abs(region.get_param("detection").get_double("confidence").value - confidence) < 1e-6, entries
pipeline.set_state(Gst.State.NULL)
