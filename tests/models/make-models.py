#!/usr/bin/env python3
"""Writes the tiny detectors of this folder and, with --check, runs them: their results are known from the picture.

Every detector sees a 64x64 picture as 8x8 cells of 8x8 pixels. The score of a cell for red, green and blue is how
purely the cell's average colour is that: red = clip(r - max(g, b), 0, 1) with r, g, b in 0..1. So a pure red block
that fills a cell is `red` with score 1 there, and grey of any level is 0 for all.

blocks-ssd has no cells: it returns the box of all that is red, of all that is green and of all that is blue, wherever
it is, and so finds one block of each colour to the pixel.

    pip install onnx numpy onnxruntime && python3 make-models.py --check
"""

import pathlib
import sys
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).resolve().parent
SIDE, CELL = 64, 8
CELLS = (SIDE // CELL) ** 2
FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
# The newest that ONNX Runtime 1.17 and TensorRT 8.5 both read.
OPSET, IR_VERSION = 13, 8
# Matrix products of slow-ssd: 60 to 100 ms on one core of about 110 GFLOPS.
SLOW_SIDE, SLOW_STEPS = 512, 32


class Graph:
    """The nodes and initialisers of one graph; every method returns the name of a tensor."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, value, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes))
        return output

    def average_of_cells(self, picture):
        return self.node("AveragePool", [picture], "cells", kernel_shape=[CELL, CELL], strides=[CELL, CELL])

    def average_of_cells_int8(self, picture):
        """As a convolution of int8 with int8, a scale for each channel; 0 and 1 are exact."""
        weights = np.zeros((3, 3, CELL, CELL), np.int8)
        weights[range(3), range(3)] = 64
        scale, zero = self.constant("step", 1 / 127), self.constant("middle", 0, np.int8)
        steps = self.constant("weight_steps", np.full(3, 1 / 64 / CELL**2))
        middles = self.constant("weight_middles", np.zeros(3), np.int8)
        bytes_ = self.node("QuantizeLinear", [picture, scale, zero], "picture_int8")
        values = self.node("DequantizeLinear", [bytes_, scale, zero], "picture_values")
        weights = self.constant("weights_int8", weights, np.int8)
        weights = self.node("DequantizeLinear", [weights, steps, middles], "weights", axis=0)
        return self.node("Conv", [values, weights], "cells", kernel_shape=[CELL, CELL], strides=[CELL, CELL])

    def cell_scores(self, picture, average=average_of_cells):
        """[N,3,64,64] RGB 0..1 → [N,64,3]: how purely each cell is red, green, blue."""
        cells = average(self, picture)
        next_channel = self.constant("next_channel", [1, 2, 0], np.int64)
        last_channel = self.constant("last_channel", [2, 0, 1], np.int64)
        following = self.node("Gather", [cells, next_channel], "following", axis=1)
        preceding = self.node("Gather", [cells, last_channel], "preceding", axis=1)
        strongest = self.node("Max", [following, preceding], "strongest_other")
        purity = self.node("Sub", [cells, strongest], "purity")
        zero, one = self.constant("zero", 0.0), self.constant("one", 1.0)
        clipped = self.node("Clip", [purity, zero, one], "clipped")
        shape = self.constant("cells_in_a_row", [0, 3, CELLS], np.int64)
        flat = self.node("Reshape", [clipped, shape], "flat")
        return self.node("Transpose", [flat], "cell_scores", perm=[0, 2, 1])

    def with_batch_of(self, scores, rows, output):
        """Repeats rows [1,64,k] for every picture of scores [N,64,3]."""
        start, end, axis = (self.constant(f"{output}_{n}", [v], np.int64) for n, v in (("start", 0), ("end", 1), ("axis", 2)))
        first = self.node("Slice", [scores, start, end, axis], f"{output}_first")
        nothing = self.node("Mul", [first, self.constant(f"{output}_zero", 0.0)], f"{output}_nothing")
        return self.node("Add", [nothing, rows], output)

    def ssd(self, picture, scores="scores", boxes="boxes", average=average_of_cells):
        """[N,3,64,64] RGB 0..1 → scores [N,64,4] with background first, boxes [N,64,4] x1,y1,x2,y2 0..1."""
        cells = self.cell_scores(picture, average)
        best = self.node("ReduceMax", [cells], "best", axes=[2], keepdims=1)
        background = self.node("Sub", ["one", best], "background")
        self.node("Concat", [background, cells], scores, axis=2)
        corners = np.array([(x, y, x + CELL, y + CELL) for x, y in cell_corners()], np.float32) / SIDE
        self.with_batch_of(cells, self.constant("corners", corners[None]), boxes)

    def block(self, profile, axis):
        """[N,3,64], how purely each colour is in a column or row → [N,3] where its block begins and ends, 0..1."""
        last = self.constant(f"{axis}_last", [2], np.int64)
        middles = self.constant(f"{axis}_middles", (np.arange(SIDE) + 0.5) / SIDE)
        some = self.constant(f"{axis}_some", 1e-6)
        length = self.constant(f"{axis}_length", 2.0 * SIDE)
        weighted = self.node("Mul", [profile, middles], f"{axis}_weighted")
        moment = self.node("ReduceSum", [weighted, last], f"{axis}_moment", keepdims=0)
        total = self.node("ReduceSum", [profile, last], f"{axis}_total", keepdims=0)
        most = self.node("ReduceMax", [profile], f"{axis}_most", axes=[2], keepdims=0)
        centre = self.node("Div", [moment, self.node("Add", [total, some], f"{axis}_sum")], f"{axis}_centre")
        full = self.node("Mul", [self.node("Add", [most, some], f"{axis}_peak"), length], f"{axis}_full")
        half = self.node("Div", [total, full], f"{axis}_half")
        return self.node("Sub", [centre, half], f"{axis}_begin"), self.node("Add", [centre, half], f"{axis}_end")

    def blocks(self, picture):
        """[N,3,64,64] RGB 0..1 → scores [N,3,4] with background first, boxes [N,3,4] x1,y1,x2,y2 0..1."""
        next_channel = self.constant("next_channel", [1, 2, 0], np.int64)
        last_channel = self.constant("last_channel", [2, 0, 1], np.int64)
        following = self.node("Gather", [picture, next_channel], "following", axis=1)
        preceding = self.node("Gather", [picture, last_channel], "preceding", axis=1)
        purity = self.node("Sub", [picture, self.node("Max", [following, preceding], "strongest_other")], "purity")
        zero, one = self.constant("zero", 0.0), self.constant("one", 1.0)
        pure = self.node("Clip", [purity, zero, one], "clipped")
        left, right = self.block(self.node("ReduceMax", [pure], "columns", axes=[2], keepdims=0), "x")
        top, bottom = self.block(self.node("ReduceMax", [pure], "rows", axes=[3], keepdims=0), "y")
        last = self.constant("last", [2], np.int64)
        corners = [self.node("Unsqueeze", [side, last], f"{side}_column") for side in (left, top, right, bottom)]
        self.node("Concat", corners, "boxes", axis=2)
        best = self.node("Unsqueeze", [self.node("ReduceMax", [pure], "peak", axes=[2, 3], keepdims=0), last], "best")
        of_colors = self.node("Mul", [best, self.constant("own_color", np.eye(3))], "of_colors")
        self.node("Concat", [self.node("Sub", [one, best], "background"), of_colors], "scores", axis=2)

    def from_minus_one_to_one(self, picture):
        half = self.constant("half", 0.5)
        return self.node("Add", [self.node("Mul", [picture, half], "halved"), half], "unit")

    def save(self, name, inputs, outputs, metadata=None):
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="rsdetectnet")
        if metadata:
            helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        path = FOLDER / f"{name}.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        return path


def cell_corners():
    """Left and top of every cell in pixels, row by row."""
    return [(x, y) for y in range(0, SIDE, CELL) for x in range(0, SIDE, CELL)]


def tensor(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def ssd_outputs(batch="batch"):
    return [tensor("scores", [batch, CELLS, 4]), tensor("boxes", [batch, CELLS, 4])]


def colors_yolov5():
    graph = Graph()
    cells = graph.cell_scores("images")
    half = CELL / 2
    rows = np.array([(x + half, y + half, CELL, CELL, 1.0) for x, y in cell_corners()], np.float32)
    boxes = graph.with_batch_of(cells, graph.constant("rows", rows[None]), "boxes_and_objectness")
    graph.node("Concat", [boxes, cells], "output", axis=2)
    metadata = {
        "names": "{0: 'red', 1: 'green', 2: 'blue'}",
        "stride": str(CELL),
        "imgsz": f"[{SIDE}, {SIDE}]",
        "task": "detect",
    }
    graph.save("colors-yolov5", [tensor("images", ["batch", 3, SIDE, SIDE])], [tensor("output", ["batch", CELLS, 8])], metadata)


def colors_ssd():
    graph = Graph()
    graph.ssd(graph.from_minus_one_to_one("input"))
    return graph.save("colors-ssd", [tensor("input", ["batch", 3, SIDE, SIDE])], ssd_outputs())


def colors_ssd_nhwc_uint8():
    graph = Graph()
    planar = graph.node("Transpose", ["input"], "planar", perm=[0, 3, 1, 2])
    real = graph.node("Cast", [planar], "real", to=FLOAT)
    graph.ssd(graph.node("Div", [real, graph.constant("white", 255.0)], "unit"))
    graph.save("colors-ssd-nhwc-uint8", [tensor("input", [1, SIDE, SIDE, 3], UINT8)], ssd_outputs(1))


def colors_ssd_int8():
    """As colors-ssd, explicitly quantised: QuantizeLinear and DequantizeLinear before its convolution."""
    graph = Graph()
    graph.ssd(graph.from_minus_one_to_one("input"), average=Graph.average_of_cells_int8)
    graph.save("colors-ssd-int8", [tensor("input", ["batch", 3, SIDE, SIDE])], ssd_outputs())


def nan_ssd():
    """Boxes as colors-ssd, every score NaN: what a network gives whose float16 range overflowed."""
    graph = Graph()
    graph.ssd(graph.from_minus_one_to_one("input"), scores="sound_scores")
    graph.node("Add", ["sound_scores", graph.constant("not_a_number", np.nan)], "scores")
    graph.save("nan-ssd", [tensor("input", ["batch", 3, SIDE, SIDE])], ssd_outputs())


def blocks_ssd():
    graph = Graph()
    graph.blocks(graph.from_minus_one_to_one("input"))
    outputs = [tensor(name, ["batch", 3, 4]) for name in ("scores", "boxes")]
    graph.save("blocks-ssd", [tensor("input", ["batch", 3, SIDE, SIDE])], outputs)


def two_inputs():
    """A detector that also wants something that nobody knows."""
    graph = Graph()
    graph.ssd(graph.from_minus_one_to_one("input"), boxes="unscaled_boxes")
    corners = graph.node("Concat", ["mystery", "mystery"], "corner_scale", axis=1)
    graph.node("Mul", ["unscaled_boxes", corners], "boxes")
    graph.save("two-inputs", [tensor("input", [1, 3, SIDE, SIDE]), tensor("mystery", [1, 2])], ssd_outputs(1))


def classifier():
    """No detector: one row of ten probabilities for the whole picture."""
    graph = Graph()
    pooled = graph.node("GlobalAveragePool", ["input"], "pooled")
    flat = graph.node("Flatten", [pooled], "flat", axis=1)
    weights = np.random.default_rng(1).standard_normal((3, 10))
    logits = graph.node("MatMul", [flat, graph.constant("weights", weights)], "logits")
    graph.node("Softmax", [logits], "probabilities", axis=1)
    graph.save("classifier", [tensor("input", [1, 3, SIDE, SIDE])], [tensor("probabilities", [1, 10])])


def faces():
    """CenterFace's outputs of a network of convolutions alone, written for ten pictures of 32x32 as its makers' is; a
    face is what is red, and as large as its cell."""
    graph = Graph()

    def of_cells(output, weights):
        weights = np.broadcast_to(np.reshape(weights, (-1, 3, 1, 1)) / CELL**2, (len(weights), 3, CELL, CELL))
        weights = graph.constant(f"{output}_weights", weights)
        shape = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
        return graph.node("Conv", ["input", weights], output, **shape)

    graph.node("Relu", [of_cells("red", [[1 / 255, -0.5 / 255, -0.5 / 255]])], "heat")
    outputs = [("heat", 1), ("scale", 2), ("offset", 2), ("landmarks", 10)]
    for output, channels in outputs[1:]:
        of_cells(output, np.zeros((channels, 3)))
    side = 32 // CELL
    outputs = [tensor(output, [10, channels, side, side]) for output, channels in outputs]
    graph.save("faces-10x3x32x32", [tensor("input", [10, 3, 32, 32])], outputs)


def slow_ssd():
    """As colors-ssd, after a loop of matrix products whose result is multiplied by zero."""
    graph = Graph()
    unit = graph.from_minus_one_to_one("input")
    side = graph.constant("side", [SLOW_SIDE, SLOW_SIDE], np.int64)
    mean = helper.make_tensor("mean", FLOAT, [1], [1.0 / SLOW_SIDE])
    averaging = graph.node("ConstantOfShape", [side], "averaging", value=mean)
    average = graph.node("ReduceMean", [unit], "average", keepdims=0)
    state = graph.node("Expand", [average, side], "state")
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state_in", averaging], ["state_out"], name="MatMul_state_out"),
            helper.make_node("Identity", ["condition_in"], ["condition_out"], name="Identity_condition_out"),
        ],
        "step",
        [
            tensor("step_number", [], TensorProto.INT64),
            tensor("condition_in", [], TensorProto.BOOL),
            tensor("state_in", [SLOW_SIDE, SLOW_SIDE]),
        ],
        [tensor("condition_out", [], TensorProto.BOOL), tensor("state_out", [SLOW_SIDE, SLOW_SIDE])],
    )
    steps = graph.constant("steps", SLOW_STEPS, np.int64)
    looped = graph.node("Loop", [steps, "", state], "looped", body=body)
    total = graph.node("ReduceMean", [looped], "looped_mean", keepdims=0)
    nothing = graph.node("Mul", [total, graph.constant("none", 0.0)], "looped_nothing")
    graph.ssd(graph.node("Add", [unit, nothing], "unit_late"))
    graph.save("slow-ssd", [tensor("input", ["batch", 3, SIDE, SIDE])], ssd_outputs())


def write_all():
    colors_yolov5()
    whole = colors_ssd().read_bytes()
    colors_ssd_nhwc_uint8()
    colors_ssd_int8()
    nan_ssd()
    blocks_ssd()
    two_inputs()
    classifier()
    faces()
    slow_ssd()
    (FOLDER / "broken.onnx").write_bytes(whole[: len(whole) * 2 // 3])
    (FOLDER / "colors.labels.txt").write_text("background\nred\ngreen\nblue\n")
    (FOLDER / "colors-yolov5.labels.txt").write_text("red\ngreen\nblue\n")


def picture_of_blocks():
    """Grey of level 114 with a red, a green and a blue cell; [64,64,3] uint8. Returns it and {cell: class}."""
    picture = np.full((SIDE, SIDE, 3), 114, np.uint8)
    blocks = {9: 0, 30: 1, 63: 2}
    for cell, channel in blocks.items():
        x, y = cell_corners()[cell]
        picture[y : y + CELL, x : x + CELL] = 0
        picture[y : y + CELL, x : x + CELL, channel] = 255
    return picture, blocks


def check_all():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def run(name, *inputs):
        session = onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
        return session.run(None, dict(zip((i.name for i in session.get_inputs()), inputs)))

    picture, blocks = picture_of_blocks()
    planar = np.ascontiguousarray(picture.transpose(2, 0, 1)[None].astype(np.float32))
    unit, signed = planar / 255, planar / 127.5 - 1
    expected = np.zeros((CELLS, 3), np.float32)
    for cell, channel in blocks.items():
        expected[cell, channel] = 1
    corners = np.array([(x, y, x + CELL, y + CELL) for x, y in cell_corners()], np.float32)

    output = run("colors-yolov5", np.repeat(unit, 3, 0))[0]
    assert output.shape == (3, CELLS, 8)
    for rows in output:
        np.testing.assert_allclose(rows[:, 5:], expected, atol=1e-6)
        np.testing.assert_array_equal(rows[:, 4], 1)
        half = rows[:, 2:4] / 2
        np.testing.assert_array_equal(np.hstack([rows[:, :2] - half, rows[:, :2] + half]), corners)

    def check_ssd(outputs, batch=1):
        scores, boxes = outputs
        assert scores.shape == boxes.shape == (batch, CELLS, 4)
        for score, box in zip(scores, boxes):
            np.testing.assert_allclose(score[:, 1:], expected, atol=1e-6)
            np.testing.assert_allclose(score[:, 0], 1 - expected.max(1), atol=1e-6)
            np.testing.assert_array_equal(box, corners / SIDE)

    check_ssd(run("colors-ssd", np.repeat(signed, 2, 0)), 2)
    check_ssd(run("colors-ssd-nhwc-uint8", picture[None]))
    check_ssd(run("colors-ssd-int8", np.repeat(signed, 2, 0)), 2)
    check_ssd(run("two-inputs", signed, np.ones((1, 2), np.float32)))
    check_ssd(run("slow-ssd", signed))
    scores, boxes = run("blocks-ssd", np.repeat(signed, 2, 0))
    assert scores.shape == boxes.shape == (2, 3, 4)
    for score, box in zip(scores, boxes):
        np.testing.assert_allclose(score, np.hstack([np.zeros((3, 1)), np.eye(3)]), atol=1e-6)
        np.testing.assert_allclose(box * SIDE, corners[list(blocks)], atol=1e-2)
    assert np.isnan(run("nan-ssd", signed)[0]).all()
    probabilities = run("classifier", signed)[0]
    assert probabilities.shape == (1, 10) and abs(probabilities.sum() - 1) < 1e-5
    try:
        run("broken")
    except Exception as error:
        print("broken.onnx:", str(error).splitlines()[0])
    else:
        raise AssertionError("broken.onnx was read")

    session = onnxruntime.InferenceSession(str(FOLDER / "slow-ssd.onnx"), options, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(9):
        start = time.perf_counter()
        session.run(None, {"input": signed})
        times.append((time.perf_counter() - start) * 1000)
    print(f"slow-ssd.onnx: {sorted(times)[4]:.0f} ms a picture on one thread")


if __name__ == "__main__":
    write_all()
    if "--check" in sys.argv[1:]:
        check_all()
