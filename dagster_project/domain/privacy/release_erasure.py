"""A person is taken out of releases that are published already, today's and those before it.

Here belong the databases, the audience files and the manifests of releases. Not who the person is (``subject``), nor
what raw and landing hold. Releases never change otherwise: each database is written anew beside the old one (what was
deleted inside a file would stay in its free blocks) and takes its place at once, so that whoever has it open goes on
reading what he opened. The manifest comes last: a release whose erasure was cut off does not agree with it until the
erasure is called again, which may be done at any time.

What becomes of a row follows from the columns of its table, so that a table that comes later is covered too:

- amounts (a table with a ``transaction_id``): the row stays, its account and how it was found become null;
- refused rows and the like (a table with the text of a row): the row stays, the text and a person's key become null;
- everything else that names an account or a record of the person, or an identifier that is only theirs: the row goes.
"""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from dagster_project.domain.activation import sent_hashes
from dagster_project.domain.privacy.subject import Subject, create_subject_tables
from dagster_project.domain.privacy.words import Words
from dagster_project.domain.release import DATABASES, MANIFEST, STORAGE_VERSION, replace_manifest
from dagster_project.domain.sql_literal import literal

# Columns that hold an identifier, with the type of it; ``key_value`` and ``identifier`` say theirs in a column beside.
_IDENTIFIERS = {
    "email": "email",
    "phone": "phone",
    "customer_id": "customer_id",
    "card_id": "card_id",
    "loyalty_card_id": "card_id",
    "payment_token": "payment_token",
    "address_line1": "address",
}
_BESIDE = {"key_value": "key_type", "identifier": "identifier_type"}
# How a transaction was found to be the person's goes with the person.
_FOUND_BY = ("rule", "confidence", "household_id")
# The row as it was delivered, or words about it.
_TEXTS = ("delivered_row", "text")
_WORDS = ("cause", "evidence")
_TEXTS_AT_ONCE = 20_000
# The key of a record of these feeds is the person's; that of an order, a ticket or a refund is the till's.
_PEOPLE = ("shop_customers", "loyalty_members")


@dataclass(frozen=True)
class ErasedRelease:
    """What became of one release: rows that went, rows that stay without the person, lines of audience files."""

    release_id: str
    removed_row_count: int
    blanked_row_count: int
    line_count: int

    @property
    def is_changed(self) -> bool:
        return bool(self.removed_row_count + self.blanked_row_count + self.line_count)


def erase_in_releases(
    connection: duckdb.DuckDBPyConnection,
    home: Path,
    subjects: Sequence[Subject],
    *,
    at: datetime,
    request_hashes: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[ErasedRelease]:
    """Take ``subjects`` out of every release of a home, also of those that were lost; one result per release, oldest
    first.

    Any connection will do. ``at`` and ``request_hashes`` (keyed hashes of the requests) go into the manifest. A release
    that holds nothing of them is only read. Cost grows with the bytes of the releases that hold something. ``progress``
    is told how many of how many releases are done. Raises ReleaseError where a manifest cannot be read.
    """
    folders = sorted(
        path.parent
        for pattern in ("releases/*", "releases-lost-*/*")
        for path in home.glob(f"{pattern}/{MANIFEST}")
        if not path.parent.is_symlink()
    )
    done: list[ErasedRelease] = []
    for folder in folders:
        progress(len(done), len(folders))
        done.append(_erase_in_release(connection, folder, subjects, at, request_hashes))
    return done


def _erase_in_release(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    subjects: Sequence[Subject],
    at: datetime,
    request_hashes: Sequence[str],
) -> ErasedRelease:
    row_counts: dict[str, int] = {}
    removed = blanked = 0
    for unfinished in folder.glob("*.erasing*"):
        unfinished.unlink()
    connection.execute("set TimeZone = 'UTC'")
    create_subject_tables(connection, subjects)
    restricted = folder / DATABASES["restricted"]
    _add_what_the_release_knows(connection, restricted)
    words = _words(connection)
    lines = _erase_lines(connection, folder, restricted)
    # The restricted database says which identifiers are whose: it is rewritten last.
    for database in (DATABASES["analysts"], DATABASES["restricted"]):
        path = folder / database
        if not path.is_file():
            continue
        found = _erase_in_database(connection, path, words)
        removed, blanked = removed + found[0], blanked + found[1]
        row_counts |= found[2]
    erased = ErasedRelease(folder.name, removed, blanked, lines)
    if not _agrees(folder) or erased.is_changed:
        replace_manifest(
            folder,
            row_counts,
            {
                "at": at.isoformat(timespec="seconds"),
                "requests": list(request_hashes),
                "removed_rows": removed,
                "blanked_rows": blanked,
                "lines": lines,
            },
        )
    return erased


def _agrees(folder: Path) -> bool:
    """Whether the sizes of the files are those of the manifest: not after an erasure that was cut off before it."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return all(
        (folder / entry["path"]).is_file() and (folder / entry["path"]).stat().st_size == entry["bytes"]
        for entry in manifest["files"]
    ) and all(
        hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
        for entry in manifest["files"]
        if entry["path"].startswith("audiences/")
    )


def _columns(connection: duckdb.DuckDBPyConnection, database: str) -> dict[tuple[str, str], dict[str, str]]:
    """Table (schema, name) -> column -> type, in order."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for schema, table, column, type_ in connection.execute(
        """
        select schema_name, table_name, column_name, data_type from duckdb_columns()
        where database_name = $1 order by schema_name, table_name, column_index
        """,
        [database],
    ).fetchall():
        found.setdefault((schema, table), {})[column] = type_
    return found


def _add_what_the_release_knows(connection: duckdb.DuckDBPyConnection, restricted: Path) -> None:
    """Extend ``subject_identifiers`` by the identifiers that this release's own tables give to the accounts alone, such
    as a postal address in standard form, and write ``subject_contacts``: the contact blocks that nobody else has.
    """
    connection.execute("create or replace temp table subject_contacts (contact_id bigint)")
    if not restricted.is_file():
        return
    connection.execute(f"attach {literal(restricted)} as old (read_only)")
    try:
        tables = _columns(connection, "old")
        if ("account", "identifiers") in tables:
            connection.execute(
                """
                insert into subject_identifiers by name
                with held as (
                    select identifier_type as type, identifier as value, account_id in (
                        select account_id from subject_accounts
                    ) as is_own
                    from old.account.identifiers
                )
                select '' as request_id, type, value from held group by type, value having bool_and(is_own)
                """
            )
        if ("identity", "records") in tables:
            connection.execute(
                """
                insert into subject_contacts
                select contact_id
                from old.identity.records as records
                left join subject_records using (feed, record_id)
                where contact_id is not null
                group by contact_id
                having bool_and(subject_records.record_id is not null)
                """
            )
    finally:
        connection.execute("detach old")


def _erase_in_database(
    connection: duckdb.DuckDBPyConnection, path: Path, words: Words
) -> tuple[int, int, dict[str, int]]:
    """Rows that went, rows without the person now, and the rows of every table that changed, by qualified name."""
    connection.execute(f"attach {literal(path)} as old (read_only)")
    try:
        tables = _columns(connection, "old")
        _write_texts(connection, tables, words)
        rules = {table: _rule(columns, table) for table, columns in tables.items()}
        touched: dict[tuple[str, str], tuple[int, int]] = {}
        for (schema, name), (about, replaced) in rules.items():
            if about is None:
                continue
            ((count,),) = connection.execute(
                f'select count(*) from old."{schema}"."{name}" as told where {about}'
            ).fetchall()
            if count:
                touched[schema, name] = (0, count) if replaced else (count, 0)
        if not touched:
            return 0, 0, {}
        return (
            sum(removed for removed, _ in touched.values()),
            sum(blanked for _, blanked in touched.values()),
            _write_anew(connection, path, tables, rules, touched.keys()),
        )
    finally:
        connection.execute("detach old")


def _words(connection: duckdb.DuckDBPyConnection) -> Words:
    """What finds an identifier, or the hash of one, as a word of its own in a text: the number of a refused row of a
    feed without numbers is made of its columns, the hashed e-mail among them.
    """
    values = connection.execute(
        """
        select lower(value) from subject_identifiers
        union
        select sha256(value) from subject_identifiers where type in ('email', 'phone')
        """
    ).fetchall()
    return Words([value for (value,) in values])


def _write_texts(
    connection: duckdb.DuckDBPyConnection, tables: dict[tuple[str, str], dict[str, str]], words: Words
) -> None:
    """``subject_texts`` (text): those of the database that hold an identifier, in small letters. Each is read once,
    however many people are erased: a pattern of all their words would be too large to be made.
    """
    connection.execute("create or replace temp table subject_texts (text varchar)")
    columns = [
        f'select "{name}" as text from old."{schema}"."{table}"'
        for (schema, table), types in tables.items()
        for name in (*_TEXTS, *_WORDS, *(("record_id",) if schema == "staging" else ()))
        if name in types
    ]
    if not columns or not len(words):
        return
    told = connection.sql(f"select distinct lower(text) as text from ({' union all '.join(columns)})")
    found: list[str] = []
    for batch in told.to_arrow_reader(_TEXTS_AT_ONCE):
        texts = batch.column(0)
        found += [texts[int(position)].as_py() for position in words.in_cells(texts)[0]]
    connection.execute("insert into subject_texts select unnest($1::varchar[])", [found])


Rule = tuple[str | None, dict[str, str]]
"""Which rows are about the person (SQL; None = none can be), and what takes the place of which column there."""


def _rule(columns: dict[str, str], table: tuple[str, str]) -> Rule:
    if table == ("identity", "contacts"):
        return "told.contact_id in (select contact_id from subject_contacts)", {}
    accounts = [name for name in columns if name == "account_id" or name.endswith("_account_id")]
    pairs = [
        (name.removesuffix("record_id") + "feed", name)
        for name in columns
        if name.endswith("record_id") and name.removesuffix("record_id") + "feed" in columns
    ]
    texts = [name for name in _TEXTS if name in columns]
    conditions = [f"told.{name} in (select account_id from subject_accounts)" for name in accounts]
    by_record = [
        f"(told.{feed}, told.{record}) in (select (feed, record_id) from subject_records)" for feed, record in pairs
    ]
    if "transaction_id" in columns and accounts:
        return " or ".join(conditions), {name: "null" for name in columns if name in accounts or name in _FOUND_BY}
    conditions += by_record
    if texts or (table[0] == "staging" and pairs):
        conditions += [_is_text(name) for name in (*texts, *(record for _, record in pairs))]
        blanked = dict.fromkeys(texts, "null")
        people = ", ".join(literal(feed) for feed in _PEOPLE)
        blanked |= {
            record: f"case when told.{feed} not in ({people}) and not {_is_text(record)} then told.{record} end"
            for feed, record in pairs
        }
        return " or ".join(conditions) or None, blanked
    conditions += [
        f"told.{name} in (select value from subject_identifiers where type = {literal(type_)})"
        for name, type_ in _IDENTIFIERS.items()
        if name in columns
    ]
    conditions += [
        f"(told.{type_}, told.{name}) in (select (type, value) from subject_identifiers)"
        for name, type_ in _BESIDE.items()
        if name in columns and type_ in columns
    ]
    if {"type", "value_hash"} <= columns.keys():
        conditions.append(
            "told.value_hash in (select substr(sha256(type || '|' || value), 1, 16) from subject_identifiers)"
        )
    conditions += [_is_text(name) for name in _WORDS if name in columns]
    return " or ".join(conditions) or None, {}


def _is_text(column: str) -> str:
    """SQL: whether a text holds an identifier of the person."""
    return f"lower(told.{column}) in (select text from subject_texts)"


def _write_anew(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    tables: dict[tuple[str, str], dict[str, str]],
    rules: dict[tuple[str, str], Rule],
    touched: Collection[tuple[str, str]],
) -> dict[str, int]:
    beside = path.with_name(f"{path.name}.erasing")
    connection.execute(f"attach {literal(beside)} as new (storage_version '{STORAGE_VERSION}')")
    row_counts = {}
    try:
        connection.execute("begin")
        for schema in sorted({schema for schema, _ in tables}):
            connection.execute(f'create schema if not exists new."{schema}"')
        for (schema, name), columns in tables.items():
            about, replaced = rules[schema, name] if (schema, name) in touched else (None, {})
            listed = ", ".join(
                f'case when {about} then {replaced[column]} else told."{column}" end as "{column}"'
                if column in replaced
                else f'told."{column}"'
                for column in columns
            )
            kept = f" where ({about}) is not true" if about and not replaced else ""
            ((row_counts[f"{schema}.{name}"],),) = connection.execute(
                f'create table new."{schema}"."{name}" as select {listed} from old."{schema}"."{name}" as told{kept}'
            ).fetchall()
        for kind, comment in _comments(connection):
            connection.execute(f"comment on {kind} is {literal(comment)}")
        connection.execute("commit")
        connection.execute("checkpoint new")
    finally:
        connection.execute("detach new")
    mode = path.stat().st_mode & 0o777
    beside.chmod(mode)
    _sync(beside)
    os.replace(beside, path)
    _sync(path.parent)
    return row_counts


def _comments(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    return connection.execute(
        """
        select 'table new."' || schema_name || '"."' || table_name || '"', comment
        from duckdb_tables() where database_name = 'old' and comment is not null
        union all
        select 'column new."' || schema_name || '"."' || table_name || '"."' || column_name || '"', comment
        from duckdb_columns() where database_name = 'old' and comment is not null
        """
    ).fetchall()


def _erase_lines(connection: duckdb.DuckDBPyConnection, folder: Path, restricted: Path) -> int:
    """Take the person's lines out of the audience files; how many. By the hashes that the ledger has of what was sent,
    one line per account, for somebody else may have been sent by the same address.
    """
    if not restricted.is_file():
        return 0
    connection.execute(f"attach {literal(restricted)} as old (read_only)")
    try:
        if ("activation", "ledger") not in _columns(connection, "old"):
            return 0
        sent = connection.execute(
            """
            select audience, destination, identifier_hash, count(distinct account_id)
            from old.activation.ledger
            semi join subject_accounts using (account_id)
            where last_release_id = $1
            group by all
            """,
            [folder.name],
        ).fetchall()
    finally:
        connection.execute("detach old")
    wanted: dict[Path, Counter[str]] = {}
    for audience, destination, identifier_hash, count in sent:
        file = folder / "audiences" / audience / f"{destination}.csv"
        wanted.setdefault(file, Counter())[identifier_hash] += count
    return sum(_erase_lines_of(file, hashes) for file, hashes in sorted(wanted.items()) if file.is_file())


def _erase_lines_of(file: Path, hashes: Counter[str]) -> int:
    gone = 0

    def kept() -> Iterator[list[str]]:
        nonlocal gone
        with file.open(encoding="utf-8", newline="") as stream:
            lines = csv.reader(stream)
            yield next(lines)
            for cells in lines:
                theirs = [each for each in sent_hashes(file.stem, cells) if hashes[each] > 0]
                if not theirs:
                    yield cells
                    continue
                gone += 1
                hashes.subtract(theirs)

    beside = file.with_name(f"{file.name}.erasing")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(kept())
        out.flush()
        os.fsync(out.fileno())
    if gone:
        os.replace(beside, file)
        _sync(file.parent)
    else:
        beside.unlink()
    return gone


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
