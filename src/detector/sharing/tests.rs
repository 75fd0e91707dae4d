use std::sync::mpsc;
use std::thread;

use super::*;
use crate::model::ModelSource;

const LONG: Duration = Duration::from_secs(20);

fn options(instance: &str) -> DetectorOptions {
    DetectorOptions {
        instance: instance.into(),
        ..DetectorOptions::default()
    }
}

fn failure() -> LoadError {
    ModelSource::resolve("/no/model.onnx").unwrap_err().into()
}

/// The model for these options, or one that is loaded to this number.
fn get(shelf: &Shelf<u32>, options: &DetectorOptions, number: u32) -> Arc<u32> {
    let progress: &mut LoadProgress<'_> = &mut |_, _| ControlFlow::Continue(());
    shelf.get(options, 0, progress, |_| Ok(number)).unwrap()
}

#[test]
fn who_asks_for_the_same_gets_the_same_as_long_as_somebody_has_it() {
    let shelf = Shelf::new();
    let first = get(&shelf, &options(""), 1);
    assert!(Arc::ptr_eq(&get(&shelf, &options(""), 2), &first));
    assert_eq!(*get(&shelf, &options("own"), 3), 3);
    let more_threads = DetectorOptions {
        threads: 7,
        ..options("")
    };
    assert_eq!(*get(&shelf, &more_threads, 4), 4);
    let weak = Arc::downgrade(&first);
    drop(first);
    assert!(weak.upgrade().is_none());
    assert_eq!(*get(&shelf, &options(""), 5), 5);
    assert!(
        lock(&shelf.places).len() <= 3,
        "places of models that are gone are left"
    );
}

#[test]
fn a_file_that_was_replaced_is_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let options = DetectorOptions {
        model: path.to_str().unwrap().into(),
        ..DetectorOptions::default()
    };
    let shelf = Shelf::new();
    std::fs::write(&path, "one").unwrap();
    let one = get(&shelf, &options, 1);
    std::fs::write(&path, "another").unwrap();
    assert_eq!((*get(&shelf, &options, 2), *one), (2, 1));
}

#[test]
fn threads_that_ask_at_once_wait_for_one_that_loads() {
    const THREADS: usize = 16;
    let shelf = Shelf::new();
    let loads = AtomicUsize::new(0);
    let start = std::sync::Barrier::new(THREADS);
    thread::scope(|scope| {
        let ask = || {
            start.wait();
            let progress: &mut LoadProgress<'_> = &mut |_, _| ControlFlow::Continue(());
            let model = shelf.get(&options(""), 0, progress, |_| {
                thread::sleep(Duration::from_millis(100));
                Ok(loads.fetch_add(1, Ordering::SeqCst))
            });
            // Held until all have one.
            start.wait();
            *model.unwrap()
        };
        let asked: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        assert!(asked.into_iter().all(|asked| asked.join().unwrap() == 0));
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[test]
fn where_loading_fails_or_panics_the_next_tries_on_its_own() {
    for panics in [false, true] {
        let shelf = Shelf::new();
        thread::scope(|scope| {
            let (begun, has_begun) = mpsc::channel();
            let (end, shall_end) = mpsc::channel::<()>();
            let shelf = &shelf;
            let failing = scope.spawn(move || {
                let progress: &mut LoadProgress<'_> = &mut |_, _| ControlFlow::Continue(());
                shelf.get(&options(""), 0, progress, |_| {
                    begun.send(()).unwrap();
                    let _ = shall_end.recv();
                    match panics {
                        true => std::panic::panic_any("on purpose"),
                        false => Err(failure()),
                    }
                })
            });
            has_begun.recv_timeout(LONG).unwrap();
            let next = scope.spawn(|| *get(shelf, &options(""), 7));
            thread::sleep(Duration::from_millis(20));
            drop(end);
            match (panics, failing.join()) {
                (false, outcome) => assert!(matches!(outcome.unwrap(), Err(LoadError::Model(_)))),
                (true, outcome) => assert!(outcome.is_err()),
            }
            assert_eq!(next.join().unwrap(), 7);
        });
    }
}

#[test]
fn who_waits_for_another_s_model_can_be_stopped() {
    let shelf = Shelf::new();
    thread::scope(|scope| {
        let (begun, has_begun) = mpsc::channel();
        let (end, shall_end) = mpsc::channel::<()>();
        let shelf = &shelf;
        let loading = scope.spawn(move || {
            let progress: &mut LoadProgress<'_> = &mut |_, _| ControlFlow::Continue(());
            shelf.get(&options(""), 0, progress, |_| {
                begun.send(()).unwrap();
                let _ = shall_end.recv();
                Ok(1)
            })
        });
        has_begun.recv_timeout(LONG).unwrap();
        let mut looks = 0;
        let progress: &mut LoadProgress<'_> = &mut |_, _| {
            looks += 1;
            match looks {
                1 | 2 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        };
        let stopped = shelf.get(&options(""), 0, progress, |_| Ok(2));
        assert!(matches!(stopped, Err(LoadError::Cancelled)));
        drop(end);
        assert_eq!(*loading.join().unwrap().unwrap(), 1);
    });
}
