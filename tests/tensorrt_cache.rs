//! The cache of TensorRT engines: what a key depends on, whole files or none, and whose files are trusted.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use gstrsdetectnet::engine::tensorrt::{
    Batches, BuildOptions, CacheError, DeviceIdentity, EngineCache, EngineKey, Entry, OnnxModel,
    Precision, Version,
};

const VERSION: Version = Version {
    is_rtx: true,
    major: 1,
    minor: 4,
    patch: 0,
};

const ENGINE_SIZE: usize = 2 << 20;

fn options() -> BuildOptions {
    BuildOptions {
        precision: Precision::Auto,
        batches: Batches::UpTo(8),
        dla_core: None,
        workspace_bytes: None,
        input_shapes: vec![("images".into(), vec![-1, 3, 640, 640])],
        device: DeviceIdentity {
            name: "NVIDIA H100".into(),
            compute_capability: (9, 0),
            driver_version: "13.0".into(),
        },
    }
}

fn model(bytes: &[u8]) -> OnnxModel<'_> {
    OnnxModel {
        bytes,
        path: Some(Path::new("/models/yolo v8.onnx")),
        external_files: &[],
    }
}

fn key() -> EngineKey {
    EngineKey::new(&model(b"onnx"), &options(), VERSION).unwrap()
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn the_key_changes_with_everything_an_engine_depends_on() {
    type Change = fn(&mut BuildOptions);
    let changes: [Change; 12] = [
        |options| options.precision = Precision::Fp16,
        |options| options.batches = Batches::UpTo(9),
        |options| options.batches = Batches::Each(vec![8]),
        |options| options.batches = Batches::Each(vec![1, 2, 4, 8]),
        |options| options.dla_core = Some(0),
        |options| options.workspace_bytes = Some(0),
        |options| options.input_shapes[0].1[3] = 320,
        |options| options.input_shapes[0].0 = "image".into(),
        |options| options.input_shapes.clear(),
        |options| options.device.name = "NVIDIA L4".into(),
        |options| options.device.compute_capability = (8, 9),
        |options| options.device.driver_version = "12.9".into(),
    ];
    let mut keys = vec![key()];
    for change in changes {
        let mut options = options();
        change(&mut options);
        keys.push(EngineKey::new(&model(b"onnx"), &options, VERSION).unwrap());
    }
    keys.push(EngineKey::new(&model(b"ONNX"), &options(), VERSION).unwrap());
    let newer = Version {
        patch: 1,
        ..VERSION
    };
    keys.push(EngineKey::new(&model(b"onnx"), &options(), newer).unwrap());
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "change {index} is not seen");
    }
    assert_eq!(keys[0], key());
}

#[test]
fn the_key_changes_with_the_files_of_external_weights() {
    let folder = tempfile::tempdir().unwrap();
    let weights = [folder.path().join("weights.bin")];
    let key = || {
        let model = OnnxModel {
            external_files: &weights,
            ..model(b"onnx")
        };
        EngineKey::new(&model, &options(), VERSION)
    };
    let missing = key().unwrap_err().to_string();
    assert!(missing.contains("weights.bin"), "{missing}");
    fs::write(&weights[0], "one").unwrap();
    let one = key().unwrap();
    fs::write(&weights[0], "two").unwrap();
    assert_ne!(key().unwrap(), one);
}

#[test]
fn what_is_kept_comes_back_and_nothing_comes_back_for_another_entry() {
    let folder = tempfile::tempdir().unwrap();
    let cache = EngineCache::open(&folder.path().join("engines")).unwrap();
    let key = key();
    assert_eq!(cache.read(&key, Entry::Engine).unwrap(), None);
    cache.write(&key, Entry::Engine, b"an engine").unwrap();
    let engine = cache.read(&key, Entry::Engine).unwrap();
    assert_eq!(engine.as_deref(), Some(&b"an engine"[..]));
    assert_eq!(cache.read(&key, Entry::Kernels).unwrap(), None);
    cache.write(&key, Entry::Engine, b"a newer one").unwrap();
    let engine = cache.read(&key, Entry::Engine).unwrap();
    assert_eq!(engine.as_deref(), Some(&b"a newer one"[..]));
}

#[test]
fn a_new_folder_and_its_files_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rsdetectnet");
    let cache = EngineCache::open(&path).unwrap();
    cache.write(&key(), Entry::Engine, b"an engine").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let file = only_file(&path);
    assert_eq!(mode(&file), 0o600);
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("yolo_v8-"), "{name}");
    assert!(name.ends_with(".engine-cache"), "{name}");
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = EngineCache::open(folder.path()).unwrap_err();
    assert!(
        matches!(error, CacheError::WritableByOthers { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("chmod go-w"), "{error}");
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Only root may give a folder away; for everybody else root's own folders are foreign.
    let is_root = is_root_user();
    let foreign = if is_root {
        chown(folder.path(), Some(4321), None).unwrap();
        folder.path()
    } else {
        Path::new("/usr")
    };
    let owner = if is_root { 4321 } else { 0 };
    let error = EngineCache::open(foreign).unwrap_err();
    assert!(
        matches!(error, CacheError::ForeignOwner { owner: seen, .. } if seen == owner),
        "{error}"
    );
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !is_root_user() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = EngineCache::open(&folder.path().join("engines")).unwrap();
    cache.write(&key(), Entry::Engine, b"an engine").unwrap();
    chown(only_file(&folder.path().join("engines")), Some(4321), None).unwrap();
    let error = cache.read(&key(), Entry::Engine).unwrap_err();
    assert!(matches!(error, CacheError::ForeignOwner { .. }), "{error}");
}

#[test]
fn a_file_that_was_changed_or_cut_or_swapped_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cache = EngineCache::open(&folder.path().join("engines")).unwrap();
    let key = key();
    cache.write(&key, Entry::Engine, b"an engine").unwrap();
    let path = only_file(&folder.path().join("engines"));
    let whole = fs::read(&path).unwrap();
    let changed = |index: usize| {
        let mut bytes = whole.clone();
        bytes[index] ^= 1;
        bytes
    };
    for (bytes, reason) in [
        (changed(0), "not a file of this version"),
        (changed(20), "another model"),
        (changed(50), "damaged"),
        (changed(whole.len() - 1), "damaged"),
        (whole[..whole.len() - 1].to_vec(), "damaged"),
        (whole[..10].to_vec(), "too short"),
        (Vec::new(), "too short"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = cache.read(&key, Entry::Engine).unwrap_err();
        assert!(matches!(error, CacheError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// A child writes engines of 2 MiB without end and is killed at ten different moments.
#[test]
fn a_process_killed_while_it_writes_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let cache = EngineCache::open(folder.path()).unwrap();
    let wait_for_the_first_file = || {
        let start = Instant::now();
        while cache.read(&key(), Entry::Engine).unwrap().is_none() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "nothing is written"
            );
            thread::sleep(Duration::from_millis(5));
        }
    };
    for round in 0..10 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_writes_without_end", "--ignored"])
            .env("RSDETECTNET_TEST_FOLDER", folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for_the_first_file();
        thread::sleep(Duration::from_millis(17 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let engine = cache.read(&key(), Entry::Engine).unwrap().unwrap();
        assert_eq!(engine.len(), ENGINE_SIZE);
        assert!(engine.iter().all(|&byte| byte == engine[0]));
    }
}

#[test]
fn a_full_disk_is_an_error_that_leaves_the_old_file_and_no_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mount =
        "mount -t tmpfs -o size=3m,mode=700 none \"$RSDETECTNET_TEST_FOLDER\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", mount, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "child_fills_the_disk", "--ignored"])
        .env("RSDETECTNET_TEST_FOLDER", folder.path())
        .output()
        .unwrap();
    if !is_root_user() {
        println!("only root can mount a small disk");
        return;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
#[ignore = "run by the test above on a disk of 3 MB"]
fn child_fills_the_disk() {
    let Some(folder) = env::var_os("RSDETECTNET_TEST_FOLDER").map(PathBuf::from) else {
        return;
    };
    let cache = EngineCache::open(&folder).unwrap();
    let old = vec![7; ENGINE_SIZE];
    cache.write(&key(), Entry::Engine, &old).unwrap();
    let error = cache.write(&key(), Entry::Engine, &vec![8; ENGINE_SIZE]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(cache.read(&key(), Entry::Engine).unwrap().unwrap(), old);
    only_file(&folder);
}

#[test]
fn what_a_killed_process_left_behind_goes_after_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let leave = |name: &str, age: Duration| {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    leave(".rsdetectnet-unfinished-old", Duration::from_secs(2 * 3600));
    leave(".rsdetectnet-unfinished-now", Duration::from_secs(60));
    leave("somebody-elses", Duration::from_secs(2 * 3600));
    EngineCache::open(folder.path()).unwrap();
    let exists = |name: &str| folder.path().join(name).exists();
    assert!(!exists(".rsdetectnet-unfinished-old"));
    assert!(exists(".rsdetectnet-unfinished-now"));
    assert!(exists("somebody-elses"));
}

#[test]
#[ignore = "a child process of the test above"]
fn child_writes_without_end() {
    let Some(folder) = env::var_os("RSDETECTNET_TEST_FOLDER") else {
        return;
    };
    let cache = EngineCache::open(Path::new(&folder)).unwrap();
    for value in (0..=u8::MAX).cycle() {
        cache
            .write(&key(), Entry::Engine, &vec![value; ENGINE_SIZE])
            .unwrap();
    }
}

fn is_root_user() -> bool {
    rustix::process::geteuid().is_root()
}
