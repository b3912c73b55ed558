"""Random bytes against QMP: `python -m tests.daemon.fuzz_qmp --inputs N --seed S [--socket PATH] [--corpus DIR]`.

An input is one message or a mutation of it, cut into chunks anywhere.  The mass goes to sessions without a
socket; with --socket also every hundredth to a real daemon.  What must hold:

    no exception leaves the session, and the session still answers a good command after 0xFF and a newline
    every answer is one line of ASCII JSON with CRLF: a reply, or an error of one of the five classes
    a well-formed command gets exactly one answer, with its id, and the class that it deserves
    chunking doesn't matter: the same bytes in one piece give the same answers

Each input has a number; `--seed S` with `--start K` gives the same input K again.  A failure prints both and
is kept in --corpus; inputs kept there are tried first.  --state FILE resumes where the last run ended.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from daemon_kit import CAPABILITIES, OOB_CAPABILITIES, Harness, Raw, views  # noqa: E402

CLASSES = {"GenericError", "CommandNotFound", "DeviceNotFound", "DeviceNotActive", "KVMMissingCap"}
SCRAPS = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"'", b"\\", b"\\u", b"\\ud83d", b"\xff", b"\xfe", b"\x00", b"\n", b"\r\n",
    b"true", b"nul", b"1e400", b"-", b"0", b"01", b"1.5", b"9" * 30, b'"execute"', b'"exec-oob"', b'"id"', b'"arguments"',
    b"\xc3\xa9", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"[" * 40, b"{'a':" * 20, b'"' + b"a" * 300 + b'"', b" ",
)  # fmt: skip
PROBE = b'\xff\n{"execute":"query-name","id":"probe"}'


class Maker:
    """Makes input K of a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        cache = views()
        self.views = [cache.get(), cache.get("ratite", ["riscv64"]), cache.get("qemu", ["riscv64"])]
        self._names = sorted(self.views[0].commands)

    def make(self, number: int) -> tuple[random.Random, bytes, object]:
        """(its own randomness, the bytes, what is known of the answer: None or (id, class or None))."""
        rng = random.Random(self._seed << 40 | number)
        message, expected = self._message(rng)
        data = json.dumps(message, ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
        if rng.random() < 0.2:
            return rng, data, expected
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            data = self._mutate(rng, data)
        return rng, data, None

    def _message(self, rng: random.Random) -> tuple[Any, object]:
        roll = rng.random()
        if roll < 0.03:
            return self._value(rng, 3), None
        name = rng.choice(self._names) if roll < 0.9 else rng.choice(("nope", "", "query-statu", "\u00e9"))
        message: dict[str, Any] = {rng.choice(("execute",) * 9 + ("exec-oob",)): name}
        if rng.random() < 0.7:
            message["arguments"] = self._arguments(rng, name)
        if rng.random() < 0.8:
            message["id"] = self._value(rng, 2)
        if rng.random() < 0.05:
            message[rng.choice(("x", "control", "execute", "exec-oob"))] = self._value(rng, 1)
        plain = set(message) <= {"execute", "arguments", "id"} and isinstance(message.get("execute"), str)
        plain = plain and isinstance(message.get("arguments", {}), dict)
        known = ("id" in message, message.get("id"), message.get("execute")) if plain else None
        return message, known

    def _arguments(self, rng: random.Random, name: str) -> Any:
        if rng.random() < 0.05:
            return self._value(rng, 2)
        arguments: dict[str, Any] = {}
        keys = ("path", "property", "value", "typename", "id", "driver", "qom-type", "size", "enable", "backend", "val",
                "filename", "command-line", "cpu-index", "device", "data", "format", "from", "to", "offset")  # fmt: skip
        for _ in range(rng.randrange(4)):
            arguments[rng.choice(keys)] = self._value(rng, 3)
        return arguments

    def _value(self, rng: random.Random, depth: int) -> Any:
        roll = rng.randrange(10 if depth else 8)
        if roll == 8:
            return [self._value(rng, depth - 1) for _ in range(rng.randrange(4))]
        if roll == 9:
            return {rng.choice(("a", "type", "data", "\u2603")): self._value(rng, depth - 1) for _ in range(rng.randrange(3))}
        return (
            None, True, False, rng.randrange(-(2**63), 2**64), rng.random() * 10 ** rng.randrange(-300, 300), "",
            rng.choice(("/", "/machine", "oob", "memory-backend-ram", "toy", "socket", "%s", "\x7f\x00")),
            "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0xD7FF), rng.randrange(0x10000, 0x1FFFD))))
                    for _ in range(rng.randrange(6))),
        )[roll]  # fmt: skip

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
    if rng.random() < 0.6:
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


def expected_class(view: Any, name: str, answer: Any) -> bool:
    """Whether an unmutated command got an answer of the right class."""
    error_class = answer.get("error", {}).get("class")
    if name not in view.commands or name == "qmp_capabilities":
        return error_class == "CommandNotFound"
    return error_class in (None, "GenericError")


class Fuzzer:
    """Feeds inputs to sessions; a session serves many inputs, as a monitor does."""

    def __init__(self, seed: int) -> None:
        self.maker = Maker(seed)
        self.answers = 0
        self._harness = self._fresh(random.Random(0))

    def _fresh(self, rng: random.Random) -> Harness:
        return Harness(rng.choice(self.maker.views), oob=rng.random() < 0.5)

    def start_anew(self) -> None:
        """Take a fresh session."""
        self._harness = self._fresh(random.Random(0))

    def one(self, number: int) -> bytes:
        """Try input `number`; its bytes.  AssertionError, or whatever escapes, is a failure."""
        rng, data, expected = self.maker.make(number)
        if number % 64 == 0:
            self._harness = self._fresh(rng)
        self.try_bytes(rng, data, expected, compare=number % 8 == 0)
        return data

    def try_bytes(self, rng: random.Random, data: bytes, expected: Any = None, compare: bool = False) -> None:
        """The checks of one input."""
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
            has_id, id, name = expected
            (answer,) = answers
            assert ("id" in answer) == has_id
            assert not has_id or same(answer["id"], id), (answer["id"], id)
            assert expected_class(harness.session.view, name, answer), (name, answer)
        if compare:
            whole = Harness(harness.session.view, oob=harness.session.oob)
            assert whole.feed(data) + whole.feed(PROBE) == answers + tail, "chunking matters"


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
    fuzzer = Fuzzer(options.seed)
    side = SocketSide(options.socket) if options.socket else None
    corpus = Path(options.corpus)
    for kept in sorted(corpus.glob("*.bin")):
        fuzzer.try_bytes(random.Random(0), kept.read_bytes(), compare=True)
    state = Path(options.state) if options.state else None
    start = options.start
    if state is not None and state.exists():
        saved = json.loads(state.read_text())
        start = max(start, saved["next"]) if saved["seed"] == options.seed else start
    begun, failures, number = time.monotonic(), 0, start
    for number in range(start, options.inputs):
        data = b""
        try:
            data = fuzzer.one(number)
            if side is not None and number % options.every == 0:
                side.one(random.Random(number), data)
        except Exception as error:
            failures += 1
            _fail(corpus, options.seed, number, data or fuzzer.maker.make(number)[1], error)
            fuzzer.start_anew()
            if failures >= 20:
                break
        if number % 100_000 == 99_999:
            rate = (number - start + 1) / (time.monotonic() - begun)
            print(f"{number + 1} inputs, {failures} failures, {rate:.0f}/s", flush=True)
            if state is not None:
                state.write_text(json.dumps({"seed": options.seed, "next": number + 1}))
    done = max(0, number + 1 - start) if options.inputs > start else 0
    seconds = time.monotonic() - begun
    if side is not None:
        side.close()
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
