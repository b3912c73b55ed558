"""Codes and sessions, by a clock of the test's own."""

from __future__ import annotations

from ratite.daemon.web.login import CODE_SECONDS, CODES_MAX, SESSION_SECONDS, SESSIONS_MAX, Login


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_code_serves_once() -> None:
    login = Login(Clock())
    code = login.mint()
    token = login.exchange(code)
    assert token is not None
    assert token != code
    assert login.exchange(code) is None
    assert login.known(token)
    assert not login.known(code)


def test_a_code_serves_a_minute() -> None:
    clock = Clock()
    login = Login(clock)
    early, late = login.mint(), login.mint()
    clock.now += CODE_SECONDS - 0.001
    assert login.exchange(early)
    clock.now += 0.001
    assert login.exchange(late) is None


def test_what_never_was_a_code_is_refused() -> None:
    login = Login(Clock())
    code = login.mint()
    for wrong in ("", code[:-1], code + "A", code.swapcase(), "\udc80", "é" * 40):
        assert login.exchange(wrong) is None
        assert not login.known(wrong)
    assert login.exchange(code), "none of these has used it up"


def test_a_session_lives_while_it_is_used() -> None:
    clock = Clock()
    login = Login(clock)
    token = login.exchange(login.mint())
    assert token is not None
    for _ in range(3):
        clock.now += SESSION_SECONDS - 1
        assert login.known(token)
    clock.now += SESSION_SECONDS
    assert not login.known(token)


def test_a_session_that_ends_is_told_of_once() -> None:
    clock, ended = Clock(), list[bytes]()
    login = Login(clock, ended.append)
    tokens = [login.exchange(login.mint()) or "" for _ in range(3)]
    first, second, third = (login.known(token) or b"" for token in tokens)
    login.end(first)
    login.end(first)
    login.use(first)
    assert ended == [first]
    assert not login.known(tokens[0])
    clock.now += SESSION_SECONDS - 1
    login.use(second)
    clock.now += 1
    assert login.known(tokens[1]) == second
    assert ended == [first, third], "it was not used"
    for _ in range(SESSIONS_MAX):
        login.exchange(login.mint())
    assert ended == [first, third, second], "too many came after it"


def test_neither_codes_nor_sessions_pile_up() -> None:
    login = Login(Clock())
    codes = [login.mint() for _ in range(CODES_MAX + 1)]
    assert login.exchange(codes[0]) is None, "the oldest has gone"
    first = login.exchange(codes[1])
    assert first is not None
    for _ in range(SESSIONS_MAX):
        login.exchange(login.mint())
    assert not login.known(first)


def test_codes_cannot_be_guessed() -> None:
    login = Login(Clock())
    codes = {login.mint() for _ in range(100)}
    assert len(codes) == 100
    assert min(map(len, codes)) >= 43, "256 bits"
