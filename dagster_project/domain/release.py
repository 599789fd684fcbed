"""Release: a finished build becomes a directory that never changes again, and one pointer that moves to it.

Here belong release ids, the published databases, the manifest, verification, the pointer, rollback and pruning. What is
in the tables is decided before; which of them go where is said in their YAML (``config.meta.release``). Nothing here
looks at the clock: the moment of the build is given.

A release is built in ``releases/.building-<id>``, renamed to ``releases/<id>`` when it is whole, and becomes visible
when the symbolic link ``releases/current`` is replaced, which the file system does at once or not at all. Wherever a
run is killed, ``current`` names a whole release. The next pointer, ``.current-<id>``, is there before the rename: a run
that dies between the two leaves what the next run needs to finish the move, so that no whole release lies about of
which nobody knows whether it was published. Who has a database open keeps reading what he opened.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb

from dagster_project.domain.activation import audience_destinations
from dagster_project.domain.sql_literal import literal

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
STORAGE_VERSION = "v1.0.0"
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
        """The manifest as it was written. Raises ReleaseError where it cannot be read."""
        return _read_manifest(self.directory)


def _read_manifest(directory: Path) -> dict[str, Any]:
    try:
        content = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or not {"as_of", "files", "tables", "inputs", "fingerprint"} <= content.keys():
        raise ReleaseError(
            f"The manifest of {directory} cannot be read: put the folder back from the backup, or point «current» at "
            "another release (cocanal release rollback previous)."
        )
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
    # A damaged folder takes its id too: no id is given twice.
    newest_id = max((path.name for path in _release_folders(home)), default="")
    if candidate <= newest_id:
        newest = datetime.strptime(newest_id, _ID_FORMAT).replace(tzinfo=UTC)
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
    connection.execute(f"attach {literal(path)} as published (storage_version '{STORAGE_VERSION}')")
    try:
        connection.execute("begin")
        for schema in sorted({table.schema for table in tables}):
            connection.execute(f'create schema published."{schema}"')
        for table in tables:
            target = f'published."{table.schema}"."{table.name}"'
            ((count,),) = connection.execute(f"create table {target} as {selects[table.qualified_name]}").fetchall()
            row_counts[table.qualified_name] = int(count)
            connection.execute(f"comment on table {target} is {literal(table.comment)}")
            for column, comment in table.columns.items():
                connection.execute(f'comment on column {target}."{column}" is {literal(comment)}')
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
    manifest = _read_manifest(directory)
    own = {gate["gate"] for gate in gates}
    manifest["gates"] = [gate for gate in manifest["gates"] if gate["gate"] not in own] + [dict(gate) for gate in gates]
    _write_json(directory / MANIFEST, manifest)


def replace_manifest(directory: Path, row_counts: Mapping[str, int], erasure: Mapping[str, Any]) -> None:
    """Make the manifest of a published release true again after an erasure, which it then tells of.

    ``row_counts`` holds the tables that changed. What the manifest said of the audiences stays: it was so that day.
    """
    manifest = _read_manifest(directory)
    manifest["tables"] = [
        {**entry, "row_count": row_counts.get(entry["table"], entry["row_count"])} for entry in manifest["tables"]
    ]
    manifest["files"] = [
        {"path": path.as_posix(), "sha256": _sha256(directory / path), "bytes": (directory / path).stat().st_size}
        for path in _files(directory)
    ]
    manifest["erasures"] = [*manifest.get("erasures", []), dict(erasure)]
    _write_json(directory / MANIFEST, manifest)


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
    manifest = _read_manifest(directory)
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
        connection.execute(f"attach {literal(database)} as verified (read_only)")
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
            _sync(path)
        building.chmod(0o750)
        _sync(building)
        _prepare_pointer(home, release_id)
        os.rename(building, directory)
        _sync(releases)
    _point(home, release_id)
    return _release(home, release_id)


def _prepare_pointer(home: Path, release_id: str) -> Path:
    pointer = home / "releases" / f"{_NEXT_POINTER}{release_id}"
    pointer.unlink(missing_ok=True)
    # Relative, so that a home can be moved as a whole.
    pointer.symlink_to(release_id)
    _sync(pointer.parent)
    return pointer


def _point(home: Path, release_id: str) -> None:
    _release(home, release_id)
    current = home / "releases" / _POINTER
    if current.is_dir() and not current.is_symlink():
        raise ReleaseError(
            f"{current} is a folder and not a link, as a copy that follows links makes it: move it away, then "
            f"«cocanal release rollback {release_id}»."
        )
    os.replace(_prepare_pointer(home, release_id), current)
    # Whoever points is the last to decide: what a run that died had begun counts no more.
    for abandoned in current.parent.glob(f"{_NEXT_POINTER}*"):
        abandoned.unlink()
    _sync(current.parent)


def _release_folders(home: Path) -> list[Path]:
    """The folders of releases, whole or not, oldest first."""
    releases = home / "releases"
    return sorted(path for path in releases.iterdir() if _ID.fullmatch(path.name)) if releases.is_dir() else []


def list_releases(home: Path) -> list[Release]:
    """The releases on disk that have a manifest, oldest first."""
    current = _current_id(home)
    return [
        Release(path.name, path, path.name == current) for path in _release_folders(home) if (path / MANIFEST).is_file()
    ]


def current_release(home: Path) -> Release | None:
    """The release that ``releases/current`` names; None before the first one, and where the pointer leads nowhere."""
    return next((release for release in list_releases(home) if release.is_current), None)


def input_files(directories: Iterable[Path]) -> set[tuple[str, str]]:
    """Path under landing and hash of every file that these releases were made from, as far as manifests can be read."""
    return {
        (entry["file"], entry["sha256"])
        for directory in directories
        if _is_manifest_readable(directory)
        for entry in _read_manifest(directory)["inputs"]
    }


def _is_manifest_readable(directory: Path) -> bool:
    try:
        _read_manifest(directory)
    except ReleaseError:
        return False
    return True


def remember_release(mark: Path, release_id: str) -> None:
    """Keep the id of the last published release in the file ``mark``, away from the releases, should they be lost."""
    mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = mark.with_name(f"{mark.name}.tmp")
    unfinished.write_text(f"{release_id}\n", encoding="utf-8")
    os.replace(unfinished, mark)


def remembered_release(mark: Path) -> str | None:
    """The id that ``mark`` keeps; None where nothing was ever published."""
    return mark.read_text(encoding="utf-8", errors="replace").strip() or None if mark.is_file() else None


def find_damage(directory: Path, *, is_thorough: bool, only: Collection[str] | None = None) -> list[str]:
    """What is wrong with a release's folder, a phrase per file: absent, of another size, or (thorough) other bytes.

    ``only`` names the files that are looked at; default: all that the manifest names.
    """
    if not _is_manifest_readable(directory):
        return [f"{MANIFEST} is {'unreadable' if (directory / MANIFEST).exists() else 'missing'}"]
    found = []
    for entry in _read_manifest(directory)["files"]:
        path = directory / entry["path"]
        if only is not None and entry["path"] not in only:
            continue
        if not path.is_file():
            found.append(f"{entry['path']} is missing")
        elif path.stat().st_size != entry["bytes"]:
            found.append(f"{entry['path']} has {path.stat().st_size} bytes instead of {entry['bytes']}")
        elif is_thorough and _sha256(path) != entry["sha256"]:
            found.append(f"{entry['path']} holds other bytes than were published")
    return found


def find_pointer_damage(home: Path, known_id: str | None) -> str | None:
    """Why nobody can say which release is the current one, and what to do; None if that is known, or none ever was.

    ``known_id`` is an id that is known to have been published, if one is.
    """
    pointer = home / "releases" / _POINTER
    whole = [one.release_id for one in list_releases(home) if _is_manifest_readable(one.directory)]
    if not whole:
        if known_id is None and not pointer.is_symlink() and not _release_folders(home):
            return None
        return (
            f"{known_id or 'A release'} was published from this home, but {pointer.parent} holds no release that can "
            "be read: put it back from the backup. If it is lost for good: «cocanal rebuild --from-nothing» publishes "
            "anew, with new account ids, without their history and without the record of what was sent."
        )
    if pointer.is_symlink() and os.readlink(pointer) in whole:
        return None
    what = (
        f"leads to {os.readlink(pointer)}, which is no whole release"
        if pointer.is_symlink()
        else "is a folder and not a link"
        if pointer.is_dir()
        else "is a file and not a link"
        if pointer.exists()
        else "is missing"
    )
    move = "move it away, then " if pointer.is_dir() and not pointer.is_symlink() else ""
    return (
        f"{pointer} {what}, so the ids and the history to go on from are not known: {move}«cocanal release rollback "
        f"{whole[-1]}» takes the newest whole release ({', '.join(whole)})."
    )


def release_to_build_on(home: Path, known_id: str | None) -> Release | None:
    """The release whose ids, history and ledger the next build goes on from, its databases read in full; None before
    the first.

    Raises ReleaseError where it is damaged, lost or not known which it is: a build without it would give people other
    ids and forget what was sent, in silence. ``known_id`` is an id that is known to have been published, if one is.
    """
    if problem := find_pointer_damage(home, known_id):
        raise ReleaseError(problem)
    current = current_release(home)
    if current is None:
        return None
    # The newest one holds the ledger of what was sent, wherever the pointer stands.
    for base in {current.release_id: current, **{r.release_id: r for r in list_releases(home)[-1:]}}.values():
        # Of its other files nothing is read: somebody may have removed audiences that were sent.
        damage = find_damage(base.directory, is_thorough=True, only=DATABASES.values())
        if damage:
            other = "previous" if base.is_current else current.release_id
            raise ReleaseError(
                f"The release {base.release_id} is damaged ({'; '.join(damage[:3])}), and the next one goes on from "
                f"its ids and its ledger: put {base.directory} back from the backup. If there is none, move that "
                f"folder away and «cocanal release rollback {other}»: what happened since that release is then derived "
                "anew, and what was sent since is forgotten."
            )
    return current


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
        current_id = _current_id(home) or ""
        older = [release for release in list_releases(home) if release.release_id < current_id]
        if not older:
            raise ReleaseError("There is no release before the current one.")
        release_id = older[-1].release_id
    damage = find_damage(_release(home, release_id).directory, is_thorough=False, only=DATABASES.values())
    if damage:
        raise ReleaseError(f"The release {release_id} is damaged ({'; '.join(damage[:3])}): take another one.")
    _point(home, release_id)
    return _release(home, release_id)


def abandon(home: Path, mark: Path) -> Path | None:
    """Put what is left of lost releases beside ``releases``, so that a build begins without any; where it is now.

    Raises ReleaseError where a release is whole: its ids can be kept.
    """
    releases = home / "releases"
    whole = [r.release_id for r in list_releases(home) if not find_damage(r.directory, is_thorough=True)]
    if whole:
        raise ReleaseError(
            f"The release {whole[-1]} is whole: its ids and its ledger can be kept. Run «cocanal rebuild» without "
            f"--from-nothing, after «cocanal release rollback {whole[-1]}» if it is not the current one."
        )
    aside = None
    if releases.is_dir():
        taken = len(list(home.glob("releases-lost-*")))
        aside = home / f"releases-lost-{taken + 1}"
        os.rename(releases, aside)
    mark.unlink(missing_ok=True)
    return aside


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
    """Finish what a killed run had begun to publish, and delete what else it left behind; the names of all that.

    For the start of a run. A pointer that was made and not moved yet leads to a release that its gate let pass: it is
    moved. Without the release it goes, as do builds and half-deleted releases.
    """
    releases = home / "releases"
    if not releases.is_dir():
        return []
    left_over = sorted(
        path for path in releases.iterdir() if path.name.startswith((_BUILDING, _DISCARDED, _NEXT_POINTER))
    )
    for path in left_over:
        release_id = path.name.removeprefix(_NEXT_POINTER)
        if path.is_symlink() and (releases / release_id / MANIFEST).is_file():
            _point(home, release_id)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
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
