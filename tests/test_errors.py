"""The errors: their tree, what they say, and that they survive a trip to another process."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re

import pytest
from aiozk import exc

from aioelect import errors
from aioelect.errors import (
    AioelectError,
    AuthenticationFailed,
    ClientClosed,
    ConnectionLoss,
    ConnectTimeout,
    Deposed,
    ElectionTimeout,
    Executed,
    ForeignContender,
    LeadershipLost,
    NoLeader,
    NotContending,
    OutcomeUnknown,
    SequenceExhausted,
    ServerSilent,
    SessionExpired,
    SwitchoverTimeout,
    TlsError,
    TransactionRefused,
    UnexpectedAcl,
)
from aioelect.model import LossReason

SAMPLES: list[AioelectError] = [
    LeadershipLost(LossReason.SESSION_EXPIRED, 0x1F, "/election"),
    ElectionTimeout("/election", 1.5, 3),
    ElectionTimeout("/election", 1.5, None),
    ForeignContender("/election", "x0000000001"),
    SequenceExhausted("/election", "n_2147483647"),
    SessionExpired(0x1F),
    ConnectionLoss("zk1", 2181, "reset", Executed.UNKNOWN),
    ConnectionLoss("", 0, "not connected"),
    ServerSilent("zk1", 2181, "no answer", Executed.UNKNOWN),
    ConnectTimeout("zk1:2181,zk2:2181", 30.0, "refused"),
    Deposed("/election", 7),
    TransactionRefused(1, "/register", exc.BadVersion()),
    OutcomeUnknown("/election", 7),
    NoLeader("/election"),
    NotContending("/election", "c3", ("c1", "c2")),
    SwitchoverTimeout("/election", 1.5, "c1"),
    SwitchoverTimeout("/election", 1.5, None),
    UnexpectedAcl("/election", "digest:'me':rwcda", "world:'anyone':rwcda"),
    ClientClosed("the client is closed"),
    AuthenticationFailed("zk1 refused the credentials"),
    TlsError("zk1", 2281, "its certificate is out of date", True),
]


def kind_of(error: AioelectError) -> str:
    return type(error).__name__


def test_the_samples_hold_every_error() -> None:
    public = {getattr(errors, name) for name in errors.__all__} - {Executed, AioelectError, errors.ZooKeeperError}
    assert {type(sample) for sample in SAMPLES} == public


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(
        r"^ +([│├└─ ]*)(\w+)(?: .*)?$", errors.__doc__.split("::")[1].split("Bad arguments")[0], re.MULTILINE
    )
    parents: list[str] = []
    for branches, name in drawn:
        depth = len(branches) // 4
        kind = getattr(errors, name)
        if depth:
            assert getattr(errors, parents[depth - 1]) in kind.__bases__
        parents[depth:] = [name]
    assert {name for _, name in drawn} == set(errors.__all__) - {"Executed", "ZooKeeperError"}


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (ElectionTimeout, TimeoutError),
        (ElectionTimeout, asyncio.TimeoutError),
        (ConnectTimeout, TimeoutError),
        (SessionExpired, exc.SessionLost),
        (ConnectionLoss, exc.ConnectError),
        (ServerSilent, exc.TimeoutError),
        (ClientClosed, exc.InvalidClientState),
        (AuthenticationFailed, exc.ZKError),
    ],
)
def test_who_catches_the_usual_error_catches_ours(kind: type[Exception], also: type[Exception]) -> None:
    assert issubclass(kind, also)


@pytest.mark.parametrize("error", SAMPLES, ids=kind_of)
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])
def test_errors_can_be_pickled_and_copied(error: AioelectError, again: object) -> None:
    assert callable(again)
    other = again(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert repr(vars(other)) == repr(vars(error))


@pytest.mark.parametrize("error", SAMPLES, ids=kind_of)
def test_no_error_pretends_to_have_an_errno(error: AioelectError) -> None:
    assert getattr(error, "errno", None) is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SAMPLES[0], "leadership of /election (token 0x1f) was lost: ZooKeeper ended the session"),
        (SAMPLES[1], "not elected to /election within 1.5 s: 3 were before it"),
        (
            SAMPLES[2],
            "not elected to /election within 1.5 s: two or more were before it, or it had no place in the queue yet",
        ),
        (SAMPLES[3], "'x0000000001', which is no name of this election"),
        (SAMPLES[3], "Give each recipe a folder of its own, or delete that znode"),
        (SAMPLES[4], "'n_2147483647'"),
        (SAMPLES[4], "stop all contenders, delete /election and start them again"),
        (SAMPLES[5], "session 0x1f has ended"),
        (SAMPLES[6], "connection to zk1:2181 lost (reset); whether the request was executed is unknown: look before"),
        (SAMPLES[7], "connection lost (not connected); the request was not executed"),
        (SAMPLES[-1], "no TLS connection to zk1:2281: its certificate is out of date"),
        (SAMPLES[9], "no ZooKeeper session from zk1:2181,zk2:2181 within 30 s (refused). Check the hosts string"),
    ],
)
def test_what_errors_say(error: AioelectError, said: str) -> None:
    assert said in str(error)


def test_errors_carry_facts() -> None:
    lost = LeadershipLost(LossReason.NODE_DELETED, 7, "/election")
    assert (lost.reason, lost.token, lost.election) == (LossReason.NODE_DELETED, 7, "/election")
    late = ElectionTimeout("/election", 1.5, 3)
    assert (late.election, late.timeout, late.position) == ("/election", 1.5, 3)
    loss = ConnectionLoss("zk1", 2181, "reset", Executed.UNKNOWN)
    assert (loss.host, loss.port, loss.why, loss.executed) == ("zk1", 2181, "reset", Executed.UNKNOWN)
    nobody = ConnectTimeout("zk1", 3.0, "refused")
    assert (nobody.hosts, nobody.timeout, nobody.why, nobody.executed) == ("zk1", 3.0, "refused", Executed.NO)


def test_a_request_that_was_never_sent_was_not_executed() -> None:
    assert ConnectionLoss("zk1", 2181, "refused").executed is Executed.NO
