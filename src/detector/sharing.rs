//! Models that are loaded once, for all elements of the process that ask for the same.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use once_cell::sync::Lazy;

use super::{DetectorOptions, LoadError, LoadProgress};
use crate::lock;
use crate::model::ModelInfo;

/// How often an element that waits for another one's model looks whether it is still wanted to.
const LOOK: Duration = Duration::from_millis(50);

/// Loading takes no longer than this, unless an engine has to be built.
const LONG: Duration = Duration::from_secs(2);

/// What must be equal for two elements to share a model.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    options: DetectorOptions,
    /// The CUDA context, 0 on the CPU.
    context: usize,
    /// Size and time of the files of model, labels and description: a file that was replaced is another model.
    files: [Option<(u64, SystemTime)>; 3],
}

struct Place<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// Somebody is loading the model.
    loading: bool,
    model: Weak<T>,
}

/// How many streams use a model now.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<AtomicUsize>);

impl Streams {
    /// One more; says how many that makes.
    pub(super) fn join(&self) -> usize {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// A place and what its model was loaded from.
type Labelled<T> = (Key, Arc<Place<T>>);

/// The models of one kind.
pub struct Shelf<T> {
    places: Lazy<Mutex<Vec<Labelled<T>>>>,
}

impl<T> Shelf<T> {
    pub const fn new() -> Self {
        Self {
            places: Lazy::new(Mutex::default),
        }
    }

    /// The model that another element has loaded with the same options, or else one that `load` makes. Elements that
    /// ask for a model on its way wait for it; where loading fails, the next tries on its own.
    pub fn get(
        &self,
        options: &DetectorOptions,
        context: usize,
        progress: &mut LoadProgress<'_>,
        load: impl FnOnce(&mut LoadProgress<'_>) -> Result<T, LoadError>,
    ) -> Result<Arc<T>, LoadError> {
        let place = self.place(Key {
            options: options.clone(),
            context,
            files: [
                stamp(Some(Path::new(&options.model))),
                stamp(options.labels.as_deref()),
                stamp(ModelInfo::path_beside(Path::new(&options.model)).as_deref()),
            ],
        });
        let start = Instant::now();
        let mut state = lock(&place.state);
        loop {
            if let Some(model) = state.model.upgrade() {
                return Ok(model);
            }
            if !state.loading {
                break;
            }
            drop(state);
            // Who is told of progress takes it for long work, and lets the element start before its model is there.
            if start.elapsed() > LONG
                && let ControlFlow::Break(()) = progress("another element loads the model", None)
            {
                return Err(LoadError::Cancelled);
            }
            let loading = |state: &mut State<T>| state.loading;
            let waited = place
                .changed
                .wait_timeout_while(lock(&place.state), LOOK, loading);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.loading = true;
        drop(state);
        let _loading = Loading(&place);
        let model = Arc::new(load(progress)?);
        lock(&place.state).model = Arc::downgrade(&model);
        Ok(model)
    }

    fn place(&self, key: Key) -> Arc<Place<T>> {
        let mut places = lock(&self.places);
        if let Some((_, place)) = places.iter().find(|(other, _)| *other == key) {
            return Arc::clone(place);
        }
        // Places of models that are gone and that nobody loads.
        places.retain(|(_, place)| {
            Arc::strong_count(place) > 1 || lock(&place.state).model.strong_count() > 0
        });
        let place = Arc::new(Place {
            state: Mutex::new(State {
                loading: false,
                model: Weak::new(),
            }),
            changed: Condvar::new(),
        });
        places.push((key, Arc::clone(&place)));
        place
    }
}

/// Lets the others go on, whatever came of it.
struct Loading<'a, T>(&'a Place<T>);

impl<T> Drop for Loading<'_, T> {
    fn drop(&mut self) {
        lock(&self.0.state).loading = false;
        self.0.changed.notify_all();
    }
}

fn stamp(path: Option<&Path>) -> Option<(u64, SystemTime)> {
    let metadata = std::fs::metadata(path?).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

#[cfg(test)]
mod tests;
