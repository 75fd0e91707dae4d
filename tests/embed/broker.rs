//! Lines for a broker that comes and goes.

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use super::*;

/// A broker that keeps its clients' sessions in a folder; None where there is none.
fn broker(folder: &Path, port: u16) -> Option<Killed> {
    let settings = folder.join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n\
         persistence true\npersistence_location {}/\n",
        folder.display()
    );
    std::fs::write(&settings, text).unwrap();
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
    let child = Command::new("mosquitto")
        .arg("-c")
        .arg(settings)
        .env("PATH", path)
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else {
        eprintln!("skipped: install mosquitto");
        return None;
    };
    wait_until("the broker listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    Some(Killed(child))
}

/// Ends a broker so that it saves what it was given.
fn end(mut broker: Killed) {
    let id = broker.0.id().to_string();
    Command::new("kill").args(["-TERM", &id]).status().unwrap();
    broker.0.wait().unwrap();
}

/// The frames of the lines that a subscriber gets, which stays subscribed while the broker is away.
fn subscriber(port: u16) -> Arc<Mutex<BTreeSet<u64>>> {
    let mut options = MqttOptions::new("subscriber", "127.0.0.1", port);
    options.set_clean_session(false);
    let (client, mut connection) = Client::new(options, 10);
    let frames = Arc::<Mutex<BTreeSet<u64>>>::default();
    let of_thread = Arc::clone(&frames);
    let (subscribed, is_subscribed) = std::sync::mpsc::channel();
    thread::spawn(move || {
        client.subscribe("cameras/#", QoS::AtLeastOnce).unwrap();
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => subscribed.send(()).unwrap(),
                Ok(Event::Incoming(Packet::Publish(line))) => {
                    assert_eq!(line.topic, "cameras/gate");
                    let line: Value = serde_json::from_slice(&line.payload).unwrap();
                    let frame = line["frame"].as_u64().unwrap();
                    of_thread.lock().unwrap().insert(frame);
                }
                Ok(_) => {}
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    });
    is_subscribed.recv_timeout(Duration::from_secs(10)).unwrap();
    frames
}

#[test]
fn every_line_reaches_the_broker_although_it_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let Some(mut running) = broker(folder.path(), port) else {
        return;
    };
    let received = subscriber(port);
    let count = || received.lock().unwrap().len();
    // However slow this machine is, each frame has its line.
    let embed = Embed::start(&[
        "--max-latency",
        "0",
        "--mqtt",
        &format!("127.0.0.1:{port}/cameras"),
        &format!("gate={BLUE_CELL}"),
    ]);
    for _ in 0..2 {
        wait_until("lines arrive", || count() > 0);
        end(running);
        let stopped = count();
        let before = embed.lines_of("gate");
        wait_until("lines pile up", || embed.lines_of("gate") > before + 30);
        assert!(embed.samples()["rsdetectnet_outbox_waiting{}"] >= 30.0);
        running = broker(folder.path(), port).unwrap();
        wait_until("lines arrive again", || count() > stopped + 30);
    }
    let (lines, said) = embed.interrupt();
    assert!(said.iter().any(|line| line.contains("the broker: ")));
    let printed: BTreeSet<u64> = lines.iter().map(|l| l["frame"].as_u64().unwrap()).collect();
    wait_until("the last line arrives", || count() >= printed.len());
    assert_eq!(*received.lock().unwrap(), printed);
    assert_eq!(printed.last(), Some(&(printed.len() as u64 - 1)));
    println!("{} lines, all of which arrived", printed.len());
    end(running);
}

#[test]
fn lines_that_find_no_room_in_the_buffer_are_counted() {
    let nowhere = format!("127.0.0.1:{}/cameras", free_port());
    let camera = format!("gate={BLUE_CELL}");
    let embed = Embed::start(&["--mqtt", &nowhere, "--mqtt-buffer", "20", &camera]);
    wait_until("there are lines", || embed.lines_of("gate") >= 40);
    let samples = embed.samples();
    assert_eq!(samples["rsdetectnet_outbox_waiting{}"], 20.0);
    assert_eq!(samples["rsdetectnet_outbox_delivered_total{}"], 0.0);
    let counted = 20.0 + samples["rsdetectnet_outbox_lost_total{}"];
    let lines = samples["rsdetectnet_json_lines_total{camera=\"gate\"}"];
    assert!((counted - lines).abs() <= 1.0, "{counted} of {lines}");
    embed.interrupt();
}
