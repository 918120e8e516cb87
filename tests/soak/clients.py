"""Writers and readers: clients of paho that come back by themselves, whatever happens to the broker."""

import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PAYLOAD_BYTES = 120
OPEN_MAX = 50  # messages of one writer under way
SESSION_SECONDS = 3600


class Paho(mqtt.Client):
    """paho 2.1.0, which sends a PUBLISH again that PUBREC has answered if the connection breaks twice before its PUBCOMP:
    for the broker, which may have forgotten the identifier by then, a new message [MQTT-4.3.3-1]."""

    def _messages_reconnect_reset_out(self):
        answered = (mqtt.MessageState.MQTT_MS_WAIT_FOR_PUBCOMP, mqtt.MessageState.MQTT_MS_RESEND_PUBREL)
        released = [message for message in self._out_messages.values() if message.state in answered]
        super()._messages_reconnect_reset_out()
        for message in released:
            message.state = mqtt.MessageState.MQTT_MS_RESEND_PUBREL


class Client:
    def __init__(self, name, version, port):
        self.name, self.version, self.port = name, version, port
        self.changed = threading.Condition()
        self.connects = 0
        self.lost_session = False
        kept = {} if version == mqtt.MQTTv5 else {"clean_session": False}
        self.paho = Paho(mqtt.CallbackAPIVersion.VERSION2, name, protocol=version, **kept)
        self.paho.reconnect_delay_set(0.05, 0.2)
        self.paho.on_connect = self.on_connect

    def start(self):
        start = {}
        if self.version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = SESSION_SECONDS
            start = {"clean_start": False, "properties": properties}
        self.paho.connect("127.0.0.1", self.port, keepalive=60, **start)
        self.paho.loop_start()
        self.wait("connected", lambda: self.connects > 0)

    def on_connect(self, _client, _data, flags, reason, _properties):
        if reason.is_failure:
            return  # paho tries again
        with self.changed:
            if self.connects > 0 and not flags.session_present:
                self.lost_session = True
            self.connects += 1
            self.changed.notify_all()

    def wait(self, what, holds, seconds=60):
        with self.changed:
            if not self.changed.wait_for(holds, seconds):
                raise AssertionError(f"never: {self.name} {what}")

    def cut(self):
        """Breaks the connection, if there is one; paho comes back by itself."""
        connection = self.paho.socket()
        try:
            if connection:
                connection.shutdown(2)
        except OSError:
            pass  # it broke before

    def stop(self):
        self.paho.disconnect()
        self.paho.loop_stop()


class Writer(Client):
    """Publishes numbers, as fast as they are acknowledged.

    One with QoS 2 uses 3.1.1: paho does not look at the reason code of a PUBREC.
    """

    def __init__(self, name, version, port, qos, ledger):
        super().__init__(name, version, port)
        self.qos, self.ledger = qos, ledger
        self.open = {}  # by paho's identifier
        self.answers = {}  # whether it failed, by the same
        self.refused = 0
        self.stopping = False
        self.paho.max_inflight_messages_set(OPEN_MAX)
        self.paho.on_publish = self.on_publish
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        super().start()
        self.thread.start()

    def run(self):
        number = 0
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.stopping or len(self.open) < OPEN_MAX)
                if self.stopping:
                    break
            text = f"{number} ".ljust(PAYLOAD_BYTES, ".")
            # Without the lock: paho has locks of its own, and calls `on_publish` with some of them.
            mid = self.paho.publish(f"soak/{self.name}", text, self.qos).mid
            with self.changed:
                self.open[mid] = number
                self.settle()
            number += 1

    def on_publish(self, _client, _data, mid, reason, _properties):
        with self.changed:
            self.answers[mid] = reason.is_failure
            self.settle()

    def settle(self):
        """Notes what was answered. Called with the lock held; an answer may be faster than `publish`."""
        for mid in self.answers.keys() & self.open.keys():
            number = self.open.pop(mid)
            if self.answers.pop(mid):
                self.refused += 1  # a full disk
            else:
                self.ledger.acknowledge(self.name, number)
        self.changed.notify_all()

    def finish(self):
        """Publishes no more, and waits until all is answered."""
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        self.thread.join()
        self.wait("gets all answered", lambda: not self.open)


class Reader(Client):
    """Reads what all writers write. The readers of a `group` count as one: each message goes to one of them."""

    def __init__(self, name, version, port, ledger, group=None):
        super().__init__(name, version, port)
        self.ledger, self.group = ledger, group
        self.filter = f"$share/{group}/soak/+" if group else "soak/+"
        self.subscribed = False
        self.paho.on_subscribe = self.on_subscribe
        self.paho.on_message = self.on_message

    def start(self):
        super().start()
        self.paho.subscribe(self.filter, 2)
        self.wait("subscribed", lambda: self.subscribed)

    def on_subscribe(self, *_args):
        with self.changed:
            self.subscribed = True
            self.changed.notify_all()

    def on_message(self, _client, _data, message):
        number = int(message.payload.split()[0])
        who = self.group or self.name
        once = message.qos == 2
        self.ledger.receive(who, message.topic.split("/")[1], number, ordered=not self.group, once=once)

    def leave(self):
        self.stop()

    def come_back(self):
        self.paho.reconnect()
        self.paho.loop_start()
