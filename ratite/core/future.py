"""`Future`: what somebody else does meanwhile.  concurrent.futures has the same and more, and takes as long to import as a
small machine to assemble."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Future(Generic[_T]):
    """Its value or its error, set once, on any thread.  Who asks first waits."""

    __slots__ = ("_error", "_latch", "_mutex", "_then", "_value")
    _value: _T

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._mutex = threading.Lock()
        # None once it is settled.
        self._then: list[Callable[[Future[_T]], None]] | None = []
        # Free once it is settled.
        self._latch = threading.Lock()
        self._latch.acquire()

    def done(self) -> bool:
        """Whether it is settled."""
        return self._then is None

    def add_done_callback(self, then: Callable[[Future[_T]], None]) -> None:
        """Call `then(self)` where it is settled, or at once."""
        with self._mutex:
            if self._then is not None:
                self._then.append(then)
                return
        then(self)

    def set_result(self, value: _T) -> None:
        """It came to this."""
        self._value = value
        self._settle()

    def set_exception(self, error: BaseException) -> None:
        """It failed by this."""
        self._error = error
        self._settle()

    def _settle(self) -> None:
        with self._mutex:
            then, self._then = self._then, None
        assert then is not None, "a future is settled once"
        self._latch.release()
        for each in then:
            each(self)

    def result(self, timeout: float | None = None) -> _T:
        """Its value; raises its error, or TimeoutError after `timeout` seconds."""
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Its error, None where it has a value; TimeoutError."""
        if not self._latch.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError
        self._latch.release()
        return self._error
