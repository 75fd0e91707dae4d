//! The application around the element starts other processes while the GPU works.

use crate::common::pads::Passed;
use crate::common::{BLUE, RED, assert_found, init};
use crate::media::{COLORS_SSD, shared_cache};
use crate::playing::{attempt, push, stream, uploaded, with_cell};
use crate::process::alone;

/// Forks; the child runs `true`, or lives on for a moment, with all that it shares with this process.
fn fork(number: usize) -> libc::pid_t {
    let arguments = [c"true".as_ptr(), std::ptr::null()];
    // SAFETY: the child calls nothing but what may be called after a fork of a process with threads.
    unsafe {
        match libc::fork() {
            -1 => panic!("{}", std::io::Error::last_os_error()),
            0 => {
                if number.is_multiple_of(2) {
                    libc::execvp(arguments[0], arguments.as_ptr());
                    libc::_exit(9);
                }
                libc::usleep(30_000);
                libc::_exit(0)
            }
            child => child,
        }
    }
}

fn wait_for(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the call writes to the variable.
    let ended = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!((ended, status), (child, 0));
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn frames_of_two_pictures_that_alternate_while_the_host_forks_are_never_confused() {
    let test = "hosts::\
        frames_of_two_pictures_that_alternate_while_the_host_forks_are_never_confused";
    alone(test, 90, || {
        const FORKS: usize = 60;
        init();
        let (red, red_box) = with_cell((640, 480), (1, 2), RED);
        let (blue, blue_box) = with_cell((640, 480), (6, 5), BLUE);
        let mut streams = vec![[red.clone(), blue.clone()]];
        if let Some(frames) = uploaded(&[red, blue]) {
            streams.push([frames[0].clone(), frames[1].clone()]);
        }
        let detector = COLORS_SSD.detector(&shared_cache());
        for samples in streams {
            let video = stream(&format!("{detector} max-in-flight=1"), &samples[0]);
            let mut children = Vec::new();
            for number in 0..FORKS {
                children.push(fork(number));
                for sample in samples.iter().cycle().take(6) {
                    let pushed = push(&video, sample);
                    assert!(pushed.is_ok(), "{pushed:?}: {:?}", video.error());
                }
            }
            children.into_iter().for_each(wait_for);
            video.sink.wait_for_frames(6 * FORKS);
            let found = video
                .sink
                .take()
                .into_iter()
                .filter_map(|passed| match passed {
                    Passed::Frame { detections, .. } => Some(detections),
                    _ => None,
                });
            for (number, detections) in found.enumerate() {
                let wanted = [("red", red_box), ("blue", blue_box)][number % 2];
                assert_found(&detections, &[wanted], 0.95, 0.9);
            }
        }
        let again = attempt(&detector, &crate::playing::colorful_frames(3)).unwrap();
        crate::playing::assert_colorful(&again);
    });
}
