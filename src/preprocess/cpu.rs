//! Preprocessing of frames in system memory.
