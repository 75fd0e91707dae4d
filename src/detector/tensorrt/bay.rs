//! GPU memory for the lanes of a model that never run at the same time: what the largest of them needs, for all.
//!
//! The image inputs of all lanes lie in one place and nothing else ever does, so that a network never takes what is no
//! image for one, not even where a batch is not full. Outputs and activations lie in another place, as each lane needs.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::cuda::CudaError;
use crate::cuda::arena::{ALIGNMENT, Arena};
use crate::cuda::context::{Context, InContext};
use crate::cuda::stream::Event;
use crate::detector::scheduler::BATCHES_UNDER_WAY;
use crate::lock;

/// A bay for each batch that is under way at once.
pub(super) type Bays = [Arc<Bay>; BATCHES_UNDER_WAY];

/// None of them has memory yet.
pub(super) fn new_bays(context: &Context) -> Result<Bays, CudaError> {
    let bay = || Ok::<_, CudaError>(Arc::new(Bay::new(context)?));
    Ok([bay()?, bay()?])
}

pub(super) struct Bay(InContext<Mutex<Turn>>);

/// Where a new lane is to be.
#[derive(Clone)]
pub(super) struct Berth {
    pub bay: Arc<Bay>,
    /// Whether the network runs in other memory first, so that batches that come meanwhile do not wait for what
    /// TensorRT compiles and loads.
    pub starts_apart: bool,
}

/// The right to enqueue work that uses the memory.
pub(super) struct Turn {
    images: Arena,
    scratch: Arena,
    /// The mark behind the work that was enqueued last.
    last: Option<Arc<Event>>,
}

/// What a lane needs, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub images: usize,
    pub outputs: Vec<usize>,
    pub activations: usize,
}

impl Need {
    /// Where each output lies behind the activations, and where the last one ends.
    fn in_scratch(&self) -> (Vec<usize>, usize) {
        let mut end = self.activations;
        let start_of = |bytes: &usize| {
            let start = end.checked_next_multiple_of(ALIGNMENT);
            let start = start.unwrap_or(usize::MAX);
            end = start.saturating_add(*bytes);
            start
        };
        let starts = self.outputs.iter().map(start_of).collect();
        (starts, end)
    }
}

/// The addresses of what a lane needs.
pub(super) struct Place {
    pub images: u64,
    pub outputs: Vec<u64>,
    pub activations: u64,
}

impl Bay {
    pub fn new(context: &Context) -> Result<Self, CudaError> {
        let turn = InContext::make(context, || {
            Ok::<_, CudaError>(Mutex::new(Turn {
                images: Arena::new(context),
                scratch: Arena::new(context),
                last: None,
            }))
        });
        Ok(Self(turn?))
    }

    pub fn context(&self) -> &Context {
        self.0.context()
    }

    /// Waits on the host until nobody enqueues work. The context must be current as long as the turn lasts.
    pub fn enter(&self) -> MutexGuard<'_, Turn> {
        lock(&self.0)
    }
}

impl Turn {
    /// Waits on the host until the GPU has passed all that was enqueued in earlier turns: work that is no batch is no
    /// concern of the scheduler, which lets batches of a bay come one after the other.
    pub fn wait(&self) -> Result<(), CudaError> {
        self.last.as_ref().map_or(Ok(()), |last| last.wait())
    }

    /// `mark` stands for all that was enqueued in this turn.
    pub fn end(&mut self, mark: &Arc<Event>) {
        self.last = Some(Arc::clone(mark));
    }

    /// Makes sure that there is enough memory. What others have there stays where it is.
    pub fn place(&mut self, need: &Need) -> Result<Place, CudaError> {
        let (outputs, end) = need.in_scratch();
        // The larger one first, so that little is taken in vain where there is not enough.
        let scratch = self.scratch.at_least(end)?;
        Ok(Place {
            images: self.images.at_least(need.images)?,
            activations: scratch,
            outputs: outputs.iter().map(|at| scratch + *at as u64).collect(),
        })
    }

    /// Bytes of the GPU that the bay has.
    pub fn size(&self) -> usize {
        self.images.size() + self.scratch.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_scratch(activations: usize, outputs: &[usize]) -> (Vec<usize>, usize) {
        let outputs = outputs.to_vec();
        let need = Need {
            images: 7,
            outputs,
            activations,
        };
        need.in_scratch()
    }

    #[test]
    fn outputs_lie_behind_the_activations_and_do_not_overlap() {
        assert_eq!(in_scratch(1000, &[]), (vec![], 1000));
        assert_eq!(in_scratch(0, &[1, 512]), (vec![0, 512], 1024));
        assert_eq!(
            in_scratch(1025, &[513, 4]),
            (vec![1536, 2560], 2564),
            "each begins where any tensor may"
        );
    }

    #[test]
    fn more_than_any_gpu_has_stays_more_than_any_gpu_has() {
        let (_, end) = in_scratch(usize::MAX - 3, &[8, usize::MAX]);
        assert_eq!(end, usize::MAX);
    }
}
