"""Whom destinations still have to forget: what they were sent of people who were erased.

The law asks the retailer to tell everybody whom it gave the data to (GDPR, articles 17(2) and 19). So the hashes under
which a destination knows somebody are kept apart when everything else goes, and leave the house once more, in
``removals/<destination>.csv`` of each release, until their days are over or the destination is sent the same again by a
new and lawful way. Here belongs that page of the home and those files. Not the files of audiences: ``activation``.
"""

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

from dagster_project.domain.privacy.subject import Subject, create_subject_tables
from dagster_project.domain.private_file import write_private_lines
from dagster_project.domain.sql_literal import literal

REMOVALS = "removals.jsonl"

# The columns in which a destination takes each type of identifier for removal, hashed as it takes it for adding. An
# e-mail tool knows addresses in the clear: it compares the SHA-256 of its own.
HEADERS: Mapping[str, Mapping[str, str]] = {
    "email_tool": {"email": "email_sha256"},
    "google_customer_match": {"email": "Email", "phone": "Phone"},
    "meta_custom_audience": {"email": "email", "phone": "phone"},
}


@dataclass(frozen=True)
class Removal:
    """One identifier that a destination must forget; ``since`` is the as-of date of the release that knew it last."""

    destination: str
    identifier_type: str
    identifier_hash: str
    since: date


def remember_removals(
    connection: duckdb.DuckDBPyConnection, page: Path, restricted: Path, subjects: Sequence[Subject], *, since: date
) -> int:
    """Add to ``page`` what the ledger in ``restricted`` (of the newest release) says was ever sent of ``subjects``.

    Any connection will do. Identifiers that somebody else was sent under stay with them. A name and postcode alone name
    nobody to be removed.
    May be called again: what is on the page is not added twice. Returns how many were added.
    """
    known = read_removals(page)
    if not restricted.is_file():
        return 0
    create_subject_tables(connection, subjects)
    connection.execute(f"attach {literal(restricted)} as old (read_only)")
    try:
        if not connection.execute(
            "select 1 from duckdb_tables()"
            " where database_name = 'old' and schema_name = 'activation' and table_name = 'ledger'"
        ).fetchall():
            return 0
        sent = connection.execute(
            """
            select destination, identifier_type, identifier_hash
            from old.activation.ledger
            where identifier_type <> 'post'
            group by all
            having
                bool_and(account_id in (select account_id from subject_accounts))
                -- Who has no account now may have been sent under one that is gone.
                or identifier_hash in (select identifier_hash from subject_hashes)
            order by all
            """
        ).fetchall()
    finally:
        connection.execute("detach old")
    have = {(each.destination, each.identifier_type, each.identifier_hash) for each in known}
    new = [
        Removal(destination, type_, identifier_hash, since)
        for destination, type_, identifier_hash in sent
        if (destination, type_, identifier_hash) not in have and destination in HEADERS
    ]
    write_removals(page, [*known, *new])
    return len(new)


def read_removals(page: Path) -> list[Removal]:
    """All that is to be forgotten."""
    if not page.is_file():
        return []
    lines = [json.loads(line) for line in page.read_text(encoding="utf-8").splitlines() if line]
    return [Removal(**{**line, "since": date.fromisoformat(line["since"])}) for line in lines]


def write_removals(page: Path, removals: Iterable[Removal]) -> None:
    """Keep them in place of what the page holds."""
    told = ({**asdict(removal), "since": removal.since.isoformat()} for removal in removals)
    write_private_lines(page, (json.dumps(each, sort_keys=True) + "\n" for each in told))


def due_removals(
    removals: Iterable[Removal], sent: Iterable[tuple[str, str, str]], *, as_of: date, days: int
) -> list[Removal]:
    """Those that still go out at ``as_of``: not older than ``days``, and not ``sent`` (destination, type, hash) now."""
    again = set(sent)
    return [
        each
        for each in removals
        if each.since >= as_of - timedelta(days=days)
        and (each.destination, each.identifier_type, each.identifier_hash) not in again
    ]


def write_files(removals: Iterable[Removal], directory: Path) -> dict[str, int]:
    """Write ``<destination>.csv`` for each destination that has something to forget: one line per identifier, in the
    order of the hashes; how many lines. Files are 0600.
    """
    by_destination: dict[str, set[tuple[str, str]]] = {}
    for each in removals:
        by_destination.setdefault(each.destination, set()).add((each.identifier_type, each.identifier_hash))
    for destination, identifiers in sorted(by_destination.items()):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        columns = HEADERS[destination]
        path = directory / f"{destination}.csv"
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8", newline=""
        ) as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(columns.values())
            for type_, identifier_hash in sorted(identifiers, key=lambda each: each[1]):
                writer.writerow([identifier_hash if type_ == column else "" for column in columns])
            out.flush()
            os.fsync(out.fileno())
    return {destination: len(identifiers) for destination, identifiers in by_destination.items()}
