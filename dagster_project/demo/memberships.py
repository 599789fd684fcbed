"""Loyalty cards and web accounts: who has how many of them, since when, and which one is used on a day.

Days count from ``seasons.FIRST_DAY``. What is bought with them belongs in ``purchases``.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dagster_project.demo import seasons
from dagster_project.demo.people import NEVER

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CARD_SHARE, SECOND_CARD_SHARE = 0.62, 0.06
ACCOUNT_SHARE, SECOND_ACCOUNT_SHARE, THIRD_ACCOUNT_SHARE = 0.86, 0.07, 0.15
"""Share of those who buy in a channel that have a card or an account in it, and of those a further one."""

_CLOSED, _OPEN_AGAIN = seasons.day_number(seasons.CLOSED_FROM), seasons.day_number(seasons.CLOSED_UNTIL) + 1


def first_days(person: Ints, day: Ints, persons: int) -> Ints:
    """The first day of each person, ``NEVER`` where there is none."""
    first = np.full(persons, NEVER, dtype=np.int64)
    np.minimum.at(first, person, day)
    return first


@dataclass(frozen=True)
class Memberships:
    """Per person the day from which each card or account exists (``NEVER`` = not at all), one column per number."""

    since: Ints  # persons x n

    def numbers(self) -> Ints:
        """The running number of each card or account, -1 where there is none; ordered by person, then number."""
        exists = self.since < NEVER
        return np.where(exists, np.cumsum(exists.ravel()).reshape(exists.shape) - 1, -1)

    def table(self, name: str) -> pa.Table:
        """One row per card or account: its running number, person, rank within the person, day, next one's day."""
        exists = self.since < NEVER
        person, rank = np.nonzero(exists)
        following = np.c_[self.since[:, 1:], np.full(len(self.since), NEVER)]
        return pa.table(
            {
                name: self.numbers()[exists].astype(np.int64),
                "person": person.astype(np.int32),
                "rank": rank.astype(np.int32),
                "since": self.since[exists],
                "next_since": following[exists],
            }
        )


def draw_memberships(rng: np.random.Generator, first_visit: Ints, first_order: Ints) -> tuple[Memberships, Memberships]:
    """Loyalty cards and web accounts: most from the first purchase on, some from before the calendar."""
    persons = len(first_visit)
    visits, orders = first_visit < NEVER, first_order < NEVER

    def since(first: Ints, has: NDArray[np.bool_], old_share: float) -> Ints:
        begun = np.where(rng.random(persons) < old_share, -rng.integers(1, 1500, persons), first)
        begun = np.where(begun >= NEVER, rng.integers(0, seasons.DAYS - 1, persons), begun)
        return np.where(has, begun, NEVER)

    def another(previous: Ints, share: float) -> Ints:
        day = np.maximum(previous, 0) + 20 + (rng.random(persons) * (seasons.DAYS - 40)).astype(np.int64)
        return np.where((previous < NEVER) & (rng.random(persons) < share) & (day < seasons.DAYS - 1), day, NEVER)

    card = since(np.where(visits, first_visit, NEVER), rng.random(persons) < np.where(visits, CARD_SHARE, 0.04), 0.5)
    in_closure = (card >= _CLOSED) & (card < _OPEN_AGAIN)
    card = np.where(in_closure, _OPEN_AGAIN + 1, card)
    second_card = another(card, SECOND_CARD_SHARE * 1.6)
    second_card = np.where((second_card >= _CLOSED) & (second_card < _OPEN_AGAIN), _OPEN_AGAIN + 2, second_card)
    account = since(first_order, rng.random(persons) < np.where(orders, ACCOUNT_SHARE, 0.07), 0.3)
    second = another(account, SECOND_ACCOUNT_SHARE * 1.6)
    third = another(second, THIRD_ACCOUNT_SHARE * 1.6)
    return Memberships(np.c_[card, second_card]), Memberships(np.c_[account, second, third])


def held(memberships: Memberships, person: Ints, day: Ints, pick: Floats | None = None) -> Ints:
    """The number of the card or account that each person uses on a day, -1 if none: the newest, or a picked one."""
    since, numbers = memberships.since[person], memberships.numbers()[person]
    valid = since <= day[:, None]
    count = valid.sum(axis=1)
    chosen = np.maximum(count - 1, 0) if pick is None else (pick * np.maximum(count, 1)).astype(np.int64)
    return np.where(count > 0, numbers[np.arange(len(person)), chosen], -1)
