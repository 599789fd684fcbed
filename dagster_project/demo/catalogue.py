"""The shop itself: stores, opening hours, products and stock, and the reference lists shipped with the code.

Each is a small table; people and what they do belong elsewhere.
"""

import csv
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dagster_project.demo import seasons

_DATA = Path(__file__).parent / "data"
STORES = 24
PRODUCTS = 300
UNKNOWN_STORE = "S999"
UNKNOWN_PRODUCT = "P99999"
SUNDAY_STORES = (0, 1, 2, 5, 8, 13)
"""Stores (by number, from 0) that open on Sundays."""
_RENOVATED = 17
"""Store that was closed for good in 2019: it has a last day of business."""
_CLOSED_FOR_GOOD = date(2019, 12, 31)
_REFITTED = 18
"""Store (in Nîmes) that was being refitted in the last weeks, and whose reopening is announced."""
_REFITTED_FROM, _REFITTED_UNTIL = date(2020, 6, 22), date(2020, 7, 14)
# Products whose stock does not follow chance, for the cast looks for them: always there; sold out until a day;
# never there.
ALWAYS_THERE, SOLD_OUT, NEVER_THERE = "P00005", "P00006", "P00008"
_BACK_ON = date(2020, 7, 6)
_CATEGORIES = (
    ("Mode femme", 45.0, None, ("Robe", "Chemisier", "Jupe", "Pull", "Veste", "Pantalon")),
    ("Mode homme", 48.0, None, ("Chemise", "Pull", "Pantalon", "Veste", "Polo")),
    ("Enfant", 22.0, None, ("Body", "Robe enfant", "Jean enfant", "Pyjama")),
    ("Bébé", 28.0, "birth", ("Gigoteuse", "Doudou", "Turbulette", "Coffret naissance")),
    ("Maison", 32.0, None, ("Plaid", "Coussin", "Vase", "Lampe", "Bougie", "Cadre")),
    ("Linge de maison", 38.0, None, ("Housse de couette", "Drap", "Serviette", "Nappe")),
    ("Beauté", 19.0, None, ("Crème", "Savon", "Parfum", "Baume")),
    ("Épicerie fine", 12.0, None, ("Confiture", "Miel", "Thé", "Chocolat", "Biscuits")),
    ("Cave", 17.0, "alcohol", ("Vin rouge", "Vin blanc", "Cidre")),
    ("Souvenir", 30.0, "bereavement", ("Cadre souvenir", "Bougie de recueillement")),
    ("Papeterie", 9.0, None, ("Carnet", "Agenda", "Stylo", "Carte")),
    ("Accessoires", 26.0, None, ("Sac", "Écharpe", "Ceinture", "Chapeau", "Bijou")),
)
_BRANDS = ("Atelier Brume", "Maison Garance", "Petit Large", "Lin & Cie", "Côte Douce", None)
_COLOURS = ("écru", "marine", "terracotta", "vert sauge", "noir", "ocre", "bleu canard", "rose thé", "gris perle")


@dataclass(frozen=True)
class Reference:
    """The frequency lists: arrays of equal length per list, in file order.

    ``other_names`` are those of other origins and forms: per origin and kind the names, how else each is written, and
    their shares.
    """

    given_names: dict[tuple[str, int], tuple[NDArray[np.object_], NDArray[np.float64]]]
    surnames: NDArray[np.object_]
    surname_weights: NDArray[np.float64]
    other_names: dict[tuple[str, str], tuple[NDArray[np.object_], list[tuple[str, ...]], NDArray[np.float64]]]
    streets: NDArray[np.object_]
    street_weights: NDArray[np.float64]
    postal_codes: NDArray[np.object_]
    cities: NDArray[np.object_]
    populations: NDArray[np.float64]
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]


def _rows(name: str) -> list[dict[str, str]]:
    with (_DATA / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _shares(weights: NDArray[np.floating]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.cumsum(weights) / weights.sum()
    return shares


@cache
def reference() -> Reference:
    """The lists under ``data/``; weights are cumulative shares, ready for ``searchsorted``."""
    given: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for row in _rows("given_names.csv"):
        given.setdefault((row["sex"], int(row["decade"])), []).append((row["name"], int(row["rank"])))
    others: dict[tuple[str, str], list[tuple[str, tuple[str, ...]]]] = {}
    for row in _rows("other_names.csv"):
        also = tuple(filter(None, row["also_written"].split("|")))
        others.setdefault((row["origin"], row["kind"]), []).append((row["name"], also))
    surnames, streets, communes = _rows("surnames.csv"), _rows("streets.csv"), _rows("communes.csv")

    def column(rows: list[dict[str, str]], name: str) -> NDArray[np.object_]:
        return np.array([row[name] for row in rows], dtype=object)

    return Reference(
        given_names={
            key: (
                np.array([name for name, _ in names], dtype=object),
                _shares(1.0 / (np.array([rank for _, rank in names]) + 6.0) ** 1.05),
            )
            for key, names in given.items()
        },
        surnames=column(surnames, "name"),
        surname_weights=_shares(1.0 / (np.arange(len(surnames)) + 40.0) ** 0.75),
        other_names={
            key: (
                np.array([name for name, _ in names], dtype=object),
                [also for _, also in names],
                _shares(1.0 / (np.arange(len(names)) + 5.0)),
            )
            for key, names in others.items()
        },
        streets=column(streets, "name"),
        street_weights=_shares(np.sqrt(column(streets, "weight").astype(float))),
        postal_codes=column(communes, "postal_code"),
        cities=column(communes, "city"),
        populations=column(communes, "population").astype(float),
        latitudes=column(communes, "latitude").astype(float),
        longitudes=column(communes, "longitude").astype(float),
    )


def store_communes() -> NDArray[np.int64]:
    """Position of each store's commune: the largest ones, two in Paris."""
    places = reference()
    chosen: list[int] = []
    seen: dict[str, int] = {}
    for position in np.argsort(-places.populations, kind="stable"):
        city = places.cities[position]
        if seen.get(city, 0) < (2 if city == "Paris" else 1):
            seen[city] = seen.get(city, 0) + 1
            chosen.append(int(position))
    return np.array(chosen[:STORES])


def stores() -> pa.Table:
    """One row per store."""
    places, at = reference(), store_communes()
    return pa.table(
        {
            "store": np.arange(STORES, dtype=np.int32),
            "store_id": [f"S{k + 1:03d}" for k in range(STORES)],
            "name": [
                f"{places.cities[p]} Centre" if k % 3 else f"{places.cities[p]} Grand Rue" for k, p in enumerate(at)
            ],
            "postal_code": [places.postal_codes[p] for p in at],
            "city": [places.cities[p] for p in at],
            "latitude": places.latitudes[at],
            "longitude": places.longitudes[at],
            "opened_on": [date(1998 + k % 17, 3, 1 + k) for k in range(STORES)],
            "closed_on": pa.array([_CLOSED_FOR_GOOD if k == _RENOVATED else None for k in range(STORES)], pa.date32()),
        }
    )


def trading_stores(day: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The store that a visit goes to: the wanted one, or one that trades on that day if the wanted one does not."""
    sunday = seasons.sundays()[day]
    sunday_stores = np.array(SUNDAY_STORES)
    store = np.where(sunday & ~np.isin(wanted, sunday_stores), sunday_stores[wanted % len(sunday_stores)], wanted)
    is_refitted = (day >= seasons.day_number(_REFITTED_FROM)) & (day <= seasons.day_number(_REFITTED_UNTIL))
    store = np.where((store == _REFITTED) & is_refitted, 3, store)
    return np.where((store == _RENOVATED) & (day > seasons.day_number(_CLOSED_FOR_GOOD)), 3, store)


def products(rng: np.random.Generator) -> pa.Table:
    """One row per product, prices in cents; popularity is a share that falls with the product's number."""
    numbers = np.arange(PRODUCTS)
    categories = [_CATEGORIES[k % len(_CATEGORIES)] for k in numbers]
    price = np.array([category[1] for category in categories]) * rng.lognormal(0.0, 0.45, PRODUCTS)
    brand = rng.integers(0, len(_BRANDS), PRODUCTS)
    return pa.table(
        {
            "product": numbers.astype(np.int32),
            "product_id": [f"P{k + 1:05d}" for k in numbers],
            "name": [
                f"{category[3][k // len(_CATEGORIES) % len(category[3])]} {_COLOURS[k % len(_COLOURS)]}"
                for k, category in enumerate(categories)
            ],
            "category": [category[0] for category in categories],
            "brand": pa.array([_BRANDS[b] for b in brand], pa.string()),
            "price": np.maximum(290, np.round(price) * 100 - 5).astype(np.int64),
            "sensitive_topic": pa.array([category[2] for category in categories], pa.string()),
            "is_local": pa.array([None if b == 5 else bool(b % 2) for b in brand], pa.bool_()),
        }
    )


def store_hours(known_on: date) -> pa.Table:
    """One row per store and day, as the chain knew it on ``known_on``: the closure is not known before it came."""
    days = [
        seasons.FIRST_DAY + timedelta(days=k) for k in range(min(seasons.DAYS + 45, seasons.day_number(known_on) + 92))
    ]
    knows_closure = known_on >= seasons.CLOSED_FROM
    trades = np.array([seasons.stores_open(day) if knows_closure else day not in seasons.HOLIDAYS for day in days])
    sunday = np.array([day.weekday() == 6 for day in days])
    store, day = np.divmod(np.arange(STORES * len(days)), len(days))
    is_open = trades[day] & (~sunday[day] | np.isin(store, SUNDAY_STORES))
    is_open &= (store != _RENOVATED) | (day <= seasons.day_number(_CLOSED_FOR_GOOD))
    if known_on >= _REFITTED_FROM:
        first, last = seasons.day_number(_REFITTED_FROM), seasons.day_number(_REFITTED_UNTIL)
        is_open &= (store != _REFITTED) | (day < first) | (day > last)
    closed = ~is_open
    return pa.table(
        {
            "store_id": pa.array(np.array([f"S{k + 1:03d}" for k in range(STORES)], dtype=object)[store], pa.string()),
            "day": pa.array(np.datetime64(seasons.FIRST_DAY, "D") + day, pa.date32()),
            "is_open": is_open,
            "opens_at": pa.array(np.where(sunday[day], "11:00", "10:00").astype(object), pa.string(), mask=closed),
            "closes_at": pa.array(np.where(sunday[day], "18:00", "19:30").astype(object), pa.string(), mask=closed),
        }
    )


def stock(rng: np.random.Generator, counted_on: date) -> pa.Table:
    """One row per place and product that was counted; about one in ten is missing."""
    places = STORES + 1
    place, product = np.divmod(np.arange(places * PRODUCTS), PRODUCTS)
    quantity = np.where(place == STORES, rng.poisson(60, len(place)), rng.poisson(6, len(place)))
    quantity = np.where(rng.random(len(place)) < 0.12, 0, quantity)
    kept = (rng.random(len(place)) >= 0.1) & ((place != _RENOVATED) | (counted_on <= _CLOSED_FOR_GOOD))
    for product_id, pieces in (
        (ALWAYS_THERE, 40),
        (SOLD_OUT, 40 if counted_on >= _BACK_ON else 0),
        (NEVER_THERE, 0),
    ):
        is_it = product == int(product_id[1:]) - 1
        quantity = np.where(is_it, np.where(place == STORES, pieces, pieces // 10), quantity)
        kept |= is_it & (place == STORES)
    location = np.array([f"S{k + 1:03d}" for k in range(STORES)] + ["web"], dtype=object)
    return pa.table(
        {
            "location_id": pa.array(location[place[kept]], pa.string()),
            "product_id": [f"P{k + 1:05d}" for k in product[kept]],
            "quantity": quantity[kept].astype(np.int64),
            "counted_at": pa.array([datetime.combine(counted_on, time(4, 15))] * int(kept.sum()), pa.timestamp("us")),
        }
    )
