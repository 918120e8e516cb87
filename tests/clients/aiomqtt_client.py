"""aiomqtt against outlive ($OUTLIVE), through a network that breaks again and again: aiomqtt_client.py 3.1.1|5.0"""

import asyncio
import sys
import tempfile

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import PATIENCE_SECONDS, Broker, Changes, Proxy

MESSAGES = 200  # of each QoS
VERSIONS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5.0": aiomqtt.ProtocolVersion.V5}


def client(port, version, name):
    if version == aiomqtt.ProtocolVersion.V5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        kept = {"clean_start": False, "properties": properties}
    else:
        kept = {"clean_session": False}
    return aiomqtt.Client("127.0.0.1", port, identifier=name, protocol=version, timeout=PATIENCE_SECONDS, **kept)


class Reader:
    """A client as its documentation shows one: whatever breaks, connect again, with the same object: it has in its queue
    what was acknowledged and not yet seen."""

    def __init__(self, port, version):
        self.client = client(port, version, "reader")
        self.changes = Changes()
        self.got = {1: [], 2: []}
        self.connects = 0

    async def run(self):
        while True:
            try:
                async with self.client as connected:
                    self.connects += 1
                    self.changes.changed()
                    async for message in connected.messages:
                        self.got[message.qos].append(int(message.payload))
                        self.changes.changed()
            except aiomqtt.MqttError:
                await asyncio.sleep(0)

    def has_all(self):
        return all(len(set(self.got[qos])) == MESSAGES for qos in (1, 2))


async def scenario(broker, version):
    proxy = Proxy(broker)
    await proxy.start()
    async with client(broker.port, version, "reader") as first:
        await first.subscribe("t/#", qos=2)
    reader = Reader(proxy.port, version)
    reading = asyncio.ensure_future(reader.run())
    async with client(broker.port, version, "writer") as writer:
        for number in range(MESSAGES):
            for qos in (1, 2):
                await writer.publish(f"t/{qos}", str(number), qos=qos, timeout=PATIENCE_SECONDS)
            if number == MESSAGES // 2:
                await reader.changes.wait("some arrive", lambda: len(reader.got[2]) > 10)
                proxy.cut()
        await reader.changes.wait("the network breaks", lambda: proxy.broken >= 5)
        await reader.changes.wait("all arrive", reader.has_all)
        proxy.breaks = False
        proxy.cut()
        before = reader.connects
        await reader.changes.wait("reconnected", lambda: reader.connects > before)
    assert reader.got[2] == list(range(MESSAGES)), f"QoS 2, not exactly once and in order: {reader.got[2]}"
    assert list(dict.fromkeys(reader.got[1])) == list(range(MESSAGES)), f"QoS 1, order: {reader.got[1]}"
    print(f"{reader.connects} connections, {proxy.broken} broken")
    reading.cancel()


def main():
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(directory)
        broker.start()
        try:
            asyncio.run(scenario(broker, VERSIONS[sys.argv[1]]))
        finally:
            broker.kill()


main()
