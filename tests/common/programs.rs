//! Programs of `pipelines/`, run as their users run them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::{Picture, RED, init, library, model, tests_file};

/// A folder that holds the plugin that cargo built beside the tests, and nothing else.
fn plugins() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
    let link = folder.join("libgstrsdetectnet.so");
    if std::fs::read_link(&link).ok() != Some(library()) {
        std::fs::create_dir_all(&folder).unwrap();
        // Other tests may do the same at this moment: a link comes into being whole.
        let made = tempfile::tempdir_in(&folder).unwrap();
        let new = made.path().join("link");
        std::os::unix::fs::symlink(library(), &new).unwrap();
        std::fs::rename(new, link).unwrap();
    }
    folder
}

/// A command in a folder, with the plugin in GStreamer's path.
pub fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("GST_PLUGIN_PATH", plugins())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY");
    command
}

/// A program of `pipelines/` in a folder.
pub fn program(name: &str, folder: &Path) -> Command {
    command(tests_file("../pipelines").join(name), folder)
}

/// The options of a model that finds coloured cells; `name` is one of tests/models.
pub fn with_colors(name: &str) -> Vec<String> {
    let labels = tests_file("models/colors.labels.txt");
    let labels = format!("--labels={}", labels.display());
    vec![format!("--network={}", model(name)), labels]
}

/// Whether this machine's Python has what the programs are written with; says so where not.
pub fn python_runs() -> bool {
    let imports =
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')";
    let found = Command::new("/usr/bin/python3")
        .args(["-c", imports])
        .output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: install python3-gi and gir1.2-gst-rtsp-server-1.0");
    }
    found
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Plays a pipeline to its end. Of an element called `detector` these are the frames and the detections.
pub fn play(description: &str) -> (u64, u64) {
    init();
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let limit = gst::ClockTime::from_seconds(60);
    let end = pipeline.bus().unwrap().timed_pop_filtered(limit, &ends);
    let detector = pipeline.by_name("detector");
    let stats = detector.map(|detector| detector.property::<gst::Structure>("stats"));
    pipeline.set_state(gst::State::Null).unwrap();
    let end = end.expect("it plays on and on");
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    let count = |name| stats.as_ref().map_or(0, |stats| stats.get(name).unwrap());
    (count("frames"), count("detections"))
}

/// The text of the element with which the tests find coloured cells.
pub fn detector() -> String {
    let labels = tests_file("models/colors.labels.txt");
    let model = model("colors-ssd.onnx");
    format!(
        "rsdetectnet name=detector model={model} labels={}",
        labels.display()
    )
}

/// The frames of a file, and the coloured cells that are found in all of them.
pub fn found_in(file: &Path) -> (u64, u64) {
    let (file, detector) = (file.display(), detector());
    play(&format!(
        "filesrc location={file} ! decodebin ! videoconvert ! {detector} ! fakesink"
    ))
}

/// A film of so many frames, 25 a second, with a red cell.
pub fn red_film(folder: &Path, frames: u32) -> PathBuf {
    let (film, picture) = (folder.join("film.avi"), folder.join("picture.png"));
    let Picture { width, height, rgb } = Picture::grey(320, 240).with_cell(3, 4, RED);
    let mut encoder = png::Encoder::new(std::fs::File::create(&picture).unwrap(), width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&rgb).unwrap();
    writer.finish().unwrap();
    play(&format!(
        "filesrc location={} ! pngdec ! imagefreeze num-buffers={frames} ! videoconvert \
         ! video/x-raw,format=I420,framerate=25/1 ! jpegenc quality=100 ! avimux ! filesink location={}",
        picture.display(),
        film.display()
    ));
    film
}

/// A program that runs beside the test, whose lines are read as they come. It is killed when dropped.
pub struct Running {
    pub child: Child,
    pub lines: Receiver<(Instant, String)>,
    said: Receiver<(Instant, String)>,
}

/// Lines of a stream with the time at which they came, from a thread that ends with the stream.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<(Instant, String)> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send((Instant::now(), line));
        }
    });
    receiver
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            lines: lines_of(child.stdout.take().unwrap()),
            said: lines_of(child.stderr.take().unwrap()),
            child,
        }
    }

    /// All that it has said on standard error since the last call.
    pub fn said(&self) -> String {
        let lines: Vec<_> = self.said.try_iter().map(|(_, line)| line).collect();
        lines.join("\n")
    }

    /// The first line from now on that has this in it, with its time.
    pub fn line_with(&self, text: &str, limit: Duration) -> (Instant, String) {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(found) if found.1.contains(text) => return found,
                Ok(_) => {}
                Err(error) => panic!("no line with {text:?}, {error}: {}", self.said()),
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for its end, which must be a success.
    pub fn finish(mut self) -> String {
        let status = self.child.wait().unwrap();
        // Its last words may still be on their way through the thread that reads them.
        let said: Vec<_> = self.said.iter().map(|(_, line)| line).collect();
        assert!(status.success(), "{status}: {}", said.join("\n"));
        said.join("\n")
    }

    /// Its open files and its threads.
    pub fn holds(&self) -> (usize, usize) {
        let count = |what: &str| {
            let folder = format!("/proc/{}/{what}", self.child.id());
            std::fs::read_dir(folder).unwrap().count()
        };
        (count("fd"), count("task"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
