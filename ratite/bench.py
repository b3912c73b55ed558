"""`python -m ratite.bench`: see ratite.clients.bench.main."""

import sys

from ratite.clients.bench.main import main

if __name__ == "__main__":
    sys.exit(main())
