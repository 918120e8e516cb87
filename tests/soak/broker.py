"""The broker under test ($OUTLIVE), with a disk that can be filled and a wall clock that can be set."""

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

PATIENCE_SECONDS = 60
DISK_BYTES = 256 * 1024 * 1024
# Small files and many checkpoints, so that trimming never rests.
SETTINGS = [
    "log.segment_bytes=1048576",
    "storage.checkpoint_interval_millis=200",
    "mqtt.packet_bytes_max=65536",
]


def libfaketime():
    """The library that sets the wall clock of one process, or None."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else None


class Broker:
    def __init__(self, directory, port, admin):
        self.directory, self.port, self.admin = directory, port, admin
        self.disk = directory / "disk"
        self.disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "outlive-soak", str(self.disk)]
        self.mounted = subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode == 0
        self.clock = directory / "clock"
        self.set_clock(0)
        self.log = open(directory / "log", "w", encoding="utf-8")
        self.process = None

    def can_fill_disk(self):
        return self.mounted

    def can_set_clock(self):
        return libfaketime() is not None

    def set_clock(self, seconds):
        """From now on, the broker's wall clock is so far off. Replaced as a whole: it is read at any moment."""
        new = self.directory / "clock.new"
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.clock)

    def fill_disk(self):
        with open(self.disk / "filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(65536))
            except OSError:
                pass

    def free_disk(self):
        (self.disk / "filler").unlink()

    def start(self):
        command = [os.environ["OUTLIVE"], "run", "--data-dir", str(self.disk / "data")]
        command += ["--listen", f"127.0.0.1:{self.port}", "--set", f"admin.listen=127.0.0.1:{self.admin}"]
        for setting in SETTINGS:
            command += ["--set", setting]
        environment = dict(os.environ)
        if self.can_set_clock():
            environment |= {
                "LD_PRELOAD": libfaketime(),
                "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                "FAKETIME_NO_CACHE": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        streams = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen(command, env=environment, **streams)
        pause = threading.Event()
        for _ in range(PATIENCE_SECONDS * 100):
            if self.process.poll() is not None:
                raise AssertionError(f"the broker ended by itself: {self.process.returncode}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=5):
                    return
            except OSError:
                pause.wait(0.01)
        raise AssertionError("the broker is never ready")

    def kill(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the broker ended by itself: {self.process.returncode}")
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)

    def metrics(self):
        """All samples by name with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def close(self, show_log):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
        if show_log:
            print("--- log of the broker, its end:", file=sys.stderr)
            print((self.directory / "log").read_text()[-8000:], file=sys.stderr)
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.disk)], check=False)
