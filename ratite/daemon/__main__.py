"""`python -m ratite.daemon`."""

import sys

from ratite.daemon.main import main

sys.exit(main())
