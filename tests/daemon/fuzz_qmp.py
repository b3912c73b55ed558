"""Random bytes against QMP: `python -m tests.daemon.fuzz_qmp --inputs N --seed S [--socket PATH] [--corpus DIR]`.

An input is one message, its arguments made from the schema of a view, or a mutation of it, cut into chunks anywhere.  It goes
to a daemon with a machine in this process (fuzz_world: each kind of machine and each view in turns), every 16th to a session
whose commands do nothing; with --socket every hundredth also to a real daemon.  What must hold:

    no exception leaves a command or a session, and the session still answers a good command after 0xFF and a newline
    every answer is one line of ASCII JSON with CRLF: a reply, or an error of one of the five classes
    a well-formed command gets exactly one answer, with its id, and the class that it deserves
    chunking doesn't matter: the same bytes in one piece give the same answers (of the session whose commands do nothing)
    a daemon that has ended leaves no descriptor and no thread behind, and memory doesn't grow

Each input has a number; `--seed S` with `--start K` gives the same input K again, from a multiple of --world also the same
machine.  A failure prints both and is kept in --corpus; inputs kept there are tried first.  --state FILE resumes where the
last run ended, and keeps what memory and descriptors were meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from daemon_kit import CAPABILITIES, OOB_CAPABILITIES, Harness, Raw, views  # noqa: E402
from fuzz_arguments import WORKS, Arguments, anything  # noqa: E402
from fuzz_world import KINDS, VIEWS, FuzzMonitor, World  # noqa: E402

from ratite.daemon.views import View, Views  # noqa: E402

CLASSES = {"GenericError", "CommandNotFound", "DeviceNotFound", "DeviceNotActive", "KVMMissingCap"}
SCRAPS = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"'", b"\\", b"\\u", b"\\ud83d", b"\xff", b"\xfe", b"\x00", b"\n", b"\r\n",
    b"true", b"nul", b"1e400", b"-", b"0", b"01", b"1.5", b"9" * 30, b'"execute"', b'"exec-oob"', b'"id"', b'"arguments"',
    b"\xc3\xa9", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"[" * 40, b"{'a':" * 20, b'"' + b"a" * 300 + b'"', b" ",
)  # fmt: skip
# Each of these ends the daemon, or answers with what takes long to read.
RARE = frozenset({"quit", "query-qmp-schema", "query-modules", "machine-dump"})
PROBE = b'\xff\n{"execute":"query-name","id":"probe"}'


# So many inputs go to one daemon unless --world says otherwise, and so many of them to one session.
WORLD, SESSION = 4096, 64

# Whole commands are written so many at a time, but for those after which the next one may mean something else.
TOGETHER = 12
ALONE = frozenset({"view-select", "quit"})


class Maker:
    """Makes input K of a seed, for a view."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._arguments: dict[frozenset[str], Arguments] = {}

    def make(self, number: int, view: View) -> tuple[random.Random, bytes, object]:
        """(its own randomness, the bytes, what is known of the answer: None or (has id, id, command))."""
        rng = random.Random(self._seed << 40 | number)
        message, expected = self._message(rng, view)
        data = json.dumps(message, ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
        if rng.random() < 0.8:
            return rng, data, expected
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = self._mutate(rng, data)
        return rng, data, None

    def _message(self, rng: random.Random, view: View) -> tuple[Any, object]:
        roll = rng.random()
        if roll < 0.03:
            return anything(rng, 3), None
        made = self._of(view)
        if roll < 0.3:
            name, arguments = rng.choice(WORKS)
            if rng.random() < 0.2:
                arguments = {**made.make(rng, name), **arguments}
        else:
            name = rng.choice(made.names) if roll < 0.97 else rng.choice(("nope", "", "query-statu", "\u00e9"))
            if name in RARE and rng.random() < 0.98:
                name = "query-status"
            arguments = made.make(rng, name)
        message: dict[str, Any] = {rng.choice(("execute",) * 9 + ("exec-oob",)): name}
        if arguments or rng.random() < 0.5:
            message["arguments"] = arguments
        if rng.random() < 0.8:
            message["id"] = anything(rng, 2)
        if rng.random() < 0.05:
            message[rng.choice(("x", "control", "execute", "exec-oob"))] = anything(rng, 1)
        plain = set(message) <= {"execute", "arguments", "id"} and isinstance(message.get("execute"), str)
        plain = plain and isinstance(message.get("arguments", {}), dict)
        known = ("id" in message, message.get("id"), message.get("execute")) if plain else None
        return message, known

    def _of(self, view: View) -> Arguments:
        made = self._arguments.get(view.facts)
        if made is None:
            made = self._arguments[view.facts] = Arguments(view)
        return made

    @staticmethod
    def _mutate(rng: random.Random, data: bytes) -> bytes:
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.choice((1, 1, 2, 5, 20)))
        kind = rng.randrange(7)
        if kind == 0:
            return data[:at] + data[to:]
        if kind == 1:
            return data[:at] + bytes([rng.randrange(256)]) + data[at:]
        if kind == 2:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        if kind == 3:
            return data[:at] + rng.choice(SCRAPS) + data[at:]
        if kind == 4:
            return data[:at] + data[at:to] * 2 + data[to:]
        if kind == 5:
            return data[:at]
        return data + rng.choice((b"", b"\n", b"\r\n", b" ")) + data[at:]


def chunks(rng: random.Random, data: bytes) -> list[bytes]:
    """The bytes in pieces, mostly in one."""
    if rng.random() < 0.85:
        return [data]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 2, 5))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def check_answer(answer: Any) -> None:
    """A line must be a reply or an error as the protocol has them."""
    assert isinstance(answer, dict), answer
    keys = set(answer) - {"id"}
    assert keys in ({"return"}, {"error"}), answer
    if "error" in answer:
        assert set(answer["error"]) == {"class", "desc"}, answer
        assert answer["error"]["class"] in CLASSES, answer
        assert isinstance(answer["error"]["desc"], str) and answer["error"]["desc"], answer
        assert not answer["error"]["desc"].startswith("internal error"), answer


def expected_class(view: Any, name: str, answer: Any) -> bool:
    """Whether an unmutated command got an answer of the right class."""
    error_class = answer.get("error", {}).get("class")
    if name not in view.commands or name == "qmp_capabilities":
        return error_class == "CommandNotFound"
    return error_class != "CommandNotFound"


class Fuzzer:
    """Feeds inputs to sessions; a session serves many inputs, as a monitor does, and so does a daemon."""

    def __init__(self, seed: int, world: int = WORLD) -> None:
        self._size = world
        self._maker, self._idle_maker = Maker(seed), Maker(seed)
        self.answers = 0
        self.last = b""
        cache = views()
        self._idle_views = [cache.get(*VIEWS[0]), cache.get(*VIEWS[1]), cache.get(*VIEWS[3])]
        self._harness = Harness(self._idle_views[0])
        self._seed = seed
        self._world: World | None = None
        self._monitor: FuzzMonitor | None = None
        self._views: Views | None = None
        self._before = usage()
        # Whole commands that go out together, each with what is known of its answer.
        self._together: list[tuple[bytes, Any]] = []

    def start_anew(self) -> None:
        """Take a fresh session, and a fresh daemon."""
        self._harness = Harness(self._idle_views[0])
        self.end()

    def end(self) -> None:
        """The daemon ends, and must leave nothing."""
        self._send_together()
        world, self._world, self._monitor = self._world, None, None
        if world is not None:
            world.close()
            del world
            for thread in set(threading.enumerate()) - {threading.current_thread()}:
                thread.join(5)
                assert not thread.is_alive(), f"thread {thread.name} is left"
            left = usage().fds - self._before.fds
            assert left <= 0, f"{left} descriptors are left"

    def _ready(self, number: int) -> FuzzMonitor:
        """The monitor that an input goes to."""
        rng = random.Random(self._seed << 40 | 1 << 39 | number // SESSION)
        world, monitor = self._world, self._monitor
        if number % SESSION == 0:
            self._send_together()
        if world is None or world.ending or number % self._size == 0:
            self.end()
            self._before = usage()
            kind = list(KINDS)[number // self._size % len(KINDS)]
            world, monitor = World(kind, self._views), None
            self._world, self._views = world, world.daemon.views
        if monitor is None or number % SESSION == 0 or not monitor.open:
            if monitor is not None:
                monitor.close()
            monitor = self._monitor = world.monitor(rng.choice(VIEWS), oob=rng.random() < 0.3)
        return monitor

    def one(self, number: int) -> bytes:
        """Try input `number`; its bytes.  AssertionError, or whatever escapes, is a failure."""
        if number % 16 == 7:
            view = self._harness.session.view
            rng, data, expected = self._idle_maker.make(number, view)
            self.last = data
            if number % SESSION == 7:
                self._harness = Harness(rng.choice(self._idle_views), oob=rng.random() < 0.5)
            self.try_bytes(rng, data, expected if view is self._harness.session.view else None, compare=True)
            return data
        monitor = self._ready(number)
        rng, data, expected = self._maker.make(number, monitor.session.view)
        if expected is not None and expected[2] not in ALONE and rng.random() < 0.9:
            self._together.append((data, expected))
            if len(self._together) == TOGETHER:
                self._send_together()
            return data
        self._send_together()
        self.last = data
        if monitor.open and not self._world_ends:
            self._live(monitor, rng, data, expected)
        return data

    @property
    def _world_ends(self) -> bool:
        return self._world is None or self._world.ending

    def _send_together(self) -> None:
        """What has gathered, at once: a command's answer each, in order."""
        together, self._together = self._together, []
        world, monitor = self._world, self._monitor
        if not together or world is None or monitor is None or world.ending or not monitor.open:
            return
        self.last = b"".join(data for data, _ in together)
        view = monitor.session.view
        answers = monitor.ask(self.last)
        self.answers += len(answers)
        for answer in answers:
            check_answer(answer)
        assert not world.log.errors, world.log.errors
        if world.ending:
            return
        assert len(answers) == len(together), (len(answers), len(together))
        for (_, expected), answer in zip(together, answers, strict=True):
            self._check_one(view if view is monitor.session.view else None, expected, answer)

    @staticmethod
    def _check_one(view: View | None, expected: tuple[bool, Any, str], answer: Any) -> None:
        has_id, id, name = expected
        assert ("id" in answer) == has_id
        assert not has_id or same(answer["id"], id), (answer["id"], id)
        assert view is None or expected_class(view, name, answer), (name, answer)

    def again(self, data: bytes) -> None:
        """Bytes that once failed, to each kind of machine in each view."""
        self.try_bytes(random.Random(0), data, compare=True)
        for number in range(0, len(KINDS) * self._size, self._size):
            self._ready(number)
            for view in VIEWS:
                if self._world is not None and not self._world.ending:
                    self._live(self._world.monitor(view, False), random.Random(0), data, None)
        self.end()

    def _live(self, monitor: FuzzMonitor, rng: random.Random, data: bytes, expected: Any) -> None:
        """An input to a daemon with a machine."""
        world = self._world
        assert world is not None
        pieces = list(filter(None, chunks(rng, data)))
        fds = tuple(os.dup(0) for _ in range(rng.choice((0,) * 30 + (1, 1, 20)) if pieces else 0))
        view = monitor.session.view
        answers: list[Any] = []
        for piece in pieces:
            answers += monitor.ask(piece, fds)
            fds = ()
        if expected is not None and not world.ending:
            (answer,) = answers
            self._check_one(view, expected, answer)
        elif monitor.open and not world.ending:
            answers += monitor.ask(PROBE)
            assert answers, "no answer to the probe"
            if not world.ending:
                assert answers[-1] == {"return": {}, "id": "probe"}, answers[-1]
        for answer in answers:
            check_answer(answer)
        self.answers += len(answers)
        assert not world.log.errors, world.log.errors
        assert monitor.open or world.ending, "the monitor was closed"

    def try_bytes(self, rng: random.Random, data: bytes, expected: Any = None, compare: bool = False) -> None:
        """The checks of one input to a session whose commands do nothing."""
        harness = self._harness
        answers: list[Any] = []
        for piece in chunks(rng, data):
            answers += harness.feed(piece)
        tail = harness.feed(PROBE)
        assert tail, "no answer to the probe"
        assert tail[-1] == {"return": {}, "id": "probe"}, tail[-1]
        for answer in answers + tail:
            check_answer(answer)
        self.answers += len(answers) + len(tail)
        assert harness.session.idle and harness.session.unsent == 0
        if expected is not None:
            (answer,) = answers
            self._check_one(harness.session.view, expected, answer)
        if compare:
            whole = Harness(harness.session.view, oob=harness.session.oob)
            assert whole.feed(data) + whole.feed(PROBE) == answers + tail, "chunking matters"


class Usage(NamedTuple):
    """What this process holds: KiB that are its own alone, descriptors, threads."""

    private: int
    fds: int
    threads: int


def usage(memory: bool = False) -> Usage:
    """Now; memory only if it is asked for, since that takes long to tell."""
    private = 0
    if memory:
        rollup = Path("/proc/self/smaps_rollup").read_text()
        private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    return Usage(private, len(os.listdir("/proc/self/fd")), threading.active_count())


def same(answer: Any, sent: Any) -> bool:
    """Whether an id is the one that was sent (noncharacters can't be sent back)."""
    return answer == sent or "\\ufff" in json.dumps(sent) or json.dumps(answer) == json.dumps(sent)


class SocketSide:
    """The same inputs to a daemon that runs: it must answer on, and keep its memory."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._watch = Raw(path)
        self.count = 0

    def close(self) -> None:
        """End the watching connection."""
        self._watch.sock.close()

    def one(self, rng: random.Random, data: bytes) -> None:
        """One connection a try; most vanish without reading."""
        if b"quit" in data or b"shutdown" in data:
            return
        self.count += 1
        with Raw(self._path, negotiate=False) as raw:
            raw.send(rng.choice((CAPABILITIES, OOB_CAPABILITIES, b"")))
            try:
                for piece in chunks(rng, data):
                    raw.send(piece)
                if rng.random() < 0.3:
                    raw.send(PROBE)
                    while True:
                        line = raw.line()
                        assert line is not None, "closed"
                        if line.get("id") == "probe":
                            break
            except (BrokenPipeError, ConnectionResetError):
                raise AssertionError("the daemon closed the connection") from None
        if self.count % 20 == 0:
            assert "return" in self._watch.ask(b'{"execute":"query-status"}')


def _fail(corpus: Path, seed: int, number: int, data: bytes, error: BaseException) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    kept = corpus / f"{seed}-{number}.bin"
    kept.write_bytes(data)
    print(f"input {number} of seed {seed} failed: {type(error).__name__}: {error}\n  {data[:300]!r}\n  kept as {kept}")


def _run(options: argparse.Namespace) -> int:
    fuzzer = Fuzzer(options.seed, options.world)
    side = SocketSide(options.socket) if options.socket else None
    corpus = Path(options.corpus)
    for kept in sorted(corpus.glob("*.bin")):
        fuzzer.again(kept.read_bytes())
    state = Path(options.state) if options.state else None
    start, samples = options.start, []
    if state is not None and state.exists():
        saved = json.loads(state.read_text())
        if saved["seed"] == options.seed:
            start, samples = max(start, saved["next"]), saved["samples"]
    begun, failures, number = time.monotonic(), 0, start
    for number in range(start, options.inputs):
        data = b""
        try:
            data = fuzzer.one(number)
            if side is not None and number % options.every == 0:
                side.one(random.Random(number), data)
        except Exception as error:
            failures += 1
            _fail(corpus, options.seed, number, data or fuzzer.last, error)
            try:
                fuzzer.start_anew()
            except Exception as other:
                print(f"  and after that: {type(other).__name__}: {other}")
            if failures >= 20:
                break
        if number % 20_000 == 19_999:
            rate = (number - start + 1) / (time.monotonic() - begun)
            print(f"{number + 1} inputs, {failures} failures, {rate:.0f}/s", flush=True)
            samples.append([number + 1, *usage(memory=True), os.getpid(), failures])
            if state is not None:
                state.write_text(json.dumps({"seed": options.seed, "next": number + 1, "samples": samples}))
    done = max(0, number + 1 - start) if options.inputs > start else 0
    seconds = time.monotonic() - begun
    if side is not None:
        side.close()
    fuzzer.end()
    through = f", {side.count} of them over the socket" if side is not None else ""
    print(f"{done} inputs (from {start}, seed {options.seed}){through}: {fuzzer.answers} answers, {failures} failures, "
          f"{seconds:.0f} s")  # fmt: skip
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Fuzz; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.daemon.fuzz_qmp", description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=2_000_000, help="number of the last input + 1 (default 2000000)")
    parser.add_argument("--start", type=int, default=0, help="number of the first input (default 0)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", default=str(Path(__file__).parent / "corpus"), help="kept failures, tried first")
    parser.add_argument("--state", help="file to resume from and to save progress in")
    parser.add_argument("--world", type=int, default=WORLD, help=f"inputs to one machine (default {WORLD})")
    parser.add_argument("--socket", help="a daemon's socket; every --every-th input goes there too")
    parser.add_argument("--every", type=int, default=100)
    options = parser.parse_args(argv)
    sys.setrecursionlimit(4000)
    return _run(options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (TimeoutError, KeyboardInterrupt) as error:
        print(f"ended: {error!r}")
        os._exit(130)
