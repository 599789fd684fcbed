"""What the identity stage remembers from night to night, in the schema ``remembered`` of the working database.

What belongs here: how the tables are kept, changed in place, trusted and forgotten. What does not: what any of them
means; each is described where it is made.

The tables hold everything that the stage worked out over all records. A night works on the part that its new, changed
and vanished records touch (``night``) and puts the result in its place; a full build works on everything. Both run
the same SQL, over tables called ``identity_<name>``: the part of ``remembered.<name>``, or a view of the whole.

It is a cache: lost, damaged, of another policy, model or version, or left by a killed run, it is made again, and every
table comes out the same.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

SCHEMA = "remembered"

Write = Callable[[DuckDBPyConnection, str, str], None]
"""``keep`` or ``part``: where a step puts what a query finds, and under which name the next step reads it."""


def keep(connection: DuckDBPyConnection, name: str, query: str) -> None:
    """Make ``remembered.<name>`` from the query, and ``identity_<name>`` a view of it."""
    connection.execute("create schema if not exists remembered")
    connection.execute(f"create or replace table remembered.{name} as {query}")
    connection.execute(f"create or replace temp view identity_{name} as from remembered.{name}")


def part(connection: DuckDBPyConnection, name: str, query: str) -> None:
    """Make ``identity_<name>`` from the query; ``remembered.<name>`` stays until it is told (``replace_part``)."""
    connection.execute(f"create or replace temp table identity_{name} as {query}")


def replace_part(connection: DuckDBPyConnection, name: str, gone: str, fresh: str | None = None) -> None:
    """In ``remembered.<name>`` put the rows of ``fresh`` (default: ``identity_<name>``) in the place of those ``gone``.

    ``gone`` is a condition on its rows.
    """
    connection.execute(f"delete from remembered.{name} where {gone}")
    connection.execute(f"insert into remembered.{name} by name select * from {fresh or f'identity_{name}'}")


def work(connection: DuckDBPyConnection, name: str, query: str) -> None:
    """Make the working table ``identity_<name>`` from the query."""
    connection.execute(f"create or replace temp table identity_{name} as {query}")


def among(column: str, name: str) -> str:
    """SQL: whether the column is in the working table ``identity_<name>``, which has but one."""
    return f"{column} in (from identity_{name})"


def of_either(columns: str, table: str, name: str) -> str:
    """SQL: the rows of a table of pairs (l, r) with a side in the working table ``identity_<name>``.

    Two passes, for in one condition with ``or`` neither side narrows what is read.
    """
    left, right = among("l", name), among("r", name)
    return (
        f"select {columns} from {table} where {left} "
        f"union all select {columns} from {table} where {right} and not {left}"
    )


def differing(one: str, other: str) -> str:
    """SQL: the rows that only one of two queries has."""
    return f"(({one} except {other}) union ({other} except {one}))"


def renew(connection: DuckDBPyConnection, name: str, key: str, where: str) -> None:
    """In ``remembered.<name>`` put ``identity_<name>`` in the place of the rows ``where``; writes only what differs.

    No row may stand twice, and the rows of one ``key`` are all of them among those ``where`` or none. Leaves
    ``identity_old_<name>``, the rows as they were, and ``identity_changed_<name>``, those of the old and the new that
    are not in both.
    """
    work(connection, f"old_{name}", f"from remembered.{name} where {where}")
    work(connection, f"changed_{name}", differing(f"from identity_old_{name}", f"from identity_{name}"))
    changed = f"{key} in (select {key} from identity_changed_{name})"
    replace_part(connection, name, changed, f"(from identity_{name} where {changed})")


def count_rows(connection: DuckDBPyConnection, table: str) -> int:
    """The number of rows of a table."""
    return int(connection.execute(f"select count(*) from {table}").fetchall()[0][0])


def hash_of(said: object, files: Iterable[Path]) -> str:
    """A stamp: the hash of some values, of the files of code and lists, and of the versions of DuckDB and Splink."""
    words = json.dumps([said, duckdb.__version__, version("splink")], sort_keys=True, default=str)
    return hashlib.sha256(words.encode() + b"".join(path.read_bytes() for path in files)).hexdigest()


def open_memory(connection: DuckDBPyConnection, *, tables: str, scores: str) -> set[str]:
    """What of it may be built on tonight: nothing, the ``scores``, or these and all other ``tables``.

    ``tables`` and ``scores`` are tonight's stamps (``hash_of``) of what they depend on besides the records. From here
    until ``close_memory`` nothing may be built on: a killed run leaves half of a night.
    """
    before = _stamps(connection)
    distrust(connection)
    if before is None:
        return set()
    return {
        name
        for name, is_same in zip(("tables", "scores"), (before[0] == tables, before[1] == scores), strict=True)
        if is_same
    }


def forget(connection: DuckDBPyConnection, *, but_scores: bool) -> None:
    """Drop every table but the stamps. ``but_scores``: what scores say is ``identity_known_scores`` then."""
    if but_scores:
        with contextlib.suppress(duckdb.Error):
            connection.execute("create or replace temp table identity_known_scores as from remembered.scores")
    for (name,) in connection.execute(
        """
        select table_name from duckdb_tables()
        where schema_name = 'remembered' and database_name = current_database() and table_name <> 'stamps'
        """
    ).fetchall():
        connection.execute(f'drop table remembered."{name}" cascade')


def distrust(connection: DuckDBPyConnection) -> None:
    """Say that the tables are not whole, before any is changed."""
    connection.execute("create schema if not exists remembered")
    connection.execute("create or replace table remembered.stamps (tables varchar, scores varchar)")


def close_memory(connection: DuckDBPyConnection, *, tables: str, scores: str) -> None:
    """Say that every table is whole again."""
    connection.execute(
        "create or replace table remembered.stamps as select ? as tables, ? as scores",
        [tables, scores],
    )


def _stamps(connection: DuckDBPyConnection) -> tuple[str, str] | None:
    known = connection.execute(
        """
        select count(*) from duckdb_tables()
        where schema_name = 'remembered' and table_name = 'stamps' and database_name = current_database()
        """
    ).fetchall()[0][0]
    rows = connection.execute("from remembered.stamps").fetchall() if known else []
    return rows[0] if len(rows) == 1 else None
