"""What README.md says to those who write Python: its programs run, and every "now" of its table works."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

from test_rsdetectnet import DETECTOR, Gst, picture, pull, rsdetectnet

REPOSITORY = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..")
with open(os.path.join(REPOSITORY, "README.md")) as file:
    README = file.read()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

#: First words of what only other machines have.
ELSEWHERE = ("nvarguscamerasrc", "torch", "cupy")


def run_to_the_end(description):
    pipeline = Gst.parse_launch(description)
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    assert message.type == Gst.MessageType.EOS, message.parse_error()


class Table(unittest.TestCase):
    """Every piece of code in the right column: a part of a pipeline, properties, caps, or an expression."""

    def setUp(self):
        self.pipeline = Gst.parse_launch(
            f"appsrc name=source format=time ! {DETECTOR} ! appsink name=sink sync=false "
            "appsrc name=other ! fakesink async=false"
        )
        self.pipeline.set_state(Gst.State.PLAYING)
        get = self.pipeline.get_by_name
        get("source").emit("push-sample", rsdetectnet.from_numpy(picture()))
        sample = pull(get("sink"))
        get("source").emit("push-sample", rsdetectnet.from_numpy(picture()))
        found = next(each for each in rsdetectnet.detections(sample) if each.label == "red")
        array = rsdetectnet.to_numpy(sample)
        self.names = {
            "rsdetectnet": rsdetectnet, "sample": sample, "found": found, "array": array, "tensor": array,
            "sink": get("sink"), "source": get("other"), "d": get("detector"),
            "x": 16, "y": 8, "width": 8, "height": 4,
        }  # fmt: skip

    def tearDown(self):
        self.pipeline.set_state(Gst.State.NULL)

    def now(self):
        (table,) = re.findall(r"\| then \| now \|\n\|---\|---\|\n((?:\|.*\n)+)", README)
        for row in table.splitlines():
            then, now = row.strip("| ").split(" | ")
            yield from ((then, code) for code in re.findall(r"`([^`]+)`", now))

    def test_every_piece_of_code_works(self):
        works = 0
        for then, code in self.now():
            with self.subTest(then=then, now=code):
                works += self.works(code)
        self.assertGreaterEqual(works, 35)

    def works(self, code):
        first = code.split()[0]
        if first.startswith(ELSEWHERE):
            return False
        if first == "crops":
            self.assertIsNotNone(self.names["d"].get_pad_template("crops"))
        elif first.startswith("video/x-raw"):
            self.assertFalse(Gst.Caps.from_string(code).is_empty())
        elif Gst.ElementFactory.find(first):
            code = code.replace("…", "camera/")
            caps_end_it = code.split(" ! ")[-1].startswith("video/x-raw")
            Gst.parse_bin_from_description(code + " ! identity" if caps_end_it else code, False)
        elif re.fullmatch(r"[\w-]+=\S+", code):
            Gst.parse_launch(f"rsdetectnet {code}")
        elif "to_cuda" in code or "from_cuda" in code:
            # There is no GPU here; what they say shows that they were given what they take.
            with self.assertRaisesRegex((TypeError, ValueError), "to_numpy takes it|on a GPU, or a tuple"):
                eval(code, self.names)
        elif code != "d.crops":
            eval(code, self.names)
        return True

    def value(self, then):
        """What stands for one name of jetson-inference."""
        for row in README.splitlines():
            left, _, right = row.strip("| ").partition(" | ")
            names, codes = re.findall(r"`([^`]+)`", left), re.findall(r"`([^`]+)`", right)
            if then in names:
                return eval(codes[names.index(then)], self.names)
        raise KeyError(then)

    def test_the_fields_of_a_detection_hold_what_those_of_jetson_inference_do(self):
        for then, wanted in [
            ("each.Left", 16), ("each.Top", 8), ("each.Right", 24), ("each.Bottom", 16), ("each.Width", 8),
            ("each.Height", 8), ("each.Area", 64), ("each.ClassID", 1), ("each.Confidence", 1),
        ]:  # fmt: skip
            with self.subTest(then=then):
                self.assertAlmostEqual(self.value(then), wanted, places=1)
        self.assertEqual(tuple(round(part) for part in self.value("each.Center")), (20, 12))
        self.assertEqual(self.value("net.GetClassDesc(each.ClassID)"), "red")
        self.assertEqual(self.value("source.Capture()").get_caps(), self.names["sample"].get_caps())


class Programs(unittest.TestCase):
    def test_crops_of_a_clip_are_arrays(self):
        (program,) = (text for text in PROGRAMS if "d.crops" in text)
        self.assertLessEqual(len(program.splitlines()), 15)
        astronaut = os.path.join(REPOSITORY, "tests", "media", "astronaut.png")
        with tempfile.TemporaryDirectory() as folder:
            run_to_the_end(
                f"filesrc location={astronaut} ! pngdec ! imagefreeze num-buffers=3 ! videoconvert "
                "! video/x-raw,format=I420,framerate=25/1 ! jpegenc ! avimux "
                f"! filesink location={folder}/clip.mp4"
            )
            ended = subprocess.run(
                [sys.executable, "-c", program],
                cwd=folder,
                env=dict(os.environ, PYTHONPATH=os.path.join(REPOSITORY, "pipelines")),
                capture_output=True,
                text=True,
                timeout=120,
            )
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        people = [line for line in ended.stdout.splitlines() if line.startswith("Person ")]
        self.assertEqual([line.split()[2] for line in people], ["0", "1", "2"], ended.stdout)
        for line in people:
            self.assertRegex(line, r"^Person 0\.\d+ \d \(\d+, \d+, 3\)$")

    def test_the_callback_reads_frames_and_detections(self):
        (program,) = (text for text in PROGRAMS if "def on_frame" in text)
        names, printed = {}, []
        exec(program, names)
        names["print"] = lambda *words: printed.append(words)
        pipeline = Gst.parse_launch(f"appsrc name=source format=time ! {DETECTOR} ! appsink name=sink sync=false")
        pipeline.set_state(Gst.State.PLAYING)
        pipeline.get_by_name("source").emit("push-sample", rsdetectnet.from_numpy(picture()))
        names["on_frame"](pipeline.get_by_name("sink"))
        pipeline.set_state(Gst.State.NULL)
        self.assertEqual(sorted(words[0] for words in printed), ["blue", "red"])


if __name__ == "__main__":
    unittest.main()
