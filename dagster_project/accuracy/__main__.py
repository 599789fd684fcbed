"""The accuracy benchmark. ``make accuracy`` runs it and prints the tables.

A retailer is generated, landed and staged once. Each method then works on its own copy of the staged tables, in a
process of its own, and all are judged by the same evaluation against the same truth. Files of people of whom the truth
is known are arguments; without them they are left out.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from duckdb import DuckDBPyConnection
from rich.console import Console

from dagster_project.accuracy.report import BEGIN, Measured, OnFile, file_table, retailer_tables, write_between_marks
from dagster_project.domain.identity.evaluation import Evaluation, evaluate
from dagster_project.domain.sql_literal import literal
from dagster_project.settings import load_settings
from dagster_project.warehouse import Warehouse

STAGE = "stage"
_METHODS = ("cocanal", "exact_keys", "splink")

console = Console(highlight=False, stderr=True)


@dataclass(frozen=True)
class Asked:
    """What a run was asked for. The seed draws the retailer, the order of a file's records, Splink's random pairs."""

    persons: int
    seed: int
    home: Path
    febrl: Path | None
    fake_1000: Path | None


def measure_retailer(asked: Asked) -> dict[str, Measured]:
    """Generate, stage, run each method, and judge it; by the name of the method."""
    console.print(f"{asked.persons} persons: generating, landing and staging")
    _process(STAGE, asked)
    found = {}
    for name in _METHODS:
        console.print(f"{asked.persons} persons: {name}")
        home = asked.home / name
        home.mkdir()
        shutil.copy(asked.home / "warehouse.duckdb", home)
        peak_mib = _process(name, asked)
        found[name] = _judged(asked.home, home / "links.parquet", peak_mib)
        shutil.rmtree(home)
    return found


def _judged(home: Path, links: Path, peak_mib: float) -> Measured:
    """The links at the threshold at which pairs of web accounts and cards have the best F1."""
    with _warehouse(home).scratch() as connection:
        connection.execute(f"create table every_link as select * from read_parquet({literal(links)})")
        rounds = connection.execute(
            "select threshold, any_value(seconds) from every_link group by threshold order by threshold"
        ).fetchall()
        judged = [
            Measured(_evaluated(connection, home, threshold), seconds, peak_mib, threshold)
            for threshold, seconds in rounds
        ]
    return max(judged, key=_f1_of_people)


def _f1_of_people(measured: Measured) -> float:
    people = measured.evaluation.people
    return (people.pairs.f1.value or 0.0) if people else 0.0


def _evaluated(connection: DuckDBPyConnection, home: Path, threshold: float | None) -> Evaluation:
    chosen = "null" if threshold is None else repr(threshold)
    records, transactions = (
        f"select * from read_csv({literal(home / 'truth' / name)}, header = true, all_varchar = true)"
        for name in ("records.csv", "transactions.csv")
    )
    return evaluate(
        connection,
        links="select feed, record_id, account_id, is_person_record from every_link "
        f"where threshold is not distinct from {chosen}",
        truth=records,
        transactions=transactions,
    )


def measure_files(asked: Asked) -> list[OnFile]:
    """Cocanal on each file of people that was named, with the shipped model and its own, and Splink's tutorial."""
    from dagster_project.accuracy.public import (
        FAKE_PEOPLE_FILE,
        FEBRL_FILE,
        cocanal_on,
        splink_on_fake_people,
        train_on,
    )
    from dagster_project.accuracy.staged import read_rows
    from dagster_project.domain.identity.training import TrainingError

    found = []
    for name, path, shape in (
        ("Febrl", asked.febrl, FEBRL_FILE),
        ("fake_1000", asked.fake_1000, FAKE_PEOPLE_FILE),
    ):
        if path is None:
            continue
        console.print(f"{name}: Cocanal")
        rows, warehouse = read_rows(path), _warehouse(asked.home)
        of_cocanal = cocanal_on(warehouse, rows, shape, asked.seed)
        found.append(OnFile(name, "Cocanal, shipped model", of_cocanal.clustering, of_cocanal.seconds))
        try:
            trained = train_on(warehouse, rows, shape, asked.seed)
        except TrainingError as error:
            console.print(f"{name}: {error}")
        else:
            of_trained = cocanal_on(warehouse, rows, shape, asked.seed, trained.model)
            method = f"Cocanal, trained on the file without its labels ({trained.seconds:.0f} s)"
            found.append(OnFile(name, method, of_trained.clustering, of_trained.seconds))
        if shape is FAKE_PEOPLE_FILE:
            console.print(f"{name}: Splink")
            of_splink, threshold = splink_on_fake_people(warehouse, rows, asked.seed)
            method = f"Splink's tutorial, match weight {threshold:g}"
            found.append(OnFile(name, method, of_splink.clustering, of_splink.seconds))
    return found


def report(asked: Asked) -> str:
    """Everything that is measured, as Markdown."""
    parts = [
        f"{asked.persons} generated persons, seed {asked.seed}, on {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}. Shares in per cent, with their 95 % intervals.",
        retailer_tables(measure_retailer(asked)),
        "**Files of people.**",
    ]
    on_files = measure_files(asked)
    if on_files:
        parts.append(file_table(on_files))
    parts += [
        f"{name} was not measured: no file was named ({option})."
        for name, path, option in (("Febrl", asked.febrl, "--febrl"), ("fake_1000", asked.fake_1000, "--fake-1000"))
        if path is None
    ]
    return "\n\n".join(parts)


def _process(what: str, asked: Asked) -> float:
    """Do one of the measured things as a process of its own; returns its peak memory in MiB."""
    options = ["--home", str(asked.home), "--persons", str(asked.persons), "--seed", str(asked.seed)]
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.accuracy", what, *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["peak_mib"])


def _run_method(name: str, home: Path, seed: int) -> None:
    from dagster_project.accuracy.methods import METHODS

    with _warehouse(home).session(name) as connection:
        METHODS[name](connection, seed)
        connection.execute(f"copy links to {literal(home / 'links.parquet')} (format parquet)")


def _warehouse(home: Path) -> Warehouse:
    """Every database of the benchmark has the threads and the memory limit that this environment gives a run."""
    return Warehouse(load_settings(home=home))


def _tell_peak() -> None:
    # Of this process alone: the peak that getrusage tells survives from the process that started it.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(json.dumps({"peak_mib": int(line.split()[1]) / 1024}))


def main() -> None:
    """Measure and print; with a word before the options, do one of the measured things instead."""
    parser = argparse.ArgumentParser(prog="python -m dagster_project.accuracy", description=__doc__)
    parser.add_argument("what", nargs="?", choices=[STAGE, *_METHODS], help=argparse.SUPPRESS)
    parser.add_argument("--persons", type=int, default=100_000, help="size of the generated retailer")
    parser.add_argument("--seed", type=int, default=11, help="not 7: the shipped model was trained on that retailer")
    parser.add_argument("--home", type=Path, default=Path("var-accuracy"), help="a folder that is made and removed")
    parser.add_argument("--febrl", type=Path, help="a data set of Febrl's (CSV with rec_id)")
    parser.add_argument("--fake-1000", type=Path, help="Splink's fake_1000 (CSV with cluster)")
    parser.add_argument("--into", type=Path, help=f"a page that takes the tables too, at «{BEGIN}»")
    given = parser.parse_args()
    if given.what == STAGE:
        from dagster_project.accuracy.staged import stage_retailer

        stage_retailer(given.home, given.persons, given.seed)
        return _tell_peak()
    if given.what:
        _run_method(given.what, given.home / given.what, given.seed)
        return _tell_peak()
    if given.home.exists():
        raise SystemExit(f"{given.home} exists: name another folder, for this one is removed at the end.")
    try:
        tables = report(Asked(given.persons, given.seed, given.home, given.febrl, given.fake_1000))
    finally:
        shutil.rmtree(given.home, ignore_errors=True)
    print(tables)
    if given.into:
        write_between_marks(given.into, tables)
    return None


if __name__ == "__main__":
    main()
