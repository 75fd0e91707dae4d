//! `pipelines/embed.rs`, run as its users run it: with a real RTSP server and a real broker that come and go.

mod broker;
#[path = "../common/mod.rs"]
mod common;
mod python;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use gst_rtsp_server::prelude::*;
use serde_json::Value;

/// A blue cell on black, 25 times a second.
const BLUE_CELL: &str = "videotestsrc is-live=true pattern=blue ! video/x-raw,width=40,height=30,framerate=25/1 ! \
                         videobox left=-120 top=-120 right=-160 bottom=-90";

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A process that is killed when the test is over.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something holds, for no longer than half a minute.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed().as_secs() < 30,
            "waited in vain until {what}"
        );
        thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// The program, and the lines it has printed.
struct Embed {
    child: Killed,
    commands: ChildStdin,
    lines: Arc<Mutex<Vec<Value>>>,
    /// What it said of itself.
    said: Arc<Mutex<Vec<String>>>,
    metrics: u16,
}

impl Embed {
    fn start(arguments: &[&str]) -> Self {
        let program = library().with_file_name("examples").join("embed");
        assert!(program.is_file(), "run cargo build --examples first");
        let metrics = free_port();
        let mut child = Command::new(program)
            .args(["--model", &model("colors-ssd.onnx"), "--labels"])
            .arg(tests_file("models/colors.labels.txt"))
            .args(["--metrics", &format!("127.0.0.1:{metrics}")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::<Mutex<Vec<Value>>>::default();
        let of_thread = Arc::clone(&lines);
        thread::spawn(move || {
            for line in printed.lines() {
                let line = serde_json::from_str(&line.unwrap()).unwrap();
                of_thread.lock().unwrap().push(line);
            }
        });
        let errors = BufReader::new(child.stderr.take().unwrap());
        let said = Arc::<Mutex<Vec<String>>>::default();
        let of_thread = Arc::clone(&said);
        let start = Instant::now();
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                println!("{:.2?}: {line}", start.elapsed());
                of_thread.lock().unwrap().push(line);
            }
        });
        Self {
            commands: child.stdin.take().unwrap(),
            child: Killed(child),
            lines,
            said,
            metrics,
        }
    }

    fn command(&mut self, line: &str) {
        writeln!(self.commands, "{line}").unwrap();
    }

    /// How many lines of a camera there are.
    fn lines_of(&self, camera: &str) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line["source"] == camera).count()
    }

    fn wait_for_new_lines(&self, camera: &str) -> Duration {
        let before = self.lines_of(camera);
        wait_until(&format!("{camera} has lines"), || {
            self.lines_of(camera) > before
        })
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// The samples, by name and labels, of an answer that is what Prometheus reads.
    fn samples(&self) -> BTreeMap<String, f64> {
        let answer = self.get("/metrics").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        let mut typed = "";
        let mut samples = BTreeMap::new();
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                typed = name;
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(sample.split('{').next(), Some(typed), "{line}");
            let value = value.parse::<f64>().unwrap();
            assert_eq!(samples.insert(sample.to_owned(), value), None, "{line}");
        }
        samples
    }

    fn sample(&self, name: &str, camera: &str) -> f64 {
        self.samples()[&format!("rsdetectnet_{name}{{camera=\"{camera}\"}}")]
    }

    /// Open files and threads.
    fn held(&self) -> [usize; 2] {
        let process = Path::new("/proc").join(self.child.0.id().to_string());
        ["fd", "task"].map(|kind| std::fs::read_dir(process.join(kind)).unwrap().count())
    }

    /// Ends the program as Ctrl-C does. All lines, and what it said.
    fn interrupt(mut self) -> (Vec<Value>, Vec<String>) {
        let id = self.child.0.id().to_string();
        let killed = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(killed.success());
        let start = Instant::now();
        assert_eq!(self.wait(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5));
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        let said = std::mem::take(&mut *self.said.lock().unwrap());
        (lines, said)
    }

    /// Its exit code, when all that it wrote has been read.
    fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.child.0.try_wait().unwrap();
            status.is_some()
        });
        wait_until("its output is read", || {
            Arc::strong_count(&self.lines) + Arc::strong_count(&self.said) == 2
        });
        status.unwrap().code()
    }
}

#[test]
fn cameras_are_added_removed_and_restarted_while_others_run_and_the_metrics_agree() {
    let crops = tempfile::tempdir().unwrap();
    let folder = crops.path().join("crops");
    let mut embed = Embed::start(&[
        "--crops",
        folder.to_str().unwrap(),
        &format!("gate={BLUE_CELL}"),
    ]);
    embed.wait_for_new_lines("gate");
    embed.command(&format!("add door {BLUE_CELL}"));
    embed.wait_for_new_lines("door");
    assert!(embed.get("/ready").unwrap().contains(" 200 "));
    assert!(embed.get("/live").unwrap().ends_with("2 cameras\n"));
    assert!(embed.get("/").unwrap().contains(" 404 "));

    let held = embed.held();
    let before = embed.lines_of("gate");
    for restart in 1..=5 {
        embed.command("restart door");
        wait_until("it is restarted", || {
            embed.sample("restarts_total", "door") == f64::from(restart)
        });
        embed.wait_for_new_lines("door");
    }
    let [files, threads] = embed.held();
    println!("before restarts {held:?} files and threads, after them [{files}, {threads}]");
    // A leak would be one for each restart.
    assert!(files <= held[0] + 2 && threads <= held[1] + 2);
    assert!(embed.lines_of("gate") > before + 5, "gate went on");
    assert_eq!(embed.sample("restarts_total", "gate"), 0.0);

    // Counts lie between the lines before and after them, and are of all runs together.
    for camera in ["gate", "door"] {
        let least = embed.lines_of(camera);
        let samples = embed.samples();
        let sample = |name: &str| samples[&format!("rsdetectnet_{name}{{camera=\"{camera}\"}}")];
        thread::sleep(Duration::from_millis(300));
        let inspected = sample("inspected_total") as usize;
        assert!((least..=embed.lines_of(camera)).contains(&inspected));
        assert_eq!(sample("detections_total") as usize, inspected);
        assert_eq!((sample("up"), sample("dropped_total")), (1.0, 0.0));
        assert!(sample("delay_seconds") > 0.0 && sample("delay_seconds") < 2.0);
        let objects = format!("rsdetectnet_objects{{camera=\"{camera}\",label=\"blue\"}}");
        assert_eq!(samples[&objects], 1.0);
    }
    wait_until("the frame rate is measured", || {
        (15.0..=26.0).contains(&embed.sample("fps", "gate"))
    });

    embed.command("remove door");
    wait_until("door is gone", || {
        embed.get("/live").unwrap().ends_with("1 cameras\n")
    });
    let gone = embed.lines_of("door");
    embed.wait_for_new_lines("gate");
    assert_eq!(embed.lines_of("door"), gone);
    for wrong in [
        "remove door",
        "dance",
        "add gate x",
        "add a/b x",
        "add c nothing",
    ] {
        embed.command(wrong);
    }
    embed.wait_for_new_lines("gate");

    let (lines, said) = embed.interrupt();
    for line in lines {
        assert_eq!(line["objects"][0]["roi_type"], "blue", "{line}");
    }
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(said[0].contains("there is no such camera"));
    assert!(said[1].contains("'dance' is no command"));
    assert!(said[2].contains("'gate' is taken") && said[3].contains("'a/b' is"));
    assert!(said[4].contains("nothing"), "{said:?}");
    let mut crops = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("gate-blue-") || name.starts_with("door-blue-"));
        assert!(std::fs::read(&path).unwrap().starts_with(&[0xff, 0xd8]));
        crops += 1;
    }
    assert!(crops >= 20, "{crops}");
}

/// An RTSP server of BLUE_CELL, or of one in another colour, and since when it listens.
fn rtsp_server(port: u16, color: &str) -> (Killed, Instant) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_rtsp_server", "--ignored", "--nocapture"])
        .env("RTSP_PORT", port.to_string())
        .env("RTSP_COLOR", color)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let printed = BufReader::new(child.stdout.take().unwrap());
    assert!(
        printed
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("listens"))
    );
    (Killed(child), Instant::now())
}

#[test]
#[ignore = "run by rtsp_server"]
fn child_rtsp_server() {
    gst::init().unwrap();
    let server = gst_rtsp_server::RTSPServer::new();
    server.set_service(&std::env::var("RTSP_PORT").unwrap());
    let factory = gst_rtsp_server::RTSPMediaFactory::new();
    let cell = BLUE_CELL.replace("blue", &std::env::var("RTSP_COLOR").unwrap());
    factory.set_launch(&format!(
        "( {cell} ! videoconvert ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! \
         rtph264pay name=pay0 config-interval=1 )"
    ));
    factory.set_shared(true);
    server.mount_points().unwrap().add_factory("/gate", factory);
    let _source = server.attach(None).unwrap();
    println!("listens");
    gst::glib::MainLoop::new(None, false).run();
}

#[test]
fn detections_are_back_within_3_s_after_the_server_is_and_nothing_piles_up() {
    let port = free_port();
    let (mut server, _) = rtsp_server(port, "blue");
    // Only lines with detections.
    let embed = Embed::start(&[
        "--json-empty",
        "false",
        &format!("tcp=rtspt://127.0.0.1:{port}/gate"),
        &format!("udp=rtsp://127.0.0.1:{port}/gate"),
        &format!("other={BLUE_CELL}"),
    ]);
    for camera in ["tcp", "udp"] {
        embed.wait_for_new_lines(camera);
    }
    let mut held = [0; 2];
    for round in 0..4 {
        drop(server);
        wait_until("the cameras are down", || {
            embed.sample("up", "tcp") + embed.sample("up", "udp") == 0.0
        });
        embed.wait_for_new_lines("other");
        thread::sleep(Duration::from_millis(500 * round));
        let back;
        (server, back) = rtsp_server(port, "blue");
        for camera in ["tcp", "udp"] {
            embed.wait_for_new_lines(camera);
            let after = back.elapsed();
            println!("{camera}: detections {after:.2?} after the server was back");
            assert!(after < Duration::from_secs(3), "{camera}: {after:?}");
        }
        thread::sleep(Duration::from_millis(500));
        let now = embed.held();
        println!("{held:?} files and threads, now {now:?}");
        // A camera may be between two runs at the moment, and hold less.
        if round < 2 {
            held = [held[0].max(now[0]), held[1].max(now[1])];
        }
    }
    let [files, threads] = embed.held();
    assert!(files <= held[0] + 2 && threads <= held[1] + 2);
    assert!(embed.sample("restarts_total", "tcp") >= 4.0);
    let (lines, said) = embed.interrupt();
    for line in lines {
        assert_eq!(line["objects"][0]["roi_type"], "blue", "{line}");
    }
    assert!(said.iter().any(|line| line.contains("; again")));
}

#[test]
fn what_is_wrong_is_said_in_one_sentence() {
    // It is a file, but not a film; each version of GStreamer says that in another way.
    let broken = "a=tests/models/broken.onnx";
    for (arguments, sentence) in [
        (&["--color", "red"][..], "no property \"color\""),
        (&["--mqtt", "nowhere"], "'nowhere' is no broker"),
        (&["a=nothing"], "nothing"),
        (&["--threshold"], "a value is missing"),
        (&["nothing"], "a source is NAME=SOURCE"),
        (&[broken], "embed: a: "),
    ] {
        let mut embed = Embed::start(arguments);
        assert_eq!(embed.wait(), Some(1), "{arguments:?}");
        let said = embed.said.lock().unwrap();
        assert!(said[0].contains(sentence), "{said:?}");
        assert_eq!(said.len(), 1, "{said:?}");
    }
}
