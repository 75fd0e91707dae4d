//! Many cameras in one program. Each has a pipeline of its own, which is started again when it fails, and can be added
//! and removed while the others run; all share one model.
//!
//! ```text
//! embed [--crops FOLDER] [--metrics ADDRESS:PORT] [--mqtt [USER:PASSWORD@]HOST[:PORT]/TOPIC] [--mqtt-buffer LINES]
//!       [--PROPERTY VALUE]… [NAME=SOURCE]…
//! ```
//!
//! A source is an address (`rtsp://…`; `rtspt://…` for TCP alone), a file, or the beginning of a pipeline as
//! gst-launch-1.0 takes it; PROPERTY is any of rsdetectnet's. Lines of JSON go to standard output, and to the broker as
//! TOPIC/NAME. Served are `/metrics`, `/live` and `/ready`. Standard input takes commands, one a line: `add NAME
//! SOURCE`, `remove NAME`, `restart NAME`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, thread};

use gst::prelude::*;
use gst_app::{AppSink, AppSinkCallbacks};
use gstrsdetectnet::{Metrics, ModelKeeper, Outbox, Supervisor};

#[path = "embed/broker.rs"]
mod broker;

type Failure = Box<dyn std::error::Error>;
type Act = fn(&Program, &str, &gst::BufferRef) -> Result<(), Failure>;

/// How often cameras are looked after, and how long their streams may take to end.
const TICK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(2);

/// What all threads know.
struct Program {
    cameras: Mutex<BTreeMap<String, Supervisor>>,
    outbox: Option<(String, &'static Outbox)>,
    crops: Option<String>,
    /// Of rsdetectnet, as gst-launch-1.0 takes them.
    properties: String,
    /// A GPU takes frames as the decoder gives them.
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
            return Err(format!("'{name}' is taken, or no name"));
        }
        let file = fs::canonicalize(source).ok();
        let file = file.and_then(|file| gst::glib::filename_to_uri(file, None).ok());
        let uri = file.as_deref().unwrap_or(source);
        let convert = ["! videoconvert", ""][usize::from(self.on_gpu)];
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
            self.on_buffer(pipeline, "lines", &camera, Self::write_line);
            self.on_buffer(pipeline, "crops", &camera, Self::write_crop);
        };
        let description = format!("{frames} ! {detector} ! {outputs}");
        let supervisor = Supervisor::new(&description, file.is_some(), connect)?;
        self.cameras().insert(name.to_owned(), supervisor);
        Ok(())
    }

    /// Acts on each buffer of an appsink, in the thread that brings it.
    fn on_buffer(&'static self, pipeline: &gst::Pipeline, sink: &str, camera: &str, act: Act) {
        let camera = camera.to_owned();
        let act = move |sink: &AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(Err(error)) = sample.buffer().map(|buffer| act(self, &camera, buffer)) {
                let reason = format!("{} cannot be written: {error}", sink.name());
                let _ = self.end.send(Err(reason));
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
        let label = found.label.replace(['/', ' '], "_");
        let time = SystemTime::UNIX_EPOCH.elapsed()?.as_micros();
        let folder = self.crops.as_deref().unwrap_or_default();
        let file = format!("{folder}/{name}-{label}-{time}.jpg");
        Ok(fs::write(file, crop.map_readable()?)?)
    }

    fn obey(&'static self, command: &str) -> Result<(), String> {
        let unknown = || format!("'{command}': there is no such camera");
        match command.trim().splitn(3, ' ').collect::<Vec<_>>()[..] {
            ["add", name, source] => self.add(name, source)?,
            ["remove", name] => drop(self.cameras().remove(name).ok_or_else(unknown)?),
            ["restart", name] => self.cameras().get_mut(name).ok_or_else(unknown)?.restart(),
            _ => return Err(format!("'{command}' is no command")),
        }
        Ok(())
    }

    fn answer(&self, path: &str) -> (u16, String) {
        let cameras = self.cameras();
        match path {
            "/metrics" => (200, self.metrics(&cameras).to_string()),
            "/live" => (200, format!("{} cameras\n", cameras.len())),
            "/ready" if cameras.values().any(Supervisor::is_up) => (200, "frames come\n".into()),
            "/ready" => (503, "no frames come\n".into()),
            _ => (404, "there are /metrics, /live and /ready\n".into()),
        }
    }

    fn metrics(&self, cameras: &BTreeMap<String, Supervisor>) -> Metrics {
        let mut metrics = Metrics::default();
        for (name, supervisor) in cameras {
            let camera = ("camera", name.as_str());
            supervisor.add_metrics(&mut metrics, &[camera]);
            for found in supervisor.latest().detections {
                metrics.add(
                    "rsdetectnet_objects",
                    &[camera, ("label", &found.label)],
                    1.0,
                );
            }
        }
        if let Some((_, outbox)) = &self.outbox {
            outbox.add_metrics(&mut metrics);
        }
        metrics
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
    let mut option = |name| options.remove(name);
    let (address, broker, crops) = (option("metrics"), option("mqtt"), option("crops"));
    let room = option("mqtt-buffer").map_or(Ok(10_000), |room| room.parse())?;
    let outbox = broker.map(|url| broker::deliver(room, &url)).transpose()?;
    crops.as_ref().map_or(Ok(()), fs::create_dir_all)?;
    let mut properties = String::from("model-instance-id=embed max-latency=1000");
    for (name, value) in options {
        properties += &format!(" {name}={value:?}");
    }

    let (end, ended) = mpsc::channel();
    let of_signal = end.clone();
    ctrlc::set_handler(move || drop(of_signal.send(Ok(()))))?;
    let model = ModelKeeper::start(&properties)?;
    let Some(backend) = model.wait(|| ended.recv_timeout(TICK).is_ok())? else {
        return Ok(());
    };
    // All threads look at it until the end.
    let program: &'static Program = Box::leak(Box::new(Program {
        cameras: Mutex::default(),
        outbox,
        crops,
        properties,
        on_gpu: !backend.starts_with("ONNX Runtime"),
        end,
    }));
    for source in sources {
        let (name, source) = source.split_once('=').ok_or("a source is NAME=SOURCE")?;
        program.add(name, source)?;
    }
    address.map_or(Ok(()), |to| {
        gstrsdetectnet::serve(&to, |path| program.answer(path))
    })?;
    thread::spawn(move || {
        for command in io::stdin().lines().map_while(Result::ok) {
            let obeyed = program.obey(&command);
            obeyed.unwrap_or_else(|reason| eprintln!("embed: {reason}"));
        }
    });
    let log = |name: &str, reason: &str| eprintln!("embed: {name}: {reason}; again");
    let outcome = loop {
        if let Ok(outcome) = ended.recv_timeout(TICK) {
            break outcome;
        }
        match Supervisor::tick_all(&mut program.cameras(), log) {
            Ok(true) => {}
            last_file => break last_file.map(drop),
        }
    };
    let cameras = std::mem::take(&mut *program.cameras());
    let deadline = Instant::now() + PATIENCE;
    Supervisor::finish(cameras.into_values(), deadline);
    if let Some((_, outbox)) = &program.outbox {
        outbox.wait_until_empty(deadline + PATIENCE);
    }
    Ok(outcome?)
}

fn main() -> ExitCode {
    let outcome = run().inspect_err(|failure| eprintln!("embed: {failure}"));
    outcome.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
