"""Text that others wrote: read without harm, and shown escaped and no longer than it needs to be."""

from __future__ import annotations

import json
import logging
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

import aioelect
from aioelect import errors, get_standing
from aioelect.cli.app import app
from aioelect.cli.text import LONGEST, clean, describe
from aioelect.control import Request
from aioelect.handover import _has_ended
from aioelect.model import Contender
from aioelect.naming import MAX_ENCODED, MAX_IDENTITY, MAX_PID, NATIVE, ZnodeData
from aioelect.testing.embedded import EmbeddedServer
from tests.conftest import Logged

HOSTILE = {
    "terminal": "\x1b]0;owned\x07\x1b[2J\x1b[8m",
    "lines": "a\r\nERROR: all is lost\x85\u2028\u2029\v\f",
    "bidi": "user\u202e\u2066gnp.exe\u2069\u200f",
    "invisible": "a\u200b\ufeff\xa0\xad\U000e0041b",
    "nul": "\0\x7f\x9b31m",
    "format": "%s%n{0!r}{self.__class__}",
    "markup": "[bold red]x[/]",
    "long": "\x1b" * 1_000_000,
}
texts = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


def check_harmless(shown: str, most: int) -> None:
    assert shown.isprintable(), shown[:200]
    assert len(shown) <= most


# Reading


@pytest.mark.parametrize(
    "raw",
    [
        b"1" * 1_000_000,
        b'{"identity": "a", "pid": ' + b"9" * 5_000 + b"}",
        b"[" * 1_000_000,
        b'{"a":' * 150_000,
        b'{"identity": "a", "weight": NaN}',
        b'{"identity": "a", "weight": -Infinity}',
        b'{"identity": "' + b"a" * 999_000 + b'"}',
        b'{"identity": "a"}' + b" " * MAX_ENCODED,
        b'{"identity": "\\ud83d"}',
        b"\"__import__('os')\"",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0",
        b"\xff" * 1_000_000,
        "\U0001f600".encode() * 250_000,
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_is_no_json_of_ours_is_the_beginning_of_a_text(raw: bytes) -> None:
    assert ZnodeData.decode(raw) == ZnodeData(raw.decode("utf-8", "replace")[:MAX_IDENTITY])


@pytest.mark.parametrize("pid", [-1, MAX_PID + 1, 10**4_000, 1.5, "7", True, [7]])
def test_a_pid_that_no_process_can_have_is_none(pid: Any) -> None:
    said = ZnodeData.decode(json.dumps({"identity": "a", "pid": pid}).encode())
    assert (said.identity, said.pid) == ("a", None)


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert ZnodeData.decode(b'{"identity": "a", "pid": 1, "identity": "b"}').identity == "b"


def test_reading_a_megabyte_of_nonsense_takes_no_more_than_it_is_worth() -> None:
    tracemalloc.start()
    try:
        ZnodeData.decode(b'{"identity": "a", "x": [' + b"[]," * 300_000 + b"[]]}")
        left, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 60_000_000
    assert left < 1_000_000


@pytest.mark.parametrize("note", [b"[" * 1_000_000, b"9" * 10_000, b"\xff", b'{"ended": "true"}', b"null", None])
def test_a_note_of_nonsense_says_that_no_term_has_ended(note: bytes | None) -> None:
    assert not _has_ended(note)


@texts
def test_a_hostile_name_is_neither_a_contender_nor_a_request(text: str) -> None:
    name = text.replace("/", "")
    assert NATIVE.sequence(name) is None
    assert NATIVE.queue([name]).contenders == ()
    assert Request.parse(name) is None


# Showing


@texts
def test_clean_text_obeys_nobody_and_ends(text: str) -> None:
    check_harmless(clean(text), 11 * LONGEST)
    assert clean(clean(text)) == clean(text) or len(text) > LONGEST


def test_clean_text_says_how_long_it_was() -> None:
    assert clean("a" * LONGEST) == "a" * LONGEST
    assert clean("a" * 10_000) == "a" * LONGEST + "... (10000 characters)"


@texts
def test_what_contenders_of_the_demo_tell_is_shown_cleanly(text: str) -> None:
    for event in ({"event": "Disconnected", "why": text}, {"event": "Failed", "error": text}):
        check_harmless(describe(event) or "", 11 * LONGEST + 100)


ERRORS: dict[str, Callable[[str], Exception]] = {
    "ForeignContender": lambda text: errors.ForeignContender("/election", text),
    "SequenceExhausted": lambda text: errors.SequenceExhausted("/election", text),
    "NotContending": lambda text: errors.NotContending("/election", text, (text,) * 1_000),
    "SwitchoverTimeout": lambda text: errors.SwitchoverTimeout("/election", 1.0, text),
}


@texts
@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_errors_quote_others_escaped_and_in_short(make: Callable[[str], Exception], text: str) -> None:
    """The text itself is in the error's attributes, whole."""
    error = make(text)
    check_harmless(str(error), 25_000)
    assert text in error.args or error.args[-1] == text


@texts
def test_a_contender_is_shown_without_its_data(text: str) -> None:
    contender = Contender(
        text[:MAX_IDENTITY], b"\x1b" * 750_000, 1, "/election/n_0000000000", 0.0, text[:MAX_IDENTITY], 7
    )
    check_harmless(repr(contender), 25_000)


@texts
async def test_hostile_contenders_are_seen_and_harm_nobody(
    text: str, caplog: pytest.LogCaptureFixture, logged: Logged
) -> None:
    caplog.set_level(logging.DEBUG, "aioelect")
    identity = text[:MAX_IDENTITY]
    written = (ZnodeData(identity, host=identity).encode(), text.encode()[:MAX_ENCODED], b"[" * MAX_ENCODED)
    async with EmbeddedServer() as server, aioelect.connect(server.hosts) as client:
        await client.ensure_path("/election")
        for raw in written:
            await client.create("/election/n_", raw, ephemeral=True, sequential=True)
        seen = [contender.identity for contender in (await get_standing(client, "/election")).contenders]
        assert seen == [identity, text[:MAX_IDENTITY], "[" * MAX_IDENTITY]
        with pytest.raises(aioelect.NotContending) as refused:
            await aioelect.hand_over(client, "/election", "nobody")
        check_harmless(str(refused.value), 25_000)
        with pytest.raises(aioelect.SwitchoverTimeout) as late:
            await aioelect.step_down(client, "/election", timeout=0.05)
        check_harmless(str(late.value), 25_000)
    for record in logged():
        check_harmless(record.getMessage(), 10_000)


async def test_foreign_names_are_refused_by_a_short_message(caplog: pytest.LogCaptureFixture, logged: Logged) -> None:
    caplog.set_level(logging.DEBUG, "aioelect")
    name = "%s{0}\u202e" + "ä" * 100_000
    async with EmbeddedServer() as server, aioelect.connect(server.hosts) as client:
        await client.ensure_path("/election")
        made = await client.create(f"/election/{name}", sequential=True, ephemeral=True)
        with pytest.raises(aioelect.ForeignContender) as refused:
            async with aioelect.leadership(client, "/election"):
                pytest.fail("elected beside a foreigner")
        assert refused.value.name == made.rpartition("/")[2]
        check_harmless(str(refused.value), 2_000)
    for record in logged():
        if "gives up" in record.getMessage():
            check_harmless(record.getMessage(), 2_000)


def test_the_command_line_shows_a_new_leader_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Contender(HOSTILE["terminal"] + HOSTILE["lines"], b"", 1, "/e/n_0000000000", 0.0)

    async def switch(*_: object, **__: object) -> Contender:
        return shown

    monkeypatch.setattr("aioelect.cli.step_down._switch", switch)
    result = CliRunner().invoke(app, ["step-down", "/e", "--hosts", "127.0.0.1:1"])
    assert result.exit_code == 0
    check_harmless(result.output.rstrip("\n"), 2_000)
