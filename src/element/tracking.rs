//! Objects followed through a stream: which frames the tracker is told of, and what it makes of what was found in them.

use std::sync::Arc;

use super::inspection::Room;
use super::memory::Format;
use crate::meta::nvds;
use crate::profiler;
use crate::track::{Rules, Tracker};

/// How the objects of a frame are followed, as the settings and the stream were when it came.
#[derive(Clone, Debug)]
pub(super) struct Following {
    rules: Arc<Rules>,
    scene: u64,
    /// Of the frame.
    pub format: Option<Format>,
}

/// What a stream's frames are told, in the order in which they come in.
#[derive(Debug, Default)]
pub(super) struct Scenes {
    /// None where nothing is followed.
    rules: Option<Arc<Rules>>,
    /// Goes up where what comes has nothing to do with what came.
    scene: u64,
    stream: Option<String>,
}

impl Scenes {
    pub fn apply(&mut self, rules: Option<Rules>) {
        self.rules = rules.map(Arc::new);
    }

    /// What comes from now on is another picture.
    pub fn change(&mut self) {
        self.scene += 1;
    }

    /// What comes from now on belongs to this stream.
    pub fn stream_started(&mut self, stream: &str) {
        if self.stream.as_deref() != Some(stream) {
            self.stream = Some(stream.to_owned());
            self.change();
        }
    }

    pub fn following(&self, format: &Option<Format>) -> Option<Following> {
        self.rules.as_ref().map(|rules| Following {
            rules: Arc::clone(rules),
            scene: self.scene,
            format: format.clone(),
        })
    }
}

/// Follows objects in the frames of buffers, in the order in which they leave.
#[derive(Debug, Default)]
pub(super) struct Followed {
    tracker: Tracker,
    /// The source of each frame of the latest buffer.
    sources: Vec<u32>,
    /// Frames of the buffer that was inspected last.
    frames: usize,
}

impl Followed {
    /// A buffer was inspected: what was found in its frames becomes what comes out. If it looks like the one that the
    /// room is of, what came out then has its identities again.
    pub fn inspected(
        &mut self,
        following: &Following,
        buffer: &gst::BufferRef,
        repeated: bool,
        room: &mut Room,
    ) {
        let Room {
            detections,
            sightings,
            ..
        } = room;
        let _range = profiler::range(c"track");
        self.frames = detections.len();
        self.advance_by(following, buffer, Some(self.frames));
        sightings.resize_with(detections.len(), Default::default);
        let frames = self.sources.iter().zip(detections).zip(sightings);
        let rules = &*following.rules;
        for ((source, detections), sighting) in frames {
            match repeated {
                true => self.tracker.repeat(rules, *source, sighting, detections),
                false => self.tracker.follow(rules, *source, sighting, detections),
            }
        }
    }

    /// A buffer passed uninspected: its frames have what is expected in them.
    pub fn passed(&mut self, following: &Following, buffer: &gst::BufferRef, room: &mut Room) {
        let _range = profiler::range(c"track");
        self.advance(following, buffer);
        let size = following.format.as_ref().map(|format| format.shape.size());
        let detections = &mut room.detections;
        detections.resize_with(self.sources.len(), Vec::new);
        for (source, detections) in self.sources.iter().zip(detections) {
            detections.clear();
            let size = size.unwrap_or_default();
            self.tracker.predict(*source, size, detections);
        }
    }

    /// Time goes on by one frame for each stream of the buffer.
    pub fn advance(&mut self, following: &Following, buffer: &gst::BufferRef) {
        self.advance_by(following, buffer, None);
    }

    /// `frames` are those of the buffer, where that is known.
    fn advance_by(
        &mut self,
        following: &Following,
        buffer: &gst::BufferRef,
        frames: Option<usize>,
    ) {
        nvds::sources(buffer, &mut self.sources);
        let told = self.sources.len();
        let frames = frames.unwrap_or(match told {
            0 => self.frames.max(1),
            told => told,
        });
        self.sources.truncate(frames);
        self.sources.extend(told as u32..frames.max(told) as u32);
        for source in &self.sources {
            self.tracker
                .advance(&following.rules, following.scene, *source);
        }
    }
}
