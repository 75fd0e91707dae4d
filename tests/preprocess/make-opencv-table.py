#!/usr/bin/env python3
"""Makes opencv.txt: what OpenCV's resize gives, which preprocessing must give too.

    pip install numpy opencv-python-headless
    make-opencv-table.py > opencv.txt

A line has the way, the channels of a picture, its width and height, the width and height of the tensor, and the result:
its bytes if they are few, else the first half of their SHA-256. Byte i of a picture is the highest of the 32 lower bits
of i * 2654435761. Pictures of three channels are R, G, B; so are results.
"""
import hashlib

import cv2
import numpy as np

SIZES = [
    # Enlarged and shrunk, to odd and even sizes, on one axis or both.
    (5, 4, 7, 3), (3, 5, 8, 8), (9, 7, 4, 3), (6, 6, 3, 3), (1, 1, 3, 2), (2, 1, 5, 1), (1, 9, 2, 4), (7, 5, 7, 5),
    (64, 48, 31, 17), (33, 71, 90, 80), (200, 10, 37, 90), (97, 61, 61, 97), (640, 480, 320, 240), (640, 480, 300, 300),
    (99, 100, 33, 50), (101, 55, 640, 13), (512, 512, 300, 300), (450, 300, 300, 300), (600, 400, 300, 300),
    (1280, 720, 300, 300), (1920, 1080, 300, 300), (1920, 1080, 640, 640),
    (8191, 3, 2047, 2), (3, 4097, 2, 511),
]
LETTERBOXES = [
    (512, 512, 640, 640), (450, 300, 640, 640), (600, 400, 640, 640), (1920, 1080, 640, 640), (1080, 1920, 640, 640),
    (1280, 361, 640, 640), (1280, 363, 640, 640), (33, 20, 32, 24), (7, 50, 16, 16),
]


def picture(channels, width, height):
    noise = np.arange(width * height * channels, dtype=np.uint64) * 2654435761 % 2**32 >> 24
    return noise.astype(np.uint8).reshape(height, width, channels)


def stretched(image, width, height):
    return cv2.resize(image, (width, height))


def letterboxed(image, width, height):
    ratio = min(width / image.shape[1], height / image.shape[0])
    w, h = round(image.shape[1] * ratio), round(image.shape[0] * ratio)
    left, top = (width - w) // 2, (height - h) // 2
    canvas = np.full((height, width, image.shape[2]), 114, np.uint8)
    canvas[top:top + h, left:left + w] = cv2.resize(image, (w, h)).reshape(h, w, -1)
    return canvas


print(f"# By make-opencv-table.py with OpenCV {cv2.__version__}.")
for way, resize, sizes in ("stretch", stretched, SIZES), ("letterbox", letterboxed, LETTERBOXES):
    for channels in 1, 3:
        for width, height, to_width, to_height in sizes:
            result = resize(picture(channels, width, height), to_width, to_height).tobytes()
            shown = result.hex() if len(result) <= 75 else hashlib.sha256(result).hexdigest()[:32]
            print(way, channels, width, height, to_width, to_height, shown)
