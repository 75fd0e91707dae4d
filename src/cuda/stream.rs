//! Streams, events and graphs: the order in which a GPU works, and how the host learns that it is done.

use std::ffi::c_void;

use cust::sys;

use super::driver::{CudaError, check};

/// A stream that does not wait for the default one.
#[derive(Debug)]
pub struct Stream(sys::CUstream);

// SAFETY: a stream may be used from any thread whose current context is the stream's.
unsafe impl Send for Stream {}

impl Stream {
    /// In the current context.
    pub fn new() -> Result<Self, CudaError> {
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the call writes to the variable.
        check("cuStreamCreate", unsafe {
            sys::cuStreamCreate(&mut stream, flags)
        })?;
        Ok(Self(stream))
    }

    pub fn raw(&self) -> sys::CUstream {
        self.0
    }

    /// Work enqueued from now on waits until `other` has passed what is enqueued there now; the host does not.
    ///
    /// # Safety
    /// `other` is a live `CUstream` of the current context.
    pub unsafe fn follow(&self, other: *mut c_void, event: &Event) -> Result<(), CudaError> {
        // SAFETY: event and streams are of the current context.
        unsafe {
            check("cuEventRecord", sys::cuEventRecord(event.0, other.cast()))?;
            check(
                "cuStreamWaitEvent",
                sys::cuStreamWaitEvent(self.0, event.0, 0),
            )
        }
    }

    /// Waits on the host until the stream has passed all that was enqueued.
    pub fn finish(&self, event: &Event) -> Result<(), CudaError> {
        self.mark(event)?;
        event.wait()
    }

    /// Has `event` stand for all that was enqueued until now.
    pub fn mark(&self, event: &Event) -> Result<(), CudaError> {
        // SAFETY: event and stream are of the current context.
        check("cuEventRecord", unsafe {
            sys::cuEventRecord(event.0, self.0)
        })
    }

    /// Records what `enqueue` puts on the stream as a graph, and runs none of it.
    pub fn capture<E: From<CudaError>>(
        &self,
        enqueue: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is live and captures nothing.
        check("cuStreamBeginCapture", unsafe {
            sys::cuStreamBeginCapture_v2(self.0, mode)
        })?;
        let enqueued = enqueue();
        let mut graph = std::ptr::null_mut();
        // SAFETY: the capture began above; it must end whatever happened in between.
        let ended = check("cuStreamEndCapture", unsafe {
            sys::cuStreamEndCapture(self.0, &mut graph)
        });
        let instantiated = enqueued.and_then(|()| {
            ended?;
            Ok(Graph::new(graph)?)
        });
        if !graph.is_null() {
            // SAFETY: an executable graph does not need what it was made from.
            unsafe { sys::cuGraphDestroy(graph) };
        }
        instantiated
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the stream is this value's own; the driver lets work on it end first.
        unsafe { sys::cuStreamDestroy_v2(self.0) };
    }
}

/// Waits for what calls without a stream copy or fill: other streams do not wait for it, and such a call may return
/// before it is done. A context is current.
pub fn finish_default_stream() -> Result<(), CudaError> {
    // SAFETY: the default stream is there in every context.
    check("cuStreamSynchronize", unsafe {
        sys::cuStreamSynchronize(std::ptr::null_mut())
    })
}

/// A mark on a stream.
#[derive(Debug)]
pub struct Event(sys::CUevent);

// SAFETY: an event may be used from any thread whose current context is the event's.
unsafe impl Send for Event {}
// SAFETY: the driver locks its events.
unsafe impl Sync for Event {}

impl Event {
    /// In the current context; a host that waits for it sleeps.
    pub fn new() -> Result<Self, CudaError> {
        let mut event = std::ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32
            | sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: the call writes to the variable.
        check("cuEventCreate", unsafe {
            sys::cuEventCreate(&mut event, flags)
        })?;
        Ok(Self(event))
    }

    /// Whether the stream that was marked with the event has passed the mark.
    pub fn has_passed(&self) -> Result<bool, CudaError> {
        // SAFETY: the event is of the current context.
        match unsafe { sys::cuEventQuery(self.0) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            result => check("cuEventQuery", result).map(|()| true),
        }
    }

    /// The one wait of the host: until the stream that was marked with the event has passed the mark.
    pub fn wait(&self) -> Result<(), CudaError> {
        // SAFETY: the event is of the current context.
        check("cuEventSynchronize", unsafe {
            sys::cuEventSynchronize(self.0)
        })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is this value's own.
        unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}

/// Recorded work that runs again with one call.
#[derive(Debug)]
pub struct Graph(sys::CUgraphExec);

// SAFETY: an executable graph may be launched from any thread, one at a time, which `&mut` makes sure of.
unsafe impl Send for Graph {}

impl Graph {
    fn new(graph: sys::CUgraph) -> Result<Self, CudaError> {
        let mut executable = std::ptr::null_mut();
        // SAFETY: the graph was just captured; no log is asked for.
        check("cuGraphInstantiate", unsafe {
            sys::cuGraphInstantiate_v2(
                &mut executable,
                graph,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                0,
            )
        })?;
        Ok(Self(executable))
    }

    /// Enqueues the recorded work.
    ///
    /// # Safety
    /// All memory that the work names is still there, and stays until the stream has passed it.
    pub unsafe fn launch(&mut self, stream: &Stream) -> Result<(), CudaError> {
        // SAFETY: the caller vouches for the memory.
        check("cuGraphLaunch", unsafe {
            sys::cuGraphLaunch(self.0, stream.0)
        })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the graph is this value's own.
        unsafe { sys::cuGraphExecDestroy(self.0) };
    }
}
