"""A home with one release, built once for all tests and copied by each that works in it."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from dagster_project import transform
from dagster_project.domain import release
from dagster_project.nightly import Night, run_night
from dagster_project.settings import Settings
from dagster_project.warehouse import Warehouse

PERSONS = 150
SEED = 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test begins first, so that no worker waits for it at the end."""
    items.sort(key=lambda item: not item.name.startswith("test_many_nights"))


@pytest.fixture(scope="session")
def parsed_models() -> dict[str, Any]:
    return {}


@pytest.fixture(autouse=True)
def one_parse(monkeypatch: pytest.MonkeyPatch, parsed_models: dict[str, Any]) -> None:
    """dbt reads the project once, not once for each of the homes: that is seconds a test."""
    parse = transform._loaded_manifest

    def parsed(fingerprint: str, target: Path) -> Any:
        if fingerprint not in parsed_models:
            parsed_models[fingerprint] = parse(fingerprint, target)
        return parsed_models[fingerprint]

    monkeypatch.setattr(transform, "_loaded_manifest", parsed)


def _settings(home: Path) -> Settings:
    return Settings(home=home, threads=1, memory_limit="1GB")


@pytest.fixture(scope="session")
def settings_of() -> Callable[[Path], Settings]:
    return _settings


@pytest.fixture(scope="session")
def deliveries(retailer: Any) -> Any:
    """Ten days of a small retailer, a feed that brings a hundred rows each day, and three who never had an account: two
    want to be forgotten, of whom one stands in consents and messages, the other nowhere; one asks what is held.
    """
    found = dict(retailer(SEED, PERSONS).deliveries)
    said, asked = f"{retailer.DAYS[3]}T12:00:00Z", f"{retailer.DAYS[5]}T12:00:00Z"
    consent = {"purpose": "prospecting", "channel": "any", "status": "granted", "occurred_at": said}
    event = {"campaign_id": "M1", "event": "opened", "occurred_at": said}
    newcomers = {
        "consents": [
            {**consent, "consent_id": "NK1", "key_type": "email", "key_value": " News.Only@Post.example"},
            {**consent, "consent_id": "NK2", "key_type": "phone", "key_value": "06.12.34.56.78"},
            {**consent, "consent_id": "NK3", "key_type": "email", "key_value": "other.news.only@post.example"},
            {**consent, "consent_id": "RK1", "key_type": "email", "key_value": "Curious.Reader@post.example "},
        ],
        "message_events": [
            {**event, "event_id": "NE1", "channel": "email", "address": "NEWS.ONLY@post.example"},
            {**event, "event_id": "NE2", "channel": "sms", "address": "+33 (0)6 12 34 56 78"},
            {**event, "event_id": "RE1", "channel": "email", "address": "curious.reader@post.example"},
        ],
        "privacy_requests": [
            {"request_id": request, "kind": kind, "key_type": type_, "key_value": value, "received_at": asked}
            for request, kind, type_, value in (
                ("N1", "erasure", "email", "news.only@post.example"),
                ("N2", "erasure", "phone", "+33612345678"),
                ("N3", "erasure", "card_id", "29NOWHERE"),
                ("RQ1", "access", "email", "curious.reader@post.example"),
            )
        ],
    }
    for feed, rows in newcomers.items():
        found[feed, retailer.DAYS[6]] = [*found.get((feed, retailer.DAYS[6]), []), *rows]
    for day in retailer.DAYS:
        found["web_events", day] = [
            {
                "event_id": f"W{day:%d}{n:03d}",
                "session_id": f"V{n % 40}",
                "event": "visit",
                "occurred_at": f"{day - timedelta(days=1)}T12:00:00Z",
            }
            for n in range(100)
        ]
    return found


def _built(home: Path, deliveries: Any, supplier: Any) -> None:
    settings = _settings(home)
    supplier(settings.landing).deliver_all(deliveries)
    night = run_night(settings)
    assert night.outcome == "released", night.sentences


@pytest.fixture(scope="session")
def base_home(
    tmp_path_factory: pytest.TempPathFactory, deliveries: Any, supplier: Any, outside_environment: Any
) -> Path:
    """A home whose one release was made from all deliveries in one night. Read it, do not change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # one folder for all workers: the first builds, the others wait
    home = shared / "base_home"
    with (shared / "base_home.lock").open("w") as lock, outside_environment():
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "whole").exists():
            shutil.rmtree(home, ignore_errors=True)
            _built(home, deliveries, supplier)
            (home / "whole").touch()
    return home


@pytest.fixture
def home(base_home: Path, tmp_path: Path) -> Path:
    """A home of the test's own, with the release of ``base_home``."""
    return shutil.copytree(base_home, tmp_path / "home", symlinks=True)


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's storage in memory for the runs of this test, so that its events can be read and cost little."""
    with dg.DagsterInstance.ephemeral() as found:
        monkeypatch.setattr("dagster_project.nightly.open_instance", lambda settings: nullcontext(found))
        yield found


class BrokenInto(Warehouse):
    """A warehouse in which something happens at the start of one session, such as that of ``account gate``."""

    def __init__(self, settings: Settings, purpose: str, happen: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
        super().__init__(settings)
        self._purpose = purpose
        self._happen = happen

    @contextmanager
    def session(self, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
        with super().session(purpose) as connection:
            if purpose == self._purpose:
                self._happen(connection)
            yield connection


@pytest.fixture(scope="session")
def broken_into() -> type[BrokenInto]:
    return BrokenInto


def _bytes_of(folder: Path) -> dict[str, str]:
    """Every file and link under a folder, with a hash of its bytes and its mode, or where it leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


@pytest.fixture(scope="session")
def published() -> Callable[[Path], dict[str, str]]:
    """What people can see of a home's releases: all but the folder in which a run builds."""

    def read(home: Path) -> dict[str, str]:
        return {name: what for name, what in _bytes_of(home / "releases").items() if not name.startswith(".building-")}

    return read


@pytest.fixture(scope="session")
def run_in(settings_of: Callable[[Path], Settings]) -> Callable[..., Night]:
    def run(home: Path, **asked: Any) -> Night:
        return run_night(settings_of(home), **asked)

    return run


# What names a run, an id or a line of a file; and the tables that are about the nights themselves.
_NOT_COMPARED = {"line", "first_lines", "sha256"}
_ABOUT_NIGHTS = {
    "identity.account_events",
    "identity.account_link_history",
    "identity.account_redirects",
    "audience.changes",
    "segment.drift",
    "release.info",
    "release.gate_results",
    "activation.ledger",
}


@contextmanager
def _both_releases(*homes: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for name, home in zip(("left", "right"), homes, strict=True):
            for kind, file in release.DATABASES.items():
                path = home / "releases" / "current" / file
                connection.execute(f"attach '{path}' as {name}_{kind} (read_only)")
        yield connection


def _comparable(columns: list[str], database: str, table: str, is_same_nights: bool) -> str:
    """SQL of a table's rows that are to be the same: an account is named by its anchor, a household by its people."""
    side = database.split("_")[0]
    shown = []
    for column in columns:
        if is_same_nights:
            tonight = f"(select release_id from {side}_analysts.release.info)"
            shown.append(f'replace("{column}"::varchar, {tonight}, \'tonight\') as "{column}"')
        elif column == "account_id":
            shown.append(
                f"(select anchor_key from {side}_analysts.identity.anchors as anchors "
                "where anchors.account_id = rows.account_id) as account_id"
            )
        elif column not in _NOT_COMPARED:
            shown.append(column)
    return f"select {', '.join(shown)} from {database}.{table} as rows"


def _differing_tables(left: Path, right: Path, *, is_same_nights: bool = False) -> dict[str, int]:
    """The tables of two releases that hold other rows, with how many rows one has and the other has not.

    ``is_same_nights``: both homes had the same nights, so that ids, events and the ledger are to be the same too, but
    for the id of the last release.
    """
    found = {}
    with _both_releases(left, right) as connection:
        tables = connection.execute(
            """
            select
                split_part(database_name, '_', 2), schema_name || '.' || table_name,
                list(column_name order by column_index)
            from duckdb_columns()
            where database_name in ('left_analysts', 'left_restricted')
            group by all order by all
            """
        ).fetchall()
        assert len(tables) > 30
        for readers, table, columns in tables:
            if table == "release.info" or (table in _ABOUT_NIGHTS and not is_same_nights):
                continue
            one, other = (
                _comparable(columns, f"{side}_{readers}", table, is_same_nights) for side in ("left", "right")
            )
            ((count,),) = connection.execute(
                f"select count(*) from (({one} except all {other}) union all ({other} except all {one}))"
            ).fetchall()
            if count:
                found[table] = count
        sent = (
            "select audience, destination, identifier_type, identifier_hash, anchor_key "
            "from {0}_restricted.activation.ledger join {0}_analysts.identity.anchors using (account_id) "
            "where last_release_id = (select release_id from {0}_analysts.release.info)"
        )
        ((count,),) = connection.execute(
            f"select count(*) from (({sent.format('left')}) except all ({sent.format('right')}))"
        ).fetchall()
        assert count == 0
    return found


def _audience_files(home: Path) -> dict[str, bytes]:
    folder = home / "releases" / "current" / "audiences"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.csv")}


@pytest.fixture(scope="session")
def differing_tables() -> Callable[..., dict[str, int]]:
    return _differing_tables


@pytest.fixture(scope="session")
def audience_files() -> Callable[[Path], dict[str, bytes]]:
    """The files to send of the current release, by path."""
    return _audience_files
