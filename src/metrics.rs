//! Numbers as Prometheus reads them, for applications that are watched.

use std::collections::BTreeMap;
use std::fmt;

use crate::element::stats::Stats;

/// Samples in Prometheus' text format 0.0.4. What is printed of a metric stands together, whoever added it when.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, String>);

impl Metrics {
    /// Adds a sample of a counter, if the name ends in `_total`, or of a gauge.
    pub fn add(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let pairs: Vec<_> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
            .collect();
        let samples = self.0.entry(name.to_owned()).or_default();
        *samples += &format!("{name}{{{}}} {value}\n", pairs.join(","));
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
            write!(formatter, "# TYPE {name} {kind}\n{samples}")?;
        }
        Ok(())
    }
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
        assert_eq!(
            metrics.to_string(),
            "# TYPE found_total counter\nfound_total{} 3\n\
             # TYPE up gauge\nup{camera=\"a \\\"b\\\"\\\\\\n\"} 1\nup{camera=\"c\",label=\"d\"} 0.5\n"
        );
    }
}
