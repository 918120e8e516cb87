"""gmqtt against outlive ($OUTLIVE), through a network that breaks again and again: gmqtt_client.py 3.1.1|5.0"""

import asyncio
import sys
import tempfile

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

from harness import Broker, Changes, Proxy

MESSAGES = 200  # of each QoS
VERSIONS = {"3.1.1": MQTTv311, "5.0": MQTTv50}


class Client:
    def __init__(self, version, name):
        kept = {"session_expiry_interval": 3600} if version == MQTTv50 else {}
        self.changes = Changes()
        self.got = {1: [], 2: []}
        self.connects = 0
        self.present = []
        self.subscribed = False
        self.version = version
        self.client = gmqtt.Client(name, clean_session=False, **kept)
        self.client.set_config({"reconnect_retries": -1, "reconnect_delay": 0})
        self.client.on_connect = self.on_connect
        self.client.on_message = self.on_message
        self.client.on_subscribe = self.on_subscribe

    async def start(self, port):
        await self.client.connect("127.0.0.1", port, version=self.version, keepalive=60)
        await self.changes.wait("connected", lambda: self.connects > 0)
        return self

    def on_connect(self, _client, flags, code, _properties):
        assert code == 0, code
        self.connects += 1
        self.present.append(flags & 1)
        self.changes.changed()

    def on_subscribe(self, *_args):
        self.subscribed = True
        self.changes.changed()

    async def on_message(self, _client, _topic, payload, qos, _properties):
        self.got[qos].append(int(payload))
        self.changes.changed()
        return 0

    def has_all(self):
        return all(len(set(self.got[qos])) == MESSAGES for qos in (1, 2))


async def scenario(broker, version):
    proxy = Proxy(broker)
    await proxy.start()
    # Whoever makes a session must get through; what breaks is what follows.
    proxy.breaks = False
    reader = await Client(version, "reader").start(proxy.port)
    reader.client.subscribe("t/#", qos=2)
    await reader.changes.wait("subscribed", lambda: reader.subscribed)
    writer = await Client(version, "writer").start(broker.port)
    proxy.breaks = True
    proxy.cut()
    for number in range(MESSAGES):
        for qos in (1, 2):
            writer.client.publish(f"t/{qos}", str(number), qos=qos)
        if number == MESSAGES // 2:
            await reader.changes.wait("some arrive", lambda: len(reader.got[2]) > 10)
            proxy.cut()
    await reader.changes.wait("the network breaks", lambda: proxy.broken >= 5)
    await reader.changes.wait("all arrive", reader.has_all)
    proxy.breaks = False
    proxy.cut()
    before = reader.connects
    await reader.changes.wait("reconnected", lambda: reader.connects > before)
    assert all(reader.present[1:]), f"session present: {reader.present}"
    # gmqtt keeps no QoS 2 identifiers: what was sent again with DUP it hands out again. In order and complete it must be.
    for qos in (1, 2):
        first = list(dict.fromkeys(reader.got[qos]))
        assert first == list(range(MESSAGES)), f"QoS {qos}, order: {reader.got[qos]}"
    print(f"{reader.connects} connections, {proxy.broken} broken")
    await reader.client.disconnect()
    await writer.client.disconnect()


def main():
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(directory)
        broker.start()
        try:
            asyncio.run(scenario(broker, VERSIONS[sys.argv[1]]))
        finally:
            broker.kill()


main()
