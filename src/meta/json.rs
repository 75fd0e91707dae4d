//! Detections as a line of JSON, version 1 of the schema, which has the structure of DL Streamer's `gvametaconvert`:
//!
//! ```json
//! {"schema":"rsdetectnet.detections/1","source":"gate","frame":7,"pts":280000000,"timestamp":280000000,
//!  "running_time":280000000,"resolution":{"width":1920,"height":1080},
//!  "objects":[{"x":480.0,"y":270.0,"w":96.0,"h":216.0,"roi_type":"person","object_id":3,
//!              "detection":{"bounding_box":{"x_min":0.25,"y_min":0.25,"x_max":0.3,"y_max":0.45},
//!                           "confidence":0.93,"label":"person","label_id":1}}],
//!  "timing":{"preprocess_us":420,"infer_us":9100,"decode_us":60,"total_us":9580}}
//! ```
//!
//! It is one line, which ends with a line feed. Times other than those of `timing` are in nanoseconds and absent where
//! they are unknown: `pts` as the buffer has it, `timestamp` in stream time, `running_time` in running time. `x`, `y`,
//! `w` and `h` are in pixels of the frame, the corners of `bounding_box` parts of its width and height, 0 to 1.
//! `object_id` is absent where no tracker gave one. Boxes of networks for turned ones have `oriented` with `x`, `y`,
//! `w`, `h` in pixels before they are turned, and `angle`, clockwise in radians. Objects of a batched buffer have
//! `batch_id`, the number of their frame in the batch, from 0; other objects have none. A later version keeps these
//! names or changes `schema`.
//!
//! With `hash-size`, line and objects have `hash`, the bytes of their grey thumbnail, row by row, in base64; a line
//! has those of all frames of its buffer, one after the other. A line whose frame looks like the last inspected one
//! has `"repeated":true` and that frame's objects; nothing was measured, and its `timing` is 0. A line with
//! `"predicted":true` is that of a frame which was not inspected: its objects are where a tracker expects them, each
//! with its `object_id` and the confidence that it had when it was seen, and without a hash; `timing` is 0.

use gst::glib;
use serde::{Serialize, Serializer};

use super::message::FrameFacts;
use crate::detection::Detection;
use crate::detector::Timings;
use crate::model::Labels;

pub const SCHEMA: &str = "rsdetectnet.detections/1";

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    source: &'a str,
    frame: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running_time: Option<u64>,
    resolution: Resolution,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    predicted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Base64<'a>>,
    objects: Objects<'a>,
    timing: Timing,
}

#[derive(Clone, Copy, Serialize)]
struct Resolution {
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct Object<'a> {
    x: f32,
    y: f32,
    w: f32,
    h: f32,
    roi_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oriented: Option<Oriented>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Base64<'a>>,
    detection: Found<'a>,
}

#[derive(Serialize)]
struct Oriented {
    x: f32,
    y: f32,
    w: f32,
    h: f32,
    angle: f32,
}

#[derive(Serialize)]
struct Found<'a> {
    bounding_box: Corners,
    confidence: f32,
    label: &'a str,
    label_id: u32,
}

#[derive(Serialize)]
struct Corners {
    x_min: f32,
    y_min: f32,
    x_max: f32,
    y_max: f32,
}

#[derive(Serialize)]
struct Timing {
    preprocess_us: u64,
    infer_us: u64,
    decode_us: u64,
    total_us: u64,
}

/// Bytes that are written as text.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&glib::base64_encode(self.0))
    }
}

/// The detections, made objects only while they are written.
struct Objects<'a> {
    /// By frame of the buffer.
    detections: &'a [Vec<Detection>],
    facts: &'a FrameFacts<'a>,
    labels: &'a Labels,
    resolution: Resolution,
}

impl Serialize for Objects<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let batched = self.detections.len() > 1;
        let frames = self.detections.iter().enumerate();
        serializer.collect_seq(frames.flat_map(|(index, found)| {
            let batch_id = batched.then_some(index);
            let found = found.iter().enumerate();
            found.map(move |(place, detection)| Object {
                hash: self.facts.object_hash(index, place).map(Base64),
                ..self.object(detection, batch_id)
            })
        }))
    }
}

impl Objects<'_> {
    fn object(&self, detection: &Detection, batch_id: Option<usize>) -> Object<'_> {
        let bounding_box = detection.bounding_box;
        let (width, height) = (self.resolution.width as f32, self.resolution.height as f32);
        let label = self.labels.get(detection.class_id);
        Object {
            x: bounding_box.x,
            y: bounding_box.y,
            w: bounding_box.width,
            h: bounding_box.height,
            roi_type: label,
            object_id: detection.object_id,
            batch_id,
            oriented: detection.oriented.map(|oriented| Oriented {
                x: oriented.rectangle.x,
                y: oriented.rectangle.y,
                w: oriented.rectangle.width,
                h: oriented.rectangle.height,
                angle: oriented.angle,
            }),
            hash: None,
            detection: Found {
                bounding_box: Corners {
                    x_min: bounding_box.x / width,
                    y_min: bounding_box.y / height,
                    x_max: bounding_box.right() / width,
                    y_max: bounding_box.bottom() / height,
                },
                confidence: detection.confidence,
                label,
                label_id: detection.class_id,
            },
        }
    }
}

/// The line of an inspected buffer, with its line feed; of what was found in each of its frames.
pub fn line(
    source: &str,
    facts: &FrameFacts<'_>,
    timings: &Timings,
    detections: &[Vec<Detection>],
    labels: &Labels,
) -> serde_json::Result<Vec<u8>> {
    let nanoseconds = |time: Option<gst::ClockTime>| time.map(gst::ClockTime::nseconds);
    let microseconds = |time: std::time::Duration| time.as_micros().try_into().unwrap_or(u64::MAX);
    let resolution = Resolution {
        width: facts.width,
        height: facts.height,
    };
    let mut line = serde_json::to_vec(&Line {
        schema: SCHEMA,
        source,
        frame: facts.number,
        pts: nanoseconds(facts.pts),
        timestamp: nanoseconds(facts.stream_time),
        running_time: nanoseconds(facts.running_time),
        resolution,
        repeated: facts.repeated,
        predicted: facts.predicted,
        hash: facts.frame_hash().map(Base64),
        objects: Objects {
            detections,
            facts,
            labels,
            resolution,
        },
        timing: Timing {
            preprocess_us: microseconds(timings.preprocess),
            infer_us: microseconds(timings.infer),
            decode_us: microseconds(timings.decode),
            total_us: microseconds(timings.total()),
        },
    })?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::detection::{BoundingBox, OrientedBox};
    use crate::thumbnail::Thumbnails;

    fn parsed(facts: &FrameFacts, detections: &[Detection], labels: &str) -> Value {
        let timings = Timings {
            preprocess: Duration::from_micros(420),
            infer: Duration::from_micros(9100),
            decode: Duration::from_micros(60),
        };
        let labels = Labels::from_lines(labels);
        let line = line(
            "gate \"1\"",
            facts,
            &timings,
            &[detections.to_vec()],
            &labels,
        )
        .unwrap();
        assert_eq!(line.iter().filter(|byte| **byte < 0x20).count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        serde_json::from_slice(&line).unwrap()
    }

    fn facts() -> FrameFacts<'static> {
        FrameFacts {
            number: 7,
            pts: Some(gst::ClockTime::from_mseconds(280)),
            running_time: Some(gst::ClockTime::from_mseconds(300)),
            width: 640,
            height: 480,
            ..FrameFacts::default()
        }
    }

    fn detection(object_id: Option<u64>) -> Detection {
        Detection {
            class_id: 0,
            confidence: 0.93,
            bounding_box: BoundingBox::from_corners(160.0, 120.0, 320.0, 240.5),
            object_id,
            oriented: None,
        }
    }

    #[test]
    fn turned_boxes_have_their_own_shape_beside_the_upright_box() {
        let mut turned = detection(None);
        turned.oriented = Some(OrientedBox {
            rectangle: BoundingBox::from_corners(-8.0, 100.0, 200.0, 120.5),
            angle: 0.5,
        });
        let line = parsed(&facts(), &[detection(None), turned], "ship");
        assert!(line["objects"][0].get("oriented").is_none());
        let wanted = json!({"x": -8.0, "y": 100.0, "w": 208.0, "h": 20.5, "angle": 0.5});
        assert_eq!(line["objects"][1]["oriented"], wanted);
    }

    #[test]
    fn a_line_has_every_field_of_the_schema_and_leaves_out_what_is_unknown() {
        let line = parsed(&facts(), &[detection(None), detection(Some(3))], "person");
        assert_eq!(line["objects"][1]["object_id"], 3);
        let mut first = line.clone();
        first["objects"].as_array_mut().unwrap().truncate(1);
        for name in ["x_max", "y_max", "x_min", "y_min"] {
            let corner = &mut first["objects"][0]["detection"]["bounding_box"][name];
            *corner = json!((corner.as_f64().unwrap() * 1000.0).round());
        }
        let confidence = &mut first["objects"][0]["detection"]["confidence"];
        *confidence = json!((confidence.as_f64().unwrap() * 100.0).round());
        assert_eq!(
            first,
            json!({
                "schema": "rsdetectnet.detections/1",
                "source": "gate \"1\"",
                "frame": 7,
                "pts": 280_000_000,
                "running_time": 300_000_000,
                "resolution": {"width": 640, "height": 480},
                "objects": [{
                    "x": 160.0, "y": 120.0, "w": 160.0, "h": 120.5,
                    "roi_type": "person",
                    "detection": {
                        "bounding_box": {"x_min": 250.0, "y_min": 250.0, "x_max": 500.0, "y_max": 501.0},
                        "confidence": 93.0, "label": "person", "label_id": 0,
                    },
                }],
                "timing": {"preprocess_us": 420, "infer_us": 9100, "decode_us": 60, "total_us": 9580},
            })
        );
    }

    #[test]
    fn labels_with_quotes_and_other_scripts_come_back_as_they_were() {
        for label in ["driver's \"door\"", "人\\ 🚗 é", "a\u{2028}</script>"] {
            let line = parsed(&facts(), &[detection(None)], label);
            assert_eq!(line["objects"][0]["roi_type"], label);
            assert_eq!(line["objects"][0]["detection"]["label"], label);
        }
    }

    #[test]
    fn hashes_of_a_batch_are_in_base64_and_repeated_lines_say_so() {
        let detections = [vec![detection(None)], vec![], vec![detection(None); 2]];
        let mut thumbnails = Thumbnails::default();
        thumbnails
            .begin(1, &detections)
            .extend([1, 2, 3, 255, 0, 77]);
        let facts = FrameFacts {
            repeated: true,
            thumbnails: Some(&thumbnails),
            ..facts()
        };
        let labels = Labels::from_lines("person");
        let line = line("a", &facts, &Timings::default(), &detections, &labels).unwrap();
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["repeated"], true);
        assert_eq!(line["hash"], "AQID");
        let objects = line["objects"].as_array().unwrap().iter();
        let hashes: Vec<_> = objects
            .map(|object| json!([object["batch_id"], object["hash"]]))
            .collect();
        let expected = [json!([0, "/w=="]), json!([2, "AA=="]), json!([2, "TQ=="])];
        assert_eq!(hashes, expected);
    }

    #[test]
    fn an_empty_frame_has_an_empty_list() {
        assert_eq!(parsed(&facts(), &[], "person")["objects"], json!([]));
    }
}
