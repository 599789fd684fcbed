"""Who was erased, without saying who: keyed hashes by which a delivery is recognised that would bring somebody back.

A tombstone is the keyed hash of one identifier or record of an erased person, and the moment up to which it holds: what
the person did later is a new relation. Here belong the key of a home, the hash, and the page of tombstones. Not what is
done with a row that matches: ``raw_erasure``.

The key is 32 random bytes in a file of the home, made at first use. Without it the hashes say nothing; if it is lost,
erased people come back with the next re-delivery of an old file, so it belongs into the backup, apart from the rest.
"""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json

from dagster_project.domain.privacy.subject import IDENTIFIER_TYPES, Subject
from dagster_project.domain.private_file import write_private_lines

# Such a key_value stands in a request that was carried out, in place of the identifier.
ERASED = "erased:"


Tombstones: TypeAlias = pa.Table
"""One row per keyed hash. ``type`` is an identifier's (email, phone, customer_id, card_id, payment_token), ``record``
(a feed and its key), or ``spared`` (a record of somebody else that names the person: only that name goes);
``keyed_hash`` is in hex; ``until_at`` is the moment up to which it holds, in UTC without zone; ``because`` is erasure
or retention.
"""
_SCHEMA = pa.schema(
    {"type": pa.string(), "keyed_hash": pa.string(), "until_at": pa.timestamp("us"), "because": pa.string()}
)
_PAGE_LINES = 100_000


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


def tombstones_of(key: Key, *subjects: Subject) -> Tombstones:
    """What is kept of subjects: the things of one after those of the other, each in the order of the hashes."""
    return pa.concat_tables([_SCHEMA.empty_table(), *(_tombstones_of(key, subject) for subject in subjects)])


def _tombstones_of(key: Key, subject: Subject) -> Tombstones:
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
    told = sorted((type_, key.hash(type_, value)) for type_, value in values)
    return pa.table(
        [
            pa.array([type_ for type_, _ in told], pa.string()),
            pa.array([keyed_hash for _, keyed_hash in told], pa.string()),
            pa.repeat(pa.scalar(subject.until_at, pa.timestamp("us")), len(told)),
            pa.repeat(subject.because, len(told)),
        ],
        schema=_SCHEMA,
    )


def add_tombstones(page: Path, tombstones: Tombstones) -> None:
    """Add those that the page does not hold yet; it is there whole or not at all."""
    known = read_tombstones(page)
    names = _SCHEMA.names
    new = tombstones.join(known, names, join_type="left anti").group_by(names).aggregate([]).sort_by("keyed_hash")
    write_private_lines(page, _lines(pa.concat_tables([known, new.select(names)])))


def _lines(tombstones: Tombstones) -> Iterator[str]:
    """One line of JSON each: no value needs an escape."""
    for batch in tombstones.to_batches(max_chunksize=_PAGE_LINES):
        type_, keyed_hash, until_at, because = (batch.column(name) for name in _SCHEMA.names)
        moment = pc.strftime(until_at, "%Y-%m-%dT%H:%M:%S")
        parts = [
            '{"because": "',
            because,
            '", "keyed_hash": "',
            keyed_hash,
            '", "type": "',
            type_,
            '", "until_at": "',
            moment,
            '"}\n',
        ]
        yield from pc.binary_join_element_wise(*parts, "").to_pylist()


def read_tombstones(page: Path) -> Tombstones:
    """Every tombstone of a home. Its memory grows with the people who were ever erased: some 100 bytes a tombstone."""
    if not page.is_file() or not page.stat().st_size:
        return _SCHEMA.empty_table()
    options = json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore")
    return json.read_json(page, parse_options=options).select(_SCHEMA.names)


def write_tombstone_table(connection: duckdb.DuckDBPyConnection, table: str, tombstones: Tombstones) -> None:
    """Write ``table`` (mark, type, keyed_hash, until_at, because), with the latest moment of each, in the order of
    ``mark``, the beginning of the hash as a number: the files of a night are compared with that column first.
    """
    connection.execute(
        f"""
        create table {table} as
        select
            {mark("keyed_hash")} as mark, type, keyed_hash, max(until_at) as until_at, min(because) as because
        from tombstones
        group by type, keyed_hash
        order by mark
        """
    )


def mark(keyed_hash: str) -> str:
    """SQL of the first 64 bits of a hash, as a number."""
    return f"('0x' || substr({keyed_hash}, 1, 16))::ubigint"
