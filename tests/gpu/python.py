"""pipelines/rsdetectnet.py with frames in GPU memory; needs an NVIDIA GPU, PyTorch, CuPy, Numba and GStreamer's
nvcodec, and for memory:NVMM DeepStream's nvvideoconvert. Run by tests/gpu/python.rs, or as it is."""

import gc
import os
import subprocess
import sys
import unittest

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
import cupy  # noqa: E402
import numba.cuda  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
from gi.repository import Gst, GstApp  # noqa: E402,F401

import rsdetectnet  # noqa: E402

MODELS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "models")
DETECTOR = f"rsdetectnet model={MODELS}/colors-ssd.onnx labels={MODELS}/colors.labels.txt"
#: The context query of rsdetectnet's sink gives upstream the GPU's primary context.
CUDA = f"cudaupload ! {DETECTOR}"
NVMM = "nvvideoconvert ! video/x-raw(memory:NVMM),format={format}"

Gst.init(None)


def source(format, frames=1, pattern="smpte"):
    return f"videotestsrc num-buffers={frames} pattern={pattern} ! video/x-raw,format={format},width=320,height=240"


def samples(description, frames=1):
    pipeline = Gst.parse_launch(description + " ! appsink name=sink sync=false")
    pipeline.set_state(Gst.State.PLAYING)
    try:
        sink = pipeline.get_by_name("sink")
        taken = [sink.try_pull_sample(60 * Gst.SECOND) for _ in range(frames)]
        message = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        assert None not in taken, message.parse_error() if message else "no frame within a minute"
        return taken
    finally:
        pipeline.set_state(Gst.State.NULL)


def planes_of(frame):
    return frame if isinstance(frame, tuple) else (frame,)


#: How each library takes a plane, gives its address, and brings it to the host.
LIBRARIES = {
    "torch, DLPack": (torch.from_dlpack, lambda t: t.data_ptr(), lambda t: t.cpu().numpy()),
    "torch": (lambda a: torch.as_tensor(a, device="cuda"), lambda t: t.data_ptr(), lambda t: t.cpu().numpy()),
    "cupy, DLPack": (cupy.from_dlpack, lambda a: a.data.ptr, cupy.asnumpy),
    "cupy": (cupy.asarray, lambda a: a.data.ptr, cupy.asnumpy),
    "numba": (numba.cuda.as_cuda_array, lambda a: a.device_ctypes_pointer.value, lambda a: a.copy_to_host()),
}


class ToCuda(unittest.TestCase):
    def check(self, on_gpu, reference):
        planes = planes_of(rsdetectnet.to_cuda(on_gpu))
        wanted = planes_of(rsdetectnet.to_numpy(reference))
        self.assertEqual(len(planes), len(wanted))
        for name, (take, address, download) in LIBRARIES.items():
            for plane, host in zip(planes, wanted):
                with self.subTest(library=name, plane=host.shape):
                    taken = take(plane)
                    self.assertEqual(address(taken), plane.__cuda_array_interface__["data"][0])
                    numpy.testing.assert_array_equal(download(taken), host)

    def test_frames_in_cuda_memory_are_taken_where_they_lie(self):
        for format in ["NV12", "I420", "RGBA", "BGRx"]:
            with self.subTest(format=format):
                (on_gpu,) = samples(f"{source(format)} ! {CUDA}")
                self.check(on_gpu, samples(source(format))[0])

    @unittest.skipUnless(Gst.ElementFactory.find("nvvideoconvert"), "DeepStream is not installed")
    def test_frames_in_nvmm_memory_are_taken_where_they_lie(self):
        for format in ["NV12", "RGBA"]:
            with self.subTest(format=format):
                (on_gpu,) = samples(f"{source(format)} ! {NVMM.format(format=format)}")
                self.check(on_gpu, samples(source(format))[0])

    def test_an_array_keeps_its_frame_while_the_pool_goes_on(self):
        taken = samples(f"{source('RGBA', 30, 'ball')} ! {CUDA}", 30)
        first = torch.from_dlpack(rsdetectnet.to_cuda(taken[0]))
        before = first.clone()
        del taken
        gc.collect()
        samples(f"{source('RGBA', 60)} ! {CUDA}", 60)
        self.assertTrue(torch.equal(first, before))

    def test_arrays_may_outlive_python(self):
        program = f"""
import builtins, runpy, sys
tests = runpy.run_path({os.path.realpath(__file__)!r})
(on_gpu,) = tests["samples"](tests["source"]("RGBA") + " ! " + tests["CUDA"])
for holder in (builtins, sys, tests["torch"], tests["rsdetectnet"]):
    plane = tests["rsdetectnet"].to_cuda(on_gpu)
    holder.kept = [take(plane) for take, _, _ in tests["LIBRARIES"].values()] + [plane.__dlpack__()]
print("kept")
"""
        ended = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", program], capture_output=True, text=True, timeout=300
        )
        self.assertEqual((ended.returncode, ended.stdout), (0, "kept\n"), ended.stderr)

    def test_what_is_not_theirs_is_refused_with_a_sentence(self):
        (foreign,) = samples(f"{source('NV12')} ! cudaupload ! video/x-raw(memory:CUDAMemory)")
        with self.assertRaisesRegex(ValueError, "a CUDA context that its element made for itself"):
            rsdetectnet.to_cuda(foreign)
        (on_gpu,) = samples(f"{source('NV12')} ! {CUDA}")
        with self.assertRaisesRegex(ValueError, "the frame is in GPU memory; to_cuda takes it"):
            rsdetectnet.to_numpy(on_gpu)
        with self.assertRaisesRegex(TypeError, "PyTorch, CuPy or Numba on a GPU"):
            rsdetectnet.from_cuda(torch.zeros((8, 8, 3), dtype=torch.uint8))


class FromCuda(unittest.TestCase):
    def test_an_array_of_each_library_becomes_a_frame(self):
        host = numpy.random.default_rng(1).integers(0, 256, (48, 66, 4), numpy.uint8)
        for name, array in [
            ("torch", torch.from_numpy(host).cuda()),
            ("torch, rows apart", torch.zeros((48, 80, 4), dtype=torch.uint8, device="cuda")[:, :66]),
            ("cupy", cupy.asarray(host)),
            ("numba", numba.cuda.to_device(host)),
        ]:
            with self.subTest(library=name):
                if name.endswith("apart"):
                    array.copy_(torch.from_numpy(host))
                sample = rsdetectnet.from_cuda(array, pts=40, duration=2)
                again = rsdetectnet.to_cuda(sample)
                numpy.testing.assert_array_equal(cupy.asnumpy(cupy.asarray(again)), host)
                self.assertEqual((sample.get_buffer().pts, sample.get_buffer().duration), (40, 2))

    def test_planes_go_in_as_they_come_out(self):
        (on_gpu,) = samples(f"{source('NV12')} ! {CUDA}")
        planes = [cupy.asarray(plane) for plane in rsdetectnet.to_cuda(on_gpu)]
        again = rsdetectnet.to_cuda(rsdetectnet.from_cuda(planes, format="NV12"))
        for before, after in zip(planes, again):
            cupy.testing.assert_array_equal(before, cupy.asarray(after))

    def test_objects_in_it_are_found(self):
        image = torch.full((64, 64, 4), 114, dtype=torch.uint8, device="cuda")
        image[8:16, 16:24] = torch.tensor([255, 0, 0, 255], dtype=torch.uint8)
        pipeline = Gst.parse_launch(f"appsrc name=source format=time ! {DETECTOR} ! appsink name=sink sync=false")
        pipeline.set_state(Gst.State.PLAYING)
        try:
            pipeline.get_by_name("source").emit("push-sample", rsdetectnet.from_cuda(image, pts=0))
            sample = pipeline.get_by_name("sink").try_pull_sample(60 * Gst.SECOND)
            message = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        finally:
            pipeline.set_state(Gst.State.NULL)
        self.assertIsNotNone(sample, message.parse_error() if message else None)
        (found,) = rsdetectnet.detections(sample)
        self.assertEqual(found.label, "red")
        self.assertLess(abs(found.x - 16) + abs(found.y - 8), 0.5)


if __name__ == "__main__":
    unittest.main()
