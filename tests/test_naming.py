"""Names, paths and data of znodes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aioelect.naming import (
    LAST_SEQUENCE,
    MAX_ENCODED,
    MAX_IDENTITY,
    NATIVE,
    ZnodeData,
    check_identity,
    check_path,
)

HEX = "0123456789abcdef" * 2
ARABIC = "٠١٢٣٤٥٦٧٨٩"

# Names


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("n_0000000000", 0),
        ("n_0000000042", 42),
        ("n_2147483647", 2**31 - 1),
        (f"candidate-{HEX}-0000000007", 7),
    ],
)
def test_names_of_contenders(name: str, sequence: int) -> None:
    assert NATIVE.sequence(name) == sequence


@pytest.mark.parametrize(
    "name",
    [
        "",
        "n_",
        "n_42",
        "n_000000000",
        "n_00000000000",
        "n_0000000000\n",
        "n_0000000000 ",
        " n_0000000000",
        "xn_0000000000",
        "N_0000000000",
        "n-0000000000",
        "n_+000000000",
        "n_-000000001",
        "n_-2147483648",
        f"n_{ARABIC}",
        "0000000000",
        "candidate-0000000007",
        f"candidate-{HEX[1:]}-0000000007",
        f"candidate-{HEX.upper()}-0000000007",
        f"candidate-{HEX}-000000007",
        f"{HEX}__lock__0000000007",
        "_c_01234567-89ab-cdef-0123-456789abcdef-latch-0000000007",
    ],
)
def test_other_names_have_no_sequence(name: str) -> None:
    assert NATIVE.sequence(name) is None


@given(st.lists(st.integers(0, 2**31 - 1), unique=True), st.randoms(use_true_random=False))
def test_the_queue_is_in_the_order_of_the_numbers(numbers: list[int], chance: random.Random) -> None:
    prefixes = ["n_", f"candidate-{HEX}-"]
    expected = [f"{prefixes[number % 2]}{number:010d}" for number in sorted(numbers)]
    shuffled = expected.copy()
    chance.shuffle(shuffled)
    assert NATIVE.queue(shuffled) == NATIVE.queue(expected)
    assert NATIVE.queue(shuffled).contenders == tuple(expected)


@pytest.mark.parametrize(
    "name",
    [
        f"{HEX}__lock__0000000007",
        "_c_01234567-89ab-cdef-0123-456789abcdef-latch-0000000007",
        "_c_01234567-89ab-cdef-0123-456789abcdef-lock-0000000007",
        "0000000007",
        "n_00000000000",
        "n_-2147483648",
        "n_-1000000000",
        "n_-999999999",
        "n_-000000001",
        "candidate-0000000007",
    ],
)
def test_numbered_names_of_others_are_foreign(name: str) -> None:
    queue = NATIVE.queue(["n_0000000001", name])
    assert queue.contenders == ("n_0000000001",)
    assert queue.foreign == (name,)


@pytest.mark.parametrize("name", ["config", "n_", "n_1", "v123456789", f"n_{ARABIC}", "0000000007-old"])
def test_names_without_a_number_are_neither(name: str) -> None:
    queue = NATIVE.queue([name])
    assert queue.contenders == queue.foreign == ()


@given(st.integers(-(2**31), -1))
def test_every_wrapped_number_is_foreign(number: int) -> None:
    name = f"{NATIVE.prefix}{number:010d}"
    assert NATIVE.sequence(name) is None
    assert NATIVE.queue([name]).foreign == (name,)


def test_foreigners_are_named_in_a_fixed_order() -> None:
    assert NATIVE.queue(["b0000000000", "a0000000000"]).foreign == ("a0000000000", "b0000000000")


def test_the_last_number_leaves_room_before_the_wrap() -> None:
    assert NATIVE.sequence(f"{NATIVE.prefix}{LAST_SEQUENCE:010d}") == LAST_SEQUENCE
    assert 2**31 - LAST_SEQUENCE > 1_000_000


# Paths: each of these was put to PathUtils.validatePath of ZooKeeper 3.8.0


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a",
        "/a/b",
        "/...",
        "/.a",
        "/a.",
        "/a..b",
        "/..a",
        "/a/...",
        "/ ",
        "/~",
        "/\xa0",
        "/é",
        "/\ud7ff",
        "/\uf900",
        "/\uffef",
        "/a b/c",
    ],
)
def test_paths_that_zookeeper_takes(path: str) -> None:
    assert check_path(path) is path


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "start with '/'"),
        ("a", "start with '/'"),
        ("/a/", "end with '/'"),
        ("//", "end with '/'"),
        ("/a//b", "empty part"),
        ("//a", "empty part"),
        ("/.", "'.' or '..'"),
        ("/..", "'.' or '..'"),
        ("/a/.", "'.' or '..'"),
        ("/a/./b", "'.' or '..'"),
        ("/a/../b", "'.' or '..'"),
        *((f"/{character}", "characters") for character in "\x00\x01\x1f\x7f\x9f\ud800\ue000\uf8ff\ufff0\uffff"),
        ("/\U0001f600", "emoji"),
    ],
)
def test_paths_that_zookeeper_refuses(path: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^election path must") as caught:
        check_path(path, "election path")
    assert problem in str(caught.value)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("path", [None, b"/a", 5])
def test_a_path_is_text(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be a str, not"):
        check_path(path)


# Identities


@pytest.mark.parametrize("identity", ["a", "a" * MAX_IDENTITY, "wörker-1 ☃", "\U0001f600", "line\nbreak"])
def test_identities(identity: str) -> None:
    assert check_identity(identity) is identity


@pytest.mark.parametrize(
    ("identity", "problem"),
    [
        ("", "must have 1 to 1024 characters, not 0"),
        ("a" * (MAX_IDENTITY + 1), "must have 1 to 1024 characters, not 1025"),
        ("a\ud800", r"can't be encoded as UTF-8: 'a\\ud800'"),
    ],
)
def test_identities_that_are_refused(identity: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^identity {problem}"):
        check_identity(identity)


@pytest.mark.parametrize("identity", [None, b"a", 5])
def test_an_identity_is_text(identity: Any) -> None:
    with pytest.raises(TypeError, match="identity must be a str, not"):
        check_identity(identity)


# Data

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OURS = ("v", "identity", "data", "host", "pid", "nonce")
DATA = st.builds(
    ZnodeData,
    identity=TEXT,
    data=st.binary(max_size=100),
    host=st.none() | TEXT,
    pid=st.none() | st.integers(0, 2**22),
    nonce=TEXT,
    extra=st.dictionaries(TEXT.filter(lambda key: key not in OURS), JSON, max_size=3),
)


@given(DATA)
def test_data_comes_back_with_keys_that_we_do_not_know(data: ZnodeData) -> None:
    assert ZnodeData.decode(data.encode()) == data


def test_the_format() -> None:
    encoded = ZnodeData("wörker", b"\x00\xff", "host", 7, "cafe", {"new": 1}).encode()
    assert json.loads(encoded.decode()) == {
        "v": 1,
        "identity": "wörker",
        "data": "AP8=",
        "host": "host",
        "pid": 7,
        "nonce": "cafe",
        "new": 1,
    }


def test_data_of_a_newer_version_is_read() -> None:
    raw = b'{"v": 2, "identity": "a", "data": "", "weight": [1]}'
    assert ZnodeData.decode(raw) == ZnodeData("a", extra={"weight": [1]})


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_others_wrote_is_read(raw: bytes) -> None:
    assert len(ZnodeData.decode(raw).identity) <= MAX_IDENTITY


@given(st.fixed_dictionaries({"identity": TEXT}, optional={key: JSON for key in OURS if key != "identity"}))
@example({"identity": "a", "data": {"not base64": "x" * MAX_IDENTITY}})
def test_whatever_stands_in_our_keys_is_read(fields: dict[str, Any]) -> None:
    raw = json.dumps(fields).encode()
    read = ZnodeData.decode(raw)
    assert read.identity in (fields["identity"], raw.decode()[:MAX_IDENTITY])
    ZnodeData.decode(read.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"10.0.0.7:8080",
        b"[1]",
        b"5",
        b"null",
        b"{}",
        b'{"identity": 5}',
        b'{"identity": ""}',
        b'{"identity": "\\ud800"}',
        b'{"identity": "a", "host": "\\ud800"}',
        b'{"identity": "a", "data": "?"}',
        b'{"identity": "a", "data": 5}',
        b'{"identity": "' + b"a" * (MAX_IDENTITY + 1) + b'"}',
        b"[" * 100_000,
        b"1" * 10_000,
    ],
)
def test_what_is_not_our_format_is_an_identity(raw: bytes) -> None:
    assert ZnodeData.decode(raw) == ZnodeData(raw.decode()[:MAX_IDENTITY])


@pytest.mark.parametrize("raw", [None, b""])
def test_no_data_is_no_identity(raw: bytes | None) -> None:
    assert ZnodeData.decode(raw) == ZnodeData("")


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert ZnodeData.decode(b"a\xffb").identity == "a�b"


def test_fields_of_other_types_are_dropped() -> None:
    raw = b'{"identity": "a", "host": 5, "pid": true, "nonce": 5, "data": null}'
    assert ZnodeData.decode(raw) == ZnodeData("a")


def test_data_beyond_the_limit_is_refused_with_its_size() -> None:
    overhead = len(ZnodeData("a").encode())
    most = (MAX_ENCODED - overhead) // 4 * 3
    assert len(ZnodeData("a", bytes(most)).encode()) <= MAX_ENCODED
    with pytest.raises(
        ValueError, match=rf"data of {most + 3} bytes is too large: it takes 10000\d\d bytes .*{MAX_ENCODED}"
    ):
        ZnodeData("a", bytes(most + 3)).encode()
