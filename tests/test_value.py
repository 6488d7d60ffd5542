"""Values behave as frozen, slotted dataclasses do, and say so to whoever asks ``dataclasses``."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from aioelect.value import record, value


@value
class Nothing:
    """Without fields."""


@value
class One:
    """With one."""

    name: str


@value
class Several:
    """With some of all kinds."""

    number: int
    secret: str = dataclasses.field(repr=False)
    text: str = "text"
    extra: dict[str, int] = dataclasses.field(default_factory=dict)
    length: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.text))


@value
class Longer(One):
    """With one more than another."""

    weight: float = 1.0


@record
class Fact:
    """By name."""

    at: float


@record
class Told(Fact):
    """By name, too."""

    why: str = "unknown"


MAKE: list[Callable[[], Any]] = [
    Nothing,
    lambda: One("a"),
    lambda: Several(1, "s"),
    lambda: Longer("a"),
    lambda: Longer("a", weight=2.0),
    lambda: Fact(at=1.0),
    lambda: Told(at=1.0, why="b"),
]
EACH = pytest.mark.parametrize("make", MAKE, ids=lambda make: repr(make()))


@EACH
def test_a_value_is_equal_to_its_likes_alone(make: Callable[[], Any]) -> None:
    assert make() == make()
    assert sum(make() == other() for other in MAKE) == 1
    assert make() != dataclasses.astuple(make())


def test_every_field_counts() -> None:
    one = Several(1, "s", "t", {"a": 1})
    others = (
        Several(2, "s", "t", {"a": 1}),
        Several(1, "z", "t", {"a": 1}),
        Several(1, "s", "u", {"a": 1}),
        Several(1, "s", "t"),
    )
    assert dataclasses.replace(one, number=1) == one
    assert one not in others


def test_equal_values_have_equal_hashes() -> None:
    hashable = [make for make in MAKE if not isinstance(make(), Several)]
    for make in hashable:
        assert hash(make()) == hash(make())
    assert len({make() for make in hashable * 2}) == len(hashable)


@EACH
def test_a_value_can_not_be_changed(make: Callable[[], Any]) -> None:
    thing = make()
    for name in [*(field.name for field in dataclasses.fields(thing)), "another"]:
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(thing, name, None)
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete field '{name}'"):
            delattr(thing, name)
    assert thing == make()
    assert not hasattr(thing, "__dict__")


@EACH
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_value_survives_pickle_and_copy(make: Callable[[], Any], protocol: int) -> None:
    for again in (pickle.loads(pickle.dumps(make(), protocol)), copy.copy(make()), copy.deepcopy(make())):
        assert again == make()
        assert type(again) is type(make())


def test_fields_are_shown_but_for_those_that_are_not() -> None:
    assert repr(Nothing()) == "Nothing()"
    assert repr(Several(1, "s")) == "Several(number=1, text='text', extra={}, length=4)"
    assert repr(Told(at=1.0)) == "Told(at=1.0, why='unknown')"


def test_positions_match() -> None:
    match Longer("a", 2.0):
        case Longer(name, weight):
            assert (name, weight) == ("a", 2.0)
        case _:
            pytest.fail("no match")
    assert Told.__match_args__ == ()


def test_each_has_defaults_of_its_own() -> None:
    first, second = Several(1, "s"), Several(1, "s")
    first.extra["a"] = 1
    assert second.extra == {}


def test_wrong_arguments_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"Several.__init__\(\) missing 1 required positional argument: 'secret'"):
        Several(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'length'"):
        Several(1, "s", length=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional argument"):
        Fact(1.0)  # type: ignore[call-arg]


def test_dataclasses_knows_them() -> None:
    assert all(dataclasses.is_dataclass(make()) for make in MAKE)
    assert dataclasses.asdict(Told(at=1.0)) == {"at": 1.0, "why": "unknown"}
    assert [field.kw_only for field in dataclasses.fields(Told)] == [True, True]
    assert str(inspect.signature(Longer)) == "(name: 'str', weight: 'float' = 1.0) -> None"
    assert str(inspect.signature(Told)) == "(*, at: 'float', why: 'str' = 'unknown') -> None"
    assert vars(Longer)["__slots__"] == ("weight",)
