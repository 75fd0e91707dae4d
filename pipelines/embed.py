#!/usr/bin/python3
"""Cuts every person out of a camera's picture, as NumPy arrays, and saves those that look new:

    pipelines/embed.py rtsp://camera/stream people
    pipelines/embed.py csi://0 people threshold=0.6 crop-margin=0.1

A file is a source as well. After the folder come properties of rsdetectnet. A line is printed for each new picture: its
file, label, confidence, place and time. An RTSP camera that goes away is waited for.
"""

import collections
import hashlib
import os
import sys
import time

import numpy
import rsdetectnet
from gi.repository import GLib, Gst, GstVideo

#: Pictures are new whose thumbnails differ from all of the latest ones by more levels (of 256) on average.
NEW, LATEST = 12, 200


def crops(source, properties):
    """Each crop as a Gst.Sample, until the pipeline ends; raises GLib.Error."""
    is_file = os.path.exists(source)
    if source.startswith("csi://"):
        frames = f"nvarguscamerasrc sensor-id={source[6:]} ! video/x-raw(memory:NVMM),format=NV12"
    elif source.startswith("rtsp"):
        frames = f'rtspsrc location="{source}" latency=100 ! application/x-rtp,media=video ! decodebin ! videoconvert'
    else:
        frames = f'uridecodebin uri="{Gst.filename_to_uri(source) if is_file else source}" ! videoconvert'
    # Of a file nothing is left out; a camera does not wait.
    overflow = "block" if is_file else "drop-oldest"
    element = f"rsdetectnet name=d hash-size=16 crop-classes=person crop-overflow={overflow} {' '.join(properties)}"
    pipeline = Gst.parse_launch(f"{frames} ! {element} d.crops ! video/x-raw,format=RGB ! appsink name=out sync=false")
    sink, ends = pipeline.get_by_name("out"), Gst.MessageType.ERROR | Gst.MessageType.EOS
    try:
        pipeline.set_state(Gst.State.PLAYING)
        while True:
            if sample := sink.emit("try-pull-sample", 100 * Gst.MSECOND):
                yield sample
            elif message := pipeline.get_bus().pop_filtered(ends):
                if message.type == Gst.MessageType.ERROR:
                    raise message.parse_error()[0]
                return
    finally:
        pipeline.set_state(Gst.State.NULL)


def save_new(sample, folder, latest):
    found, image = rsdetectnet.crop(sample), rsdetectnet.to_numpy(sample)  # height x width x 3
    look = numpy.frombuffer(found.hash, numpy.uint8).astype(numpy.int16)
    if all(abs(look - other).mean() > NEW for other in latest):
        name = hashlib.sha256(image.tobytes()).hexdigest()[:16] + ".jpg"
        jpeg = GstVideo.video_convert_sample(sample, Gst.Caps.from_string("image/jpeg"), 5 * Gst.SECOND).get_buffer()
        GLib.file_set_contents(os.path.join(folder, name), jpeg.extract_dup(0, jpeg.get_size()))
        place = f"{found.width}x{found.height}+{found.x}+{found.y}"
        print(name, found.label, f"{found.confidence:.2f}", place, time.strftime("%FT%T"), flush=True)
    latest.append(look)


def main(source, folder="people", *properties):
    os.makedirs(folder, exist_ok=True)
    latest, is_camera = collections.deque(maxlen=LATEST), source.startswith("rtsp")
    while True:
        try:
            for sample in crops(source, properties):
                save_new(sample, folder, latest)
        except GLib.Error as error:
            print(error.message, file=sys.stderr) if is_camera else sys.exit(error.message)
        if not is_camera:
            return
        time.sleep(0.5)


if __name__ == "__main__":
    Gst.init(None)
    main(*sys.argv[1:] or sys.exit(__doc__.strip()))
