"""What a night costs the identity stage: ``make bench-identity`` prints the table.

A retailer is generated, landed and staged once. Three processes then resolve its people: all but one record in a
hundred, from nothing; the whole, in the night after, on what the first remembered; and the whole again, from nothing.
The last two must give the same tables. Each is measured once, from staged tables to identity tables.

What belongs here: the cost of the stage. What does not: how right it is (``accuracy``), and the cost of a whole run
(``bench``).
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dagster_project.accuracy.staged import stage_retailer
from dagster_project.domain.identity import resolve
from dagster_project.settings import load_settings
from dagster_project.warehouse import Warehouse

console = Console(highlight=False)

_PEOPLE = {
    "shop_customers": "customer_id",
    "loyalty_members": "card_id",
    "shop_orders": "order_id",
    "pos_tickets": "ticket_id",
}
_RELEASED = ("account_links", "account_events", "account_redirects", "account_link_history", "anchors")
_COMPARED = (
    *_RELEASED, "records", "contacts", "edges", "households", "demoted_identifiers", "shared_identifiers", "cut_blocks",
)  # fmt: skip
_STEPS = {
    "first": "all but 1 % of the records, from nothing",
    "night": "the night after: 1 % new records",
    "again": "the same night, nothing remembered",
}


def _resolve(home: Path, step: str) -> None:
    """Resolve a copy of the staged tables as one step of the benchmark, and tell seconds, memory and pairs."""
    place = home / step
    place.mkdir()
    shutil.copy((home / "first" if step == "night" else home) / "warehouse.duckdb", place / "warehouse.duckdb")
    released = home / "released.duckdb"
    with Warehouse(load_settings(home=place)).session("identity benchmark") as connection:
        for feed, key in _PEOPLE.items():
            if step == "first":
                connection.execute(
                    f"create table held_back_{feed} as from staging.stg_{feed} where hash({key}) % 100 = 0"
                )
                connection.execute(f"delete from staging.stg_{feed} where hash({key}) % 100 = 0")
            elif step == "night":
                connection.execute(f"insert into staging.stg_{feed} from held_back_{feed}")
        ((as_of,),) = connection.execute("select as_of from landing.builds").fetchall()
        began = time.monotonic()
        found = resolve(
            connection,
            as_of=as_of,
            run_id=step if step == "first" else "night",
            previous=None if step == "first" else released,
        )
        connection.execute("checkpoint")
        seconds = time.monotonic() - began
        if step == "first":
            connection.execute(f"attach '{released}' as released; create schema released.identity")
            for table in _RELEASED:
                connection.execute(f"create table released.identity.{table} as from identity.{table}")
            connection.execute(
                "create schema released.release; create table released.release.info as select 'first' as release_id"
            )
            connection.execute("detach released")
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_mib": int(line.split()[1]) / 1024,
                "records": found.records,
                "compared": found.compared_pairs,
                "scored": found.scored_pairs,
            }
        )
    )


def _differences(home: Path) -> int:
    """Rows that stand in a table of the night and not in that of the same night without memory, or the reverse."""
    found = 0
    with Warehouse(load_settings(home=home)).scratch() as connection:
        for step in ("night", "again"):
            connection.execute(f"attach '{home / step / 'warehouse.duckdb'}' as {step} (read_only)")
        for table in _COMPARED:
            for one, other in (("night", "again"), ("again", "night")):
                ((rows,),) = connection.execute(
                    f"select count(*) from (from {one}.identity.{table} except all from {other}.identity.{table})"
                ).fetchall()
                found += rows
    return found


def measure(home: Path, persons: int, seed: int) -> dict[str, dict[str, float]]:
    """Seconds, peak MiB, records, compared and scored pairs of each step; ``differences`` of the last two."""
    _process("stage", home, persons, seed)
    measured = {}
    for step, words in _STEPS.items():
        console.print(f"{persons} persons: {words}")
        measured[step] = json.loads(_process(step, home, persons, seed))
    measured["differences"] = {"rows": _differences(home)}
    return measured


def _process(what: str, home: Path, persons: int, seed: int) -> str:
    options = ["--home", str(home), "--persons", str(persons), "--seed", str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.identity_bench", what, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def _print(measured: dict[str, dict[str, float]], persons: int) -> None:
    full = measured["again"]["seconds"]
    table = Table(
        "measure", "seconds", "of the night without memory", "peak MiB", "pairs", "scored", title=f"{persons:,} persons"
    )
    for step, words in _STEPS.items():
        row = measured[step]
        table.add_row(
            words,
            f"{row['seconds']:.1f}",
            f"{row['seconds'] / full:.0%}",
            f"{row['peak_mib']:.0f}",
            f"{row['compared']:,.0f}",
            f"{row['scored']:,.0f}",
        )
    console.print(table)
    console.print(f"Rows that differ between the last two: {measured['differences']['rows']:.0f}")


def main() -> None:
    """Measure and print; with a word before the options, do one of the measured things instead."""
    parser = argparse.ArgumentParser(prog="python -m dagster_project.identity_bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["stage", *_STEPS], help=argparse.SUPPRESS)
    parser.add_argument("--persons", type=int, default=1_000_000, help="size of the generated retailer")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--home", type=Path, default=Path("var-bench"), help="a folder that is made and removed")
    asked = parser.parse_args()
    if asked.what == "stage":
        return stage_retailer(asked.home, asked.persons, asked.seed)
    if asked.what:
        return _resolve(asked.home, asked.what)
    if asked.home.exists():
        raise SystemExit(f"{asked.home} exists: name another folder, for this one is removed at the end.")
    console.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}")
    try:
        _print(measure(asked.home, asked.persons, asked.seed), asked.persons)
    finally:
        shutil.rmtree(asked.home, ignore_errors=True)
    return None


if __name__ == "__main__":
    main()
