//! What the benches of the element on the CPU are asked to do.

use std::error::Error;

use gst::prelude::*;

pub struct Options {
    pub model: String,
    pub labels: Option<String>,
    pub threads: u32,
    pub rounds: usize,
}

impl Options {
    /// From the command line. `own` takes what only one bench has, and tells whether it knows an option.
    pub fn from_arguments(
        rounds: usize,
        mut own: impl FnMut(&str, &str) -> Result<bool, Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            model: "ssd-mobilenet-v2".into(),
            labels: None,
            threads: 2,
            rounds,
        };
        let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or("every option takes a value")?;
            match name.as_str() {
                "--model" => options.model = value,
                "--labels" => options.labels = Some(value),
                "--threads" => options.threads = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                other if own(other, &value)? => (),
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }

    /// Sets an element up.
    pub fn apply(&self, detector: &gst::Element) {
        detector.set_property("model", &self.model);
        detector.set_property("labels", &self.labels);
        detector.set_property("threads", self.threads);
    }
}
