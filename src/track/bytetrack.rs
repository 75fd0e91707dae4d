//! ByteTrack: objects followed by their motion, sure detections first, then those that are left by less sure ones
//! (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022).
//!
//! Thresholds and costs are those of the authors' `byte_tracker.py`: the first association costs 1 - IoU *
//! confidence, the second, with unsure detections, 1 - IoU and at most 0.5, that of objects which were seen once 1 -
//! IoU * confidence and at most 0.7. It differs in three things. Objects that were seen once have moved on like all
//! others when the next frame comes, as in the paper. The boxes that come out are the network's; the filter's are
//! used to find them, and where there are none. And a lost object is taken for one that is seen in its place only if
//! that one appeared later: two that were seen at once are two, whoever walks in front.

use super::Identities;
use super::assignment::Assigner;
use super::kalman::Motion;
use crate::detection::{BoundingBox, Detection};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// What the confidence of an unsure detection must exceed, which alone is none.
    pub low_threshold: f32,
    /// By how much an object must be surer than a detection to be a new one.
    pub new_margin: f32,
    /// The greatest cost of the first association, 0 to 1.
    pub match_threshold: f32,
    /// Frames in a row in which an object may be missing and is not forgotten.
    pub drop_frames: u32,
}

/// The greatest costs of the second association, and of that of objects that were seen once.
const UNSURE_COST: f32 = 0.5;
const SEEN_ONCE_COST: f32 = 0.7;
/// Boxes with a greater IoU are in the same place.
const SAME_PLACE: f32 = 0.85;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Track {
    /// As it was found last, with its identity once it was found twice, or in the first frame.
    detection: Detection,
    motion: Motion,
    /// Where it should be in this frame.
    predicted: BoundingBox,
    /// The first and the last frame in which it was found.
    first: u64,
    latest: u64,
    /// It was not found in the frame that was inspected last.
    lost: bool,
}

/// How a candidate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Sure,
    Unsure,
    /// It belongs to an object already, or is not worth it.
    Out,
}

#[derive(Debug, Default)]
pub struct ByteTracker {
    tracks: Vec<Track>,
    frame: u64,
    /// The frame that was inspected last; 0 before any was.
    inspected: u64,
    assigner: Assigner,
    classes: Vec<Class>,
}

/// Who takes part in an association, and what a pair gains there: how much less than the limit it costs.
struct Round<'a> {
    tracks: fn(&Track, now: u64) -> bool,
    candidates: Class,
    gain: &'a dyn Fn(f32, f32) -> f32,
}

impl ByteTracker {
    pub fn advance(&mut self) {
        self.frame += 1;
        for track in &mut self.tracks {
            if track.lost {
                track.motion.keep_height();
            }
            track.motion.advance();
            track.predicted = track.motion.bounding_box();
        }
    }

    /// Says which object each candidate is, in `ids`. `threshold` is what a sure one exceeds.
    pub(super) fn associate(
        &mut self,
        options: &Options,
        threshold: impl Fn(&Detection) -> f32,
        candidates: &[Detection],
        ids: &mut [Option<u64>],
        identities: &mut Identities,
    ) {
        let first_time = self.inspected == 0;
        self.inspected = self.frame;
        self.classes.clear();
        self.classes.extend(candidates.iter().map(|candidate| {
            let confidence = candidate.confidence;
            match threshold(candidate) {
                sure if confidence > sure => Class::Sure,
                sure if confidence > options.low_threshold && sure.is_finite() => Class::Unsure,
                _ => Class::Out,
            }
        }));
        let limit = options.match_threshold;
        let rounds = [
            Round {
                tracks: |track, _| track.detection.object_id.is_some(),
                candidates: Class::Sure,
                gain: &|iou, confidence| limit - (1.0 - iou * confidence),
            },
            Round {
                tracks: |track, now| {
                    track.detection.object_id.is_some() && track.latest < now && !track.lost
                },
                candidates: Class::Unsure,
                gain: &|iou, _| UNSURE_COST - (1.0 - iou),
            },
            Round {
                tracks: |track, _| track.detection.object_id.is_none(),
                candidates: Class::Sure,
                gain: &|iou, confidence| SEEN_ONCE_COST - (1.0 - iou * confidence),
            },
        ];
        for round in rounds {
            self.run(&round, candidates, ids, identities);
        }
        let now = self.frame;
        // Whoever was seen once alone was nobody.
        self.tracks
            .retain(|track| track.latest == now || track.detection.object_id.is_some());
        self.forget(options);
        self.begin(options, threshold, candidates, |track, index| {
            if first_time {
                track.detection.object_id = Some(identities.next());
            }
            ids[index] = track.detection.object_id;
        });
    }

    /// Matches those who take part.
    fn run(
        &mut self,
        round: &Round<'_>,
        candidates: &[Detection],
        ids: &mut [Option<u64>],
        identities: &mut Identities,
    ) {
        let now = self.frame;
        // Who was found in an earlier round of this frame has the frame's number, and an identity.
        self.assigner.begin(self.tracks.len(), candidates.len());
        for (row, track) in self.tracks.iter().enumerate() {
            if !(round.tracks)(track, now) || track.latest == now {
                continue;
            }
            let pairs = candidates.iter().zip(&self.classes).enumerate();
            for (column, (candidate, class)) in pairs {
                if *class == round.candidates && candidate.class_id == track.detection.class_id {
                    let iou = track.predicted.iou(&candidate.bounding_box);
                    // Boxes that do not meet are never the same object, whatever the limit.
                    if iou > 0.0 {
                        let gain = (round.gain)(iou, candidate.confidence);
                        self.assigner.offer(row, column, gain);
                    }
                }
            }
        }
        self.assigner.solve();
        for (row, track) in self.tracks.iter_mut().enumerate() {
            if let Some(column) = self.assigner.column_of(row) {
                self.classes[column] = Class::Out;
                track.found(&candidates[column], now);
                let id = track.detection.object_id;
                let id = id.unwrap_or_else(|| identities.next());
                track.detection.object_id = Some(id);
                ids[column] = Some(id);
            }
        }
    }

    /// Forgets who has been missing for too long, and who is seen under a later name.
    fn forget(&mut self, options: &Options) {
        let now = self.frame;
        for track in &mut self.tracks {
            track.lost = track.latest < now;
        }
        let limit = u64::from(options.drop_frames);
        self.tracks.retain(|track| now - track.latest <= limit);
        let mut index = 0;
        while index < self.tracks.len() {
            let track = self.tracks[index];
            let renamed = track.lost
                && self.tracks.iter().any(|other| {
                    !other.lost
                        && other.first > track.latest
                        && other.detection.class_id == track.detection.class_id
                        && other.motion.bounding_box().iou(&track.predicted) > SAME_PLACE
                });
            match renamed {
                true => drop(self.tracks.remove(index)),
                false => index += 1,
            }
        }
    }

    /// Begins with the sure candidates that are no object yet.
    fn begin(
        &mut self,
        options: &Options,
        threshold: impl Fn(&Detection) -> f32,
        candidates: &[Detection],
        mut begun: impl FnMut(&mut Track, usize),
    ) {
        for (index, (candidate, class)) in candidates.iter().zip(&self.classes).enumerate() {
            let sure = threshold(candidate);
            // Half of what is above the threshold stays for new ones, also where that is high.
            let margin = options.new_margin.min((1.0 - sure) / 2.0);
            if *class == Class::Sure && candidate.confidence >= sure + margin {
                let mut track = Track {
                    detection: *candidate,
                    motion: Motion::starting_at(&candidate.bounding_box),
                    predicted: candidate.bounding_box,
                    first: self.frame,
                    latest: self.frame,
                    lost: false,
                };
                begun(&mut track, index);
                self.tracks.push(track);
            }
        }
    }

    /// Where the objects should be that were found in the frame that was inspected last.
    pub fn predict(&self, predicted: &mut Vec<Detection>) {
        let tracks = self.tracks.iter();
        let seen = tracks.filter(|track| !track.lost && track.detection.object_id.is_some());
        predicted.extend(seen.map(|track| Detection {
            bounding_box: track.predicted,
            // The turned box is where the object was.
            oriented: None,
            ..track.detection
        }));
    }
}

impl Track {
    fn found(&mut self, candidate: &Detection, now: u64) {
        self.motion.correct(&candidate.bounding_box);
        self.detection = Detection {
            object_id: self.detection.object_id,
            ..*candidate
        };
        self.latest = now;
    }
}
