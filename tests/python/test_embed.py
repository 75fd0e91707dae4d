"""pipelines/embed.py, run as its users run it: run by tests/python.rs."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

from test_rsdetectnet import Gst, rsdetectnet

HERE = os.path.dirname(os.path.realpath(__file__))
PROGRAM = os.path.join(HERE, "..", "..", "pipelines", "embed.py")


def film(path, pictures):
    """A film of these pictures, 10 frames each."""
    branches = " ".join(
        f"filesrc location={HERE}/../media/{picture} ! pngdec ! imagefreeze num-buffers=10 ! videoconvert ! videoscale "
        "! video/x-raw,format=I420,width=640,height=480,framerate=25/1,pixel-aspect-ratio=1/1 ! films."
        for picture in pictures
    )
    encoded = f"concat name=films ! jpegenc quality=95 ! avimux ! filesink location={path}"
    pipeline = Gst.parse_launch(f"{encoded} {branches}")
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    assert message.type == Gst.MessageType.EOS, message.parse_error()


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


class Embed(unittest.TestCase):
    def test_it_is_short(self):
        with open(PROGRAM) as file:
            self.assertLessEqual(len(file.readlines()), 80)

    def test_a_person_is_saved_once_however_long_she_is_seen(self):
        with tempfile.TemporaryDirectory() as folder:
            film(f"{folder}/film.avi", ["astronaut.png", "coffee.png"])
            ended = run(folder, "film.avi", "found")
            self.assertEqual((ended.returncode, ended.stderr), (0, ""))
            lines = ended.stdout.splitlines()
            self.assertEqual(len(lines), 1, ended.stdout)
            place, time = r"(\d+)x(\d+)\+\d+\+\d+", r"\d{4}-\d\d-\d\dT[\d:]+"
            line = re.fullmatch(rf"([0-9a-f]{{16}}\.jpg) Person 0\.\d\d {place} {time}", lines[0])
            self.assertTrue(line, lines)
            self.assertEqual(os.listdir(f"{folder}/found"), [line[1]])
            # The picture has the size that was printed.
            pipeline = Gst.parse_launch(
                f"filesrc location={folder}/found/{line[1]} ! jpegdec ! videoconvert ! video/x-raw,format=RGB "
                "! appsink name=sink"
            )
            pipeline.set_state(Gst.State.PLAYING)
            image = rsdetectnet.to_numpy(pipeline.get_by_name("sink").emit("pull-sample"))
            pipeline.set_state(Gst.State.NULL)
            self.assertEqual(image.shape, (int(line[3]), int(line[2]), 3))

    def test_what_is_wrong_is_said_in_one_sentence(self):
        with tempfile.TemporaryDirectory() as folder:
            for arguments, sentence in [
                (["film.avi"], "film.avi"),
                (["file:///no/film.avi"], "not found"),
                (["file:///no/film.avi", "people", "colour=red"], 'no property "colour"'),
            ]:
                ended = run(folder, *arguments)
                self.assertEqual((ended.returncode, len(ended.stderr.splitlines())), (1, 1), ended.stderr)
                self.assertIn(sentence, ended.stderr)
            self.assertIn("pipelines/embed.py rtsp://", run(folder).stderr)


if __name__ == "__main__":
    unittest.main()
