"""Releases on disk: what they hold, and what happens to ``current`` when a run dies."""

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from dagster_project.domain import release
from dagster_project.domain.release import PublishedTable, ReleaseError, ReleasePlan, RunRecord

BUILT_AT = datetime(2020, 7, 15, 0, 30, tzinfo=UTC)
TABLES = (
    PublishedTable("account", "accounts", "One row per account's holder.", {"account_id": "The id."}, "analysts"),
    PublishedTable(
        "identity", "records", "One row per record.", {"record_id": "Key.", "email": "E-mail."}, "restricted"
    ),
    PublishedTable(
        "release",
        "info",
        "One row.",
        {"release_id": "Id.", "as_of": "Day.", "built_at": "Moment.", "previous_release_id": "Before."},
        "analysts",
    ),
)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        connection.execute("""
            create schema account; create schema identity; create schema landing; create schema audience;
            create table account.accounts as select 'a' || i as account_id from range(20) as r (i);
            create table identity.records as select 'r1' as record_id, 'zoe@example.fr' as email;
            create table landing.files as
                select 'stores' as feed, 'stores/2020-07-14/s.csv' as file, 'abc' as sha256, 3::bigint as row_count;
            create table audience.audiences as select 'vip' as audience, 'email_tool' as destinations;
            create table audience.members as
                select 'vip' as audience, 'email_tool' as destination, 'a1' as account_id, 'treated' as arm;
        """)
        yield connection


def make(
    connection: duckdb.DuckDBPyConnection, home: Path, built_at: datetime = BUILT_AT, *, promote: bool = True
) -> str:
    release_id = release.next_release_id(home, built_at)
    directory = release.building_directory(home, release_id)
    current = release.current_release(home)
    plan = ReleasePlan(release_id, date(2020, 7, 14), built_at, current.release_id if current else None, TABLES)
    row_counts = release.build(connection, directory, plan)
    (directory / "report").mkdir()
    (directory / "report/index.html").write_text("<p>report</p>")
    record = RunRecord("run-1", "0.1.0", "f00d", [{"gate": "landing", "passed": True}], {"staging": "known outage"})
    release.write_manifest(connection, directory, plan, record, row_counts)
    if promote:
        release.promote(home, release_id)
    return release_id


def read(home: Path) -> str:
    with duckdb.connect(home / "releases/current/cocanal.duckdb", read_only=True) as reader:
        ((release_id,),) = reader.execute("select release_id from release.info").fetchall()
    return str(release_id)


def test_a_release_holds_what_it_says(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    release_id = make(connection, tmp_path)
    assert release_id == "20200715T003000Z"
    assert read(tmp_path) == release_id
    directory = tmp_path / "releases" / release_id
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["tables"] == [
        {"database": "cocanal.duckdb", "table": "account.accounts", "row_count": 20},
        {"database": "restricted.duckdb", "table": "identity.records", "row_count": 1},
        {"database": "cocanal.duckdb", "table": "release.info", "row_count": 1},
    ]
    assert [entry["path"] for entry in manifest["files"]] == [
        "cocanal.duckdb",
        "report/index.html",
        "restricted.duckdb",
    ]
    assert manifest["inputs"] == [
        {"feed": "stores", "file": "stores/2020-07-14/s.csv", "sha256": "abc", "row_count": 3}
    ]
    assert manifest["audiences"] == [{"audience": "vip", "destination": "email_tool", "treated": 1, "holdout": 0}]
    assert manifest["accepted_gates"] == [{"gate": "staging", "reason": "known outage"}]
    assert (manifest["as_of"], manifest["built_at"]) == ("2020-07-14", "2020-07-15T00:30:00Z")


def test_analysts_find_comments_and_no_restricted_table(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    make(connection, tmp_path)
    with duckdb.connect(tmp_path / "releases/current/cocanal.duckdb", read_only=True) as reader:
        assert reader.execute("select schema_name, table_name, comment from duckdb_tables() order by 1").fetchall() == [
            ("account", "accounts", "One row per account's holder."),
            ("release", "info", "One row."),
        ]
        assert reader.execute(
            "select comment from duckdb_columns() where table_name = 'accounts' and not internal"
        ).fetchall() == [("The id.",)]
        accounts = [row[0] for row in reader.execute("select account_id from account.accounts").fetchall()]
    assert accounts == sorted(accounts)


def test_duckdb_1_can_open_the_databases(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Storage version 64 is what DuckDB 0.10 to 1.1 write and every later one reads."""
    make(connection, tmp_path)
    for database in release.DATABASES.values():
        assert release.storage_version(tmp_path / "releases/current" / database) == 64


def test_only_the_owner_reads_what_is_restricted(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    directory = tmp_path / "releases" / make(connection, tmp_path)
    assert stat.S_IMODE((directory / "restricted.duckdb").stat().st_mode) == 0o600
    assert stat.S_IMODE((directory / "cocanal.duckdb").stat().st_mode) == 0o440
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750


def test_release_ids_go_forward_when_the_clock_goes_back(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    make(connection, tmp_path)
    assert release.next_release_id(tmp_path, BUILT_AT - timedelta(days=1)) == "20200715T003001Z"
    assert release.next_release_id(tmp_path, BUILT_AT) == "20200715T003001Z"
    paris = timezone(timedelta(hours=2))
    assert release.next_release_id(tmp_path, datetime(2020, 7, 15, 3, 0, tzinfo=paris)) == "20200715T010000Z"
    with pytest.raises(ValueError, match="time zone"):
        release.next_release_id(tmp_path, datetime(2020, 7, 16))


def test_a_column_that_nobody_described_is_not_released(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    connection.execute("alter table account.accounts add column email varchar")
    with pytest.raises(ReleaseError, match=r"account\.accounts .* differ in email"):
        make(connection, tmp_path)
    connection.execute("drop table account.accounts")
    with pytest.raises(ReleaseError, match="was not built"):
        make(connection, tmp_path)


def test_verification_finds_every_kind_of_damage(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    directory = tmp_path / "releases" / make(connection, tmp_path)
    results = release.verify(connection, directory)
    assert len(results) == 6
    assert all(result.is_kept for result in results)

    (directory / "report/index.html").write_text("changed")
    (directory / "extra.csv").touch()
    (directory / "restricted.duckdb").unlink()
    (directory / "cocanal.duckdb").chmod(0o600)
    with duckdb.connect(directory / "cocanal.duckdb") as writer:
        writer.execute("delete from account.accounts where account_id = 'a1'; drop table release.info")
    broken = {result.name: result for result in release.verify(connection, directory) if not result.is_kept}
    assert set(broken) == {
        *("cocanal.duckdb", "extra.csv", "report/index.html", "restricted.duckdb"),
        *("account.accounts", "identity.records", "release.info"),
    }
    assert broken["account.accounts"].observed == "19"
    assert broken["restricted.duckdb"].observed == "absent"


def test_the_release_gate_completes_the_manifest(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    release_id = make(connection, tmp_path, promote=False)
    directory = release.building_directory(tmp_path, release_id)
    for passed in (False, True):
        release.add_gate_results(directory, [{"gate": "release", "passed": passed}])
    published = release.promote(tmp_path, release_id)
    assert published.manifest()["gates"] == [{"gate": "landing", "passed": True}, {"gate": "release", "passed": True}]
    assert all(result.is_kept for result in release.verify(connection, published.directory))


def test_readers_keep_the_release_that_they_opened(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    first = make(connection, tmp_path)
    with duckdb.connect(tmp_path / "releases/current/cocanal.duckdb", read_only=True) as reader:
        second = make(connection, tmp_path, BUILT_AT + timedelta(days=1))
        release.prune(tmp_path, keep=1)
        assert not (tmp_path / "releases" / first).exists()
        assert reader.execute("select release_id from release.info").fetchall() == [(first,)]
        assert reader.execute("select count(*) from account.accounts").fetchall() == [(20,)]
    assert read(tmp_path) == second


class Killed(BaseException):
    """Stands for a kill: nothing in the project catches it."""


@pytest.mark.parametrize("step", ["os.rename", "os.replace", "os.fsync", "Path.symlink_to", "Path.chmod"])
def test_a_kill_while_promoting_leaves_a_whole_release_current(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    first = make(connection, tmp_path)
    second = make(connection, tmp_path, BUILT_AT + timedelta(days=1), promote=False)

    def kill(*_: object, **__: object) -> None:
        raise Killed

    owner, name = step.split(".")
    with monkeypatch.context() as patch:
        patch.setattr({"os": os, "Path": Path}[owner], name, kill)
        with pytest.raises(Killed):
            release.promote(tmp_path, second)
    assert read(tmp_path) == first
    assert all(result.is_kept for result in release.verify(connection, tmp_path / "releases/current"))
    release.promote(tmp_path, second)
    assert read(tmp_path) == second
    third = make(connection, tmp_path, BUILT_AT)
    assert (read(tmp_path), third) == (third, "20200716T003001Z")


def test_a_kill_while_building_leaves_nothing_but_rubbish(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(connection, tmp_path)

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(release, "_sha256", kill)
        with pytest.raises(Killed):
            make(connection, tmp_path, BUILT_AT + timedelta(days=1))
    assert read(tmp_path) == first
    with pytest.raises(ReleaseError, match="not finished"):
        release.promote(tmp_path, "20200716T003000Z")
    assert release.clear_unfinished(tmp_path) == [".building-20200716T003000Z"]
    assert [found.release_id for found in release.list_releases(tmp_path)] == [first]
    # The warehouse connection is as good as before.
    make(connection, tmp_path, BUILT_AT + timedelta(days=1))


def test_a_kill_while_pruning_leaves_no_half_release(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [make(connection, tmp_path, BUILT_AT + timedelta(days=day)) for day in range(3)]

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", kill)
        with pytest.raises(Killed):
            release.prune(tmp_path, keep=1)
    assert [found.release_id for found in release.list_releases(tmp_path)] == ids[1:]
    assert release.clear_unfinished(tmp_path) == [f".discarded-{ids[0]}"]
    assert read(tmp_path) == ids[-1]


def test_rolling_back_moves_only_the_pointer(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    ids = [make(connection, tmp_path, BUILT_AT + timedelta(days=day)) for day in range(3)]
    assert release.rollback(tmp_path, "previous").release_id == ids[1]
    assert read(tmp_path) == ids[1]
    assert release.rollback(tmp_path, "previous").is_current
    assert read(tmp_path) == ids[0]
    with pytest.raises(ReleaseError, match="before the current"):
        release.rollback(tmp_path, "previous")
    with pytest.raises(ReleaseError, match="There is no release 20190101T000000Z"):
        release.rollback(tmp_path, "20190101T000000Z")
    release.rollback(tmp_path, ids[2])
    assert read(tmp_path) == ids[2]
    assert [found.release_id for found in release.list_releases(tmp_path)] == ids


def test_pruning_keeps_the_newest_and_the_current(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    ids = [make(connection, tmp_path, BUILT_AT + timedelta(days=day)) for day in range(5)]
    release.rollback(tmp_path, ids[1])
    assert release.prune(tmp_path, keep=2) == [ids[0], ids[2]]
    assert [found.release_id for found in release.list_releases(tmp_path)] == [ids[1], *ids[3:]]
    assert read(tmp_path) == ids[1]


def test_a_home_without_releases_is_no_error(tmp_path: Path) -> None:
    assert release.list_releases(tmp_path) == []
    assert release.current_release(tmp_path) is None
    assert release.clear_unfinished(tmp_path) == []
    assert release.prune(tmp_path) == []
    with pytest.raises(ReleaseError):
        release.rollback(tmp_path, "previous")


def test_a_home_can_be_moved(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    release_id = make(connection, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert read(tmp_path / "there") == release_id


def node(name: str, meta: dict[str, object], columns: dict[str, dict[str, object]]) -> dict[str, object]:
    return {
        "resource_type": "model",
        "schema": "account",
        "name": name,
        "alias": name,
        "description": "One row per\n  thing.",
        "config": {"meta": meta},
        "columns": {
            column: {"name": column, "description": column.upper(), "config": {"meta": column_meta}}
            for column, column_meta in columns.items()
        },
    }


def test_the_yaml_says_what_is_published_to_whom() -> None:
    manifest = {
        "nodes": {
            "a": node("golden_records", {"release": "restricted"}, {"email": {"personal": True}}),
            "b": node("accounts", {"release": "analysts"}, {"account_id": {}}),
            "c": node("working", {}, {"x": {}}),
        },
        "sources": {"d": {**node("anchors", {"release": "analysts"}, {"k": {}}), "identifier": "anchors_2"}},
    }
    assert release.published_tables(manifest) == [
        PublishedTable("account", "accounts", "One row per thing.", {"account_id": "ACCOUNT_ID"}, "analysts"),
        PublishedTable("account", "anchors_2", "One row per thing.", {"k": "K"}, "analysts"),
        PublishedTable("account", "golden_records", "One row per thing.", {"email": "EMAIL"}, "restricted"),
    ]


def test_a_personal_column_is_never_published_to_analysts() -> None:
    manifest = {"nodes": {"a": node("x", {"release": "analysts"}, {"email": {"personal": True}})}, "sources": {}}
    with pytest.raises(ReleaseError, match="personal columns"):
        release.published_tables(manifest)
    manifest = {"nodes": {"a": node("x", {"release": "everybody"}, {})}, "sources": {}}
    with pytest.raises(ReleaseError, match="everybody"):
        release.published_tables(manifest)


def test_a_release_whose_pointer_was_ready_is_published_by_the_next_run(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """The run died between the rename and the pointer: the release is whole, and its gate had let it pass."""
    make(connection, tmp_path)
    second = make(connection, tmp_path, BUILT_AT + timedelta(days=1), promote=False)
    releases = tmp_path / "releases"
    (releases / f".current-{second}").symlink_to(second)
    os.rename(releases / f".building-{second}", releases / second)
    release.clear_unfinished(tmp_path)
    assert read(tmp_path) == second
    assert not list(releases.glob(".*"))


def test_a_rollback_after_a_crash_is_not_taken_back_by_the_next_run(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    first = make(connection, tmp_path)
    second = make(connection, tmp_path, BUILT_AT + timedelta(days=1))
    third = make(connection, tmp_path, BUILT_AT + timedelta(days=2), promote=False)
    releases = tmp_path / "releases"
    (releases / f".current-{third}").symlink_to(third)
    os.rename(releases / f".building-{third}", releases / third)
    assert release.rollback(tmp_path, "previous").release_id == first
    release.clear_unfinished(tmp_path)
    assert read(tmp_path) == first
    assert [one.release_id for one in release.list_releases(tmp_path)] == [first, second, third]


def test_the_clock_may_jump_between_two_builds_and_inside_one(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Ids sort in the order of the builds, whatever the clock says; pruning and «previous» go by them."""
    ids = [make(connection, tmp_path, BUILT_AT + timedelta(days=days)) for days in (0, -400, 3, 3, -1)]
    assert ids == sorted(set(ids))
    assert read(tmp_path) == ids[-1]
    assert release.prune(tmp_path, keep=2) == ids[:3]
    assert release.rollback(tmp_path, "previous").release_id == ids[3]
    # Chosen before the clock went back, promoted after.
    late = make(connection, tmp_path, BUILT_AT + timedelta(days=9), promote=False)
    assert release.next_release_id(tmp_path, BUILT_AT) > ids[-1]
    assert release.promote(tmp_path, late).release_id == late
    assert release.next_release_id(tmp_path, BUILT_AT) > late


def test_a_damaged_folder_keeps_its_id(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    first = make(connection, tmp_path)
    (tmp_path / "releases" / first / "manifest.json").unlink()
    assert release.next_release_id(tmp_path, BUILT_AT) > first


def dangle(releases: Path) -> None:
    (releases / "current").unlink()
    (releases / "current").symlink_to("20010101T000000Z")


def put_a_file(releases: Path) -> None:
    (releases / "current").unlink()
    (releases / "current").write_text("20010101T000000Z")


def put_a_folder(releases: Path) -> None:
    target = os.readlink(releases / "current")
    (releases / "current").unlink()
    shutil.copytree(releases / target, releases / "current")


@pytest.mark.parametrize(
    ("happen", "words"),
    [
        (dangle, "leads to 20010101T000000Z, which is no whole release"),
        (put_a_file, "is a file and not a link"),
        (put_a_folder, "is a folder and not a link"),
        (lambda releases: (releases / "current").unlink(), "is missing"),
    ],
)
def test_a_pointer_that_leads_nowhere_stops_the_next_build_until_somebody_points(
    happen: Callable[[Path], None], words: str, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    first = make(connection, tmp_path)
    happen(tmp_path / "releases")
    with pytest.raises(ReleaseError, match=words) as raised:
        release.release_to_build_on(tmp_path, first)
    assert f"cocanal release rollback {first}" in str(raised.value)
    if happen is put_a_folder:
        with pytest.raises(ReleaseError, match="move it away"):
            release.rollback(tmp_path, first)
        shutil.rmtree(tmp_path / "releases" / "current")
    release.rollback(tmp_path, first)
    assert read(tmp_path) == first
    found = release.release_to_build_on(tmp_path, first)
    assert found is not None
    assert found.release_id == first


def test_lost_releases_are_never_taken_for_a_first_night(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    mark = tmp_path / "raw" / "last_release"
    assert release.release_to_build_on(tmp_path, release.remembered_release(mark)) is None
    first = make(connection, tmp_path)
    release.remember_release(mark, first)
    with pytest.raises(ReleaseError, match="is whole: its ids and its ledger can be kept"):
        release.abandon(tmp_path, mark)
    (tmp_path / "releases" / first / "manifest.json").write_text("{")
    with pytest.raises(ReleaseError, match="from-nothing"):
        release.release_to_build_on(tmp_path, release.remembered_release(mark))
    aside = release.abandon(tmp_path, mark)
    assert aside is not None
    assert (aside / first / "cocanal.duckdb").exists()
    assert release.release_to_build_on(tmp_path, release.remembered_release(mark)) is None


def test_a_damaged_release_is_neither_built_on_nor_rolled_back_to(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    first = make(connection, tmp_path)
    second = make(connection, tmp_path, BUILT_AT + timedelta(days=1))
    os.truncate(tmp_path / "releases" / first / "restricted.duckdb", 100)
    with pytest.raises(ReleaseError, match=r"restricted\.duckdb has 100 bytes instead of"):
        release.rollback(tmp_path, "previous")
    assert read(tmp_path) == second
    database = tmp_path / "releases" / second / "cocanal.duckdb"
    database.chmod(0o600)
    database.write_bytes(database.read_bytes()[:-1] + b"!")
    assert release.find_damage(database.parent, is_thorough=False) == []
    assert release.find_damage(database.parent, is_thorough=True) == [
        "cocanal.duckdb holds other bytes than were published"
    ]
    with pytest.raises(ReleaseError, match=f"The release {second} is damaged"):
        release.release_to_build_on(tmp_path, second)


def test_files_that_somebody_removed_after_they_were_sent_do_not_stop_the_next_night(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    first = make(connection, tmp_path)
    (tmp_path / "releases" / first / "report" / "index.html").unlink()
    found = release.release_to_build_on(tmp_path, first)
    assert found is not None
    assert release.find_damage(found.directory, is_thorough=False) == ["report/index.html is missing"]
