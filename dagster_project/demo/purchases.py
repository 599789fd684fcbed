"""Who bought what, where and when: till tickets, online orders, returns and refunds, as plain numbers.

Amounts are integer cents, moments are Paris wall-clock seconds since ``seasons.FIRST_DAY``. How these become rows of
the feeds, with typing errors and all, belongs in ``records`` and ``trade``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dagster_project.demo import catalogue, seasons
from dagster_project.demo.memberships import Floats, Ints, Memberships, held
from dagster_project.demo.people import HABITS, NEVER

VISITS_PER_PERSON = 6.9
"""Mean store visits of an average store shopper over the whole calendar, before habits."""
ORDERS_PER_PERSON = 3.3
"""Mean online orders of an average online shopper over the whole calendar, before habits."""
TICKET_SHARES = {"card": 0.72, "email": 0.09, "phone": 0.012, "token": 0.22}
"""Share of a shopper's tickets that carry each identifier (the card: where the person has one)."""
PARTNER_CARD_SHARE = 0.04
PERSONS_PER_CLERK, STORES_PER_CLERK, CLERK_TICKETS = 2500, 3, 400
"""A cashier's own card, shown for customers without one: at most one in so many persons and stores, for so many."""
GUEST_SHARE, COLLECT_SHARE = 0.14, 0.22
STORE_RETURN_SHARE, CANCELLED_SHARE, REFUNDED_SHARE = 0.03, 0.03, 0.03
PARTIAL_REFUND_SHARE, RETURN_IN_STORE_SHARE, PAID_AT_COUNTER_SHARE = 0.035, 0.03, 0.02
REFUND_LATE_SHARE, REFUND_MISSING_SHARE = 0.08, 0.04

_START, _END = 0, seasons.DAYS
_CLOSURE, _REOPENED = seasons.day_number(seasons.CLOSED_FROM), seasons.day_number(seasons.CLOSED_UNTIL) + 1
_SILENT, _RECENT = seasons.day_number(seasons.BEFORE_CLOSURE), seasons.day_number(seasons.NEW_HABIT_FROM)
# For each habit and channel the days from - to, a factor on the person's rate, and a least number of purchases.
_WINDOWS = {
    "store": {
        "store_only": (_START, _END, 1.0, 0),
        "both": (_START, _END, 0.8, 0),
        "went_online_2020": (_START, _CLOSURE, 1.1, 0),
        "silent_2020": (_START, _SILENT, 1.2, 1),
        "new_online": (_START, _END, 1.0, 2),
        "new_store": (_REOPENED, _END, 3.0, 1),
        "left_2019": (_START, 330, 1.2, 0),
    },
    "online": {
        "online_only": (_START, _END, 1.0, 0),
        "both": (_START, _END, 0.9, 0),
        "went_online_2020": (_CLOSURE, _END, 2.5, 1),
        "silent_2020": (_START, _SILENT, 0.4, 0),
        "new_online": (_RECENT, _END, 1.5, 1),
        "new_store": (_START, _END, 1.2, 2),
        "left_2019": (_START, 330, 0.3, 0),
    },
}


@dataclass(frozen=True)
class Baskets:
    """Lines of purchases, one row per line, ordered by purchase (position) and line number."""

    purchase: Ints
    line_no: Ints
    product: Ints
    quantity: Ints
    unit_price: Ints

    @property
    def amount(self) -> Ints:
        return self.quantity * self.unit_price

    def sums(self, purchases: int) -> Ints:
        """Σ amount of each of ``purchases`` purchases."""
        return np.bincount(self.purchase, weights=self.amount, minlength=purchases).astype(np.int64)

    def keep(self, kept: NDArray[np.bool_]) -> "Baskets":
        """The lines of the kept purchases, renumbered by the position of the purchase among the kept ones."""
        position = np.cumsum(kept) - 1
        lines = kept[self.purchase]
        return Baskets(
            position[self.purchase[lines]],
            self.line_no[lines],
            self.product[lines],
            self.quantity[lines],
            self.unit_price[lines],
        )


def line_numbers(purchase: Ints) -> Ints:
    """Numbers from 1 within each run of equal values."""
    starts = np.flatnonzero(np.r_[True, purchase[1:] != purchase[:-1]]) if len(purchase) else np.array([], dtype=int)
    begins: Ints = np.repeat(starts, np.diff(np.r_[starts, len(purchase)]))
    return np.arange(len(purchase)) - begins + 1


def draw_purchase_days(rng: np.random.Generator, people: pa.Table, channel: str, mean: float) -> tuple[Ints, Ints]:
    """Buyer and day of every purchase of a channel, following each habit's window and the channel's rhythm."""
    habit = people["habit"].to_numpy()
    activity = people["activity"].to_numpy()
    weights = seasons.store_weights() if channel == "store" else seasons.web_weights()
    cumulated = np.r_[0.0, np.cumsum(weights)] / weights.sum()
    persons, days = [], []
    for name, (first, last, factor, least) in _WINDOWS[channel].items():
        who = np.flatnonzero(habit == HABITS.index(name))
        low, high = cumulated[first], cumulated[last]
        times = rng.poisson(activity[who] * mean * factor * (high - low)) + least
        times[activity[who] < 0.02] = least
        buyer = np.repeat(who, times)
        drawn = np.searchsorted(cumulated, low + rng.random(len(buyer)) * (high - low), side="right") - 1
        persons.append(buyer)
        days.append(np.clip(drawn, first, last - 1))
    return np.concatenate(persons), np.concatenate(days)


def _baskets(rng: np.random.Generator, price: Ints, day: Ints, mean_lines: Floats) -> Baskets:
    count = 1 + rng.poisson(mean_lines - 1.0)
    purchase = np.repeat(np.arange(len(day)), np.minimum(count, 12))
    popularity = 1.0 / (np.arange(len(price)) + 15.0) ** 0.8
    shares = np.cumsum(popularity) / popularity.sum()
    product = np.minimum(np.searchsorted(shares, rng.random(len(purchase))), len(price) - 1)
    quantity = (
        1 + (rng.random(len(purchase)) < 0.14) + (rng.random(len(purchase)) < 0.03) * rng.integers(1, 4, len(purchase))
    )
    in_sale = np.array([seasons.is_sale(date) for date in seasons.dates()])[day[purchase]]
    markdown = np.where(in_sale & (rng.random(len(purchase)) < 0.6), rng.choice([0.8, 0.7, 0.5], len(purchase)), 1.0)
    unit_price = np.round(price[product] * markdown).astype(np.int64)
    return Baskets(purchase, line_numbers(purchase), product, quantity, unit_price)


def _clock(rng: np.random.Generator, day: Ints, opens: float, closes: float) -> Ints:
    hour = opens + (closes - opens) * rng.beta(1.6, 1.3, len(day))
    return day * 86_400 + (hour * 3600).astype(np.int64)


def _next_open_day(day: Ints) -> Ints:
    """The day itself, or the next on which stores trade; ``NEVER`` after the end."""
    is_open = np.r_[seasons.open_days() & ~seasons.sundays(), np.zeros(200, dtype=bool)]
    days = np.where(is_open, np.arange(len(is_open)), NEVER)
    return np.minimum.accumulate(days[::-1])[::-1][np.minimum(day, len(is_open) - 1)]


def _clerks(
    rng: np.random.Generator, people: pa.Table, cards: Memberships, store: Ints, day: Ints, without: Ints
) -> Iterator[tuple[Ints, Ints]]:
    """Cashiers who show their own card for strangers: the clerk (once per ticket) and those tickets, by position."""
    home, since = people["store"].to_numpy(), cards.since[:, 0]
    old_cards = (since <= 0) & (np.asarray(people["scenario"].to_pylist(), dtype=object) == "single")
    shops = rng.permutation(catalogue.STORES)[: catalogue.STORES // STORES_PER_CLERK]
    for shop in shops[: people.num_rows // PERSONS_PER_CLERK]:
        candidates = np.flatnonzero(old_cards & (home == shop))
        tickets = without[store[without] == shop]
        if len(candidates) and len(tickets):
            chosen = rng.permutation(tickets)[: min(CLERK_TICKETS, len(tickets) // 3)]
            yield np.full(len(chosen), candidates[0], dtype=np.int64), np.sort(chosen)


def draw_tickets(
    rng: np.random.Generator, people: pa.Table, visits: tuple[Ints, Ints], cards: Memberships, price: Ints
) -> tuple[dict[str, Ints], Baskets]:
    """Till sales and their returns: one entry per ticket with buyer, identifiers shown, cents; and all their lines."""
    person, day = visits
    order = np.lexsort((rng.random(len(day)), day))
    person, day = person[order], day[order]
    size = len(person)
    home = people["store"].to_numpy()[person].astype(np.int64)
    store = catalogue.trading_stores(
        day, np.where(rng.random(size) < 0.82, home, rng.integers(0, catalogue.STORES, size))
    )
    card = held(cards, person, day)
    card[rng.random(size) >= TICKET_SHARES["card"]] = -1
    head = people["head"].to_numpy().astype(np.int64)
    kind = np.asarray(people["scenario"].to_pylist(), dtype=object)[person]
    uses_heads = (
        np.isin(kind, ("couple", "family")) & (head[person] != person) & (rng.random(size) < PARTNER_CARD_SHARE * 2)
    )
    partners = held(cards, head[person], day)
    card = np.where(uses_heads & (partners >= 0), partners, card)
    owner = np.where(uses_heads & (partners >= 0), head[person], person)
    borrowed = np.zeros(size, dtype=np.int64)
    for clerk, strangers in _clerks(rng, people, cards, store, day, np.flatnonzero(card < 0)):
        card[strangers], owner[strangers], borrowed[strangers] = held(cards, clerk, day[strangers]), clerk, 1
    shows = {name: rng.random(size) < TICKET_SHARES[name] for name in ("email", "phone", "token")}
    baskets = _baskets(rng, price, day, np.where(day >= _REOPENED, 2.25, 1.85))
    total = baskets.sums(size)
    discount = np.where(rng.random(size) < 0.1, np.round(total * rng.choice([0.05, 0.1, 0.2], size)), 0).astype(
        np.int64
    )
    sales = {
        "person": person,
        "owner": owner,
        "day": day,
        "placed": _clock(rng, day, 10.0, 19.4),
        "store": store,
        "card": card,
        **{f"shows_{name}": (shown & (borrowed == 0)).astype(np.int64) for name, shown in shows.items()},
        "borrowed": borrowed,
        "discount": discount,
        "total": total - discount,
        "original": np.full(size, -1),
        "web_order": np.full(size, -1),
        "kind": np.zeros(size, dtype=np.int64),
    }
    back = _next_open_day(day + rng.integers(1, 28, size))
    returned = (rng.random(size) < STORE_RETURN_SHARE) & (back < _END)
    lines = baskets.keep(returned)
    kept = (lines.line_no == 1) | (rng.random(len(lines.line_no)) < 0.4)
    lines = Baskets(
        lines.purchase[kept],
        line_numbers(lines.purchase[kept]),
        lines.product[kept],
        -lines.quantity[kept],
        lines.unit_price[kept],
    )
    returns = {name: values[returned] for name, values in sales.items()}
    returns |= {
        "day": back[returned],
        "placed": _clock(rng, back[returned], 10.0, 19.4),
        "discount": np.zeros(int(returned.sum()), dtype=np.int64),
        "total": lines.sums(int(returned.sum())),
        "original": np.flatnonzero(returned),
        "kind": np.ones(int(returned.sum()), dtype=np.int64),
    }
    return stack(sales, baskets, returns, lines)


def stack(
    first: dict[str, Ints], lines: Baskets, second: dict[str, Ints], more: Baskets
) -> tuple[dict[str, Ints], Baskets]:
    shift = len(first["person"])
    stacked = Baskets(
        *(
            np.r_[getattr(lines, name), getattr(more, name) + (shift if name == "purchase" else 0)]
            for name in Baskets.__dataclass_fields__
        )
    )
    return {name: np.r_[first[name], second[name]] for name in first}, stacked


def draw_orders(
    rng: np.random.Generator, people: pa.Table, purchases: tuple[Ints, Ints], accounts: Memberships, price: Ints
) -> tuple[dict[str, Ints], Baskets]:
    """Online orders with every change of their status to come, one entry per order (``NEVER`` = does not happen)."""
    person, day = purchases
    order = np.lexsort((rng.random(len(day)), day))
    person, day = person[order], day[order]
    size = len(person)
    account = held(accounts, person, day, rng.random(size))
    account[rng.random(size) < GUEST_SHARE] = -1
    at = _clock(rng, day, 7.0, 23.9)
    collects = (rng.random(size) < COLLECT_SHARE) & ~((day > _CLOSURE - 6) & (day < _REOPENED))
    baskets = _baskets(rng, price, day, np.where(day >= _CLOSURE, 2.4, 1.8))
    lines = baskets.sums(size)
    discount = np.where(rng.random(size) < 0.15, np.round(lines * rng.choice([0.05, 0.1, 0.15], size)), 0).astype(
        np.int64
    )
    shipping = np.where(collects | (lines >= 6000), 0, rng.choice([390, 490, 690], size))
    fate = rng.random(size)
    cancelled = fate < CANCELLED_SHARE
    refunded = (fate >= CANCELLED_SHARE) & (fate < CANCELLED_SHARE + REFUNDED_SHARE) & ~collects
    never = np.full(size, NEVER * 86_400)

    def step(low: int, high: int) -> Ints:
        return rng.integers(low * 3600, high * 3600, size)

    shipped = np.where(cancelled | collects, never, at + step(8, 50))
    delivered = np.where(cancelled | collects, never, shipped + step(20, 90))
    ready_day = _next_open_day(day + rng.integers(1, 6, size))
    collected = np.where(collects & ~cancelled & (ready_day < _END), _clock(rng, ready_day, 10.2, 19.3), never)
    goods_at = np.minimum(delivered, collected)
    back_day = _next_open_day(np.minimum(goods_at // 86_400, _END) + rng.integers(2, 25, size))
    in_store = (rng.random(size) < RETURN_IN_STORE_SHARE * 1.1) & (goods_at < never) & ~refunded & (back_day < _END)
    whole = rng.random(size) < 0.5
    delay = (
        np.where(rng.random(size) < REFUND_LATE_SHARE, rng.integers(20, 45, size), rng.integers(1, 4, size)) * 86_400
    )
    returned_at = np.where(in_store, _clock(rng, back_day, 10.3, 19.2), never)
    told = rng.random(size) >= REFUND_MISSING_SHARE
    refund_status = np.where(in_store & whole & told, returned_at + delay, never)
    refund_status = np.where(refunded, goods_at + step(5 * 24, 20 * 24), refund_status)
    partial = (rng.random(size) < PARTIAL_REFUND_SHARE) & ~refunded & ~in_store & (goods_at < never)
    refund_row = np.where(
        partial, goods_at + step(4 * 24, 18 * 24), np.where(in_store & ~whole & told, returned_at + delay, never)
    )
    columns = {
        "person": person,
        "day": day,
        "placed": at,
        "account": account,
        "collects": collects.astype(np.int64),
        "pickup_store": people["store"].to_numpy()[person].astype(np.int64),
        "shipping": shipping,
        "discount": discount,
        "total": lines + shipping - discount,
        "cancelled_at": np.where(cancelled, at + step(1, 30), never),
        "shipped_at": shipped,
        "delivered_at": delivered,
        "collected_at": collected,
        "refunded_at": refund_status,
        "refund_row_at": refund_row,
        "returned_at": returned_at,
        "returns_all": (in_store & whole).astype(np.int64),
        "pays_at_counter": (collects & (rng.random(size) < PAID_AT_COUNTER_SHARE)).astype(np.int64),
        "shows_token": (rng.random(size) < 0.8).astype(np.int64),
        "promised_at": at + rng.integers(3, 6, size) * 86_400,
    }
    columns["pickup_store"] = catalogue.trading_stores(
        np.minimum(collected // 86_400, _END - 1), columns["pickup_store"]
    )
    return columns, baskets


def draw_web_tickets(
    rng: np.random.Generator, orders: dict[str, Ints], lines: Baskets
) -> tuple[dict[str, Ints], Baskets]:
    """The till tickets of online orders: the handing over of click-and-collect, and returns in a store."""

    def ticket(chosen: NDArray[np.bool_], at: Ints, kind: int) -> dict[str, Ints]:
        size = int(chosen.sum())
        zero = np.zeros(size, dtype=np.int64)
        return {
            "person": orders["person"][chosen],
            "owner": orders["person"][chosen],
            "day": at[chosen] // 86_400,
            "placed": at[chosen],
            "store": orders["pickup_store"][chosen],
            "card": zero - 1,
            "shows_email": (rng.random(size) < 0.15).astype(np.int64),
            "shows_phone": zero,
            "shows_token": zero,
            "borrowed": zero,
            "discount": zero,
            "total": zero,
            "original": zero - 1,
            "web_order": np.flatnonzero(chosen),
            "kind": zero + kind,
        }

    limit = seasons.DAYS * 86_400
    collected = orders["collected_at"] < limit
    pickups = ticket(collected, orders["collected_at"], 2)
    handed = lines.keep(collected)
    at_counter = orders["pays_at_counter"][collected] == 1
    paid = Baskets(
        handed.purchase,
        handed.line_no,
        handed.product,
        handed.quantity,
        np.where(at_counter[handed.purchase], handed.unit_price, 0),
    )
    pickups["discount"] = np.where(at_counter, orders["discount"][collected], 0)
    pickups["total"] = np.where(at_counter, orders["total"][collected], 0)
    back = orders["returned_at"] < limit
    returns = ticket(back, orders["returned_at"], 1)
    brought = lines.keep(back)
    kept = (brought.line_no == 1) | (orders["returns_all"][back][brought.purchase] == 1)
    brought = Baskets(
        brought.purchase[kept],
        brought.line_no[kept],
        brought.product[kept],
        -brought.quantity[kept],
        brought.unit_price[kept],
    )
    returns["total"] = brought.sums(int(back.sum()))
    returns["store"] = catalogue.trading_stores(returns["day"], returns["store"])
    return stack(pickups, paid, returns, brought)
