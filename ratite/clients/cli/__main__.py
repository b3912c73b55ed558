"""`python -m ratite.clients.cli`: the command `ratite`."""

import sys

from ratite.clients.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
