//! A file of H.264 in memory, access unit by access unit, to be played again and again.

use std::error::Error;

use gst::prelude::*;

/// Frames of the clip that is made where none is given.
const MADE_FRAMES: u32 = 150;
const TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(120);

/// The decoders that the program knows, with what they give.
const DECODERS: [(&str, &str); 4] = [
    ("nvh264dec", "video/x-raw(memory:CUDAMemory)"),
    ("nvv4l2decoder", "video/x-raw(memory:NVMM)"),
    ("avdec_h264", "video/x-raw"),
    ("openh264dec", "video/x-raw"),
];

/// A decoder as a pipeline's description has it, with the memory that it is to use.
pub fn decoder(name: &str) -> String {
    let known = DECODERS.iter().find(|(decoder, _)| *decoder == name);
    let caps = known.map_or("video/x-raw", |(_, caps)| *caps);
    format!("{name} ! {caps}")
}

/// The first known decoder that this machine has; those of the GPU only for frames in its memory.
pub fn any_decoder(on_gpu: bool) -> Option<&'static str> {
    let mut possible = DECODERS
        .iter()
        .filter(|(_, caps)| on_gpu || !caps.contains("memory:"));
    let found = possible.find(|(name, _)| gst::ElementFactory::find(name).is_some());
    found.map(|(name, _)| *name)
}

pub struct Clip {
    pub caps: gst::Caps,
    /// Each with its time from the start of the clip.
    units: Vec<gst::Buffer>,
    duration: gst::ClockTime,
}

impl Clip {
    pub fn read(file: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let source = match file {
            Some(file) => format!("filesrc location={file} ! parsebin"),
            None => format!(
                "videotestsrc num-buffers={MADE_FRAMES} pattern=ball background-color=0xff406080 \
                 ! video/x-raw,format=I420,width=1920,height=1080,framerate=30/1 ! {}",
                encoder()?
            ),
        };
        let pipeline = gst::parse::launch(&format!(
            "{source} ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au \
             ! appsink name=units sync=false"
        ))?;
        let pipeline = pipeline
            .downcast::<gst::Pipeline>()
            .map_err(|_| "no pipeline")?;
        let sink = pipeline.by_name("units").and_downcast::<gst_app::AppSink>();
        let sink = sink.ok_or("no appsink")?;
        let started = pipeline.set_state(gst::State::Playing);
        let (mut caps, mut units) = (None, Vec::new());
        while let Some(sample) = started.ok().and_then(|_| sink.try_pull_sample(TIMEOUT)) {
            caps = sample.caps_owned();
            units.extend(sample.buffer_owned());
        }
        let bus = pipeline.bus().ok_or("no bus")?;
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        pipeline.set_state(gst::State::Null)?;
        if let Some(gst::MessageView::Error(error)) = error.as_ref().map(|error| error.view()) {
            return Err(format!("the clip: {} ({:?})", error.error(), error.debug()).into());
        }
        let caps = caps.ok_or("the clip has no frames")?;
        Self::new(caps, units)
    }

    fn new(caps: gst::Caps, mut units: Vec<gst::Buffer>) -> Result<Self, Box<dyn Error>> {
        let structure = caps.structure(0).ok_or("the clip has no format")?;
        let rate = structure.get::<gst::Fraction>("framerate");
        let rate = rate.unwrap_or(gst::Fraction::new(30, 1));
        let (numer, denom) = (rate.numer().max(1) as u64, rate.denom().max(1) as u64);
        let period = gst::ClockTime::from_nseconds(1_000_000_000 * denom / numer);
        let timed = units.iter().all(|unit| unit.pts().is_some());
        let first = units.iter().filter_map(|unit| unit.pts()).min();
        for (number, unit) in (0..).zip(&mut units) {
            let unit = unit.make_mut();
            match first {
                Some(first) if timed => {
                    // Reordered frames keep their order.
                    let from_first = |time: gst::ClockTime| time.saturating_sub(first);
                    unit.set_pts(unit.pts().map(from_first));
                    unit.set_dts(unit.dts().map(from_first));
                }
                _ => {
                    unit.set_pts(period * number);
                    unit.set_dts(period * number);
                }
            }
        }
        Ok(Self {
            caps,
            duration: period * units.len() as u64,
            units,
        })
    }

    /// Width, height and number of frames.
    pub fn describe(&self) -> String {
        let side = |name| self.caps.structure(0).and_then(|s| s.get::<i32>(name).ok());
        format!(
            "{}x{}, {} frames",
            side("width").unwrap_or(0),
            side("height").unwrap_or(0),
            self.units.len()
        )
    }

    /// An access unit of the clip that is repeated without end.
    pub fn unit(&self, number: usize) -> gst::Buffer {
        let (round, index) = (number / self.units.len(), number % self.units.len());
        let mut unit = self.units[index].copy();
        let offset = self.duration * round as u64;
        let edit = unit.make_mut();
        edit.set_pts(edit.pts().map(|time| time + offset));
        edit.set_dts(edit.dts().map(|time| time + offset));
        unit
    }

    /// Some decoded frames and what must live as long as they do.
    pub fn decode(&self, decoder: &str, frames: usize) -> Result<Decoded, Box<dyn Error>> {
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=source format=time ! h264parse ! {} ! appsink name=frames sync=false max-buffers=1",
            self::decoder(decoder)
        ))?;
        let pipeline = pipeline
            .downcast::<gst::Pipeline>()
            .map_err(|_| "no pipeline")?;
        let source = pipeline.by_name("source").and_downcast::<gst_app::AppSrc>();
        let source = source.ok_or("no appsrc")?;
        let sink = pipeline
            .by_name("frames")
            .and_downcast::<gst_app::AppSink>();
        let sink = sink.ok_or("no appsink")?;
        source.set_caps(Some(&self.caps));
        // Without a limit, all of it fits.
        source.set_max_bytes(0);
        pipeline.set_state(gst::State::Playing)?;
        for number in 0..self.units.len() {
            source.push_buffer(self.unit(number))?;
        }
        let samples: Vec<_> = (0..frames)
            .map_while(|_| sink.try_pull_sample(TIMEOUT))
            .collect();
        match samples.len() == frames {
            true => Ok(Decoded { samples, pipeline }),
            false => Err(format!("{decoder} gave {} frames", samples.len()).into()),
        }
    }
}

/// Frames in a decoder's memory.
pub struct Decoded {
    pub samples: Vec<gst::Sample>,
    pipeline: gst::Pipeline,
}

impl Decoded {
    /// The CUDA context of the frames as GStreamer passes it on, where they have one.
    pub fn context(&self) -> Option<gst::Context> {
        let sink = self.pipeline.by_name("frames")?.static_pad("sink")?;
        let mut query = gst::query::Context::new("gst.cuda.context");
        let answered = sink.peer_query(&mut query);
        answered.then(|| query.context_owned()).flatten()
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        // Decoders wait for their frames.
        self.samples.clear();
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn encoder() -> Result<&'static str, Box<dyn Error>> {
    let encoders = [
        (
            "x264enc",
            "x264enc speed-preset=superfast tune=zerolatency bitrate=6000 key-int-max=30",
        ),
        ("openh264enc", "openh264enc bitrate=6000000 gop-size=30"),
    ];
    let mut present = encoders
        .iter()
        .filter(|(name, _)| gst::ElementFactory::find(name).is_some());
    let (_, description) = present
        .next()
        .ok_or("there is no H.264 encoder here: give a --clip")?;
    Ok(description)
}
