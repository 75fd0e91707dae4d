#!/usr/bin/env python3
"""Makes an int8 model of a detector, and what it then finds in the pictures of tests/media.

    pip install onnx onnxruntime opencv-python-headless pillow sympy
    quantize.py MODEL.onnx OUT.onnx

OUT.onnx has QuantizeLinear and DequantizeLinear before every convolution and its weights (explicit quantisation), as
TensorRT takes it: int8 with zero points 0, a scale for each channel of the weights, biases in float32. It is calibrated
with the pictures and parts of them, so it is good for tests and not for cameras. OUT.expected.json has what ONNX
Runtime finds with it, OUT.labels.txt the labels; `QDQ=OUT.onnx gpu_element … int8` compares both with TensorRT.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import cv2
import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

MEDIA = pathlib.Path(__file__).resolve().parent.parent / "media"
THRESHOLD, IOU = 0.25, 0.5


class Detector:
    """Preparation and decoding of the two families: SSD, whose input is called so, and YOLOv5."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.is_ssd = len(self.session.get_outputs()) == 2
        self.size = self.session.get_inputs()[0].shape[2]

    def placement(self, width, height):
        """Left, top, width and height of a picture in the input."""
        if self.is_ssd:
            return 0, 0, self.size, self.size
        ratio = min(self.size / width, self.size / height)
        placed = round(width * ratio), round(height * ratio)
        return (self.size - placed[0]) // 2, (self.size - placed[1]) // 2, *placed

    def prepare(self, picture):
        left, top, width, height = self.placement(*picture.size)
        canvas = np.full((self.size, self.size, 3), 114, np.float32)
        # Rounded as the plugin does it: a quantised network tells a part of a level.
        canvas[top : top + height, left : left + width] = cv2.resize(np.asarray(picture), (width, height))
        canvas = canvas / 127.5 - 1 if self.is_ssd else canvas / 255
        return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32)

    def detect(self, picture):
        outputs = self.session.run(None, {self.input: self.prepare(picture)})
        if self.is_ssd:
            scores, corners = outputs[0][0].copy(), outputs[1][0] * self.size
            scores[:, 0] = 0
        else:
            rows = outputs[0][0]
            scores = rows[:, 5:] * rows[:, 4:5]
            corners = np.hstack([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2])
        left, top, width, height = self.placement(*picture.size)
        scale = np.tile([picture.size[0] / width, picture.size[1] / height], 2)
        corners = np.clip((corners - [left, top, left, top]) * scale, 0, np.tile(picture.size, 2))
        classes, scores = scores.argmax(1), scores.max(1)
        sure = np.flatnonzero(scores > THRESHOLD)
        kept = []
        for index in sure[np.argsort(-scores[sure], kind="stable")]:
            if all(classes[index] != classes[k] or overlap(corners[index], corners[k]) <= IOU for k in kept):
                kept.append(index)
        return [(int(classes[k]), float(scores[k]), corners[k]) for k in kept]


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def pictures():
    return {path.name: Image.open(path).convert("RGB") for path in sorted(MEDIA.glob("*.png"))}


class Calibration(CalibrationDataReader):
    """Each picture whole and its four corners, and all of them mirrored."""

    def __init__(self, detector):
        self.inputs = iter([{detector.input: detector.prepare(view)} for view in self.views()])

    @staticmethod
    def views():
        for picture in pictures().values():
            width, height = picture.size
            boxes = [(0, 0, width, height)]
            for x in (0, width // 4):
                for y in (0, height // 4):
                    boxes.append((x, y, x + width * 3 // 4, y + height * 3 // 4))
            for box in boxes:
                view = picture.crop(box)
                yield view
                yield view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    def get_next(self):
        return next(self.inputs, None)


def quantize(model, out):
    with tempfile.TemporaryDirectory() as folder:
        folded = pathlib.Path(folder) / "folded.onnx"
        quant_pre_process(str(model), str(folded), skip_symbolic_shape=True)
        quantize_static(
            str(folded),
            str(out),
            Calibration(Detector(model)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                # TensorRT wants them before what computes in int8, and no others.
                "OpTypesToExcludeOutputQuantization": ["Conv"],
            },
        )


def check(path):
    """Every convolution reads int8, and every zero point is 0."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    count = 0
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8 and not zero.any(), node.name
        if node.op_type == "Conv":
            assert all(makers[name].op_type == "DequantizeLinear" for name in node.input[:2]), node.name
            count += 1
    return count


def main(model, out):
    model, out = pathlib.Path(model), pathlib.Path(out)
    quantize(model, out)
    count = check(out)
    labels = model.with_name(model.stem + ".labels.txt")
    shutil.copy(labels, out.with_name(out.stem + ".labels.txt"))
    names = labels.read_text().splitlines()
    whole, quantized = Detector(model), Detector(out)
    expected = {}
    for name, picture in pictures().items():
        print(f"{name}: float32 {[(names[c], round(s, 2)) for c, s, _ in whole.detect(picture)]}")
        found = quantized.detect(picture)
        print(f"{name}: int8    {[(names[c], round(s, 2)) for c, s, _ in found]}")
        expected[name] = {
            "width": picture.size[0],
            "height": picture.size[1],
            "detections": [
                {
                    "label": names[class_id],
                    "class_id": class_id,
                    "confidence": round(score, 4),
                    "box": [round(float(v), 2) for v in (*box[:2], *(box[2:] - box[:2]))],
                }
                for class_id, score, box in found
            ],
        }
    out.with_name(out.stem + ".expected.json").write_text(json.dumps(expected, indent=1))
    print(f"{out}: {count} convolutions in int8, {out.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
