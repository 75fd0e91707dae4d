//! Elements that start at the same time.

use super::*;

#[test]
fn elements_that_start_at_once_all_share_one_model() {
    const ELEMENTS: usize = 16;
    // The bundled model takes longest to load.
    let streams: Vec<_> = {
        init();
        let start = Barrier::new(ELEMENTS);
        let started = Barrier::new(ELEMENTS);
        thread::scope(|scope| {
            let begin = || {
                let element = gst::ElementFactory::make("rsdetectnet").build().unwrap();
                start.wait();
                let stream = Stream::playing(&element, &four_cells().info());
                stream.source.push(four_cells().buffer()).unwrap();
                started.wait();
                stream
            };
            let threads: Vec<_> = (0..ELEMENTS).map(|_| scope.spawn(begin)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        })
    };
    for stream in &streams {
        assert_eq!(sharing(stream) as usize, ELEMENTS);
        assert_eq!(frames(&stream.sink.passed()), 1);
        assert_eq!(stream.error(), None);
    }
}

#[test]
fn elements_that_start_a_broken_model_at_once_all_fail() {
    const ELEMENTS: usize = 16;
    init();
    let start = Barrier::new(ELEMENTS);
    thread::scope(|scope| {
        for _ in 0..ELEMENTS {
            scope.spawn(|| {
                let builder = colors().property("model", model("broken.onnx"));
                let element = builder.build().unwrap();
                let bus = listen(&element);
                start.wait();
                // Who waited for another one to load it is told with the first frame.
                if element.set_state(gst::State::Paused).is_ok() {
                    let mut harness =
                        gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
                    harness.set_src_caps(four_cells().info().to_caps().unwrap());
                    assert_eq!(
                        harness.push(four_cells().buffer()),
                        Err(gst::FlowError::Error)
                    );
                }
                let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
                let gst::MessageView::Error(error) = message.view() else {
                    unreachable!()
                };
                let text = error.error().to_string();
                assert!(text.contains("not an ONNX model"), "{text}");
                element.set_state(gst::State::Null).unwrap();
            });
        }
    });
}

/// A file that nobody can open meanwhile: opening it waits (fcntl(2), "Leases").
struct Lease(std::fs::File);

impl Lease {
    fn take(path: &Path) -> Self {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        // SAFETY: a signal that tells of who waits is ignored, and the file is open.
        let taken = unsafe {
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
        };
        assert_eq!(taken, 0, "{}", std::io::Error::last_os_error());
        Self(file)
    }

    fn give_up(self) {
        drop(self.0);
    }
}

#[test]
fn who_waits_for_another_s_load_can_be_stopped_and_who_goes_on_waiting_gets_the_model() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.txt");
    std::fs::copy(tests_file("models/colors.labels.txt"), &path).unwrap();
    // Whoever loads the model waits for this to be given up.
    let lease = Lease::take(&path);
    let element = || {
        let builder = colors().property("labels", path.to_str().unwrap().to_owned());
        builder.build().unwrap()
    };
    let (loading, stopped, patient) = (element(), element(), element());
    thread::scope(|scope| {
        let (started, is_started) = mpsc::channel();
        let loads = loading.clone();
        scope.spawn(move || {
            started
                .send(loads.set_state(gst::State::Paused).is_ok())
                .unwrap()
        });
        // It is the loading one's turn once a thread of it reads the labels.
        wait_until("nobody loads", || threads_named("rsdetectnet-load") > 0);
        thread::sleep(Duration::from_millis(300));

        assert!(stopped.set_state(gst::State::Paused).is_ok());
        let waiting = Stream::playing(&patient, &four_cells().info());
        let begin = Instant::now();
        stopped.set_state(gst::State::Null).unwrap();
        println!("stopped after {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert!(
            is_started.try_recv().is_err(),
            "the model was loaded already"
        );

        let pushed = scope.spawn(move || {
            waiting.source.push(four_cells().buffer()).unwrap();
            waiting
        });
        // Its frame comes before its model.
        thread::sleep(Duration::from_millis(200));
        lease.give_up();
        assert_eq!(is_started.recv_timeout(LONG), Ok(true));
        let waiting = pushed.join().unwrap();
        assert_eq!(sharing(&waiting), 2);
        assert_eq!(labels(&waiting), ["red", "red", "blue", "green"]);
        let stats: gst::Structure = patient.property("stats");
        let counts = ["frames", "inspected"].map(|name| stats.get::<u64>(name).unwrap());
        assert_eq!(counts, [2, 2], "{stats}");
    });
    loading.set_state(gst::State::Null).unwrap();
}

#[test]
fn streams_that_share_a_model_on_the_cpu_have_a_worker_for_each_thread_until_it_goes() {
    const WORKER: &str = "rsdetectnet-run";
    let element = || colors().property("threads", 2u32);
    let alone = start(element());
    assert_eq!(labels(&alone), ["red", "red", "blue", "green"]);
    wait_until("a lone stream has workers", || threads_named(WORKER) == 0);
    let others = [(); 3].map(|()| start(element()));
    wait_until("there are no two workers", || threads_named(WORKER) == 2);
    thread::scope(|scope| {
        for stream in others.iter().chain([&alone]) {
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(labels(stream), ["red", "red", "blue", "green"]);
                }
            });
        }
    });
    assert_eq!(threads_named(WORKER), 2);
    drop(others);
    assert_eq!(labels(&alone), ["red", "red", "blue", "green"]);
    drop(alone);
    wait_until("workers are left", || threads_named(WORKER) == 0);
}

/// The kernel keeps 15 bytes of a name.
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|task| name.starts_with(task.trim_end()))
        .count()
}

fn wait_until(otherwise: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < LONG, "{otherwise}");
        thread::sleep(Duration::from_millis(1));
    }
}
