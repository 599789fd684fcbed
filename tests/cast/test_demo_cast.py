"""The named cast is fixed, complete and at home in the calendar; what it must lead to is tested with the pipeline."""

import csv
from pathlib import Path

from dagster_project.demo import DemoPlan, cast, generate, seasons
from dagster_project.domain.contract import feeds


def test_everybody_says_what_must_come_out_for_them() -> None:
    assert len({shopper.key for shopper in cast.cast()}) >= 12
    assert all(shopper.expected for shopper in cast.cast())


def test_the_cast_writes_only_columns_of_the_contract_and_unique_keys() -> None:
    for feed in feeds().values():
        rows = [row for shopper in cast.cast() for row in shopper.rows if row.feed == feed.name]
        assert all(set(row.values) <= set(feed.column_names) for row in rows)
        version = (feed.version,) if feed.version else ()
        keys = [tuple(row.values[name] for name in (*feed.key, *version)) for row in rows]
        assert len(keys) == len(set(keys))


def test_the_cast_shops_only_when_stores_are_open() -> None:
    days = [day for shopper in cast.cast() for _, _, _, channel, day in shopper.bought if channel == "store"]
    assert all(seasons.stores_open(day) for day in days)
    assert max(days) <= seasons.LAST_DAY


def test_the_cast_is_in_the_generated_retailer(tmp_path: Path) -> None:
    generate(tmp_path / "landing", tmp_path / "truth", DemoPlan(persons=60, nights=1, seed=11))
    with (tmp_path / "truth" / "records.csv").open(encoding="utf-8") as lines:
        known = {(row["feed"], row["record_id"], row["person_id"]) for row in csv.DictReader(lines)}
    assert {(*record, shopper.person_id) for shopper in cast.cast() for record in shopper.owned} <= known
