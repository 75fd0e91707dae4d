//! One CUDA context for an element and its neighbours, found and offered by GStreamer's context mechanism.

use std::sync::{Mutex, PoisonError};

use gst::prelude::*;

use super::gstcuda::{CONTEXT_TYPE, CudaContext, GstCuda, GstCudaError};

/// The CUDA context of one element. The element calls [`ContextOffer::ensure`] when it starts,
/// [`ContextOffer::set_context`] from its `set_context` and [`ContextOffer::answer`] for CONTEXT queries
/// on every pad. No lock is held while the element's neighbours or its bus are asked, as they call back.
#[derive(Debug)]
pub struct ContextOffer {
    gpu_id: Option<u32>,
    context: Mutex<Option<CudaContext>>,
}

impl ContextOffer {
    /// Nothing yet; only contexts of this GPU will do, if it is one.
    pub fn new(gpu_id: Option<u32>) -> Self {
        Self {
            gpu_id,
            context: Mutex::new(None),
        }
    }

    /// The GPU that contexts must be on; None where any will do.
    pub fn gpu_id(&self) -> Option<u32> {
        self.gpu_id
    }

    /// The context found so far.
    pub fn context(&self) -> Option<CudaContext> {
        self.slot().clone()
    }

    /// Takes the context of a buffer in place of the one found so far; true if that is another one.
    pub fn adopt(&self, context: CudaContext) -> bool {
        let mut slot = self.slot();
        let changed = slot.as_ref() != Some(&context);
        *slot = Some(context);
        changed
    }

    /// The context of a neighbour or of the application; where none has one, this process's shared one,
    /// on the GPU that `choose` names, made known to the application and, when they ask, to the neighbours. This is the
    /// protocol of `gst_cuda_ensure_element_context`, in the same order: downstream, upstream, application, own.
    pub fn ensure(
        &self,
        element: &gst::Element,
        choose: impl FnOnce() -> u32,
    ) -> Result<CudaContext, GstCudaError> {
        GstCuda::get()?;
        if let Some(context) = self.context() {
            return Ok(context);
        }
        for pads in [element.src_pads(), element.sink_pads()] {
            self.ask(element, &pads);
            if let Some(context) = self.context() {
                return Ok(context);
            }
        }
        let need = gst::message::NeedContext::builder(CONTEXT_TYPE)
            .src(element)
            .build();
        // An element outside a pipeline has no bus to post on and nobody to ask.
        let _ = element.post_message(need);
        if let Some(context) = self.context() {
            return Ok(context);
        }
        let context = CudaContext::shared(self.gpu_id.unwrap_or_else(choose))?;
        let context = self.slot().get_or_insert(context).clone();
        let gst_context = context.to_gst_context();
        element.set_context(&gst_context);
        let have = gst::message::HaveContext::builder(gst_context)
            .src(element)
            .build();
        let _ = element.post_message(have);
        Ok(context)
    }

    /// Asks the peers of these pads; an answer comes back through the element's `set_context`.
    fn ask(&self, element: &gst::Element, pads: &[gst::Pad]) {
        let mut query = gst::query::Context::new(CONTEXT_TYPE);
        for pad in pads {
            if pad.peer_query(&mut query) {
                if let Some(context) = query.context_owned() {
                    element.set_context(&context);
                }
                return;
            }
        }
    }

    /// Takes a context that a neighbour or the application gives. One found before is kept.
    pub fn set_context(&self, element: &gst::Element, context: &gst::Context) {
        if context.context_type() != CONTEXT_TYPE || self.context().is_some() {
            return;
        }
        let Ok(library) = GstCuda::get() else { return };
        if let Some(context) = library.context_of(element, context, self.gpu_id) {
            self.slot().get_or_insert(context);
        }
    }

    /// Answers a CONTEXT query for CUDA with the context found; false where there is nothing to answer, and
    /// the query should go on to the next element.
    pub fn answer(&self, element: &gst::Element, query: &mut gst::QueryRef) -> bool {
        self.context()
            .is_some_and(|context| context.answer(element, query))
    }

    /// Forgets the context, as an element does when it stops.
    pub fn clear(&self) {
        let context = self.slot().take();
        // Dropped here, outside the lock: the last reference may destroy the context.
        drop(context);
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<CudaContext>> {
        self.context.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_driver_nothing_is_offered_and_queries_go_on() {
        gst::init().unwrap();
        if GstCuda::get().is_ok() {
            return;
        }
        let element = gst::ElementFactory::make("identity").build().unwrap();
        let offer = ContextOffer::new(Some(0));
        assert!(offer.ensure(&element, || 0).is_err());
        offer.set_context(&element, &gst::Context::new(CONTEXT_TYPE, true));
        assert_eq!(offer.context(), None);
        let mut query = gst::query::Context::new(CONTEXT_TYPE);
        assert!(!offer.answer(&element, &mut query));
        assert!(query.context_owned().is_none());
    }
}
