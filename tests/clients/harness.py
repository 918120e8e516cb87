"""What the Python clients share: the broker ($OUTLIVE, on $PORTS: see ports.py), and a network that breaks."""

import asyncio
import os
import random
import signal
import subprocess
import threading
import urllib.request

PATIENCE_SECONDS = 30
PORTS = os.environ["PORTS"].split()


def free_port():
    return int(PORTS.pop())


class Broker:
    def __init__(self, directory):
        self.directory = directory
        self.port, self.admin = free_port(), free_port()
        self.process = None

    def start(self):
        command = [os.environ["OUTLIVE"], "run", "--data-dir", f"{self.directory}/data"]
        command += ["--listen", f"127.0.0.1:{self.port}", "--set", f"admin.listen=127.0.0.1:{self.admin}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        pause = threading.Event()
        for _ in range(PATIENCE_SECONDS * 100):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=5):
                    return
            except OSError:
                pause.wait(0.01)
        raise AssertionError("the broker is never ready")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def crash(self):
        self.kill()
        self.start()


class Proxy:
    """Between clients and broker: while `breaks`, each connection ends after so many bytes, wherever that is in a packet.

    The budgets are the same in every run. Pieces are as large as they come, or single bytes while a connection is new.
    """

    def __init__(self, broker, seed=1):
        self.broker = broker
        self.random = random.Random(seed)
        self.breaks = True
        self.broken = 0
        self.port = free_port()
        self.server = None
        self.writers = set()

    async def start(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", self.port)

    async def accept(self, reader, writer):
        try:
            broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self.broker.port)
        except OSError:
            writer.close()
            return
        ends = {writer, broker_writer}
        self.writers |= ends
        budget = [self.random.randrange(100, 2000) if self.breaks else None]
        ways = [self.carry(reader, broker_writer, budget), self.carry(broker_reader, writer, budget)]
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the end of the test
        for task in tasks:
            task.cancel()
        for end in ends:
            end.close()
        self.writers -= ends

    async def carry(self, reader, writer, budget):
        single = 64
        try:
            while data := await reader.read(1 if single > 0 else 4096):
                single -= len(data)
                if budget[0] is not None:
                    data = data[: budget[0]]
                    budget[0] -= len(data)
                writer.write(data)
                await writer.drain()
                if budget[0] == 0:
                    self.broken += 1
                    return
        except OSError:
            return

    def cut(self):
        """Ends all connections now."""
        for writer in list(self.writers):
            writer.transport.abort()


class Changes:
    """Something to wait for: call `changed` when it may hold now."""

    def __init__(self):
        self.event = asyncio.Event()

    def changed(self):
        self.event.set()

    async def wait(self, what, holds):
        async def until():
            while not holds():
                self.event.clear()
                await self.event.wait()

        try:
            await asyncio.wait_for(until(), PATIENCE_SECONDS)
        except asyncio.TimeoutError:
            raise AssertionError(f"never: {what}") from None
