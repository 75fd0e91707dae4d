//! An RTSP server on this machine, in this process or, to be killed, in one of its own.

use std::net::TcpStream;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::glib;
use gst_rtsp_server::gst_rtsp::RTSPAuthMethod;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::{RTSPAuth, RTSPMediaFactory, RTSPServer, RTSPToken};

use crate::common::init;
use crate::common::programs::Running;

pub const USER: &str = "gate";
pub const PASSWORD: &str = "s3cret";

/// A server in this process, which ends when dropped.
pub struct Server {
    pub port: u16,
    main: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves one pipeline, whose payloader is called `pay0`, as `/camera` to each client that asks.
    pub fn of(launch: &str) -> Self {
        init();
        let factory = RTSPMediaFactory::new();
        factory.set_launch(launch);
        Self::with(&factory, None)
    }

    pub fn with(factory: &RTSPMediaFactory, auth: Option<&RTSPAuth>) -> Self {
        let context = glib::MainContext::new();
        let server = server(0, factory, auth, &context);
        let main = glib::MainLoop::new(Some(&context), false);
        let runs = main.clone();
        Self {
            port: server.bound_port() as u16,
            main,
            thread: Some(std::thread::spawn(move || {
                runs.run();
                drop(server);
            })),
        }
    }

    /// Serves a pipeline to those who know the user and the password.
    pub fn guarded(launch: &str, method: RTSPAuthMethod) -> Self {
        init();
        let factory = RTSPMediaFactory::new();
        factory.set_launch(launch);
        let role = gst::Structure::builder(USER)
            .field("media.factory.access", true)
            .field("media.factory.construct", true);
        factory.add_role_from_structure(&role.build());
        let token = RTSPToken::builder().field("media.factory.role", USER);
        let (auth, token) = (RTSPAuth::new(), token.build());
        auth.set_supported_methods(method);
        match method {
            RTSPAuthMethod::Basic => {
                auth.add_basic(&RTSPAuth::make_basic(USER, PASSWORD), &token);
            }
            _ => auth.add_digest(USER, PASSWORD, &token),
        }
        Self::with(&factory, Some(&auth))
    }

    pub fn url(&self) -> String {
        url(self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.main.quit();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn url(port: u16) -> String {
    format!("rtsp://127.0.0.1:{port}/camera")
}

fn server(
    port: u16,
    factory: &RTSPMediaFactory,
    auth: Option<&RTSPAuth>,
    context: &glib::MainContext,
) -> RTSPServer {
    init();
    crate::common::leaks::do_not_look();
    let server = RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service(&port.to_string());
    server.set_auth(auth);
    let mounts = server.mount_points().unwrap();
    mounts.add_factory("/camera", factory.clone());
    server.attach(Some(context)).unwrap();
    server
}

/// A camera in a process of its own.
pub struct Camera {
    pub port: u16,
    process: Running,
    launch: String,
}

impl Camera {
    pub fn start(launch: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        Self {
            port,
            process: serve(port, launch),
            launch: launch.to_owned(),
        }
    }

    /// As when the power fails: nothing is said to anybody.
    pub fn kill(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    /// Returns when it takes connections again.
    pub fn restart(&mut self) -> Instant {
        self.process = serve(self.port, &self.launch);
        Instant::now()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        self.process.signal(signal);
    }
}

fn serve(port: u16, launch: &str) -> Running {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "server::child_serves", "--ignored"])
        .env("RSDETECTNET_TEST_PORT", port.to_string())
        .env("RSDETECTNET_TEST_LAUNCH", launch);
    let process = Running::start(&mut command);
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(30), "{}", process.said());
        std::thread::sleep(Duration::from_millis(5));
    }
    process
}

#[test]
#[ignore = "a camera for the tests of this file, until it is killed"]
fn child_serves() {
    let Ok(launch) = std::env::var("RSDETECTNET_TEST_LAUNCH") else {
        return;
    };
    init();
    let port = std::env::var("RSDETECTNET_TEST_PORT").unwrap();
    let factory = RTSPMediaFactory::new();
    factory.set_launch(&launch);
    factory.set_shared(true);
    let context = glib::MainContext::default();
    let _server = server(port.parse().unwrap(), &factory, None, &context);
    glib::MainLoop::new(Some(&context), false).run();
}
