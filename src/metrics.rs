//! Numbers as Prometheus reads them, for applications that are watched.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::element::stats::Stats;

/// How long one who asks may take before the next has his turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes of a request that are read.
const MOST_BYTES: u64 = 1 << 14;

/// Samples in Prometheus' text format 0.0.4, by metric and labels.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, BTreeMap<String, f64>>);

impl Metrics {
    /// Adds to a sample of a counter, if the name ends in `_total`, or of a gauge; it was 0 before the first time.
    pub fn add(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let pairs: Vec<_> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
            .collect();
        let samples = self.0.entry(name.to_owned()).or_default();
        *samples.entry(pairs.join(",")).or_default() += value;
    }

    /// Adds what an element has done.
    pub fn add_stats(&mut self, labels: &[(&str, &str)], stats: &Stats) {
        for (name, count) in [
            ("rsdetectnet_frames_total", stats.frames),
            ("rsdetectnet_inspected_total", stats.inspected),
            ("rsdetectnet_unchanged_total", stats.unchanged),
            ("rsdetectnet_skipped_total", stats.skipped),
            ("rsdetectnet_late_total", stats.late),
            ("rsdetectnet_dropped_total", stats.dropped),
            ("rsdetectnet_failed_total", stats.failed),
            ("rsdetectnet_flushed_total", stats.flushed),
            ("rsdetectnet_detections_total", stats.detections),
            ("rsdetectnet_crops_total", stats.crops),
            ("rsdetectnet_crops_dropped_total", stats.crops_dropped),
            ("rsdetectnet_json_lines_total", stats.json_lines),
            ("rsdetectnet_json_dropped_total", stats.json_dropped),
        ] {
            self.add(name, labels, count as f64);
        }
        self.add("rsdetectnet_fps", labels, stats.frames_per_second);
        let seconds = stats.total.median.as_secs_f64();
        self.add("rsdetectnet_inspection_seconds", labels, seconds);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

impl fmt::Display for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, samples) in &self.0 {
            let kind = match name.ends_with("_total") {
                true => "counter",
                false => "gauge",
            };
            writeln!(formatter, "# TYPE {name} {kind}")?;
            for (labels, value) in samples {
                writeln!(formatter, "{name}{{{labels}}} {value}")?;
            }
        }
        Ok(())
    }
}

/// Answers GET requests over HTTP from now on, one after the other in a thread of its own: `answer` says status and
/// text for a path.
pub fn serve(
    address: &str,
    answer: impl Fn(&str) -> (u16, String) + Send + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who hangs up gets no answer.
                let _ = reply(stream, &answer);
            }
        })?;
    Ok(())
}

fn reply(mut stream: TcpStream, answer: &impl Fn(&str) -> (u16, String)) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut path = String::new();
    // All of a request is read, or closing the connection would take the answer back.
    for line in BufReader::new((&stream).take(MOST_BYTES)).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(asked) = line.strip_prefix("GET ") {
            path = asked.split(' ').next().unwrap_or_default().to_owned();
        }
    }
    let (status, text) = answer(&path);
    let kind = "Content-Type: text/plain; version=0.0.4; charset=utf-8";
    let length = text.len();
    let head = format!("HTTP/1.0 {status} -\r\n{kind}\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{text}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_metric_stand_together_and_labels_are_escaped() {
        let mut metrics = Metrics::default();
        metrics.add("up", &[("camera", "a \"b\"\\\n")], 1.0);
        metrics.add("found_total", &[], 3.0);
        metrics.add("up", &[("camera", "c"), ("label", "d")], 0.5);
        metrics.add("found_total", &[], 1.0);
        assert_eq!(
            metrics.to_string(),
            "# TYPE found_total counter\nfound_total{} 4\n\
             # TYPE up gauge\nup{camera=\"a \\\"b\\\"\\\\\\n\"} 1\nup{camera=\"c\",label=\"d\"} 0.5\n"
        );
    }
}
