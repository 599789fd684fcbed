"""What the rights of people cost at a retailer's size: ``make bench-privacy`` prints the tables.

A retailer is generated, released once, and given six older releases, which are the first by other names: seven is what
a home keeps. Then, each in a process of its own and one after the other on the same home: the access of one person; an
erasure of five; the retention of everybody without a contact for a year, about a tenth of the accounts; and the landing
of what these removed, delivered again, with the tombstones of all of them and without. A quarter of the people shows
how each step grows.

What belongs here: the cost. What does not: whether nothing is left (the receipt, and ``tests/pipeline/test_erasure``).
"""

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from dagster_project.demo import DemoPlan, generate
from dagster_project.domain.contract import Feed
from dagster_project.domain.landing.intake import take_in
from dagster_project.domain.privacy.tombstones import read_tombstones
from dagster_project.nightly import run_night
from dagster_project.privacy import TOMBSTONES, erase, erase_again, give_access
from dagster_project.settings import Settings, load_settings
from dagster_project.warehouse import Warehouse

console = Console(highlight=False, width=120)

_RELEASES = 7
_REQUESTS = 5
_INACTIVE_MONTHS = 12
_STEPS = {
    "access": "access of one person",
    "erase": f"erasure of {_REQUESTS} people",
    "retention": "retention of a tenth",
    "landing": "landing of what went, delivered again",
}


class _Clock:
    """Seconds and peak MiB of each step since the last one was told."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}
        self._step, self._began = "", 0.0

    def begin(self, step: str) -> None:
        """Close the step before, and begin another; sentences about progress are none."""
        if " " in step:
            return
        if self._step:
            self.steps[self._step] = {"seconds": time.monotonic() - self._began, "peak_mib": _peak_mib()}
        with suppress(OSError):  # where the kernel does not let us, a peak is that of the process so far
            Path("/proc/self/clear_refs").write_text("5")
        self._step, self._began = step, time.monotonic()

    def end(self) -> dict[str, dict[str, float]]:
        self.begin("end")
        return self.steps


def _peak_mib() -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def _settings(home: Path) -> Settings:
    return load_settings(home=home, inactive_months=_INACTIVE_MONTHS)


def _prepare(home: Path, persons: int, seed: int) -> dict[str, Any]:
    """Generate and release the retailer, with requests of its own in place of the generated ones."""
    settings = _settings(home)
    truth = home / "truth"
    summary = generate(settings.landing, truth, DemoPlan(persons=persons, nights=1, seed=seed))
    as_of = summary.nights[-1] - timedelta(days=1)
    for later in settings.landing.glob(f"*/{summary.nights[-1]}"):
        shutil.rmtree(later)
    shutil.rmtree(settings.landing / "privacy_requests")
    with (truth / "records.csv").open(encoding="utf-8", newline="") as told:
        customers = [row["record_id"] for row in csv.DictReader(told) if row["feed"] == "shop_customers"]
    asking = sorted(customers)[:: max(1, len(customers) // (_REQUESTS + 1))][: _REQUESTS + 1]
    folder = settings.landing / "privacy_requests" / str(as_of)
    folder.mkdir(parents=True)
    with (folder / "requests.csv").open("w", encoding="utf-8", newline="") as out:
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(["request_id", "kind", "key_type", "key_value", "received_at"])
        for number, customer in enumerate(asking):
            kind = "erasure" if number else "access"
            lines.writerow(
                [f"{kind}-{number}", kind, "customer_id", customer, f"{as_of - timedelta(days=1)}T12:00:00Z"]
            )
    shutil.rmtree(truth)
    began = time.monotonic()
    night = run_night(settings, as_of=as_of)
    if night.exit_code:
        raise SystemExit("\n".join(night.sentences))
    released = (settings.releases / "current").resolve()
    for number in range(1, _RELEASES):
        older = settings.releases / f"{as_of - timedelta(days=number):%Y%m%d}T000000Z"
        shutil.copytree(released, older, copy_function=os.link)
    shutil.copytree(settings.landing, home.with_name(f"{home.name}-delivered"), copy_function=os.link)
    return {"rows": sum(summary.rows.values()), "night": time.monotonic() - began, "as_of": as_of.isoformat()}


def _access(home: Path) -> dict[str, Any]:
    clock = _Clock()
    clock.begin("access")
    give_access(_settings(home), "access-0", datetime.now(UTC), "benchmark")
    return {"steps": clock.end()}


def _erase(home: Path, *, with_retention: bool) -> dict[str, Any]:
    settings, clock = _settings(home), _Clock()
    receipts = erase(
        settings, Warehouse(settings), datetime.now(UTC), with_retention=with_retention, announce=clock.begin
    )
    told = receipts[-1]
    return {
        "steps": clock.end(),
        "accounts": sum(receipt.account_count for receipt in receipts),
        "raw files": told.raw_file_count,
        "files": told.searched_file_count,
        "bytes": told.searched_byte_count,
        "cells": told.searched_cell_count,
        "is thorough": told.is_search_thorough,
        "found": sorted({place for _, place, _ in told.found}),
    }


def _landing(home: Path) -> dict[str, Any]:
    """Land what is gone from landing again, beside the home, with the tombstones and without."""
    settings, clock = _settings(home), _Clock()
    delivered, again = home.with_name(f"{home.name}-delivered"), home / "again"
    files = 0
    for path in sorted(each for each in delivered.rglob("*") if each.is_file()):
        inside = path.relative_to(delivered)
        if not (settings.landing / inside).exists():
            (again / inside).parent.mkdir(parents=True, exist_ok=True)
            os.link(path, again / inside)
            files += 1

    def is_left_alone(connection: duckdb.DuckDBPyConnection, feed: Feed, path: Path, sha256: str) -> None:
        pass

    for step in ("without_tombstones", "with_tombstones"):
        raw = home / step
        clock.begin(step)
        take_in(
            again,
            raw,
            raw / "deliveries",
            as_of=date.max,
            connect=Warehouse(settings).scratch,
            workers=settings.threads,
            progress=lambda done, of: None,
            erase=is_left_alone if step == "without_tombstones" else erase_again(settings),
        )
    return {"steps": clock.end(), "files": files, "tombstones": len(read_tombstones(settings.privacy / TOMBSTONES))}


_MEASURES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "access": _access,
    "erase": lambda home: _erase(home, with_retention=False),
    "retention": lambda home: _erase(home, with_retention=True),
    "landing": _landing,
}


def measure(home: Path, persons: int, seed: int) -> dict[str, dict[str, Any]]:
    """What each measure came to: ``steps`` (name -> seconds, peak_mib), and what it was about; ``home`` is filled."""
    measured = {"prepare": _process("prepare", home, persons, seed)}
    for step, words in _STEPS.items():
        measured[step] = _process(step, home, persons, seed)
        told = ", ".join(
            f"{name.replace('_', ' ')} {each['seconds']:.1f} s ({each['peak_mib']:.0f} MiB)"
            for name, each in measured[step]["steps"].items()
        )
        console.print(f"{persons} persons, {words}: {told}", soft_wrap=True)
    return measured


def _process(what: str, home: Path, persons: int, seed: int) -> dict[str, Any]:
    options = ["--home", str(home), "--persons", str(persons), "--seed", str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.privacy_bench", what, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _print(large: dict[str, dict[str, Any]], small: dict[str, dict[str, Any]]) -> None:
    rows, growth = large["prepare"]["rows"], large["prepare"]["rows"] / small["prepare"]["rows"]
    sums = Table(
        "measure", "seconds", "peak MiB", f"growth for {growth:.1f} times the rows", title=f"{_number(rows)} rows"
    )
    steps = Table("step", "erasure, s", "MiB", "growth", "retention, s", "MiB", "growth")

    def seconds(measured: dict[str, dict[str, Any]], what: str) -> float:
        return float(sum(step["seconds"] for step in measured[what]["steps"].values()))

    for what, words in _STEPS.items():
        if what == "landing":
            continue
        whole, peak = seconds(large, what), max(step["peak_mib"] for step in large[what]["steps"].values())
        sums.add_row(words, f"{whole:.1f}", _number(peak), f"{whole / seconds(small, what):.1f}")
    for name in ("without_tombstones", "with_tombstones"):
        step, earlier = large["landing"]["steps"][name], small["landing"]["steps"][name]
        sums.add_row(
            f"{_STEPS['landing']}, {name.replace('_', ' ')}",
            f"{step['seconds']:.1f}",
            _number(step["peak_mib"]),
            f"{step['seconds'] / earlier['seconds']:.1f}",
        )
    for name in large["erase"]["steps"]:
        cells = []
        for what in ("erase", "retention"):
            step, earlier = large[what]["steps"][name], small[what]["steps"][name]
            ratio = f"{step['seconds'] / earlier['seconds']:.1f}" if step["seconds"] >= 0.5 else ""
            cells += [f"{step['seconds']:.1f}", _number(step["peak_mib"]), ratio]
        steps.add_row(name, *cells)
    console.print(sums)
    console.print(steps)
    for what in ("erase", "retention"):
        told = large[what]
        console.print(
            f"{_STEPS[what]}: {_number(told['accounts'])} accounts, {_number(told['raw files'])} raw files rewritten;"
            f" looked through {_number(told['files'])} files, {_number(told['bytes'] / 2**20)} MiB,"
            f" {_number(told['cells'])} cells{'' if told['is thorough'] else ', whole cells only'};"
            f" found: {', '.join(told['found']) or 'nothing'}."
        )
    console.print(
        f"{_STEPS['landing']}: {large['landing']['files']} files, {_number(large['landing']['tombstones'])} tombstones."
        f" The night before took {large['prepare']['night']:.0f} s."
    )


def main() -> None:
    """Measure and print; with a word before the options, do one of the measured things instead."""
    parser = argparse.ArgumentParser(prog="python -m dagster_project.privacy_bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["prepare", *_MEASURES], help=argparse.SUPPRESS)
    parser.add_argument("--persons", type=int, default=200_000, help="size of the generated retailer")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--home", type=Path, default=Path("var-bench"), help="a folder that is made and removed")
    asked = parser.parse_args()
    if asked.what:
        told = (
            _prepare(asked.home, asked.persons, asked.seed)
            if asked.what == "prepare"
            else _MEASURES[asked.what](asked.home)
        )
        print(json.dumps(told))
        return
    if asked.home.exists():
        raise SystemExit(f"{asked.home} exists: name another folder, for this one is removed at the end.")
    console.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}")
    try:
        small = measure(asked.home / "small" / "home", asked.persons // 4, asked.seed)
        shutil.rmtree(asked.home)
        _print(measure(asked.home / "large" / "home", asked.persons, asked.seed), small)
    finally:
        shutil.rmtree(asked.home, ignore_errors=True)


if __name__ == "__main__":
    main()
