//! Many cameras in one program. Each has a pipeline of its own, which is started again when it fails, and can be added
//! and removed while the others run; all share one model.
//!
//! ```text
//! embed [--crops FOLDER] [--metrics ADDRESS:PORT] [--mqtt [USER:PASSWORD@]HOST[:PORT]/TOPIC] [--mqtt-buffer LINES]
//!       [--PROPERTY VALUE]… [NAME=]SOURCE…
//! ```
//!
//! A source is an address (`rtsp://…`; `rtspt://…` for TCP alone), a file, or the beginning of a pipeline as
//! gst-launch-1.0 takes it; `--PROPERTY` is any of rsdetectnet's. Lines of JSON go to standard output, and to the broker
//! as TOPIC/NAME. `--metrics` serves `/metrics`, `/live` and `/ready`. Standard input takes commands, one a line:
//! `add NAME SOURCE`, `remove NAME`, `restart NAME`, `quit`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, thread};

use gst::prelude::*;
use gst_app::{AppSink, AppSinkCallbacks};
use gstrsdetectnet::{Change, Metrics, ModelKeeper, Outbox, Supervisor};

#[path = "embed/broker.rs"]
mod broker;

type Failure = Box<dyn std::error::Error>;

/// How often cameras are looked after.
const TICK: Duration = Duration::from_millis(50);
/// For those who ask for metrics, and for the end of streams.
const PATIENCE: Duration = Duration::from_secs(2);

/// What all threads know.
struct Program {
    cameras: Mutex<BTreeMap<String, Supervisor>>,
    outbox: Option<(String, Arc<Outbox>)>,
    crops: Option<String>,
    /// Of rsdetectnet, as gst-launch-1.0 takes them.
    properties: String,
    on_gpu: bool,
    /// Ends the program, with the reason if it failed.
    end: Sender<Result<(), String>>,
}

impl Program {
    fn cameras(&self) -> MutexGuard<'_, BTreeMap<String, Supervisor>> {
        self.cameras.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&'static self, name: &str, source: &str) -> Result<(), String> {
        let is_bad = |letter: char| !letter.is_ascii_alphanumeric() && letter != '-';
        if name.contains(is_bad) || self.cameras().contains_key(name) {
            return Err(format!(
                "'{name}' is taken, or not of letters, digits and '-'"
            ));
        }
        let file = fs::canonicalize(source).ok();
        let file = file.and_then(|file| gst::glib::filename_to_uri(file, None).ok());
        let uri = file.as_deref().unwrap_or(source);
        // A GPU takes frames as the decoder gives them.
        let convert = if self.on_gpu { "" } else { "! videoconvert" };
        let rtp = "latency=100 ! application/x-rtp,media=video ! decodebin";
        let frames = match uri.contains("://") && !uri.contains(' ') {
            true if uri.starts_with("rtsp") => format!("rtspsrc location={uri:?} {rtp} {convert}"),
            true => format!("uridecodebin uri={uri:?} {convert}"),
            false => source.to_owned(),
        };
        let detector = format!("rsdetectnet name=d json-source={name} {}", self.properties);
        let sink = "appsink async=false sync=false name";
        let crops = format!("d.crops ! videoconvert ! jpegenc ! {sink}=crops");
        let crops = self.crops.as_ref().map_or("", |_| &crops);
        let outputs = format!("fakesink async=false d.detections ! {sink}=lines {crops}");
        let camera = name.to_owned();
        let connect = move |pipeline: &gst::Pipeline| {
            let name = camera.clone();
            self.on_buffer(pipeline, "lines", move |line| self.write_line(&name, line));
            let name = camera.clone();
            self.on_buffer(pipeline, "crops", move |crop| self.write_crop(&name, crop));
        };
        let description = format!("{frames} ! {detector} ! {outputs}");
        let supervisor = Supervisor::new(&description, file.is_some(), connect)?;
        self.cameras().insert(name.to_owned(), supervisor);
        Ok(())
    }

    /// Acts on each buffer of an appsink, in the thread that brings it.
    fn on_buffer<F>(&'static self, pipeline: &gst::Pipeline, sink: &str, act: F)
    where
        F: Fn(&gst::BufferRef) -> Result<(), Failure> + Send + 'static,
    {
        let act = move |sink: &AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(Err(error)) = sample.buffer().map(&act) {
                let _ = self
                    .end
                    .send(Err(format!("{} cannot be written: {error}", sink.name())));
            }
            Ok(gst::FlowSuccess::Ok)
        };
        if let Some(sink) = pipeline.by_name(sink).and_downcast::<AppSink>() {
            sink.set_callbacks(AppSinkCallbacks::builder().new_sample(act).build());
        }
    }

    fn write_line(&self, name: &str, line: &gst::BufferRef) -> Result<(), Failure> {
        let line = line.map_readable()?;
        if let Some((topic, outbox)) = &self.outbox {
            outbox.push(&format!("{topic}/{name}"), &line);
        }
        Ok(io::stdout().write_all(&line)?)
    }

    fn write_crop(&self, name: &str, crop: &gst::BufferRef) -> Result<(), Failure> {
        let found = gstrsdetectnet::crop_details(crop).ok_or("it is no crop")?;
        let label = found
            .label
            .replace(|letter: char| !letter.is_alphanumeric(), "_");
        let time = SystemTime::UNIX_EPOCH.elapsed()?.as_micros();
        let folder = self.crops.as_deref().unwrap_or_default();
        Ok(fs::write(
            format!("{folder}/{name}-{label}-{time}.jpg"),
            crop.map_readable()?,
        )?)
    }

    fn obey(&'static self, command: &str) -> Result<(), String> {
        let unknown = || format!("'{command}': there is no such camera");
        match command.trim().splitn(3, ' ').collect::<Vec<_>>()[..] {
            ["add", name, source] => self.add(name, source)?,
            ["remove", name] => drop(self.cameras().remove(name).ok_or_else(unknown)?),
            ["restart", name] => self.cameras().get_mut(name).ok_or_else(unknown)?.restart(),
            ["quit"] => drop(self.end.send(Ok(()))),
            _ => return Err(format!("'{command}' is no command")),
        }
        Ok(())
    }

    /// Starts cameras, again where they failed; ends the program after the last file.
    fn tick(&self) {
        let mut cameras = self.cameras();
        let had_cameras = !cameras.is_empty();
        cameras.retain(|name, supervisor| match supervisor.tick() {
            Change::None => true,
            Change::Failed(reason) => {
                eprintln!("embed: {name}: {reason}; trying again");
                true
            }
            Change::Ended(reason) => {
                reason.map(|reason| self.end.send(Err(format!("{name}: {reason}"))));
                false
            }
        });
        if had_cameras && cameras.is_empty() {
            let _ = self.end.send(Ok(()));
        }
    }

    fn metrics(&self) -> String {
        let mut metrics = Metrics::default();
        for (name, supervisor) in &*self.cameras() {
            supervisor.add_metrics(&mut metrics, &[("camera", name)]);
            let mut objects = BTreeMap::new();
            for found in supervisor.latest().detections {
                *objects.entry(found.label).or_insert(0.0) += 1.0;
            }
            for (label, count) in objects {
                let labels = [("camera", name.as_str()), ("label", &label)];
                metrics.add("rsdetectnet_objects", &labels, count);
            }
        }
        self.outbox
            .as_ref()
            .inspect(|(_, outbox)| outbox.add_metrics(&mut metrics));
        metrics.to_string()
    }

    /// Answers one who asks over HTTP.
    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let lines = BufReader::new(stream.try_clone()?)
            .lines()
            .map_while(Result::ok);
        let request: Vec<_> = lines
            .take_while(|line| !line.is_empty())
            .take(100)
            .collect();
        let is_up = || self.cameras().values().any(Supervisor::is_up);
        let (status, text) = match request.first().and_then(|line| line.split(' ').nth(1)) {
            Some("/metrics") => (200, self.metrics()),
            Some("/live") => (200, format!("{} cameras\n", self.cameras().len())),
            Some("/ready") if is_up() => (200, "frames come\n".into()),
            Some("/ready") => (503, "no frames come\n".into()),
            _ => (404, "there are /metrics, /live and /ready\n".into()),
        };
        let kind = "Content-Type: text/plain; version=0.0.4";
        write!(
            stream,
            "HTTP/1.0 {status} -\r\n{kind}\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
    }
}

fn run() -> Result<(), Failure> {
    gst::init()?;
    gstrsdetectnet::plugin_register_static()?;
    let (mut options, mut sources) = (BTreeMap::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--").map(str::to_owned) {
            Some(name) => drop(options.insert(name, arguments.next().ok_or("a value is missing")?)),
            None => sources.push(argument),
        }
    }
    let listener = options
        .remove("metrics")
        .map(TcpListener::bind)
        .transpose()?;
    let crops = options.remove("crops");
    crops.as_ref().map_or(Ok(()), fs::create_dir_all)?;
    let room = options
        .remove("mqtt-buffer")
        .map_or(Ok(10_000), |lines| lines.parse())?;
    let outbox = options
        .remove("mqtt")
        .map(|broker| broker::deliver(room, &broker))
        .transpose()?;
    let properties = options
        .iter()
        .map(|(name, value)| format!(" {name}={value:?}"));
    let properties = format!(
        "model-instance-id=embed max-latency=1000{}",
        properties.collect::<String>()
    );

    let (end, ended) = mpsc::channel();
    let of_signal = end.clone();
    ctrlc::set_handler(move || drop(of_signal.send(Ok(()))))?;
    let model = ModelKeeper::start(&properties)?;
    let backend = loop {
        match (model.backend()?, ended.recv_timeout(TICK)) {
            (Some(backend), _) => break backend,
            (None, Ok(_)) => return Ok(()),
            (None, Err(_)) => {}
        }
    };
    let cameras = Mutex::default();
    let on_gpu = !backend.starts_with("ONNX Runtime");
    // All threads look at it until the end.
    let program: &'static Program = Box::leak(Box::new(Program {
        cameras,
        outbox,
        crops,
        properties,
        on_gpu,
        end,
    }));
    for (number, argument) in sources.iter().enumerate() {
        match argument.split_once('=') {
            Some((name, source)) if !name.contains([' ', ':', '/']) => program.add(name, source)?,
            _ => program.add(&format!("camera{number}"), argument)?,
        }
    }
    thread::spawn(move || {
        for stream in listener.iter().flat_map(TcpListener::incoming).flatten() {
            // Who hangs up gets no answer.
            let _ = program.answer(stream);
        }
    });
    thread::spawn(move || {
        for command in io::stdin().lines().map_while(Result::ok) {
            program
                .obey(&command)
                .unwrap_or_else(|reason| eprintln!("embed: {reason}"));
        }
    });
    let outcome = loop {
        match ended.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => program.tick(),
            outcome => break outcome?,
        }
    };
    let mut cameras = program.cameras();
    let deadline = Instant::now() + PATIENCE;
    cameras.values().for_each(Supervisor::send_eos);
    cameras
        .values()
        .for_each(|camera| camera.wait_for_eos(deadline));
    cameras.clear();
    program
        .outbox
        .as_ref()
        .inspect(|(_, outbox)| outbox.wait_until_empty(deadline + PATIENCE));
    Ok(outcome?)
}

fn main() -> ExitCode {
    let outcome = run().inspect_err(|failure| eprintln!("embed: {failure}"));
    outcome.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
