"""The calendar of the generated retailer: its days, their weight in trade, its nights.

Days are counted from ``FIRST_DAY`` (day 0) and moments in Paris wall-clock seconds from its midnight. Who buys
what belongs in ``purchases``.
"""

from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

FIRST_DAY = date(2018, 9, 1)
LAST_NIGHT = date(2020, 7, 11)
"""Day of the last delivery; the last business day is the day before."""
LAST_DAY = LAST_NIGHT - timedelta(days=1)
CLOSED_FROM = date(2020, 3, 17)
CLOSED_UNTIL = date(2020, 5, 11)
"""First and last day on which no store was open."""
BEFORE_CLOSURE = date(2020, 2, 29)
NEW_HABIT_FROM = LAST_NIGHT - timedelta(days=88)
"""First day of the second channel of those who became omnichannel within the last 90 days."""
DAILY_DELIVERIES_BEFORE_NIGHTS = 30

DAYS = (LAST_DAY - FIRST_DAY).days + 1
HOLIDAYS = frozenset(
    date(year, month, day)
    for year in (2018, 2019, 2020)
    for month, day in ((1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25))
)
_SALES = (
    (date(2019, 1, 9), date(2019, 2, 19)),
    (date(2019, 6, 26), date(2019, 8, 6)),
    (date(2020, 1, 8), date(2020, 2, 4)),
)
_STORE_WEEK = (0.85, 0.95, 1.1, 0.95, 1.15, 1.8, 0.38)
_WEB_WEEK = (1.1, 1.0, 0.95, 0.95, 0.9, 0.95, 1.25)
_STORE_MONTH = (1.0, 0.85, 0.95, 0.95, 1.0, 1.05, 1.0, 0.7, 1.0, 1.0, 1.05, 1.6)
_WEB_MONTH = (1.05, 0.9, 0.95, 0.95, 0.95, 0.95, 0.9, 0.75, 1.0, 1.0, 1.4, 1.5)


def day_number(day: date) -> int:
    """Days from ``FIRST_DAY`` to ``day``; negative before it."""
    return (day - FIRST_DAY).days


def dates() -> list[date]:
    """Every business day of the calendar, in order."""
    return [FIRST_DAY + timedelta(days=k) for k in range(DAYS)]


def nights(count: int) -> list[date]:
    """The as-of dates of the last ``count`` nightly deliveries, in order."""
    return [LAST_NIGHT - timedelta(days=count - 1 - k) for k in range(count)]


def stock_counts(first_night: date) -> list[date]:
    """The Mondays of the last six weeks before the first night, on which the stock is delivered as well."""
    mondays = [LAST_NIGHT - timedelta(days=5 + 7 * week) for week in reversed(range(6))]
    return [day for day in mondays if day < first_night]


def is_sale(day: date) -> bool:
    """Whether the seasonal sales (soldes) are on."""
    return any(start <= day <= end for start, end in _SALES)


def stores_open(day: date) -> bool:
    """Whether the chain trades in its stores at all that day (Sundays: some of them)."""
    return day not in HOLIDAYS and not CLOSED_FROM <= day <= CLOSED_UNTIL


def store_weights() -> NDArray[np.float64]:
    """Weight of each day in store visits: week, season, sales, holidays, closure, and the rush after it."""
    weights = []
    for day in dates():
        weight = _STORE_WEEK[day.weekday()] * _STORE_MONTH[day.month - 1] * (1.25 if is_sale(day) else 1.0)
        weight *= 1.15 if CLOSED_UNTIL < day <= CLOSED_UNTIL + timedelta(days=21) else 1.0
        weights.append(weight if stores_open(day) else 0.0)
    return np.array(weights)


def web_weights() -> NDArray[np.float64]:
    """Weight of each day in online orders: week, season, Black Friday, and the months without stores."""
    weights = []
    for day in dates():
        weight = _WEB_WEEK[day.weekday()] * _WEB_MONTH[day.month - 1] * (1.15 if is_sale(day) else 1.0)
        weight *= 2.2 if day.month == 11 and 22 <= day.day <= 30 and day.weekday() in (4, 5, 6) else 1.0
        weight *= 2.0 if CLOSED_FROM <= day <= CLOSED_UNTIL else 1.3 if day > CLOSED_UNTIL else 1.0
        weights.append(weight * (1.0 + 0.35 * day_number(day) / DAYS))
    return np.array(weights)


def open_days() -> NDArray[np.bool_]:
    """For each day whether any store trades."""
    return np.array([stores_open(day) for day in dates()])


def sundays() -> NDArray[np.bool_]:
    """For each day whether it is a Sunday."""
    return np.array([day.weekday() == 6 for day in dates()])
