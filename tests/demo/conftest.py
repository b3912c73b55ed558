"""Guests that tests boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratite.clients.boots import guests


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MicroBlaze guests, unpacked."""
    if not guests.MICROBLAZE.exists():
        pytest.skip("the archive of MicroBlaze guests is not here")
    made = tmp_path_factory.mktemp("guests")
    guests.unpack_microblaze(made)
    return made
