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
        // The harness has begun a line.
        println!();
        body();
        let path = env::var_os(PASSED).unwrap();
        std::fs::write(path, test).unwrap();
        return;
    }
    // GStreamer's registry is made while the GPU is as it should be.
    init();
    let folder = tempfile::tempdir().unwrap();
    let passed = folder.path().join("passed");
    let output = folder.path().join("output");
    let mut child = command(test)
        .env(ALONE, test)
        .env(PASSED, &passed)
        .stdout(File::create(&output).unwrap())
        .spawn()
        .unwrap();
    let status = wait(&mut child, Duration::from_secs(seconds));
    let text = std::fs::read(&output).unwrap();
    // Its own count of tests is no news.
    let is_news = |line: &&str| {
        let frame = ["running ", "test ", "failures:", "ok"];
        !line.trim().is_empty() && !frame.iter().any(|word| line.starts_with(word))
    };
    println!();
    for line in String::from_utf8_lossy(&text).lines().filter(is_news) {
        println!("    {line}");
    }
    let status = status.unwrap_or_else(|| panic!("it was not done after {seconds} s"));
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
    let status = wait(&mut child, Duration::from_secs(seconds));
    let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
    match status {
        Some(status) if status.success() => Ok(text),
        Some(status) => Err(format!("{}: {text}", ending(status))),
        None => Err(format!("it was not done after {seconds} s: {text}")),
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

/// How a process ended; none where it had to be ended.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

fn ending(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("the process CRASHED with signal {signal}"),
        None => format!("the process ended with {:?}", status.code()),
    }
}
