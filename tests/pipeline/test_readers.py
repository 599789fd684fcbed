"""Analysts read while runs go on and the pointer moves: no error, no mixture of two releases, no lock on anybody."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from dagster_project.domain import release
from dagster_project.domain.release import ReleasePlan, RunRecord
from dagster_project.transform import read_manifest

PROGRAM = Path(__file__).with_name("endless_reader.py")
WAYS = ("fresh", "resolved", "patient")
LONG_RUNS = 20
KEEP = 4


class Readers:
    """Processes that read a home in a loop, and what each of their reads found."""

    def __init__(self, home: Path, notes: Path, ways: tuple[str, ...]) -> None:
        notes.mkdir()
        self._notes = [notes / f"{number}.jsonl" for number, _ in enumerate(ways)]
        self._processes = [
            subprocess.Popen([sys.executable, str(PROGRAM), way, str(home), str(path)], stdin=subprocess.PIPE)
            for way, path in zip(ways, self._notes, strict=True)
        ]

    def _counts(self) -> list[int]:
        return [path.read_bytes().count(b"\n") if path.exists() else 0 for path in self._notes]

    def let_each_read(self) -> None:
        """Wait until each has read once more from beginning to end: so that promotions and reads really alternate."""
        before = self._counts()
        while any(now < then + 2 for now, then in zip(self._counts(), before, strict=True)):
            assert all(process.poll() is None for process in self._processes), "a reader ended"
            time.sleep(0.01)

    def stop(self) -> list[dict[str, Any]]:
        for process in self._processes:
            process.communicate()
        return [json.loads(line) for path in self._notes for line in path.read_text().splitlines()]

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def readers(home: Path, tmp_path: Path) -> Iterator[Readers]:
    found = Readers(home, tmp_path / "notes", WAYS)
    yield found
    found.kill()


def published_figures(home: Path) -> dict[str, list[Any]]:
    """What every release on disk says of itself, by its id."""
    query = """
        select
            (select release_id from release.info), (select count(*) from account.accounts),
            (select sum(counted_amount)::varchar from account.reconciliation), (select count(*) from landing.files)
    """
    found = {}
    for one in release.list_releases(home):
        with duckdb.connect(str(one.directory / "cocanal.duckdb"), read_only=True) as connection:
            found[one.release_id] = list(connection.execute(query).fetchall()[0])
    return found


def assert_no_error_and_no_mixture(reads: list[dict[str, Any]], known: dict[str, list[Any]]) -> int:
    """Every read is one of one release, with the figures of that release; returns how many releases were read."""
    assert [read["error"] for read in reads if "error" in read] == []
    answers = {json.dumps(read["read"]) for read in reads}
    ids = [json.loads(answer)[0] for answer in answers]
    assert len(ids) == len(set(ids)), "one release gave two answers"
    for answer in answers:
        release_id, accounts, _, amount, files = json.loads(answer)
        assert [release_id, accounts, amount, files] == known[release_id]
    return len(ids)


def publish_variation(connection: duckdb.DuckDBPyConnection, home: Path, tables: Any) -> str:
    """A release like the last one with one account less, built and promoted as a run does it."""
    release_id = release.next_release_id(home, datetime.now(UTC))
    connection.execute("delete from account.accounts where account_id = (select max(account_id) from account.accounts)")
    connection.execute("update activation.ledger set last_release_id = $1", [release_id])
    directory = release.building_directory(home, release_id)
    current = release.current_release(home)
    assert current is not None
    plan = ReleasePlan(release_id, date(2020, 7, 10), datetime.now(UTC), current.release_id, tables)
    counts = release.build(connection, directory, plan)
    shutil.copytree(current.directory / "audiences", directory / "audiences")
    release.write_manifest(connection, directory, plan, RunRecord("r", "0", "f"), counts)
    release.promote(home, release_id)
    return release_id


def test_readers_see_whole_releases_while_the_pointer_moves(
    home: Path, instance: dg.DagsterInstance, settings_of: Any, supplier: Any, run_in: Any, readers: Readers
) -> None:
    settings = settings_of(home)
    visits = [
        {"event_id": f"RD{n}", "session_id": "V1", "event": "visit", "occurred_at": "2020-07-10T12:00:00Z"}
        for n in range(100)
    ]
    supplier(settings.landing).deliver("web_events", date(2020, 7, 11), visits)
    readers.let_each_read()
    night = run_in(home)
    assert night.outcome == "released", night.sentences
    readers.let_each_read()
    known = published_figures(home)
    tables = release.published_tables(read_manifest(settings))
    shutil.copyfile(home / "warehouse.duckdb", home.parent / "copy.duckdb")
    with duckdb.connect(str(home.parent / "copy.duckdb")) as connection:
        for number in range(5):
            publish_variation(connection, home, tables)
            readers.let_each_read()
            known |= published_figures(home)
            if number == 2:
                release.rollback(home, "previous")
                readers.let_each_read()
            release.prune(home, keep=KEEP)
    reads = readers.stop()
    assert assert_no_error_and_no_mixture(reads, known) >= 4
    assert len(release.list_releases(home)) == KEEP


def test_a_connection_stays_on_its_release_after_that_was_replaced_and_removed(home: Path) -> None:
    """Who opened a release keeps it: the pointer moves, the folder is deleted, and the answers stay."""
    current = release.current_release(home)
    assert current is not None
    newer = home / "releases" / "29990101T000000Z"
    shutil.copytree(current.directory, newer)
    with duckdb.connect(str(current.directory / "cocanal.duckdb"), read_only=True) as reader:
        before = reader.execute("select account_id from account.accounts order by all").fetchall()
        release.rollback(home, newer.name)
        assert release.prune(home, keep=1) == [current.release_id]
        assert not current.directory.exists()
        assert reader.execute("select account_id from account.accounts order by all").fetchall() == before


def test_a_reader_who_resolved_the_link_and_then_waited_finds_the_release_while_two_are_kept(home: Path) -> None:
    current = release.current_release(home)
    assert current is not None
    newer = home / "releases" / "29990101T000000Z"
    shutil.copytree(current.directory, newer)
    resolved = Path(os.path.realpath(home / "releases" / "current"))
    release.rollback(home, newer.name)
    release.prune(home, keep=2)
    with duckdb.connect(str(resolved / "cocanal.duckdb"), read_only=True) as reader:
        assert reader.execute("select release_id from release.info").fetchall() == [(current.release_id,)]


@pytest.mark.long
def test_readers_during_twenty_runs(
    home: Path, instance: dg.DagsterInstance, settings_of: Any, supplier: Any, run_in: Any, readers: Readers
) -> None:
    known = published_figures(home)
    for number in range(LONG_RUNS):
        day = date(2020, 7, 11) + timedelta(days=number)
        visits = [
            {"event_id": f"R{number}x{n}", "session_id": "V1", "event": "visit", "occurred_at": "2020-07-10T12:00:00Z"}
            for n in range(100)
        ]
        supplier(home / "landing").deliver("web_events", day, visits)
        accepted = dict.fromkeys(("landing", "segment"), "only visits arrive in these nights")
        night = run_in(home, accept=accepted)
        assert night.outcome == "released", night.sentences
        known |= published_figures(home)
        readers.let_each_read()
        if number % 5 == 4:
            release.rollback(home, "previous")
            readers.let_each_read()
            print(f"\n{number + 1} runs", end="", flush=True)
    reads = readers.stop()
    seen = assert_no_error_and_no_mixture(reads, known)
    assert seen > LONG_RUNS // 2
    print(f"\n{LONG_RUNS} runs, {len(reads)} reads by {len(WAYS)} readers of {seen} releases, 0 errors, 0 mixed")
