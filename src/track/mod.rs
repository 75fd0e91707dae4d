//! Objects followed from frame to frame: which detection is the same object as one before, and where an object should
//! be in a frame that nobody inspected.
//!
//! An object of one class never becomes one of another. Time is counted in frames of the stream, inspected or not. The
//! same frames give the same identities, on every machine.

mod assignment;
pub mod bytetrack;
pub mod iou;
mod kalman;

use bytetrack::ByteTracker;
use iou::IouTracker;

use crate::detection::Detection;

/// What is followed, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub method: Method,
    /// What the confidence of a detection must exceed to come out whether it is followed or not, by class; infinite for
    /// classes that are not wanted.
    pub thresholds: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    Iou(iou::Options),
    ByteTrack(bytetrack::Options),
}

impl Rules {
    fn threshold(&self, detection: &Detection) -> f32 {
        let threshold = self.thresholds.get(detection.class_id as usize);
        threshold.copied().unwrap_or(f32::INFINITY)
    }

    /// What the confidence of a candidate must exceed to be worth anything here, by class.
    pub fn least_thresholds(&self) -> Vec<f32> {
        let least = |threshold: f32| match self.method {
            Method::ByteTrack(options) if threshold.is_finite() => {
                threshold.min(options.low_threshold)
            }
            _ => threshold,
        };
        self.thresholds.iter().copied().map(least).collect()
    }
}

/// What a network found in one frame, less sure candidates included, and which of it came out.
#[derive(Debug, Default)]
pub struct Sighting {
    candidates: Vec<Detection>,
    /// Of the candidates, in their order.
    chosen: Vec<u32>,
}

/// Follows the objects of one element: those of one stream, or of several that come in batches.
#[derive(Debug, Default)]
pub struct Tracker {
    streams: Vec<Stream>,
    scene: u64,
    identities: Identities,
    /// Of the candidates of the latest frame.
    ids: Vec<Option<u64>>,
}

/// Gives each object its number: 1, 2, 3…
#[derive(Debug, Default)]
struct Identities {
    given: u64,
}

impl Identities {
    fn next(&mut self) -> u64 {
        self.given += 1;
        self.given
    }
}

#[derive(Debug)]
struct Stream {
    source: u32,
    follower: Follower,
}

#[derive(Debug)]
enum Follower {
    Iou(IouTracker),
    ByteTrack(ByteTracker),
}

impl Follower {
    fn fits(&self, method: Method) -> bool {
        matches!(
            (self, method),
            (Self::Iou(_), Method::Iou(_)) | (Self::ByteTrack(_), Method::ByteTrack(_))
        )
    }
}

impl Tracker {
    /// A frame of a stream of this scene has come. Of another scene, or with another method, no object is known any
    /// more; identities are never given again.
    pub fn advance(&mut self, rules: &Rules, scene: u64, source: u32) {
        if self.scene != scene {
            self.scene = scene;
            self.streams.clear();
        }
        self.streams
            .retain(|stream| stream.follower.fits(rules.method));
        let known = self
            .streams
            .iter()
            .position(|stream| stream.source == source);
        let index = known.unwrap_or_else(|| {
            let follower = match rules.method {
                Method::Iou(_) => Follower::Iou(IouTracker::default()),
                Method::ByteTrack(_) => Follower::ByteTrack(ByteTracker::default()),
            };
            self.streams.push(Stream { source, follower });
            self.streams.len() - 1
        });
        match &mut self.streams[index].follower {
            Follower::Iou(tracker) => tracker.advance(),
            Follower::ByteTrack(tracker) => tracker.advance(),
        }
    }

    /// The frame was inspected. What was found becomes what comes out: all above the thresholds, and all that is
    /// followed.
    pub fn follow(
        &mut self,
        rules: &Rules,
        source: u32,
        sighting: &mut Sighting,
        detections: &mut Vec<Detection>,
    ) {
        std::mem::swap(&mut sighting.candidates, detections);
        self.associate(rules, source, &sighting.candidates);
        detections.clear();
        sighting.chosen.clear();
        let candidates = sighting.candidates.iter().zip(&self.ids);
        for ((candidate, object_id), index) in candidates.zip(0..) {
            if object_id.is_some() || candidate.confidence > rules.threshold(candidate) {
                detections.push(Detection {
                    object_id: *object_id,
                    ..*candidate
                });
                sighting.chosen.push(index);
            }
        }
    }

    /// The frame looks like the one of this sighting, where the same would be found again: `detections`, which came out
    /// then, are followed as if it had been.
    pub fn repeat(
        &mut self,
        rules: &Rules,
        source: u32,
        sighting: &Sighting,
        detections: &mut [Detection],
    ) {
        self.associate(rules, source, &sighting.candidates);
        for (detection, index) in detections.iter_mut().zip(&sighting.chosen) {
            detection.object_id = self.ids.get(*index as usize).copied().flatten();
        }
    }

    /// The frame passes uninspected. Adds where its objects should be, in a frame of this size in pixels: those that
    /// were seen in the latest inspected one, with the confidence that they had there.
    pub fn predict(
        &self,
        source: u32,
        (width, height): (u32, u32),
        predicted: &mut Vec<Detection>,
    ) {
        let stream = self.streams.iter().find(|stream| stream.source == source);
        let first = predicted.len();
        match stream.map(|stream| &stream.follower) {
            Some(Follower::Iou(tracker)) => tracker.predict(predicted),
            Some(Follower::ByteTrack(tracker)) => tracker.predict(predicted),
            None => {}
        }
        for detection in &mut predicted[first..] {
            let bounding_box = detection.bounding_box;
            detection.bounding_box = bounding_box.clipped_to(width as f32, height as f32);
        }
        predicted.retain(|detection| detection.bounding_box.area() > 0.0);
        predicted[first..].sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    }

    fn associate(&mut self, rules: &Rules, source: u32, candidates: &[Detection]) {
        self.ids.clear();
        self.ids.resize(candidates.len(), None);
        let stream = self
            .streams
            .iter_mut()
            .find(|stream| stream.source == source);
        let (ids, identities) = (&mut self.ids, &mut self.identities);
        match (stream.map(|stream| &mut stream.follower), rules.method) {
            (Some(Follower::Iou(tracker)), Method::Iou(options)) => {
                tracker.associate(&options, candidates, ids, identities);
            }
            (Some(Follower::ByteTrack(tracker)), Method::ByteTrack(options)) => {
                let threshold = |candidate: &Detection| rules.threshold(candidate);
                tracker.associate(&options, threshold, candidates, ids, identities);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
