//! CONNECT and its answer, rule by rule.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{self, Connect, Packet, Value, Version, property};

/// A CONNECT with these flags and payload, whatever they are.
fn connect(version: Version, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let mut body = match version {
        Version::V31 => b"\x00\x06MQIsdp\x03".to_vec(),
        Version::V311 => b"\x00\x04MQTT\x04".to_vec(),
        Version::V5 => b"\x00\x04MQTT\x05".to_vec(),
    };
    body.extend([flags, 0, 60]);
    if version == Version::V5 {
        body.push(0);
    }
    body.extend(payload.concat());
    wire::packet(0x10, &body)
}

/// Where 5.0 has properties of the will, and the others nothing.
fn will_properties(version: Version) -> &'static [u8] {
    match version {
        Version::V31 | Version::V311 => b"",
        Version::V5 => b"\x00",
    }
}

/// The broker does not accept: 3.x clients get no answer, 5.0 clients this code.
fn assert_refused(broker: &Broker, version: Version, bytes: &[u8], code: u8, why: &str) {
    let mut client = Client::raw(broker, version, bytes);
    if version == Version::V5 {
        let Packet::Connack {
            present: false,
            code: found,
            ..
        } = client.receive()
        else {
            panic!("{why}: no CONNACK");
        };
        assert_eq!(found, code, "{why}");
    }
    client.assert_closed_silently();
}

#[test]
fn nothing_but_a_connect_may_come_first() {
    // Both: [MQTT-3.1.0-1]. A refused client sees no packet of a session: 5.0: [MQTT-3.14.0-1].
    let broker = Broker::start();
    for version in Version::ALL {
        for first in (0..16_u8).filter(|kind| *kind != 1) {
            let mut client = Client::raw(&broker, version, &[first << 4, 2, 0, 1]);
            client.assert_closed_silently();
            // Nor does it help to look like one inside.
            let mut connect = Connect::new(version, "c").encode();
            connect[0] = first << 4;
            Client::raw(&broker, version, &connect).assert_closed_silently();
        }
        Client::raw(&broker, version, b"GET / HTTP/1.1\r\n\r\n").assert_closed_silently();
    }
}

#[test]
fn a_connect_of_another_protocol_is_not_answered() {
    // Both: [MQTT-3.1.2-1]
    let broker = Broker::start();
    for name in [&b"\x00\x04MQTX"[..], b"\x00\x04mqtt", b"\x00\x05MQTT5"] {
        let body = [name, b"\x04\x02\x00\x3c\x00\x01c"].concat();
        Client::raw(&broker, Version::V311, &wire::packet(0x10, &body)).assert_closed_silently();
    }
}

#[test]
fn an_unknown_level_is_refused_with_the_code_that_says_so() {
    // Both: [MQTT-3.1.2-2]
    let broker = Broker::start();
    for (level, version, code) in [
        (3, Version::V311, 0x01),
        (0x85, Version::V311, 0x01),
        (6, Version::V5, 0x84),
    ] {
        let body = [b"\x00\x04MQTT", &[level][..], b"\x02\x00\x3c\x00\x00\x01c"].concat();
        let mut client = Client::raw(&broker, version, &wire::packet(0x10, &body));
        let Packet::Connack { code: found, .. } = client.receive() else {
            panic!("no CONNACK");
        };
        assert_eq!(found, code, "level {level}");
        client.assert_closed_silently();
    }
}

#[test]
fn a_connect_that_contradicts_itself_is_refused() {
    // 3.1.1: [MQTT-3.1.2-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    // [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.4-1]
    // [MQTT-3.2.2-6]
    // 5.0: [MQTT-3.1.2-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13] [MQTT-3.1.2-16] [MQTT-3.1.2-17]
    // [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.4-1] [MQTT-4.13.1-1]
    let broker = Broker::start();
    for version in Version::ALL {
        let id: &[u8] = b"\x00\x01c";
        let empty = will_properties(version);
        for (flags, payload, why) in [
            (0x03, &[id][..], "reserved flag"),
            (0x0A, &[id], "will QoS 1 without a will"),
            (0x12, &[id], "will QoS 2 without a will"),
            (0x22, &[id], "will retain without a will"),
            (0x1E, &[id, empty, b"\x00\x01w\x00\x00"], "will QoS 3"),
            (0x06, &[id], "no will though its flag is set"),
            (0x06, &[id, empty, b"\x00\x01w"], "no will payload"),
            (
                0x02,
                &[id, empty, b"\x00\x01w\x00\x00"],
                "a will without its flag",
            ),
            (0x02, &[id, b"\x00\x01u"], "a user name without its flag"),
            (
                0x82,
                &[id, b"\x00\x01u\x00\x01p"],
                "a password without its flag",
            ),
            (0x02, &[], "no client id"),
            (0x02, &[b"\x00\x02c"], "a client id longer than the packet"),
        ] {
            assert_refused(
                &broker,
                version,
                &connect(version, flags, payload),
                0x81,
                why,
            );
        }
        // 3.1 allows them to be missing.
        for (payload, why) in [
            (&[id][..], "no user name though its flag is set"),
            (&[id, b"\x00\x01u"], "no password though its flag is set"),
        ] {
            if version != Version::V31 {
                let bytes = connect(version, 0xC2, payload);
                assert_refused(&broker, version, &bytes, 0x81, why);
            }
        }
    }
}

#[test]
fn a_password_needs_a_user_name_in_3_x() {
    // 3.1.1: [MQTT-3.1.2-22]
    let broker = Broker::start();
    for version in [Version::V31, Version::V311] {
        let bytes = connect(version, 0x42, &[b"\x00\x01c", b"\x00\x01p"]);
        assert_refused(&broker, version, &bytes, 0, "password alone");
    }
    let bytes = connect(Version::V5, 0x42, &[b"\x00\x01c", b"\x00\x01p"]);
    let mut client = Client::raw(&broker, Version::V5, &bytes);
    let Packet::Connack { code: 0, .. } = client.receive() else {
        panic!("5.0 allows a password alone");
    };
}

#[test]
fn text_that_is_no_text_is_refused_wherever_it_stands() {
    // 3.1.1: [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11]
    // 5.0: [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12] [MQTT-4.13.1-1]
    let broker = Broker::start();
    for text in [
        &b"\x00\x01\xFF"[..],    // no UTF-8
        b"\x00\x03\xED\xA0\x80", // a surrogate
        b"\x00\x02\xC1\x81",     // not the shortest form
        b"\x00\x02a\x00",        // U+0000
    ] {
        for version in Version::ALL {
            let id: &[u8] = b"\x00\x01c";
            let empty = will_properties(version);
            for (flags, payload) in [
                (0x02, &[text][..]),
                (0x06, &[id, empty, text, b"\x00\x00"]),
                (0x82, &[id, text]),
            ] {
                assert_refused(
                    &broker,
                    version,
                    &connect(version, flags, payload),
                    0x81,
                    "text",
                );
            }
            let mut client = Client::transient(&broker, version, "c");
            let properties = will_properties(version);
            client.send(&wire::packet(0x30, &[text, properties].concat()));
            let reason = client.closed();
            assert_eq!(reason, (version == Version::V5).then_some(0x81));
        }
        let mut client = Client::transient(&broker, Version::V5, "c");
        let pair = [b"\x26\x00\x01k", text].concat();
        let length = u8::try_from(pair.len()).unwrap();
        client.send(&wire::packet(
            0x30,
            &[b"\x00\x01t", &[length][..], &pair].concat(),
        ));
        assert_eq!(client.closed(), Some(0x81), "in a user property");
    }
}

#[test]
fn a_byte_order_mark_is_a_character_like_others() {
    // 3.1.1: [MQTT-1.5.3-3]; 5.0: [MQTT-1.5.4-3]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::transient(&broker, version, "\u{feff}c");
        let _other = Client::transient(&broker, version, "c");
        client.subscribe("\u{feff}t", 1);
        client.publish("t", "another topic", 1);
        client.publish("\u{feff}t", "this topic", 1);
        assert_eq!(client.expect("this topic").topic, "\u{feff}t");
    }
}

#[test]
fn ids_of_letters_and_digits_are_taken_and_name_a_session_each() {
    // Both: [MQTT-3.1.3-2] [MQTT-3.1.3-5] [MQTT-3.2.0-1]; 3.1.1: [MQTT-3.1.4-4]; 5.0: [MQTT-3.1.4-5]
    let broker = Broker::start();
    let ids = [
        "0",
        "0123456789abcdefghijklm",
        "nopqrstuvwxyzABCDEFGHIJ",
        "KLMNOPQRSTUVWXYZ",
    ];
    for version in Version::ALL {
        for id in ids {
            let mut client = Client::kept(&broker, version, id);
            assert!(!client.connack.present);
            client.subscribe(id, 1);
            client.disconnect();
        }
        for id in ids {
            let mut client = Client::kept(&broker, version, id);
            client.publish(id, id, 1);
            client.expect(id);
            client.assert_nothing_waits();
            client.disconnect();
            Client::transient(&broker, version, id).disconnect();
        }
    }
    let long = "x".repeat(1000);
    for version in [Version::V311, Version::V5] {
        Client::transient(&broker, version, &long).disconnect();
    }
}

#[test]
fn an_empty_id_gets_a_new_one_which_5_0_clients_are_told() {
    // 3.1.1: [MQTT-3.1.3-6]; 5.0: [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
    let broker = Broker::start();
    let mut assigned = Vec::new();
    for clean in [true, false] {
        let client = Client::connect(&broker, &Connect::new(Version::V5, "").clean(clean));
        let properties = &client.connack.properties;
        let id = properties.text(property::ASSIGNED_CLIENT_ID).unwrap();
        assert!(!id.is_empty() && !assigned.contains(&id.to_owned()));
        assigned.push(id.to_owned());
        client.disconnect();
    }
    // The id is the client's as if it had sent it.
    let kept = Connect::kept(Version::V5, "");
    let client = Client::connect(&broker, &kept);
    let id = client.connack.properties.text(property::ASSIGNED_CLIENT_ID);
    let id = id.unwrap().to_owned();
    client.disconnect();
    let client = Client::kept(&broker, Version::V5, &id);
    assert!(client.connack.present);
    let told = client.connack.properties.text(property::ASSIGNED_CLIENT_ID);
    assert_eq!(told, None, "it sent the id itself");
    let mut one = Client::transient(&broker, Version::V311, "");
    let mut other = Client::transient(&broker, Version::V311, "");
    one.assert_nothing_waits();
    other.assert_nothing_waits();
}

#[test]
fn an_id_that_is_refused_is_refused_with_the_code_that_says_so() {
    // 3.1.1: [MQTT-3.1.3-8] [MQTT-3.1.3-9]. MQTT 3.1: 1 to 23 characters, whatever the clean session flag says.
    let broker = Broker::start();
    let long = "x".repeat(24);
    for (version, id, clean) in [
        (Version::V311, "", false),
        (Version::V31, "", false),
        (Version::V31, "", true),
    ] {
        let mut client = Client::try_connect(&broker, &Connect::new(version, id).clean(clean));
        assert_eq!(client.connack.code, 2, "{version:?} {id:?}");
        client.assert_closed_silently();
    }
    let longer = Connect::new(Version::V31, &long);
    Client::connect(&broker, &longer).disconnect();
    let strict = Broker::start_with(&["mqtt.strict_v31_client_ids=true"]);
    let mut client = Client::try_connect(&strict, &longer);
    assert_eq!(client.connack.code, 2);
    client.assert_closed_silently();
    Client::connect(&strict, &Connect::new(Version::V31, &long[1..])).disconnect();
}

#[test]
fn a_3_1_client_may_announce_credentials_and_send_none() {
    // MQTT 3.1: the remaining length takes precedence over the flags.
    let broker = Broker::start();
    for (flags, fields) in [(0x82, &b""[..]), (0xC2, b""), (0xC2, b"\x00\x01u")] {
        let bytes = connect(Version::V31, flags, &[b"\x00\x01c", fields]);
        let mut client = Client::raw(&broker, Version::V31, &bytes);
        let answer = client.receive();
        assert!(
            matches!(answer, Packet::Connack { code: 0, .. }),
            "{answer:?}"
        );
        client.subscribe("t", 1);
        client.publish("t", "in", 1);
        client.expect("in");
    }
}

#[test]
fn what_follows_a_refused_connect_is_not_looked_at() {
    // 3.1.1: [MQTT-3.1.4-5] [MQTT-3.2.2-4] [MQTT-3.2.2-5]; 5.0: [MQTT-3.1.4-6] [MQTT-3.2.2-6] [MQTT-3.2.2-7]
    // [MQTT-4.13.2-1]
    let broker = Broker::start_with(&["quota.sessions_max=2"]);
    let mut watcher = Client::transient(&broker, Version::V5, "watcher");
    watcher.subscribe("#", 0);
    let mut second = Client::transient(&broker, Version::V5, "second");
    for version in Version::ALL {
        let mut bytes = Connect::new(version, "third").encode();
        let message = wire::Publish {
            topic: "t".to_owned(),
            payload: b"not this".to_vec(),
            ..wire::Publish::default()
        };
        bytes.extend(wire::publish(version, &message));
        let mut third = Client::raw(&broker, version, &bytes);
        let Packet::Connack { present, code, .. } = third.receive() else {
            panic!("no CONNACK");
        };
        let quota = if version == Version::V5 { 0x97 } else { 3 };
        assert_eq!((present, code), (false, quota));
        third.assert_closed_silently();
    }
    second.publish("t", "this", 1);
    watcher.expect("this");
}

#[test]
fn what_follows_a_connect_that_is_taken_is_done_after_its_connack() {
    // 3.1.1: [MQTT-3.2.0-1]; 5.0: [MQTT-3.2.0-1] [MQTT-3.2.0-2]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut reader = Client::kept(&broker, version, "reader");
        reader.subscribe("t", 1);
        reader.disconnect();
        Client::transient(&broker, version, "writer").publish("t", "waited", 1);
        let mut bytes = Connect::kept(version, "reader").encode();
        bytes.extend(wire::subscribe(version, 7, "u", 1));
        bytes.extend(wire::packet(0xC0, &[]));
        let mut reader = Client::raw(&broker, version, &bytes);
        let Packet::Connack { code: 0, .. } = reader.receive() else {
            panic!("the first packet is no CONNACK");
        };
        let rest = [reader.receive(), reader.receive(), reader.receive()];
        let seen = |wanted: fn(&Packet) -> bool| rest.iter().filter(|one| wanted(one)).count();
        assert_eq!(seen(|one| matches!(one, Packet::Publish(_))), 1);
        assert_eq!(seen(|one| matches!(one, Packet::Suback { id: 7, .. })), 1);
        assert_eq!(seen(|one| matches!(one, Packet::Pingresp)), 1);
        reader.vanish();
        Client::transient(&broker, version, "reader").disconnect();
    }
}

#[test]
fn connack_says_what_differs_from_what_a_client_may_expect_and_no_more() {
    // 5.0: [MQTT-4.12.0-6]
    // 5.0: [MQTT-2.2.2-1] [MQTT-3.2.2-1] [MQTT-3.2.2-8] [MQTT-3.2.2-22]
    let broker = Broker::start_with(&["mqtt.receive_max=65535", "mqtt.topic_alias_max=0"]);
    let kept = Connect::kept(Version::V5, "c").keep_alive(60);
    let client = Client::connect(&broker, &kept);
    let properties = &client.connack.properties;
    for (id, what) in [
        (property::SESSION_EXPIRY, "it is what was asked for"),
        (property::ASSIGNED_CLIENT_ID, "the client has an id"),
        (property::SERVER_KEEP_ALIVE, "it is what was asked for"),
        (property::RESPONSE_INFORMATION, "nobody asked for it"),
        (property::RECEIVE_MAXIMUM, "65,535 is the default"),
        (property::TOPIC_ALIAS_MAXIMUM, "0 is the default"),
        (property::MAXIMUM_QOS, "all are there"),
        (property::RETAIN_AVAILABLE, "it is there"),
        (property::WILDCARD_AVAILABLE, "they are there"),
        (property::SUBSCRIPTION_ID_AVAILABLE, "they are there"),
    ] {
        assert!(
            !properties.0.iter().any(|(found, _)| *found == id),
            "{what}"
        );
    }
    let limit = properties.number(property::MAXIMUM_PACKET_SIZE);
    assert_eq!(limit, Some(16_777_216), "there is always a limit");
    let broker = Broker::start();
    let client = Client::transient(&broker, Version::V5, "c");
    let properties = &client.connack.properties;
    assert_eq!(properties.number(property::RECEIVE_MAXIMUM), Some(1024));
    assert_eq!(properties.number(property::TOPIC_ALIAS_MAXIMUM), Some(64));
    assert_eq!(properties.number(property::SESSION_EXPIRY), None);
}

#[test]
fn response_information_is_for_who_asks_for_it() {
    // 5.0: [MQTT-3.1.2-28]
    let broker = Broker::start_with(&["mqtt.response_information=reply/{client_id}"]);
    for (asked, expected) in [
        (&b"\x19\x01"[..], Some("reply/c")),
        (b"\x19\x00", None),
        (b"", None),
    ] {
        let connect = Connect::new(Version::V5, "c").raw_properties(asked);
        let client = Client::connect(&broker, &connect);
        let told = client
            .connack
            .properties
            .text(property::RESPONSE_INFORMATION);
        assert_eq!(told, expected, "{asked:02x?}");
    }
    let connect = Connect::new(Version::V5, "no/#/topic").raw_properties(b"\x19\x01");
    let client = Client::connect(&broker, &connect);
    let told = client
        .connack
        .properties
        .text(property::RESPONSE_INFORMATION);
    assert_eq!(told, None, "a client id that is no part of a topic");
}

#[test]
fn refusals_say_why_in_words_if_the_client_takes_so_much() {
    // 5.0: [MQTT-3.1.2-24] [MQTT-3.2.2-19] [MQTT-3.14.2-3]
    let broker = Broker::start_with(&["quota.sessions_max=1"]);
    let mut first = Client::transient(&broker, Version::V5, "c");
    for (limit, words) in [(&b""[..], true), (b"\x27\x00\x00\x00\x14", false)] {
        let connect = Connect::new(Version::V5, "new").raw_properties(limit);
        let refused = Client::try_connect(&broker, &connect);
        assert_eq!(refused.connack.code, 0x97);
        let said = refused.connack.properties.text(property::REASON_STRING);
        assert_eq!(said.is_some(), words);
        let connect = Connect::new(Version::V5, "c").raw_properties(limit);
        let second = Client::connect(&broker, &connect);
        let (code, properties) = first.goodbye().unwrap();
        assert_eq!(code, 0x8E);
        // The one that is displaced had room for words the first time only.
        let said = properties.text(property::REASON_STRING);
        assert_eq!(said, Some("session taken over"));
        first = second;
    }
    let _third = Client::transient(&broker, Version::V5, "c");
    let (code, properties) = first.goodbye().unwrap();
    assert_eq!((code, properties.0), (0x8E, Vec::new()));
}

#[test]
fn a_client_may_be_silent_for_one_and_a_half_times_its_keep_alive_and_no_longer() {
    // 3.1.1: [MQTT-3.1.2-24]; 5.0: [MQTT-3.1.2-22] [MQTT-3.2.2-22]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, &Connect::new(version, "c").keep_alive(2));
        // A ping counts from when it was read.
        client.assert_nothing_waits();
        #[expect(clippy::disallowed_methods, reason = "keep-alive is real time")]
        let since = Instant::now();
        let reason = client.closed();
        assert_eq!(reason, (version == Version::V5).then_some(0x8D));
        let silent = since.elapsed();
        assert!(silent > Duration::from_millis(2900), "{silent:?}");
        assert!(silent < Duration::from_millis(4500), "{silent:?}");
    }
}

#[test]
fn a_keep_alive_that_the_broker_sets_is_told_and_in_force() {
    // 5.0: section 3.2.2.3.14; the client's part is [MQTT-3.1.2-21].
    let broker = Broker::start_with(&["mqtt.keep_alive_seconds_max=1"]);
    for asked in [0, 60] {
        let connect = Connect::new(Version::V5, "c").keep_alive(asked);
        let mut client = Client::connect(&broker, &connect);
        let told = client
            .connack
            .properties
            .number(property::SERVER_KEEP_ALIVE);
        assert_eq!(told, Some(1));
        assert_eq!(client.closed(), Some(0x8D));
    }
}

#[test]
fn a_ping_is_answered() {
    // Both: [MQTT-3.12.4-1]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::transient(&broker, version, "c");
        for _ in 0..3 {
            client.send(&wire::packet(0xC0, &[]));
        }
        for _ in 0..3 {
            assert_eq!(client.receive(), Packet::Pingresp);
        }
    }
}

#[test]
fn connack_of_3_1_has_no_session_present_bit() {
    // MQTT 3.1: the byte is reserved. 3.1.1: [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    let broker = Broker::start();
    for (version, expected) in [(Version::V31, false), (Version::V311, true)] {
        assert!(!Client::kept(&broker, version, "c").connack.present);
        assert_eq!(
            Client::kept(&broker, version, "c").connack.present,
            expected
        );
        Client::transient(&broker, version, "c").disconnect();
    }
}

#[test]
fn a_3_1_client_is_told_apart_by_protocol_name_and_level() {
    // MQTT 3.1: "MQIsdp" and level 3, both.
    let broker = Broker::start();
    Client::transient(&broker, Version::V31, "c").disconnect();
    for head in [&b"\x00\x06MQIsdp\x04"[..], b"\x00\x04MQTT\x03"] {
        let body = [head, b"\x02\x00\x3c\x00\x01c"].concat();
        let mut client = Client::raw(&broker, Version::V31, &wire::packet(0x10, &body));
        let Packet::Connack { code: 1, .. } = client.receive() else {
            panic!("taken or not answered");
        };
        client.assert_closed_silently();
    }
}

#[test]
fn properties_of_connect_that_may_not_be_zero_or_twice_are_protocol_errors() {
    // 5.0: [MQTT-4.13.1-1]; sections 3.1.2.11.3, 3.1.2.11.4 and 3.1.2.11.10.
    let broker = Broker::start();
    for properties in [
        &b"\x21\x00\x00"[..],
        b"\x27\x00\x00\x00\x00",
        b"\x16\x00\x01d",
    ] {
        let connect = Connect::new(Version::V5, "c").raw_properties(properties);
        let mut client = Client::try_connect(&broker, &connect);
        assert_eq!(client.connack.code, 0x82, "{properties:02x?}");
        client.assert_closed_silently();
    }
    let _user_properties = Client::connect(
        &broker,
        &Connect::new(Version::V5, "c")
            .raw_properties(b"\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01v"),
    );
}

#[test]
fn connack_carries_no_user_properties_of_its_own() {
    // 5.0: [MQTT-3.2.2-20]
    let broker = Broker::start();
    let client = Client::transient(&broker, Version::V5, "c");
    let pair = |(_, value): &(u8, Value)| matches!(value, Value::Pair(..));
    assert!(!client.connack.properties.0.iter().any(pair));
}

#[test]
fn a_connect_above_the_limit_is_refused_before_it_has_come() {
    // 5.0: [MQTT-3.2.2-7]; section 3.2.2.2, reason code 0x95.
    let broker = Broker::start_with(&["mqtt.connect_bytes_max=1024"]);
    for version in Version::ALL {
        let whole = Connect::new(version, &"x".repeat(2000)).encode();
        assert_refused(&broker, version, &whole[..100], 0x95, "the header says so");
    }
}
