"""What make-cases.py makes its cases of, and how numpy finds the boxes in them."""

import numpy as np

WIDTH, HEIGHT = 64, 48
FRAME = (200, 90)
THRESHOLD, IOU = 0.5, 0.5
STRIDES, MORE_STRIDES = (8, 16, 32), (8, 16, 32, 64)
FLOAT, INTEGER = "float32", "int64"


def half(values):
    """Values as the file holds them."""
    return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def softmax(x, axis=-1):
    e = np.exp(np.asarray(x, np.float64) - np.max(x, axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def grid(stride):
    return -(-WIDTH // stride), -(-HEIGHT // stride)


def cell_count(strides):
    return sum(np.prod(grid(s)) for s in strides)


def places(strides, offset=0.0):
    """x, y and stride of every cell in pixels, stride by stride, row by row."""
    return np.array([((x + offset) * s, (y + offset) * s, s)
                     for s in strides for y in range(grid(s)[1]) for x in range(grid(s)[0])], np.float64)


class Random:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def probabilities(self, count, classes):
        """Most are small; about a quarter of the rows have one above the threshold."""
        p = self.rng.uniform(0.01, 0.3, (count, classes))
        chosen = self.rng.random(count) < 0.25
        p[np.arange(count), self.rng.integers(0, classes, count)] += np.where(chosen, self.rng.uniform(0.3, 0.69, count), 0)
        return half(p)

    def logits(self, count, classes):
        p = self.probabilities(count, classes).astype(np.float64)
        return half(np.log(p / (1 - p)))

    def corners(self, count):
        """Boxes in pixels of the input, some of them over its edges, in a few heaps."""
        heap = self.rng.integers(0, 5, count)
        x = np.array([8, 26, 40, 55, 20])[heap] + self.rng.uniform(-3, 3, count)
        y = np.array([10, 30, 12, 38, 44])[heap] + self.rng.uniform(-3, 3, count)
        w, h = self.rng.uniform(8, 20, (2, count))
        return half(np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1))

    def uniform(self, low, high, shape):
        return half(self.rng.uniform(low, high, shape))


def centers(corners):
    x1, y1, x2, y2 = np.moveaxis(np.asarray(corners, np.float64), -1, 0)
    return half(np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], -1))


def from_centers(b):
    x, y, w, h = np.moveaxis(np.asarray(b, np.float64), -1, 0)
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)


SIZE = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float64)


def best(scores):
    """(row, class, confidence) of each row's best class."""
    scores = np.asarray(scores)
    return [(i, int(np.argmax(row)), row[np.argmax(row)]) for i, row in enumerate(scores)]


class Case:
    def __init__(self, family, resize, suppression="nms", **facts):
        self.family, self.resize, self.suppression, self.facts = family, resize, suppression, facts
        self.outputs, self.found = [], []

    def output(self, name, values, element=FLOAT, shape=None):
        values = half(values)
        self.outputs.append((name, element, values.reshape(shape) if shape else values))

    def find(self, scores, corners, first_class=0):
        """A candidate for each row with its best class, boxes in pixels of the input."""
        for (i, c, p), b in zip(best(scores), np.asarray(corners, np.float64)):
            self.found.append((len(self.found), c + first_class, float(p), *b))

    def list(self, classes, scores, corners, first_class=0):
        for c, p, b in zip(classes, scores, np.asarray(corners, np.float64)):
            self.found.append((len(self.found), int(c) + first_class, float(p), *b))


def placement(resize):
    """left, top, and pixels of the frame for one of the input."""
    if resize == "stretch":
        return 0, 0, FRAME[0] / WIDTH, FRAME[1] / HEIGHT
    ratio = min(WIDTH / FRAME[0], HEIGHT / FRAME[1])
    w, h = max(1, int(FRAME[0] * ratio + 0.5)), max(1, int(FRAME[1] * ratio + 0.5))
    left, top = ((WIDTH - w) // 2, (HEIGHT - h) // 2) if resize == "letterbox" else (0, 0)
    return left, top, FRAME[0] / w, FRAME[1] / h


def intersection(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0)


def area(b):
    return max(b[2] - b[0], 0) * max(b[3] - b[1], 0)


def covariance(corners, angle):
    w, h = corners[2] - corners[0], corners[3] - corners[1]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.diag([w * w / 12, h * h / 12]) @ turn.T


def probabilistic_iou(a, b):
    """1 less the Hellinger distance of the two boxes' normal distributions, in its textbook form."""
    sa, sb = covariance(a[:4], a[4]), covariance(b[:4], b[4])
    middle = (sa + sb) / 2
    d = np.array([a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3]]) / 2
    distance = d @ np.linalg.inv(middle) @ d / 8
    shape = np.log(np.linalg.det(middle) / np.sqrt(np.linalg.det(sa) * np.linalg.det(sb))) / 2
    return 1 - np.sqrt(1 - np.exp(-(distance + shape)))


def finish(case):
    """The detections in the frame; None where a comparison is too close to call."""
    left, top, sx, sy = placement(case.resize)
    turned, suppressed = "turned" in case.suppression, "none" not in case.suppression
    candidates = []
    for index, c, p, x1, y1, x2, y2, *angle in case.found:
        if not np.isfinite([p, x1, y1, x2, y2]).all():
            continue
        if abs(p - THRESHOLD) < 1e-3:
            return None
        if p <= THRESHOLD:
            continue
        b = [(x1 - left) * sx, (y1 - top) * sy, (x2 - left) * sx, (y2 - top) * sy]
        if turned:
            x, y = (b[0] + b[2]) / 2, (b[1] + b[3]) / 2
            if not (0 <= x <= FRAME[0] and 0 <= y <= FRAME[1]):
                continue
            b.append(angle[0])
        else:
            b = [min(max(v, 0), limit) for v, limit in zip(b, FRAME * 2)]
        if area(b) > 0:
            candidates.append((p, index, c, b))
    candidates.sort(key=lambda d: (-d[0], d[1]))
    for a, b in zip(candidates, candidates[1:]):
        if 0 < a[0] - b[0] < 2e-5:
            return None
    kept = []
    for p, index, c, b in candidates:
        taken = False
        for k in kept:
            if not suppressed or k[2] != c:
                continue
            if turned:
                share = probabilistic_iou(k[3], b)
            elif case.suppression == "clusters":
                share = intersection(k[3], b) / max(area(k[3]), area(b))
            else:
                share = intersection(k[3], b) / (area(k[3]) + area(b) - intersection(k[3], b))
            if abs(share - IOU) < 2e-3:
                return None
            if share > IOU:
                taken = True
                if case.suppression == "clusters":
                    k[3] = [min(k[3][0], b[0]), min(k[3][1], b[1]), max(k[3][2], b[2]), max(k[3][3], b[3])]
                break
        if not taken:
            kept.append([p, index, c, b])
    if turned:
        for k in kept:
            x1, y1, x2, y2, angle = k[3]
            w, h = x2 - x1, y2 - y1
            points = np.array([(-w, -h), (w, -h), (w, h), (-w, h)]) / 2
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            points = points @ turn + [(x1 + x2) / 2, (y1 + y2) / 2]
            low, high = points.min(0), points.max(0)
            k[3] = [max(low[0], 0), max(low[1], 0), min(high[0], FRAME[0]), min(high[1], FRAME[1])]
    return [[c, round(float(p), 6), *(round(float(v), 4) for v in b)] for p, _, c, b in kept]
