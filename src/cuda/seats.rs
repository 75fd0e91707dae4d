//! How many streams of this process are on each GPU, so that new ones go where there are the fewest.

use std::sync::Mutex;

use super::context::{ContextError, gpus};
use crate::lock;

static TAKEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// One stream's place on a GPU, as long as this value lives.
#[derive(Debug)]
pub struct Seat(u32);

impl Seat {
    pub fn on(gpu_id: u32) -> Self {
        take(&mut lock(&TAKEN), gpu_id)
    }

    /// On the GPU with the fewest streams; of equal ones, on the first.
    pub fn where_there_is_room() -> Result<Self, ContextError> {
        let gpus = gpus()?;
        let mut taken = lock(&TAKEN);
        let streams = |gpu_id: &u32| taken.get(*gpu_id as usize).copied().unwrap_or(0);
        let gpu_id = (0..gpus).min_by_key(streams).unwrap_or(0);
        Ok(take(&mut taken, gpu_id))
    }

    pub fn gpu_id(&self) -> u32 {
        self.0
    }
}

fn take(taken: &mut Vec<usize>, gpu_id: u32) -> Seat {
    let index = gpu_id as usize;
    if taken.len() <= index {
        taken.resize(index + 1, 0);
    }
    taken[index] += 1;
    Seat(gpu_id)
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&TAKEN)[self.0 as usize] -= 1;
    }
}
