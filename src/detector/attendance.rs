//! How a stream hears of its results without a thread that waits for them, and what its threads do for all streams of
//! the model when they have nothing else to do.

/// A stream that is told of its results.
pub trait Attendant: Send + Sync {
    /// All results of one of its requests are there.
    fn has_results(&self);

    /// Has an idle thread of the stream attend to a batch; false if there is none.
    fn call(&self) -> bool;
}

/// What has to be done for all streams of a model: waiting for the end of a batch.
pub trait Duty: Send + Sync {
    /// Whether a batch is under way for which nobody waits, nor was called. Who goes to sleep looks first.
    fn is_due(&self) -> bool;

    /// Waits for such a batch, and puts its results down; `called`: or for one to which somebody was called. Who was
    /// called must do this.
    fn attend(&self, called: bool);
}
