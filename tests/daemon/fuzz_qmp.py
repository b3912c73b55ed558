"""Random bytes against QMP: `python -m tests.daemon.fuzz_qmp --inputs N --seed S [--socket PATH] [--corpus DIR]`.

An input is one message, its arguments made from the schema of a view, or a mutation of it.  64 are a batch, written in a few
pieces, which may be cut anywhere.  It goes to a daemon with a machine in this process (fuzz_world: each kind of machine and
each view in turns), every 16th to a session whose commands do nothing; with --socket every hundredth input also to a real
daemon.
What must hold:

    no exception leaves a command or a session, and none is in the log
    every answer is one line of ASCII JSON with CRLF: a reply, or an error of one of the five classes
    a well-formed command gets exactly one answer, in order, with its id, and the class that it deserves
    so does each message in what else came, and after 0xFF and a newline the session still answers a good command
    chunking doesn't matter: the same bytes in one piece give the same answers (of the session whose commands do nothing)
    after each batch another monitor gets its answers, from the loop and from the machine
    a daemon that has ended leaves no descriptor and no thread behind, and memory doesn't grow

Each batch has a number; `--seed S` with `--start K` gives the batch of input K again, from a multiple of --world also the same
machine.  Of a batch that fails the shortest beginning is looked for that fails too, each time with a new daemon that was sent
the same before; its last input is printed, and kept in --corpus, whose inputs are tried first.  --state FILE resumes where the
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
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from daemon_kit import CAPABILITIES, OOB_CAPABILITIES, Harness, Raw, views  # noqa: E402
from fuzz_input import BATCH, PROBE, Group, Input, Known, Maker, cuts  # noqa: E402
from fuzz_world import KINDS, VIEWS, FuzzMonitor, World  # noqa: E402

from ratite.daemon.views import RATITE, View, Views  # noqa: E402
from ratite.qapi.wire import JsonStream  # noqa: E402

CLASSES = {"GenericError", "CommandNotFound", "DeviceNotFound", "DeviceNotActive", "KVMMissingCap"}
# Batches to one daemon unless --world says otherwise, and to one session; each so manieth goes to the session without a daemon.
WORLD, SESSION, IDLE = 128, 8, 16
# What the other monitor asks after each batch: one is answered on the loop, one by the machine, if there is one.
ALIVE = b'{"execute":"query-status","id":1}{"execute":"qom-list","arguments":{"path":"/"},"id":2}'
# Batches between two looks at memory; from the first on it may not grow by more KiB than this.
SAMPLE, GROWTH = 320, 64 << 10


def check_answer(answer: Any) -> None:
    """A line must be a reply or an error as the protocol has them."""
    assert isinstance(answer, dict), answer
    assert len(answer) == 1 + ("id" in answer), answer
    if "return" not in answer:
        error = answer["error"]
        assert set(error) == {"class", "desc"}, answer
        assert error["class"] in CLASSES, answer
        assert isinstance(error["desc"], str) and error["desc"], answer
        assert not error["desc"].startswith("internal error"), answer


def expected_class(view: View, known: Known, answer: Any) -> bool:
    """Whether an unmutated command got an answer of the right class."""
    found = answer.get("error", {}).get("class") == "CommandNotFound"
    if known.name == "qmp_capabilities":
        return found or known.oob
    return found == (known.name not in view.commands)


def same(answer: Any, sent: Any) -> bool:
    """Whether an id is the one that was sent (noncharacters can't be sent back)."""
    return answer == sent or "\\ufff" in json.dumps(sent) or json.dumps(answer) == json.dumps(sent)


def check_answers(inputs: Sequence[Input], answers: Sequence[Any], view: View | None) -> None:
    """Each input has its own answers, in order; `view`: the one that all were answered in, if it is known."""
    for answer in answers:
        check_answer(answer)
    ahead = {one.known.id: one.known for one in inputs if one.known is not None and one.known.oob}
    if ahead:
        behind = []
        for answer in answers:
            known = ahead.pop(answer.get("id"), None) if isinstance(answer.get("id"), str) else None
            if known is None:
                behind.append(answer)
            else:
                assert view is None or expected_class(view, known, answer), (known, answer)
        assert not ahead, f"no answer to {list(ahead)}"
        answers = behind
    at = iter(answers)
    for one in inputs:
        if one.known is None:
            count = len(JsonStream().feed(one.parts[0]))
            got = list(islice(at, count + 1))
            assert got[-1:] == [{"return": {}, "id": one.probe}] and len(got) == count + 1, (
                f"{count} messages in {one.data[:300]!r} and a probe got {got}"
            )
        elif not one.known.oob:
            _check_one(one, next(at, None), view)
    assert (more := next(at, None)) is None, f"an answer to nothing: {more}"


def _check_one(one: Input, answer: Any, view: View | None) -> None:
    known = one.known
    assert known is not None and answer is not None, f"no answer to {one.data[:300]!r}"
    assert ("id" in answer) == known.has_id, (one.data[:300], answer)
    assert not known.has_id or same(answer["id"], known.id), (one.data[:300], answer)
    assert view is None or expected_class(view, known, answer), (one.data[:300], answer)


class Failed(Exception):
    """Something that must hold didn't when these inputs of a batch were sent: from the one with index `begin` up to `end`."""

    def __init__(self, inputs: Sequence[Input], begin: int, end: int, why: BaseException) -> None:
        super().__init__(f"{type(why).__name__}: {why}")
        self.inputs = inputs
        self.begin = begin
        self.end = end


class Life:
    """A daemon's, from its first batch on.  A session serves some of them, as a monitor does."""

    def __init__(self, maker: Maker, number: int, world: int, views: Views | None) -> None:
        self._maker = maker
        self.first = number
        self.judged = self.skipped = self.answers = 0
        self._fds, self._threads = descriptors(), set(threading.enumerate())
        self._world = World(list(KINDS)[number // world % len(KINDS)], views)
        self.views = self._world.daemon.views
        self._other = self._world.monitor((RATITE, ()), False)
        self._monitor: FuzzMonitor | None = None

    @property
    def over(self) -> bool:
        """Whether a command has ended it."""
        return self._world.ending

    def close(self) -> None:
        """The daemon ends, and must leave nothing."""
        self._world.close()
        for thread in set(threading.enumerate()) - self._threads:
            for _ in range(60 * thread.is_alive()):  # as many seconds, but of those alone in which this process had its turn
                thread.join(1)
            assert not thread.is_alive(), f"thread {thread.name} is left"
        now = descriptors()
        left = {fd: what for fd, what in now.items() if self._fds.get(fd) != what}
        assert len(now) <= len(self._fds), f"descriptors are left: {left}"

    def batch(self, number: int, until: int = BATCH) -> Sequence[Input]:
        """Try a batch, or so many inputs of it: all its inputs.  Failed, if something is wrong."""
        chance = self._maker.random(number // SESSION, 1)
        if self._monitor is None or number % SESSION == 0 or not self._monitor.open:
            if self._monitor is not None:
                self._monitor.close()
            self._monitor = self._world.monitor(chance.choice(VIEWS), oob=chance.random() < 0.3)
        monitor = self._monitor
        groups = self._maker.batch(number, monitor.session.view, monitor.session.oob)
        return try_groups(groups, lambda group: self._send(monitor, group), until)

    def _send(self, monitor: FuzzMonitor, group: Group) -> None:
        world, view = self._world, monitor.session.view
        if world.ending:
            self.skipped += len(group.inputs)
            return
        fds = tuple(os.dup(0) for _ in range(group.fds))
        answers = monitor.exchange(group.pieces(), fds)
        assert not world.log.errors, world.log.errors
        self.answers += len(answers)
        if world.ending:
            # It may have ended in their midst.
            self.skipped += len(group.inputs)
            for answer in answers:
                check_answer(answer)
            return
        check_answers(group.inputs, answers, view if view is monitor.session.view else None)
        assert monitor.open, "the monitor was closed"
        assert [answer["id"] for answer in self._other.ask(ALIVE)] == [1, 2]
        assert not world.log.errors, world.log.errors
        self.judged += len(group.inputs)

    def again(self, data: bytes) -> None:
        """Bytes that once failed, in each view."""
        for view in VIEWS:
            if not self.over:
                self._send(self._world.monitor(view, False), Group((Input(0, data, None),), 0, 0, 0))


def try_groups(groups: Sequence[Group], send: Callable[[Group], None], until: int) -> Sequence[Input]:
    """Send a batch's groups, or its first `until` inputs: all inputs.  Failed, with those that were being sent."""
    inputs = [one for group in groups for one in group.inputs]
    begin = 0
    for group in groups:
        end = min(begin + len(group.inputs), until)
        if begin < end:
            try:
                send(group._replace(inputs=group.inputs[: end - begin]))
            except Exception as error:
                raise Failed(inputs, begin, end, error) from error
        begin = end
    return inputs


def least(fails: Callable[[int], bool], good: int, bad: int) -> int:
    """The least number in (good, bad] that fails, if `bad` does and `good` doesn't."""
    while bad - good > 1:
        middle = (good + bad) // 2
        if fails(middle):
            bad = middle
        else:
            good = middle
    return bad


class Fuzzer:
    """Feeds batches to daemons, and to a session that has none."""

    def __init__(self, seed: int, world: int = WORLD) -> None:
        self._size = world
        self._maker = Maker(seed)
        cache = views()
        self._idle_views = [cache.get(*VIEWS[0]), cache.get(*VIEWS[1]), cache.get(*VIEWS[3])]
        self._views: Views | None = None
        self._life: Life | None = None
        self.judged = self.skipped = self.answers = 0
        # First and last batch of the latest daemon, and the inputs of the batch that was tried anew.
        self._first = self._last = 0
        self._tried: Sequence[Input] = ()

    def batch(self, number: int) -> Sequence[Input]:
        """Try a batch: its inputs.  Failed, or whatever escapes, if something is wrong."""
        if number % IDLE == 7:
            return self._idle(number)
        if self._life is None or self._life.over or number % self._size == 0:
            self.end()
            self._life = self._new_life(number)
            self._views = self._life.views
        self._last = number
        return self._life.batch(number)

    def _new_life(self, number: int) -> Life:
        return Life(self._maker, number, self._size, self._views)

    def end(self) -> None:
        """The daemon ends."""
        life, self._life = self._life, None
        if life is not None:
            self._first = life.first
            self.judged += life.judged
            self.skipped += life.skipped
            self.answers += life.answers
            life.close()

    def _idle(self, number: int, until: int = BATCH) -> Sequence[Input]:
        chance = self._maker.random(number, 2)
        harness = Harness(chance.choice(self._idle_views), oob=chance.random() < 0.5)
        groups = self._maker.batch(number, harness.session.view, harness.session.oob)
        return try_groups(groups, lambda group: self._try_idle(harness, group), until)

    def _try_idle(self, harness: Harness, group: Group) -> None:
        """The checks of inputs to a session whose commands do nothing."""
        session = harness.session
        whole = Harness(session.view, oob=session.oob)
        sent = b"".join(one.sent for one in group.inputs)
        draw = random.Random(group.seed).random
        answers = [answer for piece in cuts(draw, sent, 1) for answer in harness.feed(piece)]
        check_answers(group.inputs, answers, session.view)
        assert session.idle and session.unsent == 0
        assert whole.feed(sent) == answers, "chunking matters"
        self.answers += len(answers)
        self.judged += len(group.inputs)

    def narrow(self, number: int, failed: Failed) -> Sequence[Input]:
        """The input of a batch that just failed that is to blame: the last of the shortest beginning that fails as well, each
        tried by a daemon that was sent the same before; all that were being sent if none fails again."""
        if number % IDLE == 7:
            fails = self._idle_fails
            first = number
        else:
            with suppress(Exception):
                self.end()
            fails, first = self._fails, self._first
        if not fails(first, number, failed.end):
            return failed.inputs[failed.begin : failed.end]
        at = least(lambda count: fails(first, number, count), failed.begin, failed.end)
        return failed.inputs[at - 1 : at]

    def narrow_end(self) -> Sequence[Input]:
        """The input after which the daemon that has just ended leaves something behind; none if it doesn't again."""
        first, last = self._first, self._last
        if not self._fails(first, last, BATCH):
            return ()
        number = least(lambda end: self._fails(first, end - 1, BATCH), first, last + 1) - 1
        at = least(lambda count: self._fails(first, number, count), 0, BATCH)
        self._fails(first, number, BATCH)
        return self._tried[at - 1 : at]

    def _idle_fails(self, first: int, number: int, count: int) -> bool:
        try:
            self._idle(number, count)
        except Failed:
            return True
        return False

    def _fails(self, first: int, number: int, count: int) -> bool:
        """Whether a daemon fails, or leaves something, that gets all from batch `first` on, and of `number` so many."""
        life = self._new_life(first)
        fails = False
        try:
            for before in range(first, number):
                if before % IDLE != 7:
                    life.batch(before)
            if number % IDLE != 7:
                self._tried = life.batch(number, count)
        except Failed as failed:
            self._tried, fails = failed.inputs, True
        try:
            life.close()
        except AssertionError:
            fails = True
        return fails

    def again(self, data: bytes) -> None:
        """Bytes that once failed, to each kind of machine in each view."""
        self._try_idle(Harness(self._idle_views[0]), Group((Input(0, data, None),), 1, 0, 0))
        for number in range(len(KINDS)):
            self._life = Life(self._maker, number, 1, self._views)
            self._views = self._life.views
            self._life.again(data)
            self.end()


class Usage(NamedTuple):
    """What this process holds: KiB that are its own alone, descriptors, threads."""

    private: int
    fds: int
    threads: int


def descriptors() -> dict[str, str]:
    """What this process has open, by number."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def usage(memory: bool = False) -> Usage:
    """Now; memory only if it is asked for, since that takes long to tell."""
    private = 0
    if memory:
        rollup = Path("/proc/self/smaps_rollup").read_text()
        private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    return Usage(private, len(os.listdir("/proc/self/fd")), threading.active_count())


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
                for piece in cuts(rng.random, data, 0.15):
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


class Run:
    """A run of the fuzzer, as the command line has it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._fuzzer = Fuzzer(options.seed, max(1, options.world // BATCH))
        self._side = SocketSide(options.socket) if options.socket else None
        self._corpus = Path(options.corpus)
        self._state = Path(options.state) if options.state else None
        self._start = options.start // BATCH
        self._samples: list[list[int]] = []
        self._failures = 0

    def run(self) -> int:
        """1 if anything failed."""
        for kept in sorted(self._corpus.glob("*.bin")):
            self._fuzzer.again(kept.read_bytes())
        self._resume()
        begun, number, last = time.monotonic(), self._start, -(-self._options.inputs // BATCH)
        for number in range(self._start, last):
            self._one(number)
            if self._failures >= self._options.failures:
                break
            if number % SAMPLE == SAMPLE - 1:
                self._sample(number + 1, (number + 1 - self._start) * BATCH / (time.monotonic() - begun))
        seconds = time.monotonic() - begun
        if self._side is not None:
            self._side.close()
        fuzzer = self._fuzzer
        try:
            fuzzer.end()
        except Exception as error:
            self._keep(number, fuzzer.narrow_end(), error)
        through = f", {self._side.count} also over the socket" if self._side is not None else ""
        print(
            f"{fuzzer.judged} inputs (from {self._start * BATCH}, seed {self._options.seed}){through}: {fuzzer.answers} "
            f"answers, {self._failures} failures, {fuzzer.skipped} not judged since the daemon ended, {seconds:.0f} s"
        )
        return 1 if self._failures else 0

    def _resume(self) -> None:
        if self._state is not None and self._state.exists():
            saved = json.loads(self._state.read_text())
            if saved["seed"] == self._options.seed:
                self._start, self._samples = max(self._start, saved["next"] // BATCH), saved["samples"]

    def _one(self, number: int) -> None:
        try:
            inputs = self._fuzzer.batch(number)
            if self._side is not None:
                for one in inputs:
                    if one.number % self._options.every == 0:
                        self._side.one(random.Random(one.number), one.data)
        except Failed as error:
            self._keep(number, self._fuzzer.narrow(number, error), error)
        except Exception as error:
            # The daemon before this batch left something behind, or the next couldn't begin.
            self._keep(number, self._fuzzer.narrow_end(), error)

    def _keep(self, number: int, inputs: Sequence[Input], error: Exception) -> None:
        self._failures += 1
        which = f"input {inputs[0].number}" if len(inputs) == 1 else f"batch of input {number * BATCH}"
        data = b"".join(one.sent for one in inputs)
        print(f"{which} of seed {self._options.seed} failed: {type(error).__name__}: {error}\n  {data[:2000]!r}")
        if data:
            self._corpus.mkdir(parents=True, exist_ok=True)
            kept = self._corpus / f"{self._options.seed}-{inputs[0].number}.bin"
            kept.write_bytes(data)
            print(f"  kept as {kept}", flush=True)

    def _sample(self, batches: int, rate: float) -> None:
        now = usage(memory=True)
        print(f"{batches * BATCH} inputs, {self._failures} failures, {rate:.0f}/s, {now.private} KiB", flush=True)
        before = [sample[1] for sample in self._samples if sample[4] == os.getpid()]
        if before and now.private > before[0] + GROWTH:
            self._failures += 1
            print(f"memory grew from {before[0]} to {now.private} KiB")
        self._samples.append([batches * BATCH, *now, os.getpid(), self._failures])
        if self._state is not None:
            saved = {"seed": self._options.seed, "next": batches * BATCH, "samples": self._samples}
            self._state.write_text(json.dumps(saved))


def main(argv: list[str] | None = None) -> int:
    """Fuzz; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.daemon.fuzz_qmp", description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=2_000_000, help="number of the last input + 1 (default 2000000)")
    parser.add_argument("--start", type=int, default=0, help="number of the first input (default 0)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", default=str(Path(__file__).parent / "corpus"), help="kept failures, tried first")
    parser.add_argument("--state", help="file to resume from and to save progress in")
    parser.add_argument("--world", type=int, default=WORLD * BATCH, help=f"inputs to one machine (default {WORLD * BATCH})")
    parser.add_argument("--socket", help="a daemon's socket; every --every-th input goes there too")
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--failures", type=int, default=20, help="end after so many (default 20)")
    options = parser.parse_args(argv)
    sys.setrecursionlimit(4000)
    return Run(options).run()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (TimeoutError, KeyboardInterrupt) as error:
        print(f"ended: {error!r}")
        os._exit(130)
