//! The functions of the request pads, and how they come and go.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, RsDetectNet};

/// A pad of the element, linked to the one that `link` names.
pub(super) fn links(
    parent: Option<&gst::Object>,
    link: impl FnOnce(&RsDetectNet) -> &gst::Pad,
) -> gst::Iterator<gst::Pad> {
    RsDetectNet::catch_panic_pad_function(
        parent,
        || gst::Iterator::from_vec(Vec::new()),
        |this| gst::Iterator::from_vec(vec![link(this).clone()]),
    )
}

pub(super) fn build(element: &super::RsDetectNet, template: &gst::PadTemplate) -> gst::Pad {
    let element = element.downgrade();
    gst::Pad::builder_from_template(template)
        // The pad has no parent yet when it is activated for a running element, nor any longer when it is released.
        .activatemode_function(move |pad, _, mode, active| {
            let Some(element) = element.upgrade() else {
                return Ok(());
            };
            RsDetectNet::catch_panic_pad_function(
                Some(element.upcast_ref()),
                || Err(gst::loggable_error!(CAT, "a panic")),
                |this| activate(this, pad, mode, active),
            )
        })
        .event_function(|pad, parent, event| {
            RsDetectNet::catch_panic_pad_function(
                parent,
                || false,
                |this| upstream_event(this, pad, event),
            )
        })
        .query_function(|pad, parent, query| {
            RsDetectNet::catch_panic_pad_function(parent, || false, |this| this.query(pad, query))
        })
        .iterate_internal_links_function(|_, parent| links(parent, |this| &this.sink_pad))
        .build()
}

fn activate(
    this: &RsDetectNet,
    pad: &gst::Pad,
    mode: gst::PadMode,
    active: bool,
) -> Result<(), gst::LoggableError> {
    if mode != gst::PadMode::Push {
        return Err(gst::loggable_error!(CAT, "{} only pushes", pad.name()));
    }
    this.outputs
        .activate(&this.obj(), pad, active)
        .map_err(|error| gst::loggable_error!(CAT, "{error}"))
}

/// A branch has its own pace and its own pictures: its lateness is not the video's, and pointer events in a crop are
/// not in the frame. A new link or a wish for other caps has left its mark on the pad by now.
fn upstream_event(this: &RsDetectNet, pad: &gst::Pad, event: gst::Event) -> bool {
    match event.type_() {
        gst::EventType::Qos | gst::EventType::Reconfigure => true,
        gst::EventType::Navigation => false,
        _ => this.forward_upstream(pad, event),
    }
}

/// Adds the pad of a template; None where there is one already.
pub(super) fn add(this: &RsDetectNet, template: &gst::PadTemplate) -> Option<gst::Pad> {
    let element = this.obj();
    let pad = this.outputs.create(&element, template)?;
    let (current, pending) = (element.current_state(), element.pending_state());
    let starting = current == gst::State::Ready && pending > current;
    let running = current > gst::State::Ready || starting;
    let added = match running {
        true => pad.set_active(true).and_then(|()| element.add_pad(&pad)),
        false => element.add_pad(&pad),
    };
    if let Err(error) = added {
        gst::error!(
            CAT,
            imp = this,
            "cannot add the pad {}: {error}",
            pad.name()
        );
        this.outputs.remove(&pad);
        return None;
    }
    Some(pad)
}

pub(super) fn remove(this: &RsDetectNet, pad: &gst::Pad) {
    this.outputs.remove(pad);
    let removed = pad
        .set_active(false)
        .and_then(|()| this.obj().remove_pad(pad));
    if let Err(error) = removed {
        gst::error!(
            CAT,
            imp = this,
            "cannot remove the pad {}: {error}",
            pad.name()
        );
    }
}
