"""Runs a command with $PORTS, so many free ports that nobody else takes while it runs: ports.py COUNT COMMAND..

As tests/broker/harness.rs does it: a UDP socket of the same number holds a port while its broker is down, here for as long
as any process of the command lives. Otherwise another test's broker might get it, and be found by the clients that keep
dialing: one called `reader` takes over the session of the other test's reader.
"""

import os
import random
import socket
import sys

ports = []
while len(ports) < int(sys.argv[1]):
    # Below the ports that the system gives to clients: one that dials a broker that is down must not meet itself.
    address = ("127.0.0.1", random.randrange(10000, 30000))
    reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket() as probe:
        try:
            reservation.bind(address)
            probe.bind(address)
        except OSError:
            reservation.close()
            continue
    reservation.set_inheritable(True)
    reservation.detach()
    ports.append(str(address[1]))
os.environ["PORTS"] = " ".join(ports)
os.execvp(sys.argv[2], sys.argv[2:])
