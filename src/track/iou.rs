//! Objects followed by overlap alone: a detection is the object whose last box it overlaps most (Bochinski et al.,
//! "High-Speed Tracking-by-Detection Without Using Image Information", 2017), with the three numbers of
//! jetson-inference.
//!
//! Where several boxes overlap, the pairs of greatest overlap altogether are taken, whatever their order. Unlike there,
//! an object that is not seen does not come out with its last box.

use super::Identities;
use super::assignment::Assigner;
use crate::detection::Detection;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Inspected frames in which an object must be found before it has an identity.
    pub min_frames: u32,
    /// Frames in a row in which it may be missing and is not forgotten.
    pub drop_frames: u32,
    /// The least IoU of its boxes in two frames.
    pub overlap: f32,
}

#[derive(Debug)]
struct Track {
    /// As it was found last.
    detection: Detection,
    /// Inspected frames in which it was found.
    found: u32,
    /// The last of them.
    latest: u64,
}

#[derive(Debug, Default)]
pub struct IouTracker {
    tracks: Vec<Track>,
    frame: u64,
    /// The frame that was inspected last.
    inspected: u64,
    assigner: Assigner,
    followed: Vec<bool>,
}

impl IouTracker {
    pub fn advance(&mut self) {
        self.frame += 1;
    }

    /// Says which object each candidate is, in `ids`.
    pub(super) fn associate(
        &mut self,
        options: &Options,
        candidates: &[Detection],
        ids: &mut [Option<u64>],
        identities: &mut Identities,
    ) {
        self.inspected = self.frame;
        self.assigner.begin(self.tracks.len(), candidates.len());
        for (row, track) in self.tracks.iter().enumerate() {
            let of_class = candidates.iter().enumerate();
            let of_class = of_class.filter(|(_, c)| c.class_id == track.detection.class_id);
            for (column, candidate) in of_class {
                let iou = track.detection.bounding_box.iou(&candidate.bounding_box);
                if iou >= options.overlap {
                    self.assigner.offer(row, column, iou);
                }
            }
        }
        self.assigner.solve();
        self.followed.clear();
        self.followed.resize(candidates.len(), false);
        for (row, track) in self.tracks.iter_mut().enumerate() {
            let Some(column) = self.assigner.column_of(row) else {
                continue;
            };
            self.followed[column] = true;
            track.found = track.found.saturating_add(1);
            track.latest = self.frame;
            track.detection = Detection {
                object_id: track.detection.object_id,
                ..candidates[column]
            };
            ids[column] = track.identify(options, identities);
        }
        for ((candidate, followed), id) in candidates.iter().zip(&self.followed).zip(ids) {
            if !followed {
                let mut track = Track {
                    detection: *candidate,
                    found: 1,
                    latest: self.frame,
                };
                *id = track.identify(options, identities);
                self.tracks.push(track);
            }
        }
        let limit = u64::from(options.drop_frames);
        self.tracks
            .retain(|track| self.frame - track.latest <= limit);
    }

    /// The last boxes of the objects that were found in the frame that was inspected last.
    pub fn predict(&self, predicted: &mut Vec<Detection>) {
        let tracks = self.tracks.iter();
        let tracks = tracks.filter(|track| track.latest == self.inspected);
        let found = tracks.map(|track| track.detection);
        predicted.extend(found.filter(|detection| detection.object_id.is_some()));
    }
}

impl Track {
    /// Its identity, if it was found often enough.
    fn identify(&mut self, options: &Options, identities: &mut Identities) -> Option<u64> {
        if self.detection.object_id.is_none() && self.found >= options.min_frames {
            self.detection.object_id = Some(identities.next());
        }
        self.detection.object_id
    }
}
