"""pipelines/rsdetectnet.py with frames in system memory: run by tests/python.rs and, on the newest GStreamer, by
tests/gstreamer_newest.rs."""

import gc
import os
import subprocess
import sys
import unittest
import weakref

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
import numpy  # noqa: E402
from gi.repository import Gst, GstApp, GstVideo  # noqa: E402,F401

import rsdetectnet  # noqa: E402

MODELS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "models")
#: Finds cells of 8x8 pixels that are red, green, blue or yellow in pictures of 64x64.
DETECTOR = f"rsdetectnet name=detector model={MODELS}/colors-ssd.onnx labels={MODELS}/colors.labels.txt"

Gst.init(None)


def caps(text):
    return Gst.Caps.from_string(text)


def pull(sink):
    sample = sink.try_pull_sample(20 * Gst.SECOND)
    assert sample is not None, "no frame came"
    return sample


def first_frame(description):
    """The first sample that reaches the appsink of a pipeline."""
    pipeline = Gst.parse_launch(description + " ! appsink name=sink sync=false")
    pipeline.set_state(Gst.State.PLAYING)
    try:
        return pull(pipeline.get_by_name("sink"))
    finally:
        pipeline.set_state(Gst.State.NULL)


def frame_of(array, properties="", **options):
    """The sample that comes out behind the detector when the array goes in."""
    pipeline = Gst.parse_launch(
        f"appsrc name=source format=time ! {DETECTOR} {properties} ! appsink name=sink sync=false"
    )
    pipeline.set_state(Gst.State.PLAYING)
    try:
        pipeline.get_by_name("source").emit("push-sample", rsdetectnet.from_numpy(array, **options))
        return pull(pipeline.get_by_name("sink"))
    finally:
        pipeline.set_state(Gst.State.NULL)


def picture():
    """Grey, with a red cell in column 2 and row 1 and a blue one in column 5 and row 6."""
    image = numpy.full((64, 64, 3), 114, numpy.uint8)
    image[8:16, 16:24] = (255, 0, 0)
    image[48:56, 40:48] = (0, 0, 255)
    return image


class Detections(unittest.TestCase):
    def test_what_was_found_is_read_with_all_its_fields(self):
        sample = frame_of(picture(), pts=5)
        found = sorted(rsdetectnet.detections(sample), key=lambda each: each.x)
        self.assertEqual([each.label for each in found], ["red", "blue"])
        self.assertEqual([each.class_id for each in found], [1, 3])
        for each, (x, y) in zip(found, [(16, 8), (40, 48)]):
            for value, wanted in [(each.x, x), (each.y, y), (each.width, 8), (each.height, 8)]:
                self.assertAlmostEqual(value, wanted, places=2)
            self.assertGreater(each.confidence, 0.99)
            self.assertIsNone(each.object_id)
            self.assertEqual(each.batch_id, 0)
            self.assertIsNone(each.hash)
        self.assertEqual(rsdetectnet.detections(sample.get_buffer()), rsdetectnet.detections(sample))
        # With weights of 77, 150 and 29 of 256: red is 76.7, blue 28.9.
        sample = frame_of(picture(), "hash-size=2")
        hashes = {each.label: each.hash for each in rsdetectnet.detections(sample)}
        self.assertEqual(hashes, {"red": bytes([77] * 4), "blue": bytes([29] * 4)})
        frame = sample.get_buffer().get_custom_meta("rsdetectnet-frame").get_structure()
        self.assertEqual(frame.get_int("hash_size").value, 2)
        # A red cell of a sixteenth of a quarter of grey, and a blue one.
        self.assertEqual(frame.get_value("hash").get_data(), bytes([112, 114, 114, 109]))

    def test_a_frame_with_nothing_in_it_has_none(self):
        self.assertEqual(rsdetectnet.detections(frame_of(numpy.full((64, 64, 3), 114, numpy.uint8))), [])
        self.assertEqual(rsdetectnet.detections(Gst.Buffer.new()), [])

    def test_a_pad_probe_reads_them_too(self):
        pipeline = Gst.parse_launch(f"appsrc name=source format=time ! {DETECTOR} ! fakesink")
        seen = []

        def probe(pad, info):
            image = rsdetectnet.to_numpy(info.get_buffer(), pad.get_current_caps())
            seen.append((len(rsdetectnet.detections(info.get_buffer())), image.shape, image[8, 16].tolist()))
            return Gst.PadProbeReturn.OK

        pad = pipeline.get_by_name("detector").get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.BUFFER, probe)
        pipeline.set_state(Gst.State.PLAYING)
        source = pipeline.get_by_name("source")
        source.emit("push-sample", rsdetectnet.from_numpy(picture()))
        source.emit("end-of-stream")
        end = Gst.MessageType.EOS | Gst.MessageType.ERROR
        message = pipeline.get_bus().timed_pop_filtered(20 * Gst.SECOND, end)
        pipeline.set_state(Gst.State.NULL)
        self.assertEqual(message.type, Gst.MessageType.EOS)
        self.assertEqual(seen, [(2, (64, 64, 3), [255, 0, 0])])


    def test_tracked_objects_and_frames_of_a_batch_are_told_apart(self):
        buffer = Gst.Buffer.new()
        region = GstVideo.buffer_add_video_region_of_interest_meta(buffer, "person", 64, 48, 128, 240)
        parameter, _ = Gst.Structure.from_string(
            "detection, label_id=(int)1, confidence=(double)0.5, x_min=(double)0.1, y_min=(double)0.1, "
            "x_max=(double)0.3, y_max=(double)0.6, frame_width=(int)640, frame_height=(int)480, "
            "object_id=(gint64)70000000007, batch_id=(int)2, predicted=(boolean)true"
        )
        region.add_param(parameter)
        (found,) = rsdetectnet.detections(buffer)
        self.assertEqual((found.label, found.class_id, found.confidence), ("person", 1, 0.5))
        self.assertEqual((found.object_id, found.batch_id, found.predicted), (70000000007, 2, True))
        self.assertAlmostEqual(found.x + found.width, 192, places=3)


class Crops(unittest.TestCase):
    def crops(self, options, branch):
        pipeline = Gst.parse_launch(
            f"appsrc name=source format=time ! {DETECTOR} {options} detector.crops ! {branch} "
            "! appsink name=sink sync=false"
        )
        pipeline.set_state(Gst.State.PLAYING)
        try:
            for number in range(2):
                pipeline.get_by_name("source").emit("push-sample", rsdetectnet.from_numpy(picture(), pts=40 * number))
            return [pull(pipeline.get_by_name("sink")) for _ in range(4)]
        finally:
            pipeline.set_state(Gst.State.NULL)

    def test_a_crop_says_what_it_shows_and_is_an_array(self):
        samples = self.crops("", "queue")
        shown = [rsdetectnet.crop(sample) for sample in samples]
        self.assertEqual([(each.label, each.class_id, each.frame) for each in shown], [
            ("red", 1, 0), ("blue", 3, 0), ("red", 1, 1), ("blue", 3, 1),
        ])  # fmt: skip
        for sample, each in zip(samples, shown):
            wanted = (16, 8) if each.label == "red" else (40, 48)
            self.assertEqual((each.x, each.y, each.width, each.height), (*wanted, 8, 8))
            self.assertEqual((each.frame_width, each.frame_height), (64, 64))
            self.assertGreater(each.confidence, 0.99)
            self.assertEqual((each.object_id, each.batch_id), (None, 0))
            image = rsdetectnet.to_numpy(sample)
            self.assertEqual(image.shape, (8, 8, 3))
            self.assertTrue((image == ((255, 0, 0) if each.label == "red" else (0, 0, 255))).all())
        self.assertEqual(rsdetectnet.crop(samples[0].get_buffer()), shown[0])

    def test_with_hash_size_a_crop_has_its_thumbnail(self):
        for sample in self.crops("hash-size=2", "queue"):
            grey = {"red": 54, "blue": 18}[rsdetectnet.crop(sample).label]
            for level in rsdetectnet.crop(sample).hash:
                self.assertAlmostEqual(level, grey, delta=25)
        self.assertIsNone(rsdetectnet.crop(self.crops("", "queue")[0]).hash)

    def test_it_stays_with_crops_that_are_resized_converted_and_encoded(self):
        branch = "video/x-raw,width=32,height=16 ! videoconvert ! video/x-raw,format=I420 ! jpegenc"
        for sample in self.crops("crop-margin=0.5", branch):
            shown = rsdetectnet.crop(sample)
            self.assertEqual((shown.width, shown.height, shown.frame_width), (16, 16, 64))

    def test_what_is_no_crop_has_none(self):
        self.assertIsNone(rsdetectnet.crop(Gst.Buffer.new()))
        self.assertIsNone(rsdetectnet.crop(frame_of(picture())))


class ToNumpy(unittest.TestCase):
    def test_the_array_is_the_frame_itself_and_keeps_it_alive(self):
        sample = frame_of(picture())
        image, again = rsdetectnet.to_numpy(sample), rsdetectnet.to_numpy(sample)
        numpy.testing.assert_array_equal(image, picture())
        self.assertEqual(image.__array_interface__["data"], again.__array_interface__["data"])
        self.assertFalse(image.flags.writeable)
        del sample, again
        gc.collect()
        numpy.testing.assert_array_equal(image[8:16], picture()[8:16])

    def test_the_frame_goes_back_with_the_last_view_of_it(self):
        pool = Gst.BufferPool.new()
        config = pool.get_config()
        Gst.BufferPool.config_set_params(config, caps("video/x-raw"), 64 * 64, 1, 1)
        pool.set_config(config)
        pool.set_active(True)
        _, buffer = pool.acquire_buffer(None)
        gray = caps("video/x-raw,format=GRAY8,width=64,height=64,framerate=0/1")
        row = rsdetectnet.to_numpy(buffer, gray)[7]
        plane = weakref.ref(row.base.base if row.base.base is not None else row.base)
        del buffer
        gc.collect()
        again = Gst.BufferPoolAcquireParams()
        again.flags = Gst.BufferPoolAcquireFlags.DONTWAIT
        self.assertEqual(pool.acquire_buffer(again)[0], Gst.FlowReturn.EOS)
        del row
        gc.collect()
        self.assertIsNone(plane())
        self.assertEqual(pool.acquire_buffer(again)[0], Gst.FlowReturn.OK)

    def test_rows_that_are_padded_are_seen_without_their_padding(self):
        image = rsdetectnet.to_numpy(
            first_frame(
                "videotestsrc num-buffers=1 pattern=solid-color foreground-color=0xff102030 "
                "! video/x-raw,format=RGB,width=66,height=4"
            )
        )
        self.assertEqual((image.shape, image.strides), ((4, 66, 3), (200, 3, 1)))
        self.assertTrue((image == (0x10, 0x20, 0x30)).all())

    def test_planes_of_every_format_have_their_shapes(self):
        even, half = (30, 46), (15, 23)
        for format, shapes in [
            ("NV12", [even, (*half, 2)]),
            ("NV21", [even, (*half, 2)]),
            ("P010_10LE", [even, (*half, 2)]),
            ("I420", [even, half, half]),
            ("YV12", [even, half, half]),
            ("YUY2", [(*even, 2)]),
            ("UYVY", [(*even, 2)]),
            ("RGB", [(*even, 3)]),
            ("BGRx", [(*even, 4)]),
            ("RGBA", [(*even, 4)]),
            ("GRAY8", [even]),
        ]:
            sample = first_frame(f"videotestsrc num-buffers=1 ! video/x-raw,format={format},width=46,height=30")
            planes = rsdetectnet.to_numpy(sample)
            planes = planes if isinstance(planes, tuple) else (planes,)
            self.assertEqual([plane.shape for plane in planes], shapes, format)
            self.assertEqual(planes[0].dtype, "<u2" if format == "P010_10LE" else "u1")

    def test_planes_hold_what_the_format_says(self):
        red = "videotestsrc num-buffers=1 pattern=solid-color foreground-color=0xffff0000 ! video/x-raw"
        y, u, v = 81, 90, 240
        luma, chroma = rsdetectnet.to_numpy(first_frame(f"{red},format=NV12,width=16,height=16,colorimetry=bt601"))
        self.assertEqual((luma[3, 4], chroma[3, 4].tolist()), (y, [u, v]))
        planes = rsdetectnet.to_numpy(first_frame(f"{red},format=YV12,width=16,height=16,colorimetry=bt601"))
        self.assertEqual([plane[3, 4] for plane in planes], [y, u, v])
        packed = rsdetectnet.to_numpy(first_frame(f"{red},format=YUY2,width=16,height=16,colorimetry=bt601"))
        self.assertEqual(packed[3, 4:6].tolist(), [[y, u], [y, v]])


class FromNumpy(unittest.TestCase):
    def test_what_goes_in_comes_out_and_the_array_may_be_reused_at_once(self):
        image = picture()
        sample = rsdetectnet.from_numpy(image[:, ::-1], pts=40, duration=2, framerate="30/1")
        image[:] = 0
        numpy.testing.assert_array_equal(rsdetectnet.to_numpy(sample), picture()[:, ::-1])
        buffer = sample.get_buffer()
        self.assertEqual((buffer.pts, buffer.duration), (40, 2))
        wanted = caps("video/x-raw,format=RGB,width=64,height=64,framerate=30/1")
        self.assertTrue(sample.get_caps().is_equal(wanted))

    def test_formats_go_by_shape_or_by_name(self):
        noise = numpy.random.default_rng(1).integers(0, 256, (6, 66, 4), numpy.uint8)
        for array, options, format in [
            (noise[..., :3], {}, "RGB"),
            (noise, {}, "RGBA"),
            (noise[..., 0], {}, "GRAY8"),
            (noise[..., :3], {"format": "BGR"}, "BGR"),
            (noise, {"format": "BGRx"}, "BGRx"),
        ]:
            sample = rsdetectnet.from_numpy(array, **options)
            self.assertEqual(sample.get_caps().get_structure(0).get_value("format"), format)
            numpy.testing.assert_array_equal(rsdetectnet.to_numpy(sample), array)

    def test_planes_go_in_as_they_come_out(self):
        source = "videotestsrc num-buffers=1 pattern=snow ! video/x-raw,width=46,height=30,format="
        for format in ["NV12", "I420", "P010_10LE"]:
            planes = rsdetectnet.to_numpy(first_frame(source + format))
            again = rsdetectnet.to_numpy(rsdetectnet.from_numpy(planes, format=format))
            for before, after in zip(planes, again):
                numpy.testing.assert_array_equal(before, after)


class Errors(unittest.TestCase):
    def fails(self, error, sentence, call, *arguments, **options):
        with self.assertRaises(error) as raised:
            call(*arguments, **options)
        self.assertIn(sentence, str(raised.exception))

    def test_wrong_types_are_told_what_to_pass(self):
        buffer, image = Gst.Buffer.new_allocate(None, 64, None), picture()
        for call in [rsdetectnet.to_numpy, rsdetectnet.to_cuda, rsdetectnet.detections, rsdetectnet.crop]:
            self.fails(TypeError, "takes a Gst.Sample, or a Gst.Buffer and its caps, not ndarray", call, image)
        self.fails(TypeError, "Gst.Caps.from_string(text)", rsdetectnet.to_numpy, buffer, "video/x-raw")
        self.fails(TypeError, "from_numpy takes a NumPy array", rsdetectnet.from_numpy, b"pixels")
        self.fails(TypeError, "PyTorch, CuPy or Numba on a GPU", rsdetectnet.from_cuda, image)
        empty = Gst.Sample.new(None, None, None, None)
        self.fails(ValueError, "without a buffer", rsdetectnet.to_numpy, empty)

    def test_frames_that_cannot_be_mapped_say_why(self):
        buffer = Gst.Buffer.new_allocate(None, 64, None)
        call = rsdetectnet.to_numpy
        self.fails(ValueError, "give its caps as well", call, buffer)
        self.fails(ValueError, "no caps of raw video", call, buffer, caps("audio/x-raw"))
        small = caps("video/x-raw,format=RGB,width=64,height=64")
        self.fails(ValueError, "holds 64 bytes, at least 12288 are needed", call, buffer, small)
        unknown = caps("video/x-raw,format=v210,width=64,height=64")
        self.fails(ValueError, "are not supported", call, buffer, unknown)
        sample = rsdetectnet.from_numpy(picture())
        self.fails(ValueError, "the frame is in system memory; to_numpy takes it", rsdetectnet.to_cuda, sample)
        self.fails(ValueError, "holds one frame", rsdetectnet.to_cuda, sample, batch_id=1)
        on_gpu = caps("video/x-raw(memory:CUDAMemory),format=RGB,width=4,height=4")
        self.fails(ValueError, "caps promise CUDA memory", rsdetectnet.to_cuda, buffer, on_gpu)

    def test_arrays_that_are_no_frames_say_why(self):
        call, image = rsdetectnet.from_numpy, picture()
        self.fails(ValueError, "samples of uint8, not float32", call, image.astype(numpy.float32))
        self.fails(ValueError, "say which format", call, image[..., :2])
        self.fails(ValueError, "say which format", call, (image[..., 0], image[..., 1]))
        self.fails(ValueError, "not the shape of an image", call, image[0, 0], format="RGB")
        self.fails(ValueError, "RGBA of 64x64 has planes of [(64, 64, 4)]", call, image, format="RGBA")
        self.fails(ValueError, "RGB16 is none of RGB, BGR", call, image, format="RGB16")
        self.fails(ValueError, "no plane", call, ())


class OnTheHost(rsdetectnet.CudaArray):
    """Says that its memory is the host's, as the tensor in the capsule does, so that NumPy takes it."""

    def __dlpack_device__(self):
        return (1, 0)


def exported(sample, kind=OnTheHost):
    """The planes of a frame in system memory, as to_cuda gives those of one on a GPU."""
    planes = rsdetectnet._map("to_cuda", sample, None, 0, on_gpu=False)
    interfaces = [plane.__array_interface__ for plane in planes]
    layouts = [(each["data"][0], each["shape"], each["strides"], each["typestr"]) for each in interfaces]
    return [kind(plane._mapping, index, *layout, 0) for index, (plane, layout) in enumerate(zip(planes, layouts))]


class DLPack(unittest.TestCase):
    def test_a_consumer_sees_the_memory_of_every_format(self):
        for format in ["RGB", "BGRx", "GRAY8", "YUY2", "NV12", "I420", "P010_10LE"]:
            sample = first_frame(f"videotestsrc num-buffers=1 ! video/x-raw,format={format},width=46,height=30")
            wanted = rsdetectnet.to_numpy(sample)
            wanted = wanted if isinstance(wanted, tuple) else (wanted,)
            for plane, image in zip(exported(sample), wanted):
                view = numpy.from_dlpack(plane)
                numpy.testing.assert_array_equal(view, image)
                self.assertEqual(view.dtype, image.dtype)
                self.assertEqual(view.__array_interface__["data"][0], image.__array_interface__["data"][0])

    def test_the_frame_goes_back_with_the_consumer_s_last_view_or_with_the_capsule(self):
        pool = Gst.BufferPool.new()
        config = pool.get_config()
        Gst.BufferPool.config_set_params(config, caps("video/x-raw"), 64 * 64, 1, 1)
        pool.set_config(config)
        pool.set_active(True)
        gray = caps("video/x-raw,format=GRAY8,width=64,height=64,framerate=0/1")
        again = Gst.BufferPoolAcquireParams()
        again.flags = Gst.BufferPoolAcquireFlags.DONTWAIT
        for take in [numpy.from_dlpack, lambda plane: plane.__dlpack__(stream=None, max_version=(1, 0))]:
            _, buffer = pool.acquire_buffer(None)
            (plane,) = exported(Gst.Sample.new(buffer, gray, None, None))
            taken = take(plane)
            del plane, buffer
            gc.collect()
            self.assertEqual(pool.acquire_buffer(again)[0], Gst.FlowReturn.EOS)
            del taken
            gc.collect()
            result, buffer = pool.acquire_buffer(again)
            self.assertEqual(result, Gst.FlowReturn.OK)
            del buffer

    def test_the_error_of_a_consumer_that_refuses_is_not_lost(self):
        (plane,) = exported(rsdetectnet.from_numpy(picture()))
        # The capsule is freed while len's exception is on its way.
        with self.assertRaisesRegex(TypeError, "has no len"):
            len(plane.__dlpack__())

    def test_copies_and_other_devices_are_refused(self):
        (plane,) = exported(rsdetectnet.from_numpy(picture()))
        self.assertRaises(BufferError, plane.__dlpack__, copy=True)
        self.assertRaises(BufferError, plane.__dlpack__, dl_device=(2, 1))

    def test_arrays_may_outlive_python(self):
        """Consumers free their tensors whenever they end, also after this module and all others are gone."""
        program = """
import builtins, numpy, sys, test_rsdetectnet as tests
(plane,) = tests.exported(tests.frame_of(tests.picture()))
class Cycle: pass
builtins.view, sys.view, numpy.view, tests.rsdetectnet.view = (numpy.from_dlpack(plane) for _ in range(4))
cycle = Cycle()
cycle.itself, cycle.view, cycle.capsule = cycle, numpy.from_dlpack(plane), plane.__dlpack__()
sys.capsule = plane.__dlpack__()
"""
        environment = dict(os.environ, PYTHONFAULTHANDLER="1")
        environment["PYTHONPATH"] += os.pathsep + os.path.dirname(os.path.realpath(__file__))
        ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
