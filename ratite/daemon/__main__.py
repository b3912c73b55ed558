"""`python -m ratite.daemon`."""

import os
import sys


def run() -> None:
    """Serve, and end the process at once: machine, threads and sockets are closed by then, and to take the interpreter apart
    takes longer than a short guest's whole run."""
    from ratite.daemon import kept

    kept.use()
    from ratite.daemon.main import main

    status = main()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
