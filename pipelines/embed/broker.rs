//! Sends what waits in an outbox to an MQTT broker, for as long as the program runs.

use std::thread;
use std::time::Duration;

use gstrsdetectnet::Outbox;
use rumqttc::{Client, Connection, Event, MqttOptions, Outgoing, Packet, QoS, RecvTimeoutError};

/// Between two attempts to connect, and between two looks into the outbox of a connection without traffic.
const RETRY: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);

/// An outbox with room for so many lines, and the topic for them; the broker is `[USER:PASSWORD@]HOST[:PORT]/TOPIC`.
pub fn deliver(room: usize, broker: &str) -> Result<(String, &'static Outbox), String> {
    let wrong = || format!("'{broker}' is no broker: write HOST/TOPIC");
    let (user, address) = broker.rsplit_once('@').unwrap_or(("", broker));
    let (host, topic) = address.split_once('/').ok_or_else(wrong)?;
    let (host, port) = host.split_once(':').unwrap_or((host, "1883"));
    let port = port.parse().map_err(|_| wrong())?;
    let mut options = MqttOptions::new(gst::glib::uuid_string_random(), host, port);
    options.set_keep_alive(Duration::from_secs(5));
    options.set_max_packet_size(1 << 16, 1 << 26);
    if let Some((user, password)) = user.split_once(':') {
        options.set_credentials(user, password);
    }
    let outbox: &Outbox = Box::leak(Box::new(Outbox::new(room)));
    let (client, connection) = Client::new(options, Outbox::WINDOW);
    thread::spawn(move || publish(outbox, &client, connection));
    Ok((topic.to_owned(), outbox))
}

fn publish(outbox: &Outbox, client: &Client, mut connection: Connection) {
    let (mut connected, mut told) = (false, String::new());
    loop {
        let event = match connected {
            true => connection.recv_timeout(LOOK),
            // An attempt to connect must not be cut short.
            false => connection
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => connected = true,
            Ok(Ok(Event::Outgoing(Outgoing::Publish(number)))) => outbox.sent(number.into()),
            Ok(Ok(Event::Incoming(Packet::PubAck(line)))) => outbox.acknowledged(line.pkid.into()),
            Ok(Err(error)) => {
                if told != error.to_string() {
                    told = error.to_string();
                    eprintln!("embed: the broker: {told}; trying again");
                }
                // The session is a clean one: the client forgets what it has sent when it connects again.
                connected = false;
                outbox.send_again();
                thread::sleep(RETRY);
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(Ok(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
        while connected && let Some((topic, line)) = outbox.next_to_send() {
            // The client has room for a window.
            let _ = client.try_publish(topic, QoS::AtLeastOnce, false, line);
        }
    }
}
