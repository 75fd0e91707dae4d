//! rsdetectnet finds objects in video frames where the frames already are.

pub mod detection;
pub mod frame;
pub mod preprocess;
