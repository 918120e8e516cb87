"""Traffic of kept sessions and groups under faults, for so long: soak.py --seconds N [--seed N] [--without FAULT].."""

import argparse
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt

from broker import Broker
from clients import Reader, Writer
from ledger import Ledger

DAY = 86_400
PAUSE = threading.Event()  # never set
# Reasons for which nothing may be dropped here: nobody expires, unsubscribes or reaches a limit.
NOT_DROPPED = ["message_expiry", "queue_full", "retention", "session_ended", "group_ended", "unsubscribed"]


class Soak:
    def __init__(self, directory, ports, seed):
        self.random = random.Random(seed)
        self.broker = Broker(directory, *ports)
        self.ledger = Ledger()
        port, ledger = ports[0], self.ledger
        self.writers = [
            Writer("writer-1", mqtt.MQTTv5, port, 1, ledger),
            Writer("writer-2", mqtt.MQTTv311, port, 2, ledger),
        ]
        self.sleeper = Reader("sleeper", mqtt.MQTTv311, port, ledger)
        self.readers = [
            Reader("reader-311", mqtt.MQTTv311, port, ledger),
            Reader("reader-5", mqtt.MQTTv5, port, ledger),
            self.sleeper,
            Reader("member-1", mqtt.MQTTv5, port, ledger, group="group"),
            Reader("member-2", mqtt.MQTTv311, port, ledger, group="group"),
        ]
        self.asleep = False
        self.done = {}
        self.dropped = {}

    def clients(self):
        return self.readers + self.writers

    def faults(self, without):
        faults = {
            "kill -9": self.kill,
            "cut": self.cut,
            "sleep": self.sleep,
            "clock step": self.clock_step,
            "disk full": self.disk_full,
        }
        for fault, possible, wanted in [
            ("clock step", self.broker.can_set_clock(), "libfaketime"),
            ("disk full", self.broker.can_fill_disk(), "the right to mount"),
        ]:
            if not possible and fault not in without:
                print(f"soak: no {fault} here: needs {wanted}", file=sys.stderr)
                del faults[fault]
        return {fault: cause for fault, cause in faults.items() if fault not in without}

    def kill(self):
        self.note_drops()
        self.broker.kill()
        self.broker.start()

    def cut(self):
        self.random.choice(self.clients()).cut()

    def sleep(self):
        if self.asleep:
            self.sleeper.come_back()
        else:
            self.sleeper.leave()
        self.asleep = not self.asleep

    def clock_step(self):
        """Days to and fro, while the broker runs or between two runs of it."""
        seconds = self.random.randint(-10 * DAY, 10 * DAY)
        if self.random.random() < 0.5:
            self.broker.set_clock(seconds)
        else:
            self.note_drops()
            self.broker.kill()
            self.broker.set_clock(seconds)
            self.broker.start()

    def disk_full(self):
        """For a while; half the time the broker dies before there is room again, and starts with it."""
        self.broker.fill_disk()
        PAUSE.wait(self.random.uniform(0.2, 2))
        if self.random.random() < 0.5:
            self.note_drops()
            self.broker.kill()
            self.broker.free_disk()
            self.broker.start()
        else:
            self.broker.free_disk()

    def note_drops(self):
        """What was dropped until now; a start counts from 0 again."""
        for name, value in self.broker.metrics().items():
            for reason in NOT_DROPPED:
                if name == f'outlive_messages_dropped_total{{reason="{reason}"}}' and value > 0:
                    self.dropped[reason] = self.dropped.get(reason, 0) + value

    def run(self, seconds, without):
        self.broker.start()
        for client in self.clients():
            client.start()
        faults = self.faults(without)
        order = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            PAUSE.wait(self.random.uniform(0.1, 1.5))
            # Each once in a shuffled round, so that a short run has seen all.
            if not order:
                order = sorted(faults)
                self.random.shuffle(order)
            fault = order.pop()
            faults[fault]()
            self.done[fault] = self.done.get(fault, 0) + 1
            self.check()

    def check(self):
        """What must be true at every moment."""
        if self.ledger.faults:
            raise AssertionError("; ".join(self.ledger.faults[:10]))
        for client in self.clients():
            if client.lost_session:
                raise AssertionError(f"{client.name} came back and its session was gone")

    def finish(self):
        """What must be true once the faults are over: everything has come."""
        if self.asleep:
            self.sleeper.come_back()
        for writer in self.writers:
            writer.finish()
        for reader in sorted({reader.group or reader.name for reader in self.readers}):
            left, patience = None, 0
            while missing := self.ledger.missing(reader):
                patience = patience + 1 if missing == left else 0
                if patience > 300:
                    raise AssertionError(f"{reader} never got (how many, the first): {missing}")
                left = missing
                PAUSE.wait(0.1)
        self.check()
        self.note_drops()
        if self.dropped:
            raise AssertionError(f"dropped, though nothing allowed it: {self.dropped}")
        if sum(writer.refused for writer in self.writers) and "disk full" not in self.done:
            raise AssertionError("refused, though the disk had room")
        for client in self.clients():
            client.stop()
        self.broker.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--without", action="append", default=[], metavar="FAULT")
    parser.add_argument("--ports", nargs=2, type=int, required=True)
    asked = parser.parse_args()
    print(f"soak: seed {asked.seed}", flush=True)
    failed = True
    with tempfile.TemporaryDirectory(prefix="outlive-soak") as directory:
        soak = Soak(Path(directory), asked.ports, asked.seed)
        try:
            soak.run(asked.seconds, asked.without)
            soak.finish()
            failed = False
        except AssertionError as error:
            print(f"soak: FAILED: {error}", file=sys.stderr)
        finally:
            acknowledged, came = soak.ledger.count()
            faults = ", ".join(f"{count} x {fault}" for fault, count in sorted(soak.done.items()))
            refused = sum(writer.refused for writer in soak.writers)
            print(f"soak: {acknowledged} acknowledged, {refused} refused, {came} came; {faults}")
            soak.broker.close(show_log=failed)
    # paho's threads may still dial a broker that is gone.
    sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
