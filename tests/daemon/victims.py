"""Clients to be killed: `python victims.py SOCKET FIFO`, which reads one hexadecimal message a line.

For each a process is made that connects and writes its own process id; once it has read a byte it sends the message, and with
it a descriptor of the FIFO, writes "sent", and does nothing until it is killed.  When it is dead, "dead" is written.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import sys


def _live(path: str, fifo: str, data: bytes) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    os.write(1, b"%d\n" % os.getpid())
    os.read(0, 1)
    passed = array.array("i", [os.open(fifo, os.O_WRONLY)])
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
    os.write(1, b"sent\n")
    while True:
        signal.pause()


def main(path: str, fifo: str) -> None:
    """Until there are no more lines."""
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            try:
                _live(path, fifo, bytes.fromhex(line.decode()))
            finally:
                os._exit(1)
        os.waitpid(pid, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
