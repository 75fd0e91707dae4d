#!/usr/bin/env python3
"""Object detection in Python as it is commonly written: a pipeline for each camera ends in an appsink, whose frames
go through numpy into ONNX Runtime, or with --engine tensorrt through PyTorch into TensorRT. To compare with
`cargo bench --bench cameras`; boxes are not even decoded here.

    benches/python_baseline.py --clip FILE [--model FILE] [--cameras 1,2,4] [--seconds 5]
                               [--decoder avdec_h264] [--engine onnxruntime|tensorrt]
"""

import argparse
import pathlib
import resource
import sys
import threading
import time

MODEL = pathlib.Path(__file__).resolve().parent.parent / "pipelines/models/ssd-mobilenet-v2.onnx"
WARM_UP = 2.0


class OnnxRuntime:
    """One session on all cores, which the cameras' threads call as they come."""

    def __init__(self, model):
        import numpy
        import onnxruntime

        self.numpy = numpy
        self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        [self.input] = self.session.get_inputs()
        self.height, self.width = self.input.shape[2:]

    def __call__(self, frame):
        tensor = frame.astype(self.numpy.float32) / 127.5 - 1
        tensor = self.numpy.ascontiguousarray(tensor.transpose(2, 0, 1)[None])
        return self.session.run(None, {self.input.name: tensor})


class TensorRt:
    """One engine of float16 for one picture at a time; needs TensorRT 10 or newer, and PyTorch with CUDA."""

    def __init__(self, model):
        import tensorrt
        import torch

        self.torch, self.lock = torch, threading.Lock()
        logger = tensorrt.Logger(tensorrt.Logger.WARNING)
        builder = tensorrt.Builder(logger)
        network = builder.create_network(0)
        parser = tensorrt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(model)):
            sys.exit(f"TensorRT cannot read {model}: {parser.get_error(0)}")
        picture = network.get_input(0)
        shape = (1, *tuple(picture.shape)[1:])
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        profile.set_shape(picture.name, shape, shape, shape)
        config.add_optimization_profile(profile)
        # Later releases take the types from the model alone.
        if hasattr(tensorrt.BuilderFlag, "FP16"):
            config.set_flag(tensorrt.BuilderFlag.FP16)
        engine = tensorrt.Runtime(logger).deserialize_cuda_engine(builder.build_serialized_network(network, config))
        self.context, self.engine = engine.create_execution_context(), engine
        self.context.set_input_shape(picture.name, shape)
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.tensors = {
            name: torch.empty(tuple(self.context.get_tensor_shape(name)), dtype=torch.float32, device="cuda")
            for name in names
        }
        for name, tensor in self.tensors.items():
            self.context.set_tensor_address(name, tensor.data_ptr())
        self.input, self.height, self.width = picture.name, *shape[2:]

    def __call__(self, frame):
        with self.lock:
            pixels = self.torch.from_numpy(frame.copy()).cuda()
            self.tensors[self.input].copy_(pixels.permute(2, 0, 1)[None].float() / 127.5 - 1)
            self.context.execute_async_v3(self.torch.cuda.current_stream().cuda_stream)
            return [tensor.cpu() for name, tensor in self.tensors.items() if name != self.input]


class Camera(threading.Thread):
    """Reads a clip again and again, and runs the network on every frame."""

    def __init__(self, gst, engine, options):
        super().__init__(daemon=True)
        self.gst, self.engine, self.frames, self.running = gst, engine, 0, True
        self.pipeline = gst.parse_launch(
            f"filesrc location={options.clip} ! parsebin ! h264parse ! {options.decoder} ! videoconvert ! videoscale"
            f" ! video/x-raw,format=RGB,width={engine.width},height={engine.height}"
            " ! appsink name=sink sync=false max-buffers=2"
        )
        self.sink = self.pipeline.get_by_name("sink")

    def run(self):
        import numpy

        gst, engine = self.gst, self.engine
        self.pipeline.set_state(gst.State.PLAYING)
        while self.running:
            sample = self.sink.try_pull_sample(10 * gst.SECOND)
            if sample is None:
                error = self.pipeline.get_bus().pop_filtered(gst.MessageType.ERROR)
                if error or not self.sink.is_eos():
                    print(error.parse_error() if error else "no frames come", file=sys.stderr)
                    return
                self.pipeline.seek_simple(gst.Format.TIME, gst.SeekFlags.FLUSH, 0)
                continue
            buffer = sample.get_buffer()
            success, mapped = buffer.map(gst.MapFlags.READ)
            if success:
                rows = numpy.frombuffer(mapped.data, numpy.uint8).reshape(engine.height, -1)
                engine(rows[:, : 3 * engine.width].reshape(engine.height, engine.width, 3))
                buffer.unmap(mapped)
                self.frames += 1
        self.pipeline.set_state(gst.State.NULL)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(gst, engine, options, number):
    cameras = [Camera(gst, engine, options) for _ in range(number)]
    for camera in cameras:
        camera.start()
    time.sleep(WARM_UP)
    frames, cpu, start = sum(camera.frames for camera in cameras), cpu_seconds(), time.monotonic()
    time.sleep(options.seconds)
    frames, cpu = sum(camera.frames for camera in cameras) - frames, cpu_seconds() - cpu
    fps = frames / (time.monotonic() - start)
    for camera in cameras:
        camera.running = False
    for camera in cameras:
        camera.join()
    print(f"{number:>7} {fps:>10.1f} {1000 * cpu / max(frames, 1):>8.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--cameras", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--decoder", default="avdec_h264")
    parser.add_argument("--engine", choices=["onnxruntime", "tensorrt"], default="onnxruntime")
    options = parser.parse_args()
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        from gi.repository import Gst, GstApp  # noqa: F401

        Gst.init(None)
        engine = {"onnxruntime": OnnxRuntime, "tensorrt": TensorRt}[options.engine](options.model)
    except (ImportError, ValueError) as error:
        sys.exit(f"this cannot run here: {error}")
    print(f"{options.decoder}, {options.engine} from Python\n{'cameras':>7} {'fps':>10} {'CPU s/k':>8}")
    for number in options.cameras.split(","):
        measure(Gst, engine, options, int(number))


main()
