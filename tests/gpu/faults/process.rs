//! Tests in processes of their own: what breaks there breaks nothing else.

use std::env;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::init;

/// Names the test that a process is there for.
const ALONE: &str = "RSDETECTNET_TEST_ALONE";

/// The file that such a process leaves when it has passed.
const PASSED: &str = "RSDETECTNET_TEST_PASSED";

/// Runs `body` in a process of its own, which passes within `seconds`. `test` is the name of the test that calls this.
pub fn alone(test: &str, seconds: u64, body: impl FnOnce()) {
    if env::var(ALONE).is_ok_and(|name| name == test) {
        body();
        let path = env::var_os(PASSED).unwrap();
        std::fs::write(path, test).unwrap();
        return;
    }
    // GStreamer's registry is made while the GPU is as it should be.
    init();
    let folder = tempfile::tempdir().unwrap();
    let passed = folder.path().join("passed");
    let mut child = command(test)
        .env(ALONE, test)
        .env(PASSED, &passed)
        .spawn()
        .unwrap();
    let status = wait(&mut child, test, Duration::from_secs(seconds));
    assert!(status.success(), "{}", ending(status));
    assert!(passed.exists(), "there is no test {test}");
}

/// Whether this process is there for a test that is another one's child.
pub fn is_child() -> bool {
    env::var_os(ALONE).is_some()
}

/// What a child test printed, which passes within `seconds` in an environment of its own.
pub fn printed(test: &str, environment: &[(&str, &str)], seconds: u64) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    let output = File::create(&path).unwrap();
    let mut child = command(test)
        .env(ALONE, test)
        .envs(environment.iter().copied())
        .stdout(output)
        .spawn()
        .unwrap();
    let status = wait(&mut child, test, Duration::from_secs(seconds));
    let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
    match status.success() {
        true => Ok(text),
        false => Err(format!("{}: {text}", ending(status))),
    }
}

/// A child test that goes on until its standard input ends.
pub fn start(test: &str) -> Child {
    command(test)
        .env(ALONE, test)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn command(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    // What a broken environment lacks is not to be remembered of it.
    command.env("GST_REGISTRY_UPDATE", "no");
    command
}

fn wait(child: &mut Child, test: &str, limit: Duration) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{test} was not done after {limit:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn ending(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("the process CRASHED with signal {signal}"),
        None => format!("the process ended with {:?}", status.code()),
    }
}
