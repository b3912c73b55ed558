"""`python -m ratite.clients.boots`."""

from __future__ import annotations

import sys

from ratite.clients.boots.main import main

sys.exit(main())
