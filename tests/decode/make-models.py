"""Writes models/: networks that return what the cases of make-cases.py hold, whatever they see, with the inputs and
the types of tensors that networks of these families have.

    python3 make-models.py        # needs numpy and onnx
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent
# The case, and what the family's networks take and return other than float32 [N,3,H,W] and int64.
MODELS = {
    "yolov8": {"open": {"output0": [0]}},
    "yolov10": {},
    "yolo-obb": {},
    "rt-detr": {"relative": "boxes", "open": {"labels": [0], "boxes": [0], "scores": [0]}},
    "efficient-nms": {"integers": TensorProto.INT32},
    "torchvision": {"unbatched": True, "counted": ["boxes", "labels", "scores"]},
    "tf-detection": {"image": TensorProto.UINT8, "channels_last": True},
    "efficientdet": {"channels_last": True, "integers": TensorProto.INT32},
    "paddle": {"counted": ["multiclass_nms3_0.tmp_0"]},
    "nanodet": {},
    "detectnet-v2": {},
    "rf-detr": {"floats": TensorProto.FLOAT16},
}


def read(name):
    header, values = (FOLDER / "cases" / f"{name}.case").read_bytes().split(b"\n", 1)
    header, at = json.loads(header), 0
    for output in header["outputs"]:
        count = int(np.prod(output["shape"]))
        data = np.frombuffer(values, "<f2", count, at).astype(np.float32)
        output["values"], at = data.reshape(output["shape"]), at + 2 * count
    return header


class Graph:
    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes))
        return output


def make(name, image=TensorProto.FLOAT, channels_last=False, unbatched=False, integers=TensorProto.INT64,
         floats=TensorProto.FLOAT, relative=None, open={}, counted=()):
    case, graph = read(name), Graph()
    width, height = case["input"]
    shape = [height, width, 3] if channels_last else [3, height, width]
    inputs = [helper.make_tensor_value_info("image", image, shape if unbatched else [1, *shape])]
    real = graph.node("Cast", ["image"], "real", to=TensorProto.FLOAT)
    mean = graph.node("ReduceMean", [real], "mean", keepdims=0)
    nothing = graph.node("Mul", [mean, graph.constant("zero", np.float32(0))], "nothing")
    outputs = []
    for number, output in enumerate(case["outputs"]):
        values, kind = output["values"], floats if output["element"] == "float32" else integers
        if output["name"] == relative:
            values = values / np.array([width, height, width, height], np.float32)
        value = graph.node("Add", [nothing, graph.constant(f"values{number}", values)], f"value{number}")
        if output["name"] == relative:
            inputs.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["N", 2]))
            sizes = graph.node("Cast", ["orig_target_sizes"], "sizes", to=TensorProto.FLOAT)
            value = graph.node("Mul", [value, graph.node("Concat", [sizes, sizes], "corner_sizes", axis=1)], "scaled")
        if name == "paddle" and number == 0:
            inputs.append(helper.make_tensor_value_info("scale_factor", TensorProto.FLOAT, ["N", 2]))
            ones = graph.constant("ones", np.ones((1, 2), np.float32))
            scale = graph.node("Concat", [ones, "scale_factor", "scale_factor"], "row_scale", axis=1)
            value = graph.node("Div", [value, scale], "unscaled")
        is_open = open.get(output["name"], [])
        if output["name"] in counted:
            # How many rows there are is not known before the run, as behind a NonMaxSuppression.
            rows = graph.constant(f"rows{number}", np.ones(len(values), bool))
            value, is_open = graph.node("Compress", [value, rows], f"counted{number}", axis=0), [0]
        graph.node("Cast", [value], output["name"], to=kind)
        dims = [f"open{i}" if i in is_open else d for i, d in enumerate(output["shape"])]
        outputs.append(helper.make_tensor_value_info(output["name"], kind, dims))
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="rsdetectnet")
    metadata = {"task": case["task"]} if "task" in case else {}
    if "labels" in case:
        metadata["names"] = str({i: f"label {i}" for i in range(case["labels"])})
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    path = FOLDER / "models" / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    (FOLDER / "models").mkdir(exist_ok=True)
    for name, facts in MODELS.items():
        make(name, **facts)
