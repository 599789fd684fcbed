"""Release: a finished build becomes a directory that never changes again, and one pointer that moves to it.

Here belong release ids, the published databases, the manifest, verification, the pointer, rollback and pruning. What is
in the tables is decided before; which of them go where is said in their YAML (``config.meta.release``). Nothing here
looks at the clock: the moment of the build is given.

A release is built in ``releases/.building-<id>``, renamed to ``releases/<id>`` when it is whole, and becomes visible
when the symbolic link ``releases/current`` is replaced, which the file system does at once or not at all. Wherever a
run is killed, ``current`` names a whole release. Who has a database open keeps reading what he opened.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb

from dagster_project.domain.activation import audience_destinations

Readers = Literal["analysts", "restricted"]

DATABASES: dict[Readers, str] = {"analysts": "cocanal.duckdb", "restricted": "restricted.duckdb"}
MANIFEST = "manifest.json"

_ID_FORMAT = "%Y%m%dT%H%M%SZ"
_ID = re.compile(r"\d{8}T\d{6}Z")
_BUILDING = ".building-"
_DISCARDED = ".discarded-"
_NEXT_POINTER = ".current-"
_POINTER = "current"

# The oldest format that DuckDB 2.0 writes: the DuckDB 1.x inside notebooks and other tools can open it.
_STORAGE_VERSION = "v1.0.0"
# Tables up to this size are sorted: the order of their rows is the same in every rebuild. Sorting more costs time.
_SORTED_ROW_LIMIT = 100_000
# Read by the owner and the group; the restricted database and the audience files by the owner alone.
_DATABASE_MODES: dict[Readers, int] = {"analysts": 0o440, "restricted": 0o600}


class ReleaseError(Exception):
    """A release cannot be built, found or moved to; the message is a sentence for the person who asked."""


@dataclass(frozen=True)
class PublishedTable:
    """One table that a release holds: its comment, the comments of its columns by name, and who may read it."""

    schema: str
    name: str
    comment: str
    columns: Mapping[str, str]
    readers: Readers

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class ReleasePlan:
    """What is to be released: ids, dates (``built_at`` with its time zone), and the tables."""

    release_id: str
    as_of: date
    built_at: datetime
    previous_release_id: str | None
    tables: Sequence[PublishedTable]


@dataclass(frozen=True)
class RunRecord:
    """What the manifest keeps of the run. ``gates`` holds one mapping per gate, ``accepted_gates`` gate -> reason."""

    run_id: str
    cocanal_version: str
    fingerprint: str
    gates: Sequence[Mapping[str, Any]] = ()
    accepted_gates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """One release on disk."""

    release_id: str
    directory: Path
    is_current: bool

    def manifest(self) -> dict[str, Any]:
        """The manifest as it was written."""
        content: dict[str, Any] = json.loads((self.directory / MANIFEST).read_text(encoding="utf-8"))
        return content


@dataclass(frozen=True)
class Verified:
    """One promise of the manifest, kept or not: a file's SHA-256 or a table's number of rows."""

    kind: Literal["file", "table"]
    name: str
    expected: str
    observed: str

    @property
    def is_kept(self) -> bool:
        return self.expected == self.observed


def published_tables(manifest: Mapping[str, Any]) -> list[PublishedTable]:
    """The tables that dbt's ``manifest.json`` says are published, by name.

    Raises ReleaseError for a value of ``config.meta.release`` that is not known, and for a table for analysts with a
    column that is marked as personal.
    """
    nodes = [node for node in manifest["nodes"].values() if node["resource_type"] in ("model", "seed")]
    tables = [_published(node) for node in [*nodes, *manifest["sources"].values()] if _meta(node).get("release")]
    return sorted(tables, key=lambda table: table.qualified_name)


def _published(node: Mapping[str, Any]) -> PublishedTable:
    name = node.get("identifier") or node.get("alias") or node["name"]
    readers = _meta(node)["release"]
    if readers not in DATABASES:
        raise ReleaseError(
            f"{node['schema']}.{name} is to be released to {readers!r}: write analysts or restricted, or nothing."
        )
    personal = sorted(column["name"] for column in node["columns"].values() if _meta(column).get("personal"))
    if readers == "analysts" and personal:
        raise ReleaseError(
            f"{node['schema']}.{name} is for analysts but has personal columns ({', '.join(personal)}): "
            "leave them out, or release the table as restricted."
        )
    return PublishedTable(
        schema=node["schema"],
        name=name,
        comment=_one_line(node["description"]),
        columns={column["name"]: _one_line(column["description"]) for column in node["columns"].values()},
        readers=readers,
    )


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**(node.get("meta") or {}), **((node.get("config") or {}).get("meta") or {})}


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def next_release_id(home: Path, built_at: datetime) -> str:
    """The id of a release built at that moment: ``20200715T003000Z``, always later than every release there is.

    If the clock went back it is the newest release's second plus one. Raises ValueError for a moment without zone.
    """
    if built_at.tzinfo is None:
        raise ValueError("The moment of a build must say its time zone.")
    candidate = built_at.astimezone(UTC).strftime(_ID_FORMAT)
    existing = [release.release_id for release in list_releases(home)]
    if existing and candidate <= existing[-1]:
        newest = datetime.strptime(existing[-1], _ID_FORMAT).replace(tzinfo=UTC)
        return (newest + timedelta(seconds=1)).strftime(_ID_FORMAT)
    return candidate


def building_directory(home: Path, release_id: str) -> Path:
    """The directory, made if needed and closed to others, in which that release is built."""
    directory = home / "releases" / f"{_BUILDING}{release_id}"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def build(connection: duckdb.DuckDBPyConnection, directory: Path, plan: ReleasePlan) -> dict[str, int]:
    """Write ``cocanal.duckdb`` and ``restricted.duckdb`` into ``directory``; the row count of each table by name.

    ``connection`` is on the warehouse. Leaves ``release.info`` there, which is released as any other table. Raises
    ReleaseError if a table is missing, or its columns are not those that its YAML describes: what nobody described
    leaves the house in no release.
    """
    _write_info(connection, plan)
    row_counts: dict[str, int] = {}
    for readers, file_name in DATABASES.items():
        tables = [table for table in plan.tables if table.readers == readers]
        row_counts |= _write_database(connection, directory / file_name, tables)
        (directory / file_name).chmod(_DATABASE_MODES[readers])
        _sync(directory / file_name)
    _sync(directory)
    return row_counts


def _write_info(connection: duckdb.DuckDBPyConnection, plan: ReleasePlan) -> None:
    connection.execute("create schema if not exists release")
    connection.execute(
        """
        create or replace table release.info as
        select
            $release_id::varchar as release_id,
            $as_of::date as as_of,
            $built_at::timestamp as built_at,
            $previous_release_id::varchar as previous_release_id
        """,
        {
            "release_id": plan.release_id,
            "as_of": plan.as_of,
            "built_at": plan.built_at.astimezone(UTC).replace(tzinfo=None),
            "previous_release_id": plan.previous_release_id,
        },
    )


def _write_database(
    connection: duckdb.DuckDBPyConnection, path: Path, tables: Sequence[PublishedTable]
) -> dict[str, int]:
    for left_over in (path, path.with_name(f"{path.name}.wal")):
        left_over.unlink(missing_ok=True)
    selects = {table.qualified_name: _select(connection, table) for table in tables}
    row_counts = {}
    connection.execute(f"attach '{_literal(str(path))}' as published (storage_version '{_STORAGE_VERSION}')")
    try:
        connection.execute("begin")
        for schema in sorted({table.schema for table in tables}):
            connection.execute(f'create schema published."{schema}"')
        for table in tables:
            target = f'published."{table.schema}"."{table.name}"'
            ((count,),) = connection.execute(f"create table {target} as {selects[table.qualified_name]}").fetchall()
            row_counts[table.qualified_name] = int(count)
            connection.execute(f"comment on table {target} is '{_literal(table.comment)}'")
            for column, comment in table.columns.items():
                connection.execute(f"comment on column {target}.\"{column}\" is '{_literal(comment)}'")
        connection.execute("commit")
        connection.execute("checkpoint published")
    except BaseException:
        # Without an open transaction (the checkpoint failed) there is nothing to take back.
        with contextlib.suppress(duckdb.TransactionException):
            connection.execute("rollback")
        raise
    finally:
        connection.execute("detach published")
    return row_counts


def _select(connection: duckdb.DuckDBPyConnection, table: PublishedTable) -> str:
    columns = [
        name
        for (name,) in connection.execute(
            """
            select column_name from duckdb_columns()
            where database_name = current_database() and schema_name = ? and table_name = ?
            order by column_index
            """,
            [table.schema, table.name],
        ).fetchall()
    ]
    if not columns:
        raise ReleaseError(f"The table {table.qualified_name} is to be released but was not built.")
    if undescribed := sorted(set(columns) ^ set(table.columns)):
        raise ReleaseError(
            f"The columns of {table.qualified_name} and of its YAML differ in {', '.join(undescribed)}: "
            "only described columns are released."
        )
    source = f'"{table.schema}"."{table.name}"'
    ((row_count,),) = connection.execute(f"select count(*) from {source}").fetchall()
    order = " order by all" if row_count <= _SORTED_ROW_LIMIT else ""
    listed = ", ".join(f'"{column}"' for column in columns)
    return f"select {listed} from {source}{order}"


def storage_version(database: Path) -> int:
    """The number of the storage format in a database file's header; DuckDB 1.0 opens up to 64."""
    with database.open("rb") as stream:
        header = stream.read(20)
    magic, version = struct.unpack_from("<4sQ", header, 8)
    if magic != b"DUCK":
        raise ReleaseError(f"{database.name} is not a DuckDB database.")
    return int(version)


def write_manifest(
    connection: duckdb.DuckDBPyConnection,
    directory: Path,
    plan: ReleasePlan,
    record: RunRecord,
    row_counts: Mapping[str, int],
) -> dict[str, Any]:
    """Write ``manifest.json`` of everything that is in ``directory``, with its hashes; the last file of a release.

    ``connection`` is on the warehouse: inputs come from ``landing.files``, sizes from ``audience.members``.
    """
    databases = {table.qualified_name: DATABASES[table.readers] for table in plan.tables}
    manifest = {
        "release_id": plan.release_id,
        "as_of": plan.as_of.isoformat(),
        "built_at": plan.built_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "previous_release_id": plan.previous_release_id,
        "run": {"run_id": record.run_id, "cocanal_version": record.cocanal_version},
        "fingerprint": record.fingerprint,
        "gates": [dict(gate) for gate in record.gates],
        "accepted_gates": [{"gate": gate, "reason": reason} for gate, reason in sorted(record.accepted_gates.items())],
        "audiences": _audience_sizes(connection),
        "tables": [
            {"database": databases[table], "table": table, "row_count": row_counts[table]}
            for table in sorted(row_counts)
        ],
        "files": [
            {"path": path.as_posix(), "sha256": _sha256(directory / path), "bytes": (directory / path).stat().st_size}
            for path in _files(directory)
        ],
        "inputs": [
            dict(zip(("feed", "file", "sha256", "row_count"), row, strict=True))
            for row in connection.execute(
                "select feed, file, sha256, row_count from landing.files order by feed, file, sha256"
            ).fetchall()
        ],
    }
    _write_json(directory / MANIFEST, manifest)
    return manifest


def add_gate_results(directory: Path, gates: Sequence[Mapping[str, Any]]) -> None:
    """Complete the manifest of ``directory`` with what the release's own gate found, before it is promoted."""
    path = directory / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    own = {gate["gate"] for gate in gates}
    manifest["gates"] = [gate for gate in manifest["gates"] if gate["gate"] not in own] + [dict(gate) for gate in gates]
    _write_json(path, manifest)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    unfinished.chmod(0o440)
    _sync(unfinished)
    os.replace(unfinished, path)
    _sync(path.parent)


def _audience_sizes(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    sizes = {
        (audience, destination): (treated, holdout)
        for audience, destination, treated, holdout in connection.execute(
            """
            select
                audience,
                destination,
                count(*) filter (where arm = 'treated'),
                count(*) filter (where arm = 'holdout')
            from audience.members
            group by audience, destination
            """
        ).fetchall()
    }
    return [
        dict(zip(("audience", "destination", "treated", "holdout"), (*pair, *sizes.get(pair, (0, 0))), strict=True))
        for pair in audience_destinations(connection)
    ]


def verify(connection: duckdb.DuckDBPyConnection, directory: Path) -> list[Verified]:
    """Read everything again that the manifest of ``directory`` names, and compare; any connection will do.

    One result per file (its SHA-256; ``absent``; ``not in the manifest``) and per table (its number of rows).
    """
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    promised = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
    present = {path.as_posix() for path in _files(directory)}
    results = [
        Verified(
            "file",
            path,
            promised.get(path, "not in the manifest"),
            _sha256(directory / path) if path in present else "absent",
        )
        for path in sorted(promised.keys() | present)
    ]
    for database in DATABASES.values():
        entries = [entry for entry in manifest["tables"] if entry["database"] == database]
        counted = _row_counts(connection, directory / database, [entry["table"] for entry in entries])
        results += [
            Verified("table", entry["table"], str(entry["row_count"]), counted.get(entry["table"], "absent"))
            for entry in entries
        ]
    return results


def _row_counts(connection: duckdb.DuckDBPyConnection, database: Path, tables: Sequence[str]) -> dict[str, str]:
    try:
        connection.execute(f"attach '{_literal(str(database))}' as verified (read_only)")
    except duckdb.Error:
        return {}
    try:
        present = {
            f"{schema}.{name}"
            for schema, name in connection.execute(
                "select schema_name, table_name from duckdb_tables() where database_name = 'verified'"
            ).fetchall()
        }
        counts = {}
        for table in tables:
            if table in present:
                schema, name = table.split(".", 1)
                ((count,),) = connection.execute(f'select count(*) from verified."{schema}"."{name}"').fetchall()
                counts[table] = str(count)
        return counts
    finally:
        connection.execute("detach verified")


def promote(home: Path, release_id: str) -> Release:
    """Make the release that was built under that id the current one. Call it again after a crash: it goes on.

    Raises ReleaseError if nothing whole was built under that id.
    """
    releases = home / "releases"
    building, directory = releases / f"{_BUILDING}{release_id}", releases / release_id
    if building.is_dir() and not directory.exists():
        if not (building / MANIFEST).is_file():
            raise ReleaseError(f"The release {release_id} has no manifest: it was not finished.")
        for path in building.rglob("*"):
            if path.is_dir():
                _sync(path)
        building.chmod(0o750)
        os.rename(building, directory)
        _sync(releases)
    _point(home, release_id)
    return _release(home, release_id)


def _point(home: Path, release_id: str) -> None:
    _release(home, release_id)
    releases = home / "releases"
    pointer = releases / f"{_NEXT_POINTER}{release_id}"
    pointer.unlink(missing_ok=True)
    # Relative, so that a home can be moved as a whole.
    pointer.symlink_to(release_id)
    os.replace(pointer, releases / _POINTER)
    _sync(releases)


def list_releases(home: Path) -> list[Release]:
    """The releases on disk, oldest first."""
    releases = home / "releases"
    if not releases.is_dir():
        return []
    current = _current_id(home)
    return [
        Release(path.name, path, path.name == current)
        for path in sorted(releases.iterdir())
        if _ID.fullmatch(path.name) and (path / MANIFEST).is_file()
    ]


def current_release(home: Path) -> Release | None:
    """The release that ``releases/current`` names; None before the first one."""
    return next((release for release in list_releases(home) if release.is_current), None)


def _current_id(home: Path) -> str | None:
    pointer = home / "releases" / _POINTER
    return os.readlink(pointer) if pointer.is_symlink() else None


def _release(home: Path, release_id: str) -> Release:
    found = {release.release_id: release for release in list_releases(home)}
    if release_id not in found:
        there = ", ".join(found) or "none"
        raise ReleaseError(f"There is no release {release_id}. There are: {there}.")
    return found[release_id]


def rollback(home: Path, release_id: str) -> Release:
    """Point ``current`` at another release: an id, or ``previous`` for the newest one before the current.

    Raises ReleaseError if there is none. Nothing is deleted: going forward again is a rollback to the newer id.
    """
    if release_id == "previous":
        current = current_release(home)
        older = [release for release in list_releases(home) if current and release.release_id < current.release_id]
        if not older:
            raise ReleaseError("There is no release before the current one.")
        release_id = older[-1].release_id
    _point(home, release_id)
    return _release(home, release_id)


def old_releases(home: Path, keep: int) -> list[Release]:
    """All but the newest ``keep`` releases, without the current one."""
    if keep < 1:
        raise ValueError("At least one release has to be kept.")
    return [release for release in list_releases(home)[:-keep] if not release.is_current]


def prune(home: Path, keep: int = 7) -> list[str]:
    """Delete all but the newest ``keep`` releases, never the current one; the ids of what was deleted."""
    old = old_releases(home, keep)
    for release in old:
        discarded = release.directory.with_name(f"{_DISCARDED}{release.release_id}")
        # Renamed first: half a release never looks like a whole one.
        os.rename(release.directory, discarded)
        shutil.rmtree(discarded)
    return [release.release_id for release in old]


def clear_unfinished(home: Path) -> list[str]:
    """Delete what killed runs left behind, at the start of a run; the names of what was deleted."""
    releases = home / "releases"
    if not releases.is_dir():
        return []
    left_over = sorted(
        path for path in releases.iterdir() if path.name.startswith((_BUILDING, _DISCARDED, _NEXT_POINTER))
    )
    for path in left_over:
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)
    return [path.name for path in left_over]


def _files(directory: Path) -> list[Path]:
    """Every file of a release but the manifest, relative to it."""
    return sorted(
        path.relative_to(directory) for path in directory.rglob("*") if path.is_file() and path != directory / MANIFEST
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _literal(text: str) -> str:
    return text.replace("'", "''")
