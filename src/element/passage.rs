//! The way of a frame through the element: taken in, inspected, sent on, by one thread or two.

use std::sync::atomic::Ordering;
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, RsDetectNet};
use super::inspection::{InspectError, Inspector};
use super::lateness_settings::LatePolicy;
use super::ledger::Ticket;
use super::lineup::{Item, Sending, Task};
use super::outputs::Overflows;
use super::producer::Produced;
use super::statistics::Fate;
use super::streaming::{Shown, Stage, Streaming, Transit};
use super::tracking::Following;
use crate::frame::gstcuda::CudaContext;
use crate::meta::message::FrameFacts;
use crate::printable::printable;
use crate::{lock, profiler};

/// What must happen to a frame besides being passed on, once no lock is held.
#[derive(Default)]
struct Aftermath {
    shown: Shown,
    /// The frame was late by this much.
    late: Option<gst::ClockTime>,
    bad_settings: Option<String>,
    not_cut: Option<String>,
    /// What the request pads get.
    produced: Produced,
    overflows: Overflows,
}

/// What is known of a frame when it comes in.
struct Arrival {
    decision: Decision,
    facts: FrameFacts<'static>,
    following: Option<Following>,
    /// Why settings that were to hold from now on do not.
    bad_settings: Option<String>,
}

/// What is to happen to a frame that came in.
enum Decision {
    Pass,
    /// By so much.
    TooLate(gst::ClockTime, LatePolicy),
    Inspect,
}

impl RsDetectNet {
    pub(super) fn sink_chain(
        &self,
        buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        lock(&self.punctuality).frame_comes();
        let flow = self.take(buffer);
        lock(&self.punctuality).frame_is_taken();
        flow
    }

    fn take(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let ticket = self.ledger.enter();
        if let Err(error) = self.wait_for_model() {
            return Err(settle(ticket, error));
        }
        let limit = self.max_in_flight.load(Ordering::Acquire);
        if limit > 1 {
            while let Some(sending) = self.lineup.wait_for_room(limit)? {
                self.send_item(sending);
            }
        }
        let taken_in = self.take_in(buffer, ticket);
        if limit <= 1 {
            return self.send_on(taken_in?);
        }
        let flow = taken_in.and_then(|transit| self.lineup.push_frame(transit));
        while let Some(sending) = self.lineup.before_leaving() {
            self.send_item(sending);
        }
        flow
    }

    /// Decides what is to happen to a frame, and begins with it.
    fn take_in(&self, buffer: gst::Buffer, ticket: Ticket) -> Result<Transit, gst::FlowError> {
        let arrival = self.decide(&buffer)?;
        let stage = match arrival.decision {
            Decision::Pass => Stage::Passing,
            Decision::TooLate(late, policy) => Stage::Late(late, policy),
            Decision::Inspect => {
                let _range = profiler::numbered(c"inspect", arrival.facts.number);
                let mut begun = self.inspector()?.inspect(&buffer);
                if let Some(context) = begun.as_ref().err().and_then(|e| self.elsewhere(e)) {
                    self.lineup.drain();
                    if let Err(error) = self.adopt(context) {
                        return Err(settle(ticket, error));
                    }
                    begun = self.inspector()?.inspect(&buffer);
                }
                match begun {
                    Ok(inspection) => Stage::Inspecting(inspection),
                    Err(error) => return Err(self.fail(ticket, &error)),
                }
            }
        };
        Ok(Transit {
            buffer,
            ticket,
            facts: arrival.facts,
            stage,
            following: arrival.following,
            bad_settings: arrival.bad_settings,
        })
    }

    /// Where the model has to go to inspect a frame that lies somewhere else, if it may.
    fn elsewhere(&self, error: &InspectError) -> Option<CudaContext> {
        match error {
            InspectError::OtherContext(context) => Some(context.clone()),
            InspectError::OtherGpu { frame, .. } => self.context_of_gpu(*frame),
            _ => None,
        }
    }

    fn inspector(&self) -> Result<Inspector, gst::FlowError> {
        let mut streaming = lock(&self.streaming);
        let streaming = streaming.as_mut().ok_or(gst::FlowError::Flushing)?;
        Ok(streaming.inspector())
    }

    fn fail(&self, ticket: Ticket, error: &InspectError) -> gst::FlowError {
        ticket.fail();
        self.post_failure(error)
    }

    fn post_failure(&self, error: &InspectError) -> gst::FlowError {
        let text = self.log_error(error);
        match error {
            InspectError::NoCaps => {
                gst::element_imp_error!(self, gst::CoreError::Negotiation, ("{text}"));
                return gst::FlowError::NotNegotiated;
            }
            InspectError::Detect(_)
            | InspectError::Thumbnail(_)
            | InspectError::OtherContext(_) => {
                gst::element_imp_error!(self, gst::LibraryError::Failed, ("{text}"))
            }
            _ => gst::element_imp_error!(self, gst::StreamError::Format, ("{text}")),
        }
        gst::FlowError::Error
    }

    /// What is to happen to a frame, and what is known of it.
    fn decide(&self, buffer: &gst::BufferRef) -> Result<Arrival, gst::FlowError> {
        let mut streaming = lock(&self.streaming);
        let streaming = streaming.as_mut().ok_or(gst::FlowError::Flushing)?;
        let mut bad_settings = None;
        if self.settings_changed.swap(false, Ordering::AcqRel) {
            let settings = lock(&self.settings).clone();
            bad_settings = streaming.apply(&settings).err().map(|e| e.to_string());
        }
        let skips = streaming.skips(buffer);
        let facts = streaming.facts(buffer);
        let lateness = match skips {
            true => None,
            false => self.lateness(streaming, facts.running_time),
        };
        let decision = match lateness {
            _ if skips => Decision::Pass,
            Some(late) => Decision::TooLate(late, streaming.late_policy),
            None => Decision::Inspect,
        };
        Ok(Arrival {
            decision,
            facts,
            following: streaming.scenes.following(&streaming.format),
            bad_settings,
        })
    }

    /// By how much a frame is too late to be inspected: as downstream says, or by the clock.
    fn lateness(
        &self,
        streaming: &Streaming,
        running_time: Option<gst::ClockTime>,
    ) -> Option<gst::ClockTime> {
        let told = streaming
            .qos
            .then(|| lock(&self.quality).lateness(running_time));
        told.flatten().or_else(|| {
            let (max_latency, now) = (streaming.max_latency?, self.obj().current_running_time()?);
            lock(&self.punctuality).lateness(running_time?, now, max_latency)
        })
    }

    /// Waits for what is found in a frame, and pushes the frame with it.
    fn send_on(&self, transit: Transit) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Transit {
            mut buffer,
            ticket,
            facts,
            stage,
            following,
            bad_settings,
        } = transit;
        let range = profiler::numbered(c"finish", facts.number);
        let following = following.as_ref();
        let mut aftermath = Aftermath {
            bad_settings,
            ..Aftermath::default()
        };
        let passed = match stage {
            Stage::Passing => self
                .pass(following, &facts, &mut buffer, &mut aftermath)?
                .map(|shown| (Fate::Skipped, shown)),
            Stage::Late(late, LatePolicy::SkipInference) => {
                aftermath.late = Some(late);
                self.pass(following, &facts, &mut buffer, &mut aftermath)?
                    .map(|shown| (Fate::Late, shown))
            }
            Stage::Late(late, LatePolicy::Drop) => {
                aftermath.late = Some(late);
                if let (Some(following), Some(streaming)) =
                    (following, lock(&self.streaming).as_mut())
                {
                    streaming.drop_frame(following, &buffer);
                }
                Ok((Fate::Dropped, Shown::default()))
            }
            Stage::Inspecting(inspection) => match inspection.wait() {
                Ok(found) => self
                    .with_streaming(&mut aftermath, |streaming| {
                        streaming.complete(found, following, &facts, &mut buffer)
                    })?
                    .map(|inspected| (inspected.fate, inspected.shown)),
                Err(error) => Err(error.into()),
            },
        };
        let fate = match passed {
            Ok((fate, shown)) => {
                aftermath.shown = shown;
                fate
            }
            Err(error) => return Err(self.fail(ticket, &error)),
        };
        gst::trace!(CAT, imp = self, "{:?}: {fate:?}", buffer.pts());
        lock(&self.statistics).add(Instant::now(), fate);
        if let Fate::Inspected { timings, .. } = fate {
            lock(&self.punctuality).inspected(timings.total());
        }
        ticket.settle();
        let produced = std::mem::take(&mut aftermath.produced);
        self.outputs.send(&buffer, produced, aftermath.overflows);
        self.tell(&buffer, &facts, aftermath);
        drop(range);
        if fate == Fate::Dropped {
            self.discontinuous.store(true, Ordering::Release);
            return Ok(gst::FlowSuccess::Ok);
        }
        if self.discontinuous.swap(false, Ordering::AcqRel) {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        let _range = profiler::numbered(c"push", facts.number);
        match self.src_pad.push(buffer) {
            Err(gst::FlowError::NotLinked) if self.outputs.linked() => Ok(gst::FlowSuccess::Ok),
            flow => flow,
        }
    }

    /// Has what is expected in a frame that passes uninspected attached to it.
    fn pass(
        &self,
        following: Option<&Following>,
        facts: &FrameFacts<'_>,
        buffer: &mut gst::Buffer,
        aftermath: &mut Aftermath,
    ) -> Result<Result<Shown, InspectError>, gst::FlowError> {
        match following {
            None => Ok(Ok(Shown::default())),
            Some(following) => self.with_streaming(aftermath, |streaming| {
                streaming.pass(following, facts, buffer)
            }),
        }
    }

    /// Has something done with a frame that says what its objects are, and takes what the request pads get of it.
    fn with_streaming<T>(
        &self,
        aftermath: &mut Aftermath,
        show: impl FnOnce(&mut Streaming) -> Result<T, InspectError>,
    ) -> Result<Result<T, InspectError>, gst::FlowError> {
        let mut streaming = lock(&self.streaming);
        let streaming = streaming.as_mut().ok_or(gst::FlowError::Flushing)?;
        aftermath.overflows = streaming.producer.overflows();
        streaming.producer.wanted = self.outputs.wanted(aftermath.overflows);
        let shown = show(streaming);
        if shown.is_ok() {
            aftermath.produced = streaming.producer.take();
            aftermath.not_cut = aftermath.produced.not_cut.take();
        }
        Ok(shown)
    }

    /// What the thread of the pad `src` does until the pad is deactivated.
    fn send_all(&self) {
        loop {
            match self.lineup.next() {
                Task::Send(sending) => self.send_item(sending),
                Task::Attend(duty, called) => duty.attend(called),
                Task::End => break,
            }
        }
    }

    fn send_item(&self, mut sending: Sending<'_, Transit>) {
        match sending.item {
            Item::Frame(transit) => sending.at_work.flow = self.send_on(transit),
            Item::Event(event) => {
                self.send_event(event);
            }
        }
    }

    fn start_sending(&self) -> Result<(), glib::BoolError> {
        let element = self.obj().downgrade();
        self.src_pad.start_task(move || {
            // Once for the whole stream: this takes a lock of all threads of the process.
            if let Some(element) = element.upgrade() {
                Self::catch_panic_pad_function(
                    Some(element.upcast_ref()),
                    || (),
                    |this| this.send_all(),
                );
                // Also after a panic, which would be told again and again.
                let _ = element.imp().src_pad.pause_task();
            }
        })
    }

    /// Whether another thread sends on what the streaming thread brings.
    pub(super) fn sends_apart(&self) -> bool {
        self.max_in_flight.load(Ordering::Acquire) > 1
    }

    pub(super) fn activate_src(&self, active: bool) -> Result<(), gst::LoggableError> {
        if !self.sends_apart() {
            return Ok(());
        }
        let done = match active {
            true => {
                self.lineup.open();
                self.start_sending()
            }
            false => {
                self.lineup.close();
                // The thread that brings frames may be at work as well.
                self.lineup.wait_until_idle();
                self.src_pad.stop_task()
            }
        };
        done.map_err(|error| gst::loggable_error!(CAT, "{error}"))
    }

    /// Posts what is to be said of a frame.
    fn tell(&self, buffer: &gst::BufferRef, facts: &FrameFacts, aftermath: Aftermath) {
        let element = self.obj();
        if let Some(problem) = aftermath.bad_settings {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("{}; the earlier settings stay in force", printable(problem))
            );
        }
        if let Some(doubt) = aftermath.shown.doubt {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{}", printable(doubt)));
        }
        let not_drawn = aftermath.shown.not_drawn.map(str::to_owned);
        for reason in [not_drawn, aftermath.not_cut].into_iter().flatten() {
            gst::element_imp_warning!(self, gst::StreamError::Format, ("{}", printable(reason)));
        }
        if let Some(structure) = aftermath.shown.message {
            let message = gst::message::Element::builder(structure).src(&*element);
            let _ = element.post_message(message.build());
        }
        if let Some(late) = aftermath.late {
            let (processed, late_frames) = lock(&self.statistics).processed_and_late();
            let proportion = lock(&self.quality).proportion;
            let message = gst::message::Qos::builder(false)
                .running_time(facts.running_time)
                .stream_time(facts.stream_time)
                .timestamp(buffer.pts())
                .duration(buffer.duration())
                .values(late.nseconds() as i64, proportion, 1_000_000)
                .stats(
                    gst::format::Buffers::from_u64(processed),
                    gst::format::Buffers::from_u64(late_frames),
                );
            let _ = element.post_message(message.src(&*element).build());
        }
    }
}

/// A frame goes because of what was met before it could be inspected.
fn settle(ticket: Ticket, error: gst::FlowError) -> gst::FlowError {
    if error == gst::FlowError::Error {
        ticket.fail();
    }
    error
}
