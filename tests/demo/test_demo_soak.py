"""Long runs of the demo: many seeds, block sizes and rounds; and bytes flipped at random. `make soak`."""

from __future__ import annotations

import random
import time

import pytest
from test_demo import MB, RV, run_demo

from ratite.clients import demo

pytestmark = pytest.mark.soak

SECONDS = 300


def test_any_seed_and_any_size() -> None:
    seed = time.time_ns()
    draw = random.Random(seed)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        rounds, block = draw.randint(1, 3000), 8 * draw.randint(1, 2048)
        arguments = ["--rounds", str(rounds), "--block", str(block), "--seed", str(draw.getrandbits(64))]
        run = run_demo(*arguments)
        assert run.returncode == 0, f"draw {seed}, {arguments}\n{run.stdout}{run.stderr}"


def test_any_flipped_byte() -> None:
    seed = time.time_ns()
    draw = random.Random(seed)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        name, elf = draw.choice((("rv", RV), ("mb", MB)))
        part = demo.segment(elf)
        place = f"{name}:{part.address + draw.randrange(len(part.data)):#x}"
        run = run_demo("--rounds", "5", "--stall", "2", "--flip", place)
        assert run.returncode == 1, f"draw {seed}, --flip {place}\n{run.stdout}{run.stderr}"
