"""A person is taken out of releases that are published already, today's and those before it.

Here belong the databases, the audience files and the manifests of releases. Not who the person is (``subject``), nor
what raw and landing hold. Releases never change otherwise: each database is written anew beside the old one (what was
deleted inside a file would stay in its free blocks) and takes its place at once, so that whoever has it open goes on
reading what he opened. The manifest comes last: a release whose erasure was cut off does not agree with it until the
erasure is called again, which may be done at any time.

What becomes of a row follows from the columns of its table, so that a table that comes later is covered too:

- amounts (a table with a ``transaction_id``): the row stays, its account and how it was found become null;
- refused rows and the like (a table with the text of a row): the row stays, the text and a person's key become null;
- a record of somebody else that names one of the person's numbers: the row stays, the number becomes null;
- everything else that names an account or a record of the person, or an identifier that is only theirs: the row goes.
"""

import csv
import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
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
# Somebody else's record may name these: an order placed with the account of another.
_NAMED = ("customer_id", "card_id", "loyalty_card_id")
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
        for (schema, name), rule in rules.items():
            about = rule.about or "false"
            # A row that stays was about the person before, too: it counts while there is something to take from it.
            changes = " or ".join(f'told."{name}" is distinct from ({value})' for name, value in rule.replaced.items())
            named = " or ".join(rule.named.values()) or "false"
            ((count, named_count),) = connection.execute(
                f"""
                select
                    count(*) filter (where ({about}) and ({changes or "true"})),
                    count(*) filter (where ({named}) and ({about}) is not true)
                from old."{schema}"."{name}" as told
                """
            ).fetchall()
            if count or named_count:
                touched[schema, name] = (0, count + named_count) if rule.replaced else (count, named_count)
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


@dataclass(frozen=True)
class Rule:
    """Which rows are ``about`` the person (SQL; None = none can be), and what takes the place of which column there;
    without that the rows go. In the others a column that is ``named`` becomes null where its SQL holds.
    """

    about: str | None
    replaced: Mapping[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)


def _rule(columns: dict[str, str], table: tuple[str, str]) -> Rule:
    accounts = [name for name in columns if name == "account_id" or name.endswith("_account_id")]
    pairs = [
        (name.removesuffix("record_id") + "feed", name)
        for name in columns
        if name.endswith("record_id") and name.removesuffix("record_id") + "feed" in columns
    ]
    texts = [name for name in _TEXTS if name in columns]
    named = {name: _is_own(name) for name in _NAMED if name in columns} if pairs else {}
    if table == ("identity", "contacts"):
        return Rule("told.contact_id in (select contact_id from subject_contacts)", named=named)
    conditions = [f"told.{name} in (select account_id from subject_accounts)" for name in accounts]
    by_record = [
        f"(told.{feed}, told.{record}) in (select (feed, record_id) from subject_records)" for feed, record in pairs
    ]
    if "transaction_id" in columns and accounts:
        found_by = {name: "null" for name in columns if name in accounts or name in _FOUND_BY}
        return Rule(" or ".join(conditions), found_by)
    conditions += by_record
    if texts or (table[0] == "staging" and pairs):
        conditions += [_is_text(name) for name in (*texts, *(record for _, record in pairs))]
        blanked = dict.fromkeys(texts, "null")
        people = ", ".join(literal(feed) for feed in _PEOPLE)
        blanked |= {
            record: f"case when told.{feed} not in ({people}) and not {_is_text(record)} then told.{record} end"
            for feed, record in pairs
        }
        return Rule(" or ".join(conditions) or None, blanked)
    conditions += [_is_own(name) for name in _IDENTIFIERS if name in columns and name not in named]
    conditions += [
        f"(told.{type_}, told.{name}) in (select (type, value) from subject_identifiers)"
        for name, type_ in _BESIDE.items()
        if name in columns and type_ in columns
    ]
    if "identifier_hash" in columns:
        conditions.append("told.identifier_hash in (select identifier_hash from subject_hashes)")
    if {"type", "value_hash"} <= columns.keys():
        conditions.append(
            "told.value_hash in (select substr(sha256(type || '|' || value), 1, 16) from subject_identifiers)"
            " or told.value_hash in (select identifier_hash from subject_hashes)"
        )
    conditions += [_is_text(name) for name in _WORDS if name in columns]
    return Rule(" or ".join(conditions) or None, named=named)


def _is_own(column: str) -> str:
    """SQL: whether a column holds an identifier of the person."""
    return f"told.{column} in (select value from subject_identifiers where type = {literal(_IDENTIFIERS[column])})"


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
            rule = rules[schema, name] if (schema, name) in touched else Rule(None)
            written = {column: f'told."{column}"' for column in columns}
            written |= {
                column: f'case when {rule.about} then {value} else told."{column}" end'
                for column, value in rule.replaced.items()
            }
            written |= {
                column: f'case when ({is_own}) is not true then told."{column}" end'
                for column, is_own in rule.named.items()
            }
            listed = ", ".join(f'{value} as "{column}"' for column, value in written.items())
            kept = f" where ({rule.about}) is not true" if rule.about and not rule.replaced else ""
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
    """Take the person's lines out of the audience files; how many: one line per account and file."""
    if not restricted.is_file():
        return 0
    connection.execute(f"attach {literal(restricted)} as old (read_only)")
    try:
        tables = _columns(connection, "old")
        if ("activation", "ledger") not in tables:
            return 0
        has_names = ("account", "golden_records") in tables
        sent = connection.execute(
            f"""
            select ledger.audience, ledger.destination, list(distinct ledger.identifier_hash),
                any_value(names.first_name)
            from old.activation.ledger as ledger
            left join (
                {"select account_id, first_name from old.account.golden_records" if has_names else _NO_NAMES}
            ) as names using (account_id)
            where
                ledger.last_release_id = $1
                and (
                    ledger.account_id in (select account_id from subject_accounts)
                    or ledger.identifier_hash in (select identifier_hash from subject_hashes)
                )
            group by ledger.audience, ledger.destination, ledger.account_id
            order by ledger.audience, ledger.destination, ledger.account_id
            """,
            [folder.name],
        ).fetchall()
    finally:
        connection.execute("detach old")
    wanted: dict[Path, list[tuple[set[str], str]]] = {}
    for audience, destination, hashes, first_name in sent:
        file = folder / "audiences" / audience / f"{destination}.csv"
        wanted.setdefault(file, []).append((set(hashes), _letters(first_name or "")))
    return sum(_erase_lines_of(file, accounts) for file, accounts in sorted(wanted.items()) if file.is_file())


_NO_NAMES = "select null::varchar as account_id, null::varchar as first_name where false"


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def _erase_lines_of(file: Path, accounts: Sequence[tuple[set[str], str]]) -> int:
    """Take one line of each account (its hashes in the ledger, its first name in plain letters) out of a file.

    Somebody else may have been sent by the same address: of the lines that bear a hash of the account it is the one
    that says most of it.
    """
    every: set[str] = set().union(*(hashes for hashes, _ in accounts))
    candidates: dict[int, tuple[set[str], set[str]]] = {}
    with file.open(encoding="utf-8", newline="") as stream:
        for number, cells in enumerate(csv.reader(stream)):
            if number and (here := every.intersection(sent_hashes(file.stem, cells))):
                candidates[number] = here, set(map(_letters, cells))
    gone: set[int] = set()
    for hashes, first_name in accounts:
        scores = {
            number: (len(here & hashes), first_name in said)
            for number, (here, said) in candidates.items()
            if number not in gone and here & hashes
        }
        if scores:
            gone.add(max(scores, key=lambda number: (scores[number], -number)))
    if not gone:
        return 0
    beside = file.with_name(f"{file.name}.erasing")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with (
        file.open(encoding="utf-8", newline="") as stream,
        os.fdopen(handle, "w", encoding="utf-8", newline="") as out,
    ):
        csv.writer(out, lineterminator="\n").writerows(
            cells for number, cells in enumerate(csv.reader(stream)) if number not in gone
        )
        out.flush()
        os.fsync(out.fileno())
    os.replace(beside, file)
    _sync(file.parent)
    return len(gone)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
