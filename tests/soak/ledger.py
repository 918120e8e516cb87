"""What was acknowledged to writers, what came to readers, and whether the two agree."""

import threading


class Ledger:
    """Writers are named, and number their messages from 0 on. A reader is a client or a group of clients."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = {}  # writer: numbers
        self.came = {}  # (reader, writer): {number: how often}
        self.last = {}  # (reader, writer): the highest number so far
        self.faults = []

    def acknowledge(self, writer, number):
        with self.lock:
            self.acknowledged.setdefault(writer, set()).add(number)

    def receive(self, reader, writer, number, *, ordered, once):
        with self.lock:
            counts = self.came.setdefault((reader, writer), {})
            counts[number] = counts.get(number, 0) + 1
            if counts[number] > 1:
                if once:
                    self.fault(f"{reader} got {number} of {writer} {counts[number]} times")
                return
            last = self.last.get((reader, writer), -1)
            if ordered and number < last:
                self.fault(f"{reader} got {number} of {writer} after {last}")
            self.last[reader, writer] = max(last, number)

    def fault(self, what):
        """Called with the lock held."""
        self.faults.append(what)

    def missing(self, reader):
        """How many acknowledged messages the reader has not got, with the first of each writer."""
        with self.lock:
            missing = {}
            for writer, numbers in self.acknowledged.items():
                left = numbers - self.came.get((reader, writer), {}).keys()
                if left:
                    missing[writer] = (len(left), min(left))
            return missing

    def count(self):
        with self.lock:
            acknowledged = sum(len(numbers) for numbers in self.acknowledged.values())
            return acknowledged, sum(sum(counts.values()) for counts in self.came.values())
