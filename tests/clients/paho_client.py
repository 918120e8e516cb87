"""paho-mqtt against outlive ($OUTLIVE): paho_client.py 3.1|3.1.1|5.0"""

import socket
import sys
import tempfile
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import PATIENCE_SECONDS, Broker

MESSAGES = 300  # of each QoS
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}


class Client:
    """A client of paho with what happened to it, to be waited for."""

    def __init__(self, broker, version, name):
        self.changed = threading.Condition()
        self.connects = 0
        self.subscribed = False
        self.acknowledged = 0
        self.got = {1: [], 2: []}
        self.version = version
        kept = {} if version == mqtt.MQTTv5 else {"clean_session": False}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=version, **kept)
        self.client.reconnect_delay_set(0.05, 0.1)
        self.client.on_connect = self.note(self.on_connect)
        self.client.on_subscribe = self.note(self.on_subscribe)
        self.client.on_publish = self.note(self.on_publish)
        self.client.on_message = self.note(self.on_message)
        start = {}
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600
            start = {"clean_start": False, "properties": properties}
        self.client.connect("127.0.0.1", broker.port, keepalive=60, **start)
        self.client.loop_start()
        self.wait("connected", lambda: self.connects > 0)

    def note(self, callback):
        def noted(*args):
            with self.changed:
                callback(*args)
                self.changed.notify_all()

        return noted

    def on_connect(self, _client, _data, _flags, reason, _properties):
        assert not reason.is_failure, reason
        self.connects += 1

    def on_subscribe(self, *_args):
        self.subscribed = True

    def on_publish(self, *_args):
        self.acknowledged += 1

    def on_message(self, _client, _data, message):
        self.got[message.qos].append(int(message.payload))

    def wait(self, what, holds):
        with self.changed:
            assert self.changed.wait_for(holds, PATIENCE_SECONDS), f"never: {what}"

    def cut(self):
        """Breaks the connection; paho comes back by itself."""
        before = self.connects
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.wait("reconnected", lambda: self.connects > before)

    def publish(self, numbers):
        for number in numbers:
            self.client.publish("t", str(number), qos=1)
            self.client.publish("t", str(number), qos=2)

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()


def main():
    version = VERSIONS[sys.argv[1]]
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(directory)
        broker.start()
        try:
            scenario(broker, version)
        finally:
            broker.kill()


def scenario(broker, version):
    reader = Client(broker, version, "reader")
    reader.client.subscribe("t", 2)
    reader.wait("subscribed", lambda: reader.subscribed)
    reader.leave()

    writer = Client(broker, version, "writer")
    third = MESSAGES // 3
    writer.publish(range(third))
    writer.wait("the first are acknowledged", lambda: writer.acknowledged >= third)
    broker.crash()
    # paho sends what is published while it reconnects before what it still has to send: wait, so that order can be checked.
    writer.wait("a third is acknowledged", lambda: writer.acknowledged >= 2 * third)
    writer.publish(range(third, 2 * third))
    writer.wait("more are acknowledged", lambda: writer.acknowledged >= 3 * third)
    writer.cut()
    writer.wait("two thirds are acknowledged", lambda: writer.acknowledged >= 4 * third)
    writer.publish(range(2 * third, MESSAGES))
    writer.wait("all are acknowledged", lambda: writer.acknowledged >= 2 * MESSAGES)

    reader = Client(broker, version, "reader")
    reader.wait("some arrive", lambda: len(reader.got[2]) > 10)
    reader.cut()
    reader.wait("more arrive", lambda: len(reader.got[2]) > 50)
    broker.crash()
    for qos in (1, 2):
        reader.wait(f"all of QoS {qos}", lambda qos=qos: len(set(reader.got[qos])) == MESSAGES)
    Client(broker, version, "last").publish([MESSAGES])
    reader.wait("the end mark", lambda: MESSAGES in reader.got[1] and MESSAGES in reader.got[2])
    assert reader.got[2] == list(range(MESSAGES + 1)), f"QoS 2, not exactly once and in order: {reader.got[2]}"
    assert list(dict.fromkeys(reader.got[1])) == list(range(MESSAGES + 1)), f"QoS 1, order: {reader.got[1]}"
    writer.leave()
    reader.leave()


main()
