"""The benchmark: what a run costs, as ratios that hold on any machine. ``make bench`` prints the table.

On a landing that it generates: the I/O floor (the time DuckDB needs to read the same files as text and write them as
Parquet, with the same threads), the full run, a night of one day's deliveries, an empty night, and the full run on a
quarter of the people, which shows how each step grows. Each is one process of its own, measured once.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from dagster_project.demo import DemoPlan, generate
from dagster_project.domain.contract import feeds
from dagster_project.domain.landing.csv_rows import read_header
from dagster_project.domain.landing.reader import MOST_UNPACKED_BYTES
from dagster_project.domain.sql_literal import literal
from dagster_project.settings import load_settings

console = Console(highlight=False)


@dataclass(frozen=True)
class Measured:
    """One process: its wall seconds from start to end, its peak memory in MiB, and the seconds of each step."""

    seconds: float
    peak_mib: float
    steps: dict[str, float]


def write_floor(landing: Path, until: date, threads: int, target: Path) -> int:
    """Read every delivered file up to ``until`` as text and write it as Parquet; returns the number of rows."""
    rows = 0
    with duckdb.connect(config={"threads": threads}) as connection:
        for number, path in enumerate(sorted(landing.glob("*/*/*"))):
            if date.fromisoformat(path.parent.name) > until or path.name.startswith((".", "_")):
                continue
            if path.name.endswith((".part", ".tmp")):
                continue
            quoted = literal(path)
            source = f"read_parquet({quoted})"
            if path.suffix != ".parquet":
                header = read_header(path, feeds()[path.parent.parent.name], most_bytes=MOST_UNPACKED_BYTES)
                if header is None:
                    continue
                columns = ", ".join(f"'c{position}': 'varchar'" for position in range(len(header.names)))
                source = (
                    f"read_csv({quoted}, auto_detect = false, header = true, columns = {{{columns}}}, "
                    f"delim = '{header.delimiter}', quote = '\"', escape = '\"', ignore_errors = true, "
                    f"encoding = '{'latin-1' if header.is_latin else 'utf-8'}', strict_mode = false)"
                )
            try:
                result = connection.execute(f"copy (select * from {source}) to '{target}/{number}.parquet'").fetchall()
            except duckdb.Error:
                continue  # a damaged archive: the pipeline repairs it, the floor does not
            rows += result[0][0]
    return rows


def _process(arguments: list[str]) -> Measured:
    """Run this module again as a process of its own, and take its figures from its last line."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.bench", *arguments], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{arguments[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return Measured(seconds, told["peak_mib"], told.get("steps", {}))


def _tell(**values: object) -> None:
    # Of this process alone: the peak that getrusage tells survives from the process that started it.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    peak = int(line.split()[1]) / 1024
    print(json.dumps({"peak_mib": peak, **values}))


def _night(home: Path, as_of: str) -> None:
    from dagster_project.nightly import run_night

    night = run_night(load_settings(home=home), as_of=date.fromisoformat(as_of))
    if night.exit_code:
        raise SystemExit("\n".join(night.sentences))
    _tell(steps=night.seconds, outcome=night.outcome)


def _floor(home: Path, as_of: str) -> None:
    settings = load_settings(home=home)
    with tempfile.TemporaryDirectory(dir=home) as target:
        _tell(rows=write_floor(settings.landing, date.fromisoformat(as_of), settings.threads, Path(target)))


def _measure(home: Path, persons: int) -> tuple[dict[str, Measured], int, float]:
    """The five measures on a landing of ``persons`` people, the rows delivered, and the seconds to generate them."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    began = time.monotonic()
    summary = generate(home / "landing", home / "truth", DemoPlan(persons=persons, nights=1))
    generated = time.monotonic() - began
    last = summary.nights[-1]
    before = last - timedelta(days=1)
    measures = {}
    for name, what, day in (
        ("floor", "floor", before),
        ("full run", "night", before),
        ("one day's night", "night", last),
        ("empty night", "night", last),
    ):
        console.print(f"{persons} persons: {name}")
        measures[name] = _process([what, "--home", str(home), "--as-of", day.isoformat()])
        console.print(f"  {measures[name].seconds:.1f} s, {measures[name].peak_mib:.0f} MiB")
    return measures, sum(summary.rows.values()), generated


def _print(large: dict[str, Measured], small: dict[str, Measured], rows: int, small_rows: int) -> None:
    floor = large["floor"].seconds
    table = Table("measure", "seconds", "times the floor", "peak MiB", title=f"{rows:,} rows".replace(",", " "))
    for name, measured in large.items():
        table.add_row(name, f"{measured.seconds:.1f}", f"{measured.seconds / floor:.1f}", f"{measured.peak_mib:.0f}")
    console.print(table)
    growth = rows / small_rows
    steps = Table("step of the full run", "seconds", "share", f"growth for {growth:.1f} times the rows")
    whole = sum(large["full run"].steps.values())
    for name, seconds in large["full run"].steps.items():
        earlier = small["full run"].steps.get(name)
        steps.add_row(name, f"{seconds:.1f}", f"{seconds / whole:.0%}", f"{seconds / earlier:.1f}" if earlier else "")
    console.print(steps)


def main() -> None:
    """Measure and print; with a word before the options, do one of the measured things instead."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", default="bench", choices=["bench", "night", "floor"])
    parser.add_argument("--home", type=Path, default=Path("var-bench"))
    parser.add_argument("--as-of")
    parser.add_argument("--persons", type=int, default=200_000)
    asked = parser.parse_args()
    if asked.what == "night":
        return _night(asked.home, asked.as_of)
    if asked.what == "floor":
        return _floor(asked.home, asked.as_of)
    console.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}")
    small, small_rows, _ = _measure(asked.home, asked.persons // 4)
    large, rows, generated = _measure(asked.home, asked.persons)
    console.print(f"Generating {asked.persons} persons took {generated:.0f} s.")
    _print(large, small, rows, small_rows)
    shutil.rmtree(asked.home)
    return None


if __name__ == "__main__":
    main()
