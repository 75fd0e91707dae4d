//! Which detections of a frame are cut out.

use std::collections::HashMap;

use super::Rectangle;
use crate::detection::Detection;
use crate::frame::PixelFormat;

/// What the user wants cut out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Added on each side of a box, as a part of its width and height.
    pub margin: f32,
    /// The least confidence by class; infinite for classes that are not cut out. Classes beyond are cut out.
    pub thresholds: Vec<f32>,
    /// Boxes with a shorter side than this, in pixels, are not cut out.
    pub min_size: u32,
    /// The most of one frame, the most confident ones; 0 for no limit.
    pub max_per_frame: usize,
    /// The least time between two crops of one tracked object.
    pub interval: gst::ClockTime,
}

/// A detection that is cut out: its place in the frame's list, and its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    pub detection: usize,
    pub rectangle: Rectangle,
}

/// Remembers when each tracked object was cut out last.
#[derive(Debug, Default)]
pub struct Selector {
    latest: HashMap<u64, gst::ClockTime>,
}

impl Selector {
    /// What is to be cut out of a frame of this format, size in pixels and time; `detections` are best first.
    pub fn select(
        &mut self,
        rules: &Rules,
        detections: &[Detection],
        format: PixelFormat,
        size: (u32, u32),
        time: Option<gst::ClockTime>,
    ) -> Vec<Selected> {
        // What is older than the interval does not count any more, and so need not be kept.
        match time {
            Some(now) => self
                .latest
                .retain(|_, then| is_within(*then, now, rules.interval)),
            None => self.latest.clear(),
        }
        let limit = match rules.max_per_frame {
            0 => usize::MAX,
            limit => limit,
        };
        let kept = detections.iter().enumerate();
        let kept = kept.filter(|(_, detection)| self.keeps(rules, detection));
        let selected: Vec<_> = kept
            .take(limit)
            .map(|(index, detection)| Selected {
                detection: index,
                rectangle: Rectangle::around(detection.bounding_box, rules.margin, format, size),
            })
            .collect();
        if rules.interval > gst::ClockTime::ZERO
            && let Some(now) = time
        {
            for Selected { detection, .. } in &selected {
                if let Some(object_id) = detections[*detection].object_id {
                    self.latest.insert(object_id, now);
                }
            }
        }
        selected
    }

    fn keeps(&self, rules: &Rules, detection: &Detection) -> bool {
        let bounding_box = detection.bounding_box;
        let threshold = rules.thresholds.get(detection.class_id as usize);
        threshold.is_none_or(|threshold| detection.confidence >= *threshold)
            && bounding_box.width.min(bounding_box.height) >= rules.min_size as f32
            && detection
                .object_id
                .is_none_or(|object_id| !self.latest.contains_key(&object_id))
    }
}

/// Whether less than an interval has passed; time that runs backwards, as after a seek, is another time.
fn is_within(then: gst::ClockTime, now: gst::ClockTime, interval: gst::ClockTime) -> bool {
    now.checked_sub(then)
        .is_some_and(|passed| passed < interval)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::BoundingBox;

    fn detection(class_id: u32, confidence: f32, side: f32, object_id: Option<u64>) -> Detection {
        Detection {
            class_id,
            confidence,
            bounding_box: BoundingBox::from_corners(10.0, 10.0, 10.0 + side, 90.0),
            object_id,
            oriented: None,
        }
    }

    fn select(
        selector: &mut Selector,
        rules: &Rules,
        detections: &[Detection],
        ms: u64,
    ) -> Vec<usize> {
        let time = Some(gst::ClockTime::from_mseconds(ms));
        let selected = selector.select(rules, detections, PixelFormat::Rgb, (640, 480), time);
        selected.iter().map(|s| s.detection).collect()
    }

    #[test]
    fn classes_sizes_and_the_number_are_limited() {
        let detections = [
            detection(0, 0.9, 50.0, None),
            detection(1, 0.8, 50.0, None),
            detection(0, 0.7, 7.5, None),
            detection(0, 0.6, 8.0, None),
            detection(0, 0.3, 50.0, None),
        ];
        let selected = |rules: &Rules| select(&mut Selector::default(), rules, &detections, 0);
        let mut rules = Rules::default();
        assert_eq!(selected(&rules), [0, 1, 2, 3, 4]);
        rules.min_size = 8;
        assert_eq!(selected(&rules), [0, 1, 3, 4]);
        rules.thresholds = vec![0.5, f32::INFINITY];
        assert_eq!(selected(&rules), [0, 3]);
        rules.max_per_frame = 1;
        assert_eq!(selected(&rules), [0]);
    }

    #[test]
    fn a_tracked_object_waits_for_the_interval_and_others_do_not() {
        let rules = Rules {
            interval: gst::ClockTime::from_mseconds(100),
            ..Rules::default()
        };
        let detections = [
            detection(0, 0.9, 50.0, Some(7)),
            detection(0, 0.8, 50.0, None),
        ];
        let mut selector = Selector::default();
        let mut at = |ms| select(&mut selector, &rules, &detections, ms);
        assert_eq!(at(0), [0, 1]);
        assert_eq!(at(40), [1]);
        assert_eq!(at(80), [1]);
        assert_eq!(at(100), [0, 1]);
        assert_eq!(at(20), [0, 1], "a seek back is another time");
    }
}
