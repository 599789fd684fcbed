"""The rows of erased people in raw files, and in what is delivered again: they lose what says whose they are.

One mechanism for both: a row that a tombstone matches. Of feeds about people the row becomes an empty one with the
mark ``erased`` in ``_rule``, so that files keep their lines and the books can count it. Rows with amounts stay, with
every personal column empty. A request that was carried out keeps a keyed hash in place of its key. A row whose own
moment lies after the tombstone's is a new relation, and is left as it is. Raw files keep their name, the hash of what
was delivered; ``raw/erasures.jsonl`` says what was done to which.

Not for who is erased: ``subject``, ``resolution``, ``tombstones``. Not for the delivered files in landing, but for
removing those that raw holds now: ``erase_landed``.
"""

import itertools
import json
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.domain.contract import Column, Feed, feeds
from dagster_project.domain.landing.deliveries import (
    ERASURES,
    Delivery,
    find,
    is_unchanged,
    read_erasures,
    sync_folder,
)
from dagster_project.domain.phones import write_standard_phones
from dagster_project.domain.privacy.subject import NUMBERS_OF_TEXT, WORDS_OF_TEXT, Subject, standard_email
from dagster_project.domain.privacy.tombstones import (
    ERASED,
    Key,
    Tombstones,
    mark,
    tombstones_of,
    write_tombstone_table,
)
from dagster_project.domain.sql_literal import literal

MARK = "erased"

# When what a row tells of happened. A feed that is not named holds nothing about a person.
_MOMENTS = {
    "shop_customers": "created_at",
    "loyalty_members": "enrolled_at",
    "consents": "occurred_at",
    "privacy_requests": "received_at",
    "sensitivities": "from_at",
    "declared_preferences": "declared_at",
    "identity_decisions": "decided_at",
    "shop_orders": "ordered_at",
    "pos_tickets": "sold_at",
    "shop_refunds": "refunded_at",
    "campaign_assignments": "assigned_at",
    "message_events": "occurred_at",
    "web_events": "occurred_at",
}
# The money stays in the books.
_WITH_AMOUNTS = ("shop_orders", "pos_tickets", "shop_refunds")
_NUMBERS = {
    "customer_id": "customer_id",
    "card_id": "card_id",
    "loyalty_card_id": "card_id",
    "payment_token": "payment_token",
}
_RECORDS = {
    "shop_customers": "customer_id",
    "loyalty_members": "card_id",
    "shop_orders": "order_id",
    "pos_tickets": "ticket_id",
    "shop_refunds": "refund_id",
    "privacy_requests": "request_id",
}
# Of a row that could not be read as a row: each of its words is compared as these.
_IN_TEXT = {"email": standard_email("word"), "customer_id": "word", "card_id": "word", "payment_token": "word"}


@dataclass(frozen=True)
class ErasedFile:
    """What was done to one raw file: ``removed_count`` rows emptied, ``blanked_count`` rows without the person."""

    feed: str
    sha256: str
    removed_count: int
    blanked_count: int


class Eraser:
    """Empties what tombstones match, in the raw files that it is given. Made once for a night or an erasure.

    ``country`` is that of numbers without an international prefix. Uses a connection of the caller's for each file, all
    of them to one database in memory, where the tombstones become a table once: cursors of it may work side by side.
    """

    _numbers = itertools.count()

    def __init__(self, key: Key, tombstones: Tombstones, country: str) -> None:
        self._key = key
        self._tombstones = tombstones
        self._country = country
        self._table = f"tombstones_{next(self._numbers)}"
        self._lock = threading.Lock()

    @property
    def has_work(self) -> bool:
        """Whether anybody was ever erased here: else files are left alone."""
        return self._tombstones.num_rows > 0

    def erase_in(
        self,
        connection: duckdb.DuckDBPyConnection,
        feed: Feed,
        path: Path,
        before: Callable[[int, int], None] = lambda removed, blanked: None,
    ) -> tuple[int, int]:
        """Rows that were emptied and rows that were blanked in one raw file, which is written anew where there are any.

        ``before`` is told of them when all is written but not in its place: what it notes survives a kill in between.
        Cost grows with the distinct values of the file's identifiers.
        """
        if not self.has_work or feed.name not in _MOMENTS:
            return 0, 0
        self.match(connection, feed, path)
        keeps_rows = str(_keeps_rows(feed)).lower()
        ((removed, blanked),) = connection.execute(
            f"""
            select
                count(*) filter (where not is_spared and not {keeps_rows}),
                count(*) filter (where is_spared or {keeps_rows})
            from erasure_matches
            """
        ).fetchall()
        if removed or blanked:
            beside = path.with_name(f".{path.name}.erasing")
            connection.execute(
                f"""
                copy (
                    select {self._columns(feed)}
                    from (
                        select
                            delivered_rows.*,
                            coalesce(not is_spared, false) as is_theirs,
                            coalesce(is_spared, false) as is_spared
                        from read_parquet({literal(path)}) as delivered_rows
                        left join erasure_matches using (line)
                    ) as told
                    order by line
                ) to {literal(beside)} (format parquet)
                """
            )
            beside.chmod(0o600)
            with beside.open("rb") as written:
                os.fsync(written.fileno())
            before(removed, blanked)
            beside.replace(path)
        return removed, blanked

    def match(self, connection: duckdb.DuckDBPyConnection, feed: Feed, path: Path) -> None:
        """Write the temp table ``erasure_matches`` (line, is_spared) of a raw file."""
        with self._lock:
            if not connection.execute("select 1 from duckdb_tables() where table_name = $1", [self._table]).fetchall():
                write_tombstone_table(connection, self._table, self._tombstones)
        self._write_standard_forms(connection, feed, path)
        self._write_matches(connection, feed, path)

    def _write_standard_forms(self, connection: duckdb.DuckDBPyConnection, feed: Feed, path: Path) -> None:
        """The temp table ``standard_forms`` (delivered, email, phone): how each e-mail and number of the file is
        compared.
        """
        parts = [
            f"select {column.name} as delivered from read_parquet({literal(path)})"
            for column in feed.columns
            if column.type in ("email", "phone", "key_value")
        ]
        parts.append(
            f"select unnest({NUMBERS_OF_TEXT}) as delivered from read_parquet({literal(path)}) where _text is not null"
        )
        given = " union all ".join(parts)
        connection.execute(
            f"""
            create or replace temp table delivered_forms as
            select distinct delivered from ({given})
            where delivered is not null and delivered not like '{ERASED}%'
            """
        )
        numbers = "select delivered as value from delivered_forms where delivered not like '%@%'"
        write_standard_phones(connection, numbers, "delivered_phones", self._country, is_temporary=True)
        connection.execute(
            f"""
            create or replace temp table standard_forms as
            select
                delivered, if(delivered like '%@%', {standard_email("delivered")}, null) as email, e164 as phone
            from delivered_forms
            left join delivered_phones on delivered = delivered_value
            """
        )

    def _write_matches(self, connection: duckdb.DuckDBPyConnection, feed: Feed, path: Path) -> None:
        """The temp table ``erasure_matches`` (line, is_spared): the rows of a raw file that tombstones match."""
        keys = [key for column in feed.columns for key in self._keys(feed, column)]
        if feed.name in _RECORDS:
            record = f"'{feed.name}|' || trim(rows.{_RECORDS[feed.name]})"
            keys += [(type_, self._key.sql(type_, record)) for type_ in ("record", "spared")]
        if feed.name == "identity_decisions":
            keys += [
                ("record", self._key.sql("record", f"trim(rows.{side}_feed) || '|' || trim(rows.{side}_id)"))
                for side in ("left", "right")
            ]
        listed = ", ".join(f"{{'type': '{type_}', 'keyed_hash': {keyed}}}" for type_, keyed in keys)
        forms = " ".join(
            f"left join standard_forms as {column.name}_form on rows.{column.name} = {column.name}_form.delivered"
            for column in feed.columns
            if column.type in ("email", "phone", "key_value")
        )
        moment = _moment(feed, f"rows.{_MOMENTS[feed.name]}")
        updated = _moment(feed, f"rows.{feed.version}") if feed.version else moment
        in_text = ", ".join(
            f"{{'type': '{type_}', 'keyed_hash': {self._key.sql(type_, word)}}}" for type_, word in _IN_TEXT.items()
        )
        connection.execute(
            f"""
            create or replace temp table erasure_matches as
            with keys as (
                select
                    rows.line, {moment} as told_at, {updated} as told_updated_at, unnest([{listed}]) as key
                from read_parquet({literal(path)}) as rows
                {forms}
                where rows._rule is null and not {_is_done(feed)}
                union all
                select line, null, null, unnest([{in_text}])
                from (
                    select line, unnest({WORDS_OF_TEXT}) as word from read_parquet({literal(path)})
                    where _text is not null
                )
                union all
                select line, null, null, {{'type': 'phone', 'keyed_hash': {self._key.sql("phone", "phone")}}}
                from (
                    select line, unnest({NUMBERS_OF_TEXT}) as number from read_parquet({literal(path)})
                    where _text is not null
                )
                join standard_forms on number = delivered
            ),

            -- Few files hold anybody who was erased: only what begins like a tombstone is compared with whole ones.
            marked as materialized (
                select *
                from (select *, {mark("key.keyed_hash")} as mark from keys where key.keyed_hash is not null) as keys
                semi join {self._table} as marks using (mark)
            ),

            matches as (
                select keys.line, tombstones.type
                from marked as keys
                join {self._table} as tombstones
                    on keys.mark = tombstones.mark
                    and keys.key.type = tombstones.type
                    and keys.key.keyed_hash = tombstones.keyed_hash
                where coalesce(
                    case tombstones.because when 'retention' then keys.told_updated_at else keys.told_at end
                    <= tombstones.until_at,
                    true
                )
            )

            -- Somebody else's record that merely names one of the person's numbers keeps the rest, until that somebody
            -- is erased too.
            select line, bool_or(type = 'spared') and not bool_or(type = 'record') as is_spared
            from matches
            group by line
            having bool_or(type <> 'spared')
            """
        )

    def _keys(self, feed: Feed, column: Column) -> list[tuple[str, str]]:
        """Type and SQL of the keyed hash of each identifier that a column may hold."""
        value = f"trim(rows.{column.name})"
        forms = {type_: self._key.sql(type_, f"{column.name}_form.{type_}") for type_ in ("email", "phone")}
        numbers = {type_: self._key.sql(type_, value) for type_ in ("customer_id", "card_id")}
        if column.name in _NUMBERS:
            type_ = _NUMBERS[column.name]
            return [(type_, self._key.sql(type_, value))]
        if column.type in ("email", "phone"):
            return [(column.type, forms[column.type])]
        if column.type == "key_value" and "key_type" in feed.column_names:
            # A type that is none of these is a mistake, and says nothing of the value.
            known = ", ".join(f"'{type_}'" for type_ in forms | numbers)
            is_unknown = f"coalesce(rows.key_type not in ({known}), true)"
            return [
                (type_, f"case when rows.key_type = '{type_}' or {is_unknown} then {keyed} end")
                for type_, keyed in (forms | numbers).items()
            ]
        return list(forms.items()) if column.type == "key_value" else []

    def _columns(self, feed: Feed) -> str:
        """SQL of the columns of a raw file as they are written anew, over its rows ``told``."""
        listed = []
        for column in feed.columns:
            name = column.name
            value = f"told.{name}"
            if feed.name == "privacy_requests" and name == "key_value":
                value = f"case when is_theirs then {self._hashed_key()} else told.key_value end"
            elif feed.name != "privacy_requests" and name in _NUMBERS:
                type_ = _NUMBERS[name]
                own = (
                    f"{self._key.sql(type_, f'trim({value})')}"
                    f" in (select keyed_hash from {self._table} where type = '{type_}')"
                )
                value = f"case when not is_theirs and not (is_spared and {own}) then {value} end"
            elif feed.name != "privacy_requests" and (not _keeps_rows(feed) or _is_personal(column)):
                value = f"case when not is_theirs then {value} end"
            listed.append(f"{value} as {name}")
        rule = "_rule" if _keeps_rows(feed) else f"case when is_theirs then '{MARK}' else _rule end"
        return f"{', '.join(listed)}, line, {rule} as _rule, case when not is_theirs then _text end as _text"

    def _hashed_key(self) -> str:
        standard = {
            "email": "(select max(email) from standard_forms where delivered = told.key_value)",
            "phone": "(select max(phone) from standard_forms where delivered = told.key_value)",
            "customer_id": "trim(told.key_value)",
            "card_id": "trim(told.key_value)",
        }
        branches = " ".join(f"when '{type_}' then {self._key.sql(type_, value)}" for type_, value in standard.items())
        return f"'{ERASED}' || case told.key_type {branches} end"


def _is_done(feed: Feed) -> str:
    """SQL: whether a row that is kept has lost already what says whose it is."""
    if feed.name == "privacy_requests":
        return f"coalesce(rows.key_value like '{ERASED}%', false)"
    if feed.name in _WITH_AMOUNTS:
        return (
            f"coalesce({', '.join(f'rows.{column.name}' for column in feed.columns if _is_personal(column))}) is null"
        )
    return "false"


def _keeps_rows(feed: Feed) -> bool:
    return feed.name in (*_WITH_AMOUNTS, "privacy_requests")


def _is_personal(column: Column) -> bool:
    return column.personal or column.name in _NUMBERS or column.type in ("city", "country", "postal_code")


def _moment(feed: Feed, column: str) -> str:
    """SQL of a moment as delivered, in UTC; null where it cannot be read."""
    iso = f"timezone('UTC', try_cast({column} as timestamptz))"
    if feed.dialect != "pos":
        return iso
    till = f"timezone('UTC', timezone('Europe/Paris', try_strptime({column}, '%d/%m/%Y %H:%M:%S')))"
    return f"coalesce({till}, {iso})"


def eraser_of(subject: Subject, country: str) -> Eraser:
    """One that matches what is the subject's, whenever it was said; nothing of its key or tombstones is kept."""
    key = Key("access", "access")
    return Eraser(key, tombstones_of(key, subject), country)


def match_rows(connection: duckdb.DuckDBPyConnection, feed: Feed, path: Path, eraser: Eraser) -> list[dict[str, Any]]:
    """The rows of one raw file that an eraser would take, as delivered, with ``line``."""
    eraser.match(connection, feed, path)
    result = connection.execute(
        f"""
        select line, {", ".join(feed.column_names)}
        from read_parquet({literal(path)})
        join erasure_matches using (line)
        where not is_spared and _rule is null
        order by line
        """
    )
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def find_raw_files(
    connection: duckdb.DuckDBPyConnection, raw: Path, subjects: Sequence[Subject]
) -> list[tuple[str, str]]:
    """The raw files (feed, hash) that may hold something of ``subjects``: those in which one of their identifiers or
    records stands, in any spelling that raw holds. Reads the columns of all raw files that hold such values.
    """
    values = sorted({value for each in subjects for value in _plain(each)})
    connection.execute("create or replace temp table plain_values (value varchar)")
    if values:
        connection.execute("insert into plain_values select unnest($1::varchar[])", [values])
    found = []
    for feed in feeds().values():
        if feed.name not in _MOMENTS or not any((raw / feed.name).glob("*.parquet")):
            continue
        columns = [
            column.name
            for column in feed.columns
            if column.type in ("email", "phone", "key_value")
            or column.name in (*_NUMBERS, _RECORDS.get(feed.name), "left_id", "right_id")
        ]
        conditions = " or ".join(
            f"{form} in (select value from plain_values)"
            for name in columns
            for form in (name, f"trim({name})", f"lower(trim({name}))")
        )
        found += [
            (feed.name, sha256)
            for (sha256,) in connection.execute(
                f"""
                with told as (
                    select *, parse_filename(filename, true) as sha256
                    from read_parquet({literal(raw / feed.name / "*.parquet")}, filename = true)
                ),

                words as (
                    select sha256, unnest({WORDS_OF_TEXT}) as word from told where _text is not null
                ),

                numbers as (
                    select sha256, unnest({NUMBERS_OF_TEXT}) as number from told where _text is not null
                )

                select sha256 from told where {conditions}
                union
                select sha256 from words
                where
                    word in (select value from plain_values)
                    or {standard_email("word")} in (select value from plain_values)
                union
                select sha256 from numbers
                where right(regexp_replace(number, '\\D', '', 'g'), 9) in (
                    select right(value, 9) from plain_values where value like '+%'
                )
                order by 1
                """
            ).fetchall()
        ]
    return found


def _plain(subject: Subject) -> Iterable[str]:
    yield from subject.emails | subject.phones | subject.spellings
    yield from (spelling.lower().strip() for spelling in subject.spellings)
    yield from subject.customer_ids | subject.card_ids | subject.payment_tokens
    yield from (record for _, record in subject.records | subject.spared)
    yield subject.request_id


def erase_in_raw(
    connection: duckdb.DuckDBPyConnection,
    raw: Path,
    subjects: Sequence[Subject],
    eraser: Eraser,
    *,
    at: datetime,
    request_hashes: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[ErasedFile]:
    """Empty the rows of ``subjects`` in every raw file; what was done, also written to ``raw/erasures.jsonl``.

    Their tombstones must be among the eraser's. May be called again: what is empty is not found again. Only files that
    hold something are written. ``progress`` is told how many of how many files are done.
    """
    done = []
    for left_over in raw.glob("*/.*.erasing"):
        left_over.unlink()
    concerned = find_raw_files(connection, raw, subjects)
    for number, (feed, sha256) in enumerate(concerned):
        progress(number, len(concerned))

        def note(removed: int, blanked: int, feed: str = feed, sha256: str = sha256) -> None:
            done.append(ErasedFile(feed, sha256, removed, blanked))
            write_down(raw, [done[-1]], at=at, request_hashes=request_hashes)

        removed, blanked = eraser.erase_in(connection, feeds()[feed], raw / feed / f"{sha256}.parquet", note)
        if removed or blanked:
            sync_folder(raw / feed)
    return done


def write_down(
    raw: Path, files: Iterable[ErasedFile], *, at: datetime | None, request_hashes: Sequence[str] = ()
) -> None:
    """Add what was done to raw files to ``raw/erasures.jsonl``: without requests, it was a delivery come again."""
    path = raw / ERASURES
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as out:
        for file in files:
            told = {
                "feed": file.feed,
                "sha256": file.sha256,
                "removed_rows": file.removed_count,
                "blanked_rows": file.blanked_count,
                "at": at.isoformat(timespec="seconds") if at else None,
                "requests": list(request_hashes),
            }
            out.write(json.dumps(told, sort_keys=True) + "\n")
        out.flush()
        os.fsync(out.fileno())


def erase_landed(
    landing: Path,
    raw: Path,
    known: Iterable[Delivery],
    released: Collection[tuple[str, str]],
) -> tuple[list[str], list[str]]:
    """Remove every delivered file whose raw file was changed by an erasure: raw holds what is left of it, and it counts
    on. What was put there under the same name since, and not read yet, stays. Returns the paths
    under landing that went, and those that could not, for no release was made from them yet.
    """
    changed = read_erasures(raw)
    lying = {each.file: each for each in find(landing)[0]} if changed else {}
    gone, waiting = [], []
    for delivery in known:
        path = landing / delivery.file
        is_there = delivery.file in lying and is_unchanged(lying[delivery.file], delivery)
        if not is_there or (delivery.feed, delivery.sha256) not in changed:
            continue
        del lying[delivery.file]
        if (delivery.file, delivery.sha256) in released:
            path.unlink()
            gone.append(delivery.file)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        else:
            waiting.append(delivery.file)
    return sorted(gone), sorted(waiting)
