"""Who was erased, without saying who: keyed hashes by which a delivery is recognised that would bring somebody back.

A tombstone is the keyed hash of one identifier or record of an erased person, and the moment up to which it holds: what
the person did later is a new relation. Here belong the key of a home, the hash, and the page of tombstones. Not what is
done with a row that matches: ``raw_erasure``.

The key is 32 random bytes in a file of the home, made at first use. Without it the hashes say nothing; if it is lost,
erased people come back with the next re-delivery of an old file, so it belongs into the backup, apart from the rest.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from dagster_project.domain.privacy.subject import IDENTIFIER_TYPES, Because, Subject
from dagster_project.domain.private_file import write_private_lines

# Such a key_value stands in a request that was carried out, in place of the identifier.
ERASED = "erased:"


@dataclass(frozen=True)
class Tombstone:
    """One keyed hash. ``type`` is an identifier's (email, phone, customer_id, card_id, payment_token), ``record`` (a
    feed and its key), or ``spared`` (a record of somebody else that names the person: only that name goes).
    """

    type: str
    keyed_hash: str
    until_at: datetime
    because: Because


@dataclass(frozen=True)
class Key:
    """The two keys of the hash, derived from the key file."""

    inner: str
    outer: str

    def hash(self, type_: str, value: str) -> str:
        """The keyed hash of a value in standard form, lower-case hex: the key goes in before and after, as in HMAC."""
        inside = hashlib.sha256(f"{self.inner}|{type_}|{value}".encode()).hexdigest()
        return hashlib.sha256(f"{self.outer}|{inside}".encode()).hexdigest()

    def sql(self, type_: str, value: str) -> str:
        """The same in SQL, of an expression."""
        return f"sha256('{self.outer}|' || sha256('{self.inner}|{type_}|' || {value}))"


class KeyLost(Exception):
    """Tombstones are there, but not the key that they were made with; the message says what to do."""


def say_lost_key(folder: Path) -> str:
    """What to do where the key is gone: a new one would make every tombstone mean nothing, in silence."""
    return (
        f"{folder / 'key'} is gone: without it whoever was erased comes back with the next delivery. Put it back from "
        "the backup."
    )


def read_key(folder: Path) -> Key:
    """The key in ``folder``, made where there is none and nobody was erased yet. Raises KeyLost."""
    path = folder / "key"
    if not path.is_file() and (folder / "tombstones.jsonl").is_file():
        raise KeyLost(say_lost_key(folder))
    if not path.is_file():
        write_private_lines(path, [secrets.token_hex(32), "\n"])
    secret = path.read_text(encoding="ascii").strip()
    return Key(*(hashlib.sha256(f"{name}|{secret}".encode()).hexdigest() for name in ("inner", "outer")))


def tombstones_of(key: Key, subject: Subject) -> list[Tombstone]:
    """What is kept of a subject, in the order of the hashes."""
    values = [
        (type_, value)
        for field, type_ in IDENTIFIER_TYPES.items()
        if type_ not in ("spelling", "address")
        for value in getattr(subject, field)
    ]
    values += [("record", f"{feed}|{record}") for feed, record in subject.records]
    values += [("spared", f"{feed}|{record}") for feed, record in subject.spared]
    if subject.because == "erasure":
        values.append(("record", f"privacy_requests|{subject.request_id}"))  # whatever identifier it names
    told = {(type_, key.hash(type_, value)) for type_, value in values}
    return [Tombstone(type_, keyed, subject.until_at, subject.because) for type_, keyed in sorted(told)]


def add_tombstones(page: Path, tombstones: Iterable[Tombstone]) -> None:
    """Add those that the page does not hold yet; it is there whole or not at all."""
    known = read_tombstones(page)
    there = set(known)
    new = [each for each in tombstones if each not in there]
    told = ({**asdict(each), "until_at": each.until_at.isoformat()} for each in (*known, *new))
    write_private_lines(page, (json.dumps(each, sort_keys=True) + "\n" for each in told))


def read_tombstones(page: Path) -> list[Tombstone]:
    """Every tombstone of a home."""
    if not page.is_file():
        return []
    lines = [json.loads(line) for line in page.read_text(encoding="utf-8").splitlines() if line]
    return [Tombstone(**{**line, "until_at": datetime.fromisoformat(line["until_at"])}) for line in lines]


def create_tombstone_table(connection: duckdb.DuckDBPyConnection, tombstones: Sequence[Tombstone]) -> None:
    """Create the temp table ``tombstones`` (type, keyed_hash, until_at, because), with the latest moment of each."""
    rows = [(each.type, each.keyed_hash, each.until_at, each.because) for each in tombstones]
    columns = list(zip(*rows, strict=True)) or [()] * 4
    types = (pa.string(), pa.string(), pa.timestamp("us"), pa.string())
    told = pa.table(  # noqa: F841 - read by the SQL
        [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)],
        names=["type", "keyed_hash", "until_at", "because"],
    )
    connection.execute(
        """
        create or replace temp table tombstones as
        select type, keyed_hash, max(until_at) as until_at, min(because) as because from told group by type, keyed_hash
        """
    )
