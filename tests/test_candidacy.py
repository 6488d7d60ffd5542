"""The queue machine: by example, by its table, and in every order in which a folder can be seen.

``python -m tests.test_candidacy`` draws the diagram in docs/candidacy.md anew.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pytest

from aioelect.candidacy import (
    TRANSITIONS,
    AheadSeen,
    Announce,
    Candidacy,
    Command,
    Create,
    Deleted,
    Enter,
    Entered,
    Event,
    Exorcise,
    Idle,
    Lead,
    Listed,
    ListFolder,
    LookAhead,
    Lose,
    Occupant,
    OwnSeen,
    PredecessorSeen,
    Refusal,
    Refuse,
    SessionEnded,
    State,
    WatchOwn,
    WatchPredecessor,
    Withdraw,
)
from aioelect.model import LossReason
from aioelect.naming import LAST_SEQUENCE, NATIVE

A, B, AHEAD, GUESS, OWN, LATER, LATEST = (f"n_{number:010d}" for number in (1, 2, 4, 5, 6, 7, 9))
ZERO, ONE, TWO = (f"n_{number:010d}" for number in range(3))
FOREIGN = "somebody__lock__0000000009"

ENTERED = Entered(1, OWN, 77)
OWN_THERE, OWN_MISSING = OwnSeen(1, alive=True), OwnSeen(1, alive=False)
GUESSED, MISGUESSED = PredecessorSeen(1, GUESS, Occupant.CONTENDER), PredecessorSeen(1, GUESS, Occupant.NOBODY)
AHEAD_THERE, AHEAD_MISSING = AheadSeen(1, AHEAD, alive=True), AheadSeen(1, AHEAD, alive=False)
FIRST = Listed(1, (LATER, OWN))
SECOND = Listed(1, (B, LATER, OWN))
THIRD = Listed(1, (OWN, A, B))

GUESSING = (Enter(), ENTERED)
PLACING = (*GUESSING, MISGUESSED)
WAITING = (*PLACING, OWN_THERE, THIRD, PredecessorSeen(1, B, Occupant.CONTENDER))
FAR_BEHIND = (*GUESSING, OWN_THERE, GUESSED, AHEAD_THERE)
NEXT = (*PLACING, OWN_THERE, SECOND, PredecessorSeen(1, B, Occupant.CONTENDER))
LEADING = (*PLACING, OWN_THERE, FIRST)

BEHIND_ZERO = (Enter(), Entered(1, ONE, 77))
NEXT_TO_ZERO = (*BEHIND_ZERO, OWN_THERE, PredecessorSeen(1, ZERO, Occupant.CONTENDER))

LOST = Lose(LossReason.NODE_DELETED, requeue=True)
EXPIRED = Lose(LossReason.SESSION_EXPIRED, requeue=True)


def after(*events: Event) -> Candidacy:
    """A candidacy that took these events, one by one."""
    candidacy = Candidacy(NATIVE)
    for event in events:
        candidacy.receive([event])
    return candidacy


def orders(*events: Event) -> list[tuple[Event, ...]]:
    """Answers come in any order when requests are repeated on the next connection."""
    return list(itertools.permutations(events))


# Entering


def test_entering_creates_a_znode() -> None:
    assert Candidacy(NATIVE).receive([Enter()]) == [Create(1)]


def test_entries_go_on_counting_from_where_they_are_told_to() -> None:
    assert Candidacy(NATIVE, entry=5).receive([Enter()]) == [Create(6)]


def test_the_own_znode_is_watched_first() -> None:
    candidacy = after(Enter())
    assert candidacy.receive([ENTERED])[0] == WatchOwn(1, OWN)
    assert (candidacy.name, candidacy.token) == (OWN, 77)


@pytest.mark.parametrize(
    "name", [f"n_{LAST_SEQUENCE + 1:010d}", "n_2147483647", "n_-2147483648", "n_-000000001", "n_12345678901", "n_x"]
)
def test_a_number_near_the_wrap_is_refused(name: str) -> None:
    candidacy = after(Enter())
    assert candidacy.receive([Entered(1, name, 77)]) == [Refuse(Refusal.SEQUENCE, name)]
    assert candidacy.state is State.GONE
    assert candidacy.name == name  # whoever performs the refusal deletes it


def test_the_last_number_is_taken() -> None:
    name = f"n_{LAST_SEQUENCE:010d}"
    candidacy = after(Enter(), Entered(1, name, 77), OWN_THERE)
    assert candidacy.receive([Listed(1, (name,))]) == [Announce(0), Lead()]


# The guess


def test_the_two_before_are_guessed_and_no_list_is_asked_for() -> None:
    assert after(Enter()).receive([ENTERED]) == [WatchOwn(1, OWN), WatchPredecessor(1, GUESS), LookAhead(1, AHEAD)]


def test_the_name_that_is_guessed_is_one_of_ours_whatever_the_own_name_is() -> None:
    own = f"candidate-{'f' * 32}-0000000006"
    commands = after(Enter()).receive([Entered(1, own, 77)])
    assert commands == [WatchOwn(1, own), WatchPredecessor(1, GUESS), LookAhead(1, AHEAD)]


def test_number_1_guesses_number_0_alone() -> None:
    assert after(Enter()).receive([Entered(1, ONE, 77)]) == [WatchOwn(1, ONE), WatchPredecessor(1, ZERO)]


def test_number_0_has_nobody_to_guess_and_lists() -> None:
    candidacy = after(Enter())
    assert candidacy.receive([Entered(1, ZERO, 77)]) == [WatchOwn(1, ZERO), ListFolder(1)]
    assert candidacy.receive([OWN_THERE]) == []
    assert candidacy.receive([Listed(1, (ONE, ZERO))]) == [Announce(0), Lead()]


@pytest.mark.parametrize("order", orders(OWN_THERE, GUESSED, AHEAD_THERE))
def test_with_two_before_it_a_contender_waits_at_a_place_that_nobody_counted(order: tuple[Event, ...]) -> None:
    candidacy = after(*GUESSING)
    commands = [command for event in order for command in candidacy.receive([event])]
    assert commands == [Announce(None)]
    assert (candidacy.state, candidacy.position, candidacy.is_placed) == (State.WAITING, None, True)
    assert candidacy.receive([Idle()]) == [LookAhead(1, AHEAD)]
    assert candidacy.receive([AHEAD_THERE]) == []


@pytest.mark.parametrize("order", orders(GUESSED, AHEAD_THERE))
def test_it_is_far_behind_though_its_own_watch_is_not_set(order: tuple[Event, ...]) -> None:
    candidacy = after(*GUESSING, *order)
    assert candidacy.state is State.WAITING
    assert candidacy.receive([OWN_MISSING]) == [LOST, Create(2)]


def test_who_is_far_behind_lists_when_its_predecessor_goes() -> None:
    candidacy = after(*FAR_BEHIND)
    assert candidacy.receive([Deleted(GUESS)]) == [ListFolder(1)]
    assert (candidacy.state, candidacy.is_placed) == (State.PLACING, False)
    assert candidacy.receive([Listed(1, (AHEAD, OWN))]) == [Announce(1), WatchPredecessor(1, AHEAD)]


def test_who_is_far_behind_lists_once_nobody_is_before_its_predecessor() -> None:
    candidacy = after(*FAR_BEHIND, Idle())
    assert candidacy.receive([AHEAD_MISSING]) == [ListFolder(1)]
    assert candidacy.receive([Listed(1, (GUESS, OWN))]) == [Announce(1)]
    assert candidacy.state is State.NEXT
    assert candidacy.receive([Deleted(GUESS)]) == [Lead(), ListFolder(1)]


def test_a_list_that_counts_who_is_before_is_announced_though_nobody_has_moved() -> None:
    candidacy = after(*FAR_BEHIND, Idle(), AHEAD_MISSING)
    assert candidacy.receive([Listed(1, (A, B, GUESS, OWN))]) == [Announce(3)]
    assert candidacy.state is State.WAITING
    assert candidacy.receive([Idle()]) == [LookAhead(1, B)]


@pytest.mark.parametrize("order", orders(OWN_THERE, GUESSED, AHEAD_MISSING))
@pytest.mark.parametrize(
    ("names", "position", "state"),
    [((GUESS, OWN), 1, State.NEXT), ((A, GUESS, OWN), 2, State.WAITING), ((FOREIGN, OWN), None, State.GONE)],
)
def test_that_nobody_is_seen_before_the_predecessor_proves_nothing(
    order: tuple[Event, ...], names: tuple[str, ...], position: int | None, state: State
) -> None:
    candidacy = after(*GUESSING)
    commands = [command for event in order for command in candidacy.receive([event])]
    assert commands == [ListFolder(1)]
    assert (candidacy.state, candidacy.is_placed) == (State.PLACING, False)
    assert candidacy.receive([Listed(1, names)]) == [
        Announce(position) if position else Refuse(Refusal.FOREIGN, FOREIGN)
    ]
    assert (candidacy.state, candidacy.position) == (state, position)


@pytest.mark.parametrize("ahead", [(), (AHEAD_THERE,), (AHEAD_MISSING,)])
@pytest.mark.parametrize("gone", [MISGUESSED, Deleted(GUESS)])
def test_that_nobody_is_seen_where_the_predecessor_should_be_proves_nothing(
    gone: Event, ahead: tuple[Event, ...]
) -> None:
    other = f"candidate-{'0' * 32}-0000000005"
    candidacy = after(*GUESSING, OWN_THERE, *ahead)
    assert candidacy.receive([gone]) == [ListFolder(1)]
    assert (candidacy.state, candidacy.is_placed) == (State.PLACING, False)
    assert candidacy.receive([Listed(1, (other, OWN))]) == [Announce(1), WatchPredecessor(1, other)]


@pytest.mark.parametrize("gone", [PredecessorSeen(1, ZERO, Occupant.NOBODY), Deleted(ZERO)])
def test_even_number_0_may_have_another_name(gone: Event) -> None:
    other = f"candidate-{'0' * 32}-0000000000"
    candidacy = after(*BEHIND_ZERO, OWN_THERE)
    assert candidacy.receive([gone]) == [ListFolder(1)]
    assert candidacy.receive([Listed(1, (other, ONE))]) == [Announce(1), WatchPredecessor(1, other)]


def test_a_guess_that_is_gone_by_the_time_that_nobody_is_seen_before_it_is_asked_for_no_more() -> None:
    candidacy = after(*GUESSING, OWN_THERE, AHEAD_MISSING)
    assert candidacy.receive([FIRST]) == [Announce(0), Lead()]
    assert candidacy.receive([MISGUESSED, Deleted(GUESS)]) == []
    candidacy = after(*GUESSING, OWN_THERE, AHEAD_MISSING)
    assert candidacy.receive([SECOND]) == [Announce(1), WatchPredecessor(1, B)]
    assert candidacy.receive([MISGUESSED]) == []
    assert candidacy.predecessor == B


def test_a_guess_that_is_confirmed_after_the_list_is_not_watched_twice() -> None:
    candidacy = after(*GUESSING, OWN_THERE, AHEAD_MISSING)
    assert candidacy.receive([Listed(1, (GUESS, OWN))]) == [Announce(1)]
    assert not candidacy.receive([GUESSED])
    assert candidacy.state is State.NEXT


def test_a_list_without_the_guess_leaves_it_to_its_watch() -> None:
    candidacy = after(*GUESSING, OWN_THERE, GUESSED, AHEAD_MISSING)
    assert candidacy.receive([FIRST]) == []
    assert candidacy.receive([Deleted(GUESS)]) == [ListFolder(1)]
    assert candidacy.receive([FIRST]) == [Announce(0), Lead()]


@pytest.mark.parametrize("order", orders(OWN_THERE, NEXT_TO_ZERO[-1]))
def test_who_finds_number_0_just_before_it_is_next_without_a_list(order: tuple[Event, ...]) -> None:
    candidacy = after(*BEHIND_ZERO)
    commands = [command for event in order for command in candidacy.receive([event])]
    assert commands == [Announce(1)]
    assert candidacy.state is State.NEXT
    assert candidacy.receive([Idle()]) == []
    assert candidacy.receive([Deleted(ZERO)]) == [Lead(), ListFolder(1)]


def test_next_to_number_0_nobody_leads_before_its_own_watch_is_confirmed() -> None:
    candidacy = after(*BEHIND_ZERO, PredecessorSeen(1, ZERO, Occupant.CONTENDER))
    assert candidacy.state is State.PLACING
    assert candidacy.receive([Deleted(ZERO)]) == []
    assert candidacy.receive([OWN_MISSING]) == [LOST, Create(2)]


def test_number_2_is_not_next_though_number_0_is_there() -> None:
    candidacy = after(Enter(), Entered(1, TWO, 77), OWN_THERE, PredecessorSeen(1, ONE, Occupant.CONTENDER))
    assert candidacy.receive([AheadSeen(1, ZERO, alive=True)]) == [Announce(None)]
    assert candidacy.receive([Deleted(ONE)]) == [ListFolder(1)]


@pytest.mark.parametrize("path", [(*GUESSING, OWN_THERE), (*GUESSING, OWN_THERE, AHEAD_THERE)])
def test_a_ghost_that_was_guessed_is_deleted(path: tuple[Event, ...]) -> None:
    candidacy = after(*path)
    assert candidacy.receive([PredecessorSeen(1, GUESS, Occupant.GHOST)])[-1] == Exorcise(GUESS)
    assert candidacy.receive([Deleted(GUESS)]) == [ListFolder(1)]


def test_a_ghost_at_number_0_is_deleted() -> None:
    candidacy = after(*BEHIND_ZERO, OWN_THERE)
    assert candidacy.receive([PredecessorSeen(1, ZERO, Occupant.GHOST)]) == [Announce(1), Exorcise(ZERO)]
    assert candidacy.receive([Deleted(ZERO)]) == [Lead(), ListFolder(1)]


def test_a_squatter_that_was_guessed_is_refused() -> None:
    candidacy = after(*GUESSING, OWN_THERE)
    assert candidacy.receive([PredecessorSeen(1, GUESS, Occupant.SQUATTER)]) == [Refuse(Refusal.FOREIGN, GUESS)]


# First in the queue


def test_who_is_first_leads() -> None:
    candidacy = after(*PLACING, OWN_THERE)
    assert candidacy.receive([FIRST]) == [Announce(0), Lead()]


def test_who_is_first_leads_only_once_its_own_watch_is_set() -> None:
    candidacy = after(*PLACING)
    assert candidacy.receive([FIRST]) == [Announce(0)]
    assert candidacy.state is State.PLACING
    assert candidacy.receive([OWN_THERE]) == [Lead()]


def test_who_is_first_but_was_deleted_queues_again() -> None:
    candidacy = after(*PLACING, FIRST)
    assert candidacy.receive([OWN_MISSING]) == [LOST, Create(2)]


def test_a_folder_without_the_own_znode_means_it_was_deleted() -> None:
    candidacy = after(*PLACING, OWN_THERE)
    assert candidacy.receive([Listed(1, (A, B))]) == [LOST, Create(2)]


def test_the_order_is_that_of_the_numbers_not_of_the_names() -> None:
    other = f"candidate-{'f' * 32}-0000000002"
    candidacy = after(*PLACING, OWN_THERE)
    assert candidacy.receive([Listed(1, (OWN, other))]) == [Announce(1), WatchPredecessor(1, other)]


# Waiting


def test_a_contender_watches_the_one_just_before_it() -> None:
    candidacy = after(*PLACING, OWN_THERE)
    assert candidacy.receive([THIRD]) == [Announce(2), WatchPredecessor(1, B)]
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.CONTENDER)]) == []
    assert (candidacy.state, candidacy.position, candidacy.is_placed) == (State.WAITING, 2, True)


def test_a_deletion_before_a_waiting_contender_makes_it_list_again() -> None:
    candidacy = after(*WAITING)
    assert candidacy.receive([Deleted(B)]) == [ListFolder(1)]
    assert candidacy.receive([Listed(1, (A, OWN))]) == [Announce(1), WatchPredecessor(1, A)]
    assert candidacy.receive([PredecessorSeen(1, A, Occupant.CONTENDER)]) == []
    assert candidacy.state is State.NEXT
    assert candidacy.receive([Deleted(A)]) == [Lead(), ListFolder(1)]


def test_an_idle_contender_looks_whether_its_predecessor_leads_by_now() -> None:
    candidacy = after(*WAITING)
    assert candidacy.receive([Idle()]) == [LookAhead(1, A)]
    assert candidacy.receive([AheadSeen(1, A, alive=True)]) == []
    assert candidacy.receive([Idle()]) == [LookAhead(1, A)]
    assert candidacy.receive([AheadSeen(1, A, alive=False)]) == [ListFolder(1)]
    assert candidacy.receive([SECOND]) == [Announce(1)]
    assert candidacy.state is State.NEXT
    assert candidacy.receive([Deleted(B)]) == [Lead(), ListFolder(1)]


def test_that_somebody_ahead_has_gone_alone_makes_nobody_next() -> None:
    first = "n_0000000000"
    candidacy = after(*PLACING, OWN_THERE, Listed(1, (first, A, B, OWN)), PredecessorSeen(1, B, Occupant.CONTENDER))
    assert candidacy.receive([Idle()]) == [LookAhead(1, A)]
    assert candidacy.receive([AheadSeen(1, A, alive=False)]) == [ListFolder(1)]
    assert candidacy.receive([Listed(1, (first, B, OWN))]) == [Announce(2)]
    assert candidacy.state is State.WAITING
    assert candidacy.receive([Idle()]) == [LookAhead(1, first)]


def test_a_listing_without_the_predecessor_leaves_it_to_its_watch() -> None:
    candidacy = after(*WAITING, Idle(), AheadSeen(1, A, alive=False))
    assert candidacy.receive([FIRST]) == []
    assert candidacy.state is State.WAITING
    assert candidacy.receive([Deleted(B)]) == [ListFolder(1)]
    assert candidacy.receive([FIRST]) == [Announce(0), Lead()]


def test_what_was_seen_of_another_znode_ahead_is_ignored() -> None:
    candidacy = after(*WAITING)
    assert candidacy.receive([AheadSeen(1, LATER, alive=False)]) == []


def test_the_next_in_line_does_not_look_ahead() -> None:
    assert after(*NEXT).receive([Idle()]) == []


def test_the_position_is_announced_at_every_listing() -> None:
    candidacy = after(*PLACING, OWN_THERE)
    listings = [(A, B, OWN), (A, OWN), (OWN,)]
    announced: list[Command] = []
    for names in listings:
        announced += [c for c in candidacy.receive([Listed(1, names)]) if isinstance(c, Announce)]
        if candidacy.predecessor is not None:
            candidacy.position = 9  # so that the deletion makes it list again, wherever it stands
            candidacy.receive([PredecessorSeen(1, candidacy.predecessor, Occupant.CONTENDER)])
            candidacy.receive([Deleted(candidacy.predecessor)])
    assert announced == [Announce(2), Announce(1), Announce(0)]


def test_a_predecessor_that_is_gone_already_makes_a_contender_list_again() -> None:
    candidacy = after(*PLACING, OWN_THERE, THIRD)
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.NOBODY)]) == [ListFolder(1)]


def test_deletions_of_others_mean_nothing() -> None:
    for path in (WAITING, NEXT, LEADING):
        candidacy = after(*path)
        before = candidacy.state
        assert candidacy.receive([Deleted(A), Deleted(LATER)]) == []
        assert candidacy.state is before


# Next in line


def test_the_next_in_line_leads_without_a_listing_and_looks_for_foreigners_afterwards() -> None:
    candidacy = after(*NEXT)
    assert candidacy.state is State.NEXT
    assert candidacy.receive([Deleted(B)]) == [Lead(), ListFolder(1)]
    assert candidacy.position == 0


def test_the_only_predecessor_may_be_gone_before_it_is_watched() -> None:
    candidacy = after(*PLACING, OWN_THERE, SECOND)
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.NOBODY)]) == [Lead(), ListFolder(1)]


def test_the_only_predecessor_may_be_deleted_before_its_watch_is_confirmed() -> None:
    candidacy = after(*PLACING, OWN_THERE, SECOND)
    assert candidacy.receive([Deleted(B)]) == [Lead(), ListFolder(1)]
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.NOBODY)]) == []


@pytest.mark.parametrize("gone", [Deleted(B), PredecessorSeen(1, B, Occupant.NOBODY)])
def test_a_predecessor_gone_before_the_own_watch_is_confirmed_makes_no_leader(gone: Event) -> None:
    candidacy = after(*PLACING, SECOND)
    assert candidacy.receive([gone]) == []
    assert candidacy.state is State.PLACING
    assert candidacy.receive([OWN_THERE]) == [Lead(), ListFolder(1)]


@pytest.mark.parametrize("gone", [Deleted(B), PredecessorSeen(1, B, Occupant.NOBODY)])
def test_a_predecessor_deleted_together_with_the_own_znode_makes_no_leader(gone: Event) -> None:
    candidacy = after(*PLACING, SECOND, gone)
    assert candidacy.receive([OWN_MISSING]) == [LOST, Create(2)]


def test_what_was_foreseen_holds_for_as_long_as_a_contender_is_next_in_line() -> None:
    for path in (NEXT, NEXT_TO_ZERO):
        candidacy = after(*path)
        assert candidacy.state is State.NEXT
        assert candidacy.predecessor is not None
        then, commands = candidacy.foresee(Deleted(candidacy.predecessor))
        assert commands == [Lead(), ListFolder(1)]
        for event in EVENTS:
            candidacy = after(*path, event)
            if candidacy.state is State.NEXT:
                assert candidacy.predecessor is not None
                later, still = candidacy.foresee(Deleted(candidacy.predecessor))
                assert (vars(later), still) == (vars(then), commands)


def test_next_in_line_means_that_both_watches_are_set() -> None:
    before = (*PLACING, SECOND, PredecessorSeen(1, B, Occupant.CONTENDER))
    assert after(*before).state is State.PLACING
    assert after(*before, OWN_THERE).state is State.NEXT


def test_a_contender_far_behind_may_wait_before_its_own_watch_is_set() -> None:
    candidacy = after(*PLACING, THIRD, PredecessorSeen(1, B, Occupant.CONTENDER))
    assert candidacy.state is State.WAITING
    assert candidacy.receive([OWN_THERE]) == []
    assert candidacy.state is State.WAITING


def test_the_own_watch_confirmed_while_waiting_counts_later() -> None:
    candidacy = after(*PLACING, THIRD, PredecessorSeen(1, B, Occupant.CONTENDER), OWN_THERE, Deleted(B))
    assert candidacy.receive([FIRST]) == [Announce(0), Lead()]


def test_the_watch_of_an_earlier_predecessor_counts_no_more() -> None:
    before = (*PLACING, THIRD, PredecessorSeen(1, B, Occupant.CONTENDER), Deleted(B), Listed(1, (A, OWN)), OWN_THERE)
    assert after(*before).state is State.PLACING
    assert after(*before, PredecessorSeen(1, A, Occupant.CONTENDER)).state is State.NEXT


# Ghosts and others


def test_a_ghost_is_deleted_and_its_deletion_awaited() -> None:
    candidacy = after(*PLACING, OWN_THERE, SECOND)
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.GHOST)]) == [Exorcise(B)]
    assert candidacy.state is State.NEXT
    assert candidacy.receive([Deleted(B)]) == [Lead(), ListFolder(1)]


def test_a_ghost_farther_ahead_is_deleted_too() -> None:
    candidacy = after(*PLACING, OWN_THERE, THIRD)
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.GHOST)]) == [Exorcise(B)]
    assert candidacy.receive([Deleted(B)]) == [ListFolder(1)]


def test_a_ghost_is_deleted_though_the_own_watch_is_not_set_yet() -> None:
    candidacy = after(*PLACING, SECOND)
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.GHOST)]) == [Exorcise(B)]
    assert candidacy.receive([Deleted(B)]) == []
    assert candidacy.receive([OWN_THERE]) == [Lead(), ListFolder(1)]


def test_a_squatter_is_refused() -> None:
    candidacy = after(*PLACING, OWN_THERE, SECOND)
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.SQUATTER)]) == [Refuse(Refusal.FOREIGN, B)]
    assert candidacy.state is State.GONE


@pytest.mark.parametrize("name", [FOREIGN, "n_-2147483648", "n_-000000001", "n_00000000001", "x0000000000"])
def test_nobody_contends_beside_a_foreigner(name: str) -> None:
    candidacy = after(*PLACING, OWN_THERE)
    assert candidacy.receive([Listed(1, (OWN, name))]) == [Refuse(Refusal.FOREIGN, name)]
    assert candidacy.state is State.GONE


def test_a_foreigner_found_after_the_election_ends_the_term() -> None:
    candidacy = after(*NEXT, Deleted(B))
    assert candidacy.receive([Listed(1, (OWN, FOREIGN))]) == [Lose(LossReason.FOREIGN_CONTENDER, requeue=False)]
    assert candidacy.state is State.GONE


def test_a_listing_after_the_election_that_shows_contenders_changes_nothing() -> None:
    candidacy = after(*NEXT, Deleted(B))
    assert candidacy.receive([Listed(1, (OWN, LATER))]) == []
    assert candidacy.state is State.LEADING


# Losing one's place

LOSABLE = (GUESSING, PLACING, WAITING, FAR_BEHIND, NEXT, NEXT_TO_ZERO)


@pytest.mark.parametrize("path", LOSABLE)
def test_a_contender_whose_session_ended_queues_again(path: tuple[Event, ...]) -> None:
    candidacy = after(*path)
    assert candidacy.receive([SessionEnded()]) == [EXPIRED, Create(2)]
    assert (candidacy.name, candidacy.token, candidacy.position, candidacy.predecessor) == (None, None, None, None)
    assert not candidacy.is_placed


@pytest.mark.parametrize("path", LOSABLE)
def test_a_contender_whose_znode_was_deleted_queues_again(path: tuple[Event, ...]) -> None:
    candidacy = after(*path)
    assert candidacy.name is not None
    assert candidacy.receive([Deleted(candidacy.name)]) == [LOST, Create(2)]


def test_a_session_that_ends_before_the_znode_is_made_loses_nothing() -> None:
    assert after(Enter()).receive([SessionEnded()]) == [Create(2)]


def test_who_queues_again_knows_nothing_of_before() -> None:
    candidacy = after(*PLACING, OWN_THERE, FIRST, SessionEnded())
    assert candidacy.state is State.GONE
    candidacy = after(*NEXT, SessionEnded(), Entered(2, LATEST, 88))
    assert candidacy.receive([Listed(2, (LATEST,))]) == [Announce(0)]  # the new znode's watch is not set
    assert candidacy.receive([OwnSeen(2, alive=True)]) == [Lead()]


def test_who_was_clear_ahead_is_so_no_more_when_it_queues_again() -> None:
    candidacy = after(*PLACING, FIRST, SessionEnded(), Entered(2, LATEST, 88))
    assert candidacy.receive([OwnSeen(2, alive=True)]) == []
    assert candidacy.state is State.PLACING


@pytest.mark.parametrize(
    ("end", "reason"),
    [(SessionEnded(), LossReason.SESSION_EXPIRED), (Deleted(OWN), LossReason.NODE_DELETED)],
)
def test_a_leader_without_its_znode_has_lost(end: Event, reason: LossReason) -> None:
    candidacy = after(*LEADING)
    assert candidacy.receive([end]) == [Lose(reason, requeue=False)]
    assert candidacy.state is State.GONE
    assert candidacy.receive([Deleted(OWN), SessionEnded(), Listed(1, (OWN,))]) == []


def test_nobody_leads_twice_by_one_entry() -> None:
    candidacy = after(*LEADING)
    assert candidacy.receive([FIRST, OWN_THERE, Deleted(B), PredecessorSeen(1, B, Occupant.NOBODY)]) == []


# Batches


@pytest.mark.parametrize("own_end", [Deleted(OWN), SessionEnded()])
def test_of_events_that_arrive_together_the_own_end_comes_first(own_end: Event) -> None:
    candidacy = after(*NEXT)
    commands = candidacy.receive([Deleted(B), own_end])
    assert not any(isinstance(command, Lead) for command in commands)
    assert commands[-1] == Create(2)


def test_an_own_end_comes_before_a_listing_that_would_make_a_leader() -> None:
    candidacy = after(*PLACING, OWN_THERE)
    assert candidacy.receive([FIRST, Deleted(OWN)]) == [LOST, Create(2)]


@pytest.mark.parametrize("order", [1, -1])
def test_a_session_that_ends_together_with_the_znode_makes_one_new_entry(order: int) -> None:
    """Two would make two znodes, one of which nobody knows."""
    ends: list[Event] = [Deleted(OWN), SessionEnded()]
    assert after(*NEXT).receive(ends[::order]) == [EXPIRED, Create(2)]


def test_a_session_that_ended_while_the_znode_was_made() -> None:
    candidacy = after(Enter())
    assert candidacy.receive([ENTERED, SessionEnded()]) == [Create(2)]
    assert candidacy.name is None


# Answers to earlier entries


@pytest.mark.parametrize(
    "stale",
    [
        ENTERED,
        OWN_MISSING,
        OWN_THERE,
        FIRST,
        Listed(1, ()),
        Listed(1, (FOREIGN,)),
        PredecessorSeen(1, B, Occupant.SQUATTER),
        PredecessorSeen(1, B, Occupant.NOBODY),
        GUESSED,
        MISGUESSED,
        AHEAD_THERE,
        AHEAD_MISSING,
        Deleted(OWN),
        Deleted(B),
        Deleted(GUESS),
    ],
)
@pytest.mark.parametrize("again", [(), (Entered(2, LATEST, 88),)])
def test_what_belongs_to_an_earlier_entry_is_ignored(again: tuple[Event, ...], stale: Event) -> None:
    candidacy = after(*NEXT, SessionEnded(), *again)
    before = vars(candidacy).copy()
    assert candidacy.receive([stale]) == []
    assert vars(candidacy) == before


def test_answers_about_the_same_names_in_an_earlier_entry_are_ignored() -> None:
    """A folder that was made anew counts from 0 again."""
    candidacy = after(*BEHIND_ZERO, OWN_THERE, SessionEnded(), Entered(2, ONE, 88))
    stale: list[Event] = [
        OWN_THERE,
        PredecessorSeen(1, ZERO, Occupant.CONTENDER),
        PredecessorSeen(1, ZERO, Occupant.NOBODY),
    ]
    assert candidacy.receive(stale) == []
    assert candidacy.receive([Deleted(ZERO)]) == [ListFolder(2)]  # it was not seen there in this entry


def test_a_predecessor_is_found_gone_once() -> None:
    candidacy = after(*PLACING, OWN_THERE, THIRD, Deleted(B))
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.NOBODY), Deleted(B)]) == []


def test_an_answer_about_an_earlier_predecessor_is_ignored() -> None:
    candidacy = after(*PLACING, OWN_THERE, THIRD, Deleted(B), Listed(1, (A, OWN)))
    assert candidacy.receive([PredecessorSeen(1, B, Occupant.NOBODY)]) == []
    assert candidacy.predecessor == A


# The table

Case: TypeAlias = tuple[State, type[Event], State]

WITNESSES: dict[Case, tuple[tuple[Event, ...], Event]] = {
    (State.OUT, Enter, State.ENTERING): ((), Enter()),
    (State.ENTERING, Entered, State.PLACING): ((Enter(),), ENTERED),
    (State.ENTERING, Entered, State.GONE): ((Enter(),), Entered(1, "n_-000000001", 77)),
    (State.ENTERING, SessionEnded, State.ENTERING): ((Enter(),), SessionEnded()),
    (State.PLACING, OwnSeen, State.PLACING): (PLACING, OWN_THERE),
    (State.PLACING, OwnSeen, State.NEXT): (
        (*PLACING, SECOND, PredecessorSeen(1, B, Occupant.CONTENDER)),
        OWN_THERE,
    ),
    (State.PLACING, OwnSeen, State.LEADING): ((*PLACING, FIRST), OWN_THERE),
    (State.PLACING, OwnSeen, State.ENTERING): (PLACING, OWN_MISSING),
    (State.PLACING, Listed, State.PLACING): (PLACING, SECOND),
    (State.PLACING, Listed, State.LEADING): ((*PLACING, OWN_THERE), FIRST),
    (State.PLACING, Listed, State.ENTERING): (PLACING, Listed(1, (A,))),
    (State.PLACING, Listed, State.GONE): (PLACING, Listed(1, (OWN, FOREIGN))),
    (State.PLACING, Listed, State.WAITING): (
        (*GUESSING, GUESSED, AHEAD_MISSING),
        Listed(1, (A, GUESS, OWN)),
    ),
    (State.PLACING, Listed, State.NEXT): (
        (*GUESSING, OWN_THERE, GUESSED, AHEAD_MISSING),
        Listed(1, (GUESS, OWN)),
    ),
    (State.PLACING, AheadSeen, State.PLACING): (GUESSING, AHEAD_THERE),
    (State.PLACING, AheadSeen, State.WAITING): ((*GUESSING, GUESSED), AHEAD_THERE),
    (State.PLACING, PredecessorSeen, State.PLACING): (
        (*PLACING, SECOND),
        PredecessorSeen(1, B, Occupant.CONTENDER),
    ),
    (State.PLACING, PredecessorSeen, State.WAITING): (
        (*PLACING, THIRD),
        PredecessorSeen(1, B, Occupant.CONTENDER),
    ),
    (State.PLACING, PredecessorSeen, State.NEXT): (
        (*PLACING, OWN_THERE, SECOND),
        PredecessorSeen(1, B, Occupant.CONTENDER),
    ),
    (State.PLACING, PredecessorSeen, State.LEADING): (
        (*PLACING, OWN_THERE, SECOND),
        PredecessorSeen(1, B, Occupant.NOBODY),
    ),
    (State.PLACING, PredecessorSeen, State.GONE): (
        (*PLACING, SECOND),
        PredecessorSeen(1, B, Occupant.SQUATTER),
    ),
    (State.PLACING, Deleted, State.PLACING): ((*PLACING, SECOND), Deleted(B)),
    (State.PLACING, Deleted, State.LEADING): ((*PLACING, OWN_THERE, SECOND), Deleted(B)),
    (State.PLACING, Deleted, State.ENTERING): (PLACING, Deleted(OWN)),
    (State.WAITING, OwnSeen, State.WAITING): (
        (*PLACING, THIRD, PredecessorSeen(1, B, Occupant.CONTENDER)),
        OWN_THERE,
    ),
    (State.WAITING, OwnSeen, State.NEXT): (
        (*PLACING, THIRD, PredecessorSeen(1, B, Occupant.CONTENDER), SECOND),
        OWN_THERE,
    ),
    (State.WAITING, OwnSeen, State.ENTERING): (
        (*PLACING, THIRD, PredecessorSeen(1, B, Occupant.CONTENDER)),
        OWN_MISSING,
    ),
    (State.WAITING, Idle, State.WAITING): (WAITING, Idle()),
    (State.WAITING, AheadSeen, State.WAITING): (WAITING, AheadSeen(1, A, alive=False)),
    (State.WAITING, Listed, State.WAITING): (WAITING, THIRD),
    (State.WAITING, Listed, State.NEXT): (WAITING, SECOND),
    (State.WAITING, Listed, State.ENTERING): (WAITING, Listed(1, (A, B))),
    (State.WAITING, Listed, State.GONE): (WAITING, Listed(1, (FOREIGN,))),
    (State.WAITING, Deleted, State.PLACING): (WAITING, Deleted(B)),
    (State.WAITING, Deleted, State.ENTERING): (WAITING, Deleted(OWN)),
    (State.WAITING, Deleted, State.WAITING): (WAITING, Deleted(A)),
    (State.NEXT, Deleted, State.LEADING): (NEXT, Deleted(B)),
    (State.NEXT, Deleted, State.ENTERING): (NEXT, Deleted(OWN)),
    (State.NEXT, Deleted, State.NEXT): (NEXT, Deleted(LATER)),
    (State.LEADING, Deleted, State.GONE): (LEADING, Deleted(OWN)),
    (State.LEADING, Deleted, State.LEADING): (LEADING, Deleted(LATER)),
    (State.LEADING, Listed, State.LEADING): (LEADING, FIRST),
    (State.LEADING, Listed, State.GONE): (LEADING, Listed(1, (OWN, FOREIGN))),
    (State.PLACING, SessionEnded, State.ENTERING): (PLACING, SessionEnded()),
    (State.WAITING, SessionEnded, State.ENTERING): (WAITING, SessionEnded()),
    (State.NEXT, SessionEnded, State.ENTERING): (NEXT, SessionEnded()),
    (State.LEADING, SessionEnded, State.GONE): (LEADING, SessionEnded()),
    (State.OUT, Withdraw, State.GONE): ((), Withdraw()),
    (State.ENTERING, Withdraw, State.GONE): ((Enter(),), Withdraw()),
    (State.PLACING, Withdraw, State.GONE): (PLACING, Withdraw()),
    (State.WAITING, Withdraw, State.GONE): (WAITING, Withdraw()),
    (State.NEXT, Withdraw, State.GONE): (NEXT, Withdraw()),
    (State.LEADING, Withdraw, State.GONE): (LEADING, Withdraw()),
    (State.GONE, Withdraw, State.GONE): ((Withdraw(),), Withdraw()),
}

REACHED: dict[State, tuple[Event, ...]] = {
    State.OUT: (),
    State.ENTERING: (Enter(),),
    State.PLACING: PLACING,
    State.WAITING: WAITING,
    State.NEXT: NEXT,
    State.LEADING: LEADING,
    State.GONE: (*LEADING, Withdraw()),
}

EVENTS: tuple[Event, ...] = (
    Enter(),
    ENTERED,
    OWN_THERE,
    OWN_MISSING,
    FIRST,
    SECOND,
    Listed(1, (FOREIGN,)),
    PredecessorSeen(1, B, Occupant.NOBODY),
    PredecessorSeen(1, B, Occupant.SQUATTER),
    Idle(),
    AheadSeen(1, A, alive=False),
    AHEAD_THERE,
    Deleted(OWN),
    Deleted(B),
    SessionEnded(),
    Withdraw(),
)


def name_of(case: Case) -> str:
    before, event, target = case
    return f"{before.value}-{event.__name__}-{target.value}"


@pytest.mark.parametrize("case", WITNESSES, ids=name_of)
def test_transition(case: Case) -> None:
    path, event = WITNESSES[case]
    candidacy = after(*path)
    before = candidacy.state
    candidacy.receive([event])
    assert (before, type(event), candidacy.state) == case


@pytest.mark.parametrize("case", WITNESSES, ids=name_of)
def test_what_is_foreseen_comes_about(case: Case) -> None:
    path, event = WITNESSES[case]
    candidacy, same = after(*path), after(*path)
    then, commands = candidacy.foresee(event)
    assert vars(candidacy) == vars(same)
    assert candidacy.receive([event]) == commands
    assert vars(candidacy) == vars(then)


def test_every_transition_of_the_table_is_taken() -> None:
    assert set(WITNESSES) == {(before, event, s) for (before, event), targets in TRANSITIONS.items() for s in targets}


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_what_the_table_does_not_hold_is_ignored(state: State) -> None:
    for event in EVENTS:
        if (state, type(event)) not in TRANSITIONS:
            candidacy = after(*REACHED[state])
            before = vars(candidacy).copy()
            assert before["state"] is state
            assert candidacy.receive([event]) == []
            assert vars(candidacy) == before


def test_a_transition_that_the_table_does_not_hold_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    candidacy = after(*NEXT)
    monkeypatch.setitem(TRANSITIONS, (State.NEXT, Deleted), frozenset({State.NEXT}))
    with pytest.raises(AssertionError, match="next went to"):
        candidacy.receive([Deleted(B)])


# Every order in which a folder can be seen


@dataclass
class Change:
    """One change of the folder: a znode was made, or deleted."""

    name: str
    made: bool


@dataclass
class Folder:
    """The history of one election folder."""

    log: list[Change] = field(default_factory=list)
    owners: dict[str, Contender] = field(default_factory=dict)
    made: int = 0

    def create(self, owner: Contender) -> str:
        name = f"{owner.prefix}{self.made:010d}"
        self.made += 1
        self.owners[name] = owner
        self.log.append(Change(name, made=True))
        return name

    def delete(self, name: str) -> None:
        if self.owners.pop(name, None) is not None:
            self.log.append(Change(name, made=False))

    def was_lowest(self, name: str) -> bool:
        """Whether there was a moment when ``name`` existed and nothing before it."""
        there: set[str] = set()
        for change in self.log:
            (there.add if change.made else there.discard)(change.name)
            if name in there and name == min(there, key=number):
                return True
        return False


def number(name: str) -> str:
    """What orders the queue."""
    return name[-10:]


class Contender:
    """A shell around one candidacy, with a session of its own at a server that lags behind.

    As in ZooKeeper, the server sees the history in order, sees its own client's writes before it answers them, and sends
    answers and watch events in the order in which they came about.
    """

    def __init__(self, folder: Folder, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        self.candidacy = Candidacy(NATIVE)
        self.seen = 0
        self.view: set[str] = set()
        self.watched: set[str] = set()
        self.alive = True
        self.requests: list[Command | str] = []
        self.replies: deque[Event] = deque()
        self.take([Enter()])

    @property
    def contends(self) -> bool:
        return self.candidacy.state is not State.GONE

    def take(self, events: Sequence[Event]) -> None:
        """Hears these together."""
        creates = 0
        for command in self.candidacy.receive(events):
            assert not isinstance(command, Refuse)
            creates += isinstance(command, Create)
            assert creates <= 1
            if isinstance(command, Lead):
                assert self.candidacy.name is not None
                assert self.folder.was_lowest(self.candidacy.name)
            if isinstance(command, (Create, WatchOwn, ListFolder, WatchPredecessor, LookAhead)):
                self.requests.append(command)
            elif isinstance(command, Exorcise):
                self.requests.append(command.name)

    def catch_up(self, changes: int | None = None) -> None:
        """The server learns of the next changes."""
        until = len(self.folder.log) if changes is None else min(self.seen + changes, len(self.folder.log))
        for change in self.folder.log[self.seen : until]:
            if change.made:
                self.view.add(change.name)
            else:
                self.view.discard(change.name)
                if change.name in self.watched:
                    self.watched.discard(change.name)
                    self.replies.append(Deleted(change.name))
        self.seen = until

    def perform(self, which: int = 0, *, reply_lost: bool = False) -> None:
        """The server takes a request, usually the oldest; but one may go out anew on the next connection, behind others."""
        request = self.requests.pop(which)
        match request:
            case Create(entry):
                self._clean_up()
                if reply_lost:  # so that it was asked for once more
                    self.folder.create(self)
                name = self.folder.create(self)
                self.catch_up()
                self.replies.append(Entered(entry, name, len(self.folder.log)))
            case WatchOwn(entry, name):
                self.replies.append(OwnSeen(entry, self._watch(name)))
            case WatchPredecessor(entry, name):
                there = self._watch(name)
                ghost = there and self.folder.owners.get(name) is self
                occupant = Occupant.GHOST if ghost else Occupant.CONTENDER if there else Occupant.NOBODY
                self.replies.append(PredecessorSeen(entry, name, occupant))
            case LookAhead(entry, name):
                self.replies.append(AheadSeen(entry, name, name in self.view))
            case ListFolder(entry):
                self.replies.append(Listed(entry, tuple(self.view)))
            case str(name):
                self.folder.delete(name)
                self.catch_up()

    def _watch(self, name: str) -> bool:
        if name in self.view:
            self.watched.add(name)
        return name in self.view

    def hear(self, count: int) -> None:
        """The oldest messages arrive, together."""
        events = [self.replies.popleft() for _ in range(min(count, len(self.replies)))]
        if any(isinstance(event, SessionEnded) for event in events):
            self.alive = True
            self.requests.clear()
        self.take(events)

    def end_session(self) -> None:
        """The ensemble ends the session; whatever was under way to the server is lost."""
        self._clean_up()
        self.alive = False
        self.requests.clear()
        self.watched.clear()
        self.replies.append(SessionEnded())

    def reconnect(self, chance: random.Random) -> None:
        """A new connection reports what was missed in any order, all at once."""
        self.catch_up()
        events = list(self.replies)
        chance.shuffle(events)
        self.replies.clear()
        self.take(events)

    def resign(self) -> None:
        self.take([Withdraw()])
        self.requests = [name for name, owner in self.folder.owners.items() if owner is self]

    def _clean_up(self) -> None:
        for name in [name for name, owner in self.folder.owners.items() if owner is self]:
            self.folder.delete(name)


def perform(contender: Contender, chance: random.Random) -> None:
    if contender.requests and contender.alive:
        which = chance.randrange(len(contender.requests)) if chance.random() < 0.2 else 0
        contender.perform(which, reply_lost=chance.random() < 0.1)


def catch_up(contender: Contender, chance: random.Random) -> None:
    if contender.alive:
        contender.catch_up(chance.randint(1, 4))


def hear(contender: Contender, chance: random.Random) -> None:
    contender.hear(chance.randint(1, 4))


def idle(contender: Contender, chance: random.Random) -> None:
    contender.take([Idle()])


def reconnect(contender: Contender, chance: random.Random) -> None:
    if contender.alive and all(isinstance(event, Deleted) for event in contender.replies):
        contender.reconnect(chance)


def end_session(contender: Contender, chance: random.Random) -> None:
    if contender.alive:
        contender.end_session()


def resign(contender: Contender, chance: random.Random) -> None:
    contender.resign()


def delete_by_hand(contender: Contender, chance: random.Random) -> None:
    if contender.folder.owners:
        contender.folder.delete(chance.choice(sorted(contender.folder.owners)))


def wipe(contender: Contender, chance: random.Random) -> None:
    for name in chance.sample(sorted(contender.folder.owners), len(contender.folder.owners)):
        contender.folder.delete(name)


ORDINARY = (perform, catch_up, hear, idle)
DISTURBING = (reconnect, end_session, resign, delete_by_hand, wipe)


def settle(contender: Contender) -> bool:
    """One step of everything that is under way; whether there was any."""
    busy = contender.seen < len(contender.folder.log) or bool(contender.requests or contender.replies)
    if contender.alive:
        contender.catch_up()
        if contender.requests:
            contender.perform()
    contender.hear(1)
    return busy


def check_leaders(folder: Folder, contenders: Sequence[Contender]) -> None:
    """Whoever leads, and whose znode exists, has the lowest one."""
    for each in contenders:
        if each.candidacy.state is State.LEADING and each.candidacy.name in folder.owners:
            assert each.candidacy.name == min(folder.owners, key=number)


@pytest.mark.parametrize("seed", range(500))
def test_in_every_order_one_leads_and_it_is_the_lowest(seed: int) -> None:
    chance = random.Random(seed)
    folder = Folder()
    prefixes = ["n_", *(chance.choice(["n_", "n_", f"candidate-{n:032x}-"]) for n in range(chance.randint(1, 4)))]
    contenders = [Contender(folder, prefix) for prefix in prefixes]
    actions = [*ORDINARY, *DISTURBING]
    likelihoods = [chance.uniform(1, 10) for _ in ORDINARY] + [chance.uniform(0, 1) ** 2 for _ in DISTURBING]
    for _ in range(200):
        (action,) = chance.choices(actions, likelihoods)
        action(chance.choice(contenders), chance)
        contenders = [each if each.contends or each.requests else Contender(folder, each.prefix) for each in contenders]
        check_leaders(folder, contenders)

    turns = 0
    while sum(settle(each) for each in contenders):
        check_leaders(folder, contenders)
        turns += 1
        assert turns < 100
    states = [each.candidacy.state for each in contenders if each.contends]
    assert states.count(State.LEADING) == (len(states) > 0)
    assert set(states) <= {State.LEADING, State.NEXT, State.WAITING}
    assert len(folder.owners) == len(states)


# The diagram

PAGE = Path(__file__).parent.parent / "docs" / "candidacy.md"
DRAWING = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)


def diagram() -> str:
    """TRANSITIONS in the language of mermaid; events that leave the state as it is are left out."""
    edges: dict[tuple[State, State], list[str]] = {}
    for before in State:
        for target in State:
            names = [event.__name__ for (state, event), to in TRANSITIONS.items() if state is before and target in to]
            if before is not target and names:
                edges[before, target] = names
    arrows = [f"    {a.value} --> {b.value}: {', '.join(names)}" for (a, b), names in edges.items()]
    lines = ["stateDiagram-v2", f"    [*] --> {State.OUT.value}", *arrows, f"    {State.GONE.value} --> [*]"]
    return "\n".join(lines) + "\n"


def test_the_diagram_in_the_docs_is_that_of_the_table() -> None:
    drawn = DRAWING.search(PAGE.read_text())
    assert drawn is not None
    assert drawn.group() == diagram(), "draw it anew with: python -m tests.test_candidacy"


if __name__ == "__main__":
    PAGE.write_text(DRAWING.sub(lambda _: diagram(), PAGE.read_text()))
