"""Following one row: from the file and line it came in to the account and audiences it ended in, or why it did not.

What became of each delivered version of a key is not guessed: the run's own models of staging are built once more, in a
home that is thrown away, from the raw rows of that key alone. What came of it later is read from the current release.
Not for presentation (``commands.trace``), nor for why records are one account. No value of a row is shown.
"""

import tempfile
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.domain import release
from dagster_project.domain.contract import Feed, feeds
from dagster_project.domain.countries import write_country_names
from dagster_project.domain.identity.explanation import attach_release
from dagster_project.domain.landing.deliveries import Delivery, read_register, read_released
from dagster_project.domain.landing.tables import create_views, write_files, write_rejected_rows
from dagster_project.domain.phones import write_phone_numbers
from dagster_project.domain.retention import read_removals
from dagster_project.settings import Settings, SettingsError, load_settings
from dagster_project.stages import LANDING, STAGING
from dagster_project.transform import TransformError, build
from dagster_project.warehouse import Warehouse

_PERSON_FEEDS = ("shop_customers", "loyalty_members")
_LEDGER_FEEDS = ("shop_orders", "pos_tickets", "shop_refunds")


@dataclass(frozen=True)
class Occurrence:
    """One delivered row of the key, and what became of it.

    ``fate`` is ``current`` (it counts), ``identical`` (it says what the current one says), ``superseded`` (another
    version counts), ``replaced`` (a later delivery of the whole table no longer holds the key) or ``refused``
    (``rule`` and ``message`` say why). ``is_released``: the current release was made from its file.
    """

    file: str
    line: int
    delivered_on: date
    fate: str
    rule: str = ""
    message: str = ""
    is_released: bool = True


@dataclass(frozen=True)
class Booking:
    """A transaction of the ledger; ``exclusion`` says why nothing counts, None where it counts."""

    transaction_id: str
    kind: str
    channel: str
    business_on: date
    store_id: str | None
    amount: Decimal
    counted_amount: Decimal
    exclusion: str | None
    line_amount: Decimal
    account_id: str | None
    rule: str | None
    confidence: float | None


@dataclass(frozen=True)
class Outcome:
    """Where an account stands in one audience and destination: ``arm`` where it is kept, else the ``reason``."""

    audience: str
    destination: str
    arm: str | None
    reason: str | None


@dataclass(frozen=True)
class Trace:
    """All that is known of one key of one feed.

    ``header`` names the transaction that a line belongs to. ``accounts`` holds account, rule and confidence; of a
    statement about an identifier, every account that holds it. ``unreadable_row_count`` counts the rows of the feed
    that could not be read at all, ``removed_file_count`` its files that have been kept for their period: the key may
    stand in one of them.
    """

    feed: str
    key: str
    release_id: str | None
    as_of: date | None
    occurrences: tuple[Occurrence, ...]
    unreadable_row_count: int = 0
    removed_file_count: int = 0
    header: str | None = None
    booking: Booking | None = None
    related: tuple[Booking, ...] = ()
    accounts: tuple[tuple[str, str, float | None], ...] = ()
    outcomes: dict[str, tuple[Outcome, ...]] = field(default_factory=dict)


def _feed(name: str) -> Feed:
    if name not in feeds():
        raise SettingsError(f"There is no feed «{name}»; the feeds are {', '.join(feeds())}.")
    return feeds()[name]


def _key_parts(feed: Feed, key: str) -> list[str]:
    parts = key.split("|")
    if len(parts) != len(feed.key):
        raise SettingsError(
            f"A key of {feed.name} is {'|'.join(feed.key)}; «{key}» has {len(parts)} "
            f"part{'s' if len(parts) > 1 else ''} instead of {len(feed.key)}."
        )
    return [part.strip() for part in parts]


def _deliveries(settings: Settings, feed: Feed, released: set[tuple[str, str]]) -> tuple[list[Delivery], int]:
    """The files of the feed and its header that a run reads, and how many of the feed's are not kept any more.

    A file that left landing before a release was made from it was withdrawn: no run reads it.
    """
    known = [each for each in read_register(settings.register).values() if each.feed in (feed.name, feed.header)]
    removed = read_removals(settings.raw)
    ever_released = released | read_released(settings.released_files)
    found = [
        each
        for each in known
        if ((each.file, each.sha256) in ever_released or (settings.landing / each.file).is_file())
        and (not each.row_count or (settings.raw / each.feed / f"{each.sha256}.parquet").exists())
    ]
    return found, sum(each.feed == feed.name and (each.file, each.sha256) in removed for each in known)


def _same(column: str, feed: Feed, place: int) -> str:
    """SQL: the text of a key's column is the part at ``$place``, whole numbers by value, personal parts by hash too."""
    kind = next(each for each in feed.columns if each.name == column)
    is_it = f"trim({column}) = ${place}"
    if kind.type == "integer":
        is_it = f"({is_it} or try_cast({column} as bigint) = try_cast(${place} as bigint))"
    if kind.personal:
        is_it = f"({is_it} or sha256(lower(trim({column}))) = ${place})"
    return is_it


def _keep_rows(connection: duckdb.DuckDBPyConnection, feed: Feed, key: tuple[str, ...], parts: list[str]) -> None:
    """Replace the feed's view by a table of the rows of one key."""
    where = " and ".join(_same(column, feed, place) for place, column in enumerate(key, start=1))
    connection.execute(f"create table landing.kept as select * from landing.{feed.name} where {where}", parts)
    connection.execute(f"drop view landing.{feed.name}")
    connection.execute(f"alter table landing.kept rename to {feed.name}")


@dataclass(frozen=True)
class _Found:
    """The rows of a key, oldest first; ``named`` is the kind and the value of the identifier that its row is about."""

    occurrences: tuple[Occurrence, ...] = ()
    unreadable_row_count: int = 0
    named: tuple[str | None, str] | None = None
    removed_file_count: int = 0


def _find(settings: Settings, feed: Feed, parts: list[str], released: set[tuple[str, str]]) -> _Found:
    deliveries, removed = _deliveries(settings, feed, released)
    if not deliveries:
        return _Found(removed_file_count=removed)
    with tempfile.TemporaryDirectory(prefix="cocanal-trace-") as folder:
        aside = load_settings(home=Path(folder))
        warehouse = Warehouse(aside)
        with warehouse.session(LANDING) as connection:
            write_files(connection, deliveries, max(delivery.delivered_on for delivery in deliveries))
            create_views(connection, settings.raw)
            ((unreadable,),) = connection.execute(
                f"select count(*) from landing.{feed.name} where _rule is not null"
            ).fetchall()
            _keep_rows(connection, feed, feed.key, parts)
            if feed.header:
                _keep_rows(connection, feeds()[feed.header], feeds()[feed.header].key, parts[:1])
            write_rejected_rows(connection)
            write_phone_numbers(connection, settings.default_country)
            write_country_names(connection)
        for node in build(aside, STAGING, warehouse, select=f"+quarantine fqn:cocanal.{STAGING},+stg_{feed.name}"):
            if node.status in ("error", "fail", "skipped"):
                raise TransformError(f"{node.unique_id} ended as {node.status}: the project is at fault, not the row.")
        with warehouse.session(STAGING) as connection:
            where = " and ".join(_same(column, feed, place) for place, column in enumerate(feed.key, start=1))
            content = ", ".join(f"coalesce(delivered.{name}, '')" for name in feed.column_names)
            rows = connection.execute(
                f"""
                with delivered as (select * from landing.{feed.name} where {where}),
                fates as (
                    select
                        delivered.file, delivered.line, delivered.delivered_on, delivered.file_no,
                        quarantine.rule, quarantine.message, staged.line is not null as is_current,
                        concat_ws('|', {content}) as content
                    from delivered
                    left join staging.quarantine as quarantine
                        on
                            quarantine.feed = '{feed.name}'
                            and delivered.file = quarantine.file and delivered.line = quarantine.line
                    left join staging.stg_{feed.name} as staged
                        on delivered.file_no = staged.file_no and delivered.line = staged.line
                )
                select
                    fates.file, fates.line, fates.delivered_on,
                    case
                        when fates.rule is not null then 'refused'
                        when fates.is_current then 'current'
                        when winner.content is null then 'replaced'
                        when winner.content = fates.content then 'identical'
                        else 'superseded'
                    end,
                    coalesce(fates.rule, ''), coalesce(fates.message, ''), files.sha256
                from fates
                join landing.files as files on files.feed = '{feed.name}' and fates.file = files.file
                left join (select content from fates where is_current) as winner on true
                order by fates.file_no, fates.line
                """,
                parts,
            ).fetchall()
            named = _named(connection, feed, where, parts)
    occurrences = tuple(
        Occurrence(file, line, delivered_on, fate, rule, message, (file, sha256) in released)
        for file, line, delivered_on, fate, rule, message, sha256 in rows
    )
    return _Found(occurrences, unreadable, named, removed)


def _named(
    connection: duckdb.DuckDBPyConnection, feed: Feed, where: str, parts: list[str]
) -> tuple[str | None, str] | None:
    """The identifier that the current row of a statement is about, in its standard form."""
    value = next((name for name in ("key_value", "address") if name in feed.column_names), None)
    if value is None:
        return None
    kind = "key_type" if "key_type" in feed.column_names else "null"
    rows = connection.execute(f"select {kind}, {value} from staging.stg_{feed.name} where {where}", parts).fetchall()
    return rows[0] if rows else None


_BOOKING = """
    select
        transaction_id, kind, channel, business_on, store_id, amount, counted_amount, exclusion, line_amount,
        account_id, rule, confidence
    from cocanal.account.transactions
"""


def _bookings(connection: duckdb.DuckDBPyConnection, where: str, values: list[Any]) -> tuple[Booking, ...]:
    rows = connection.execute(f"{_BOOKING} where {where} order by business_on, transaction_id", values).fetchall()
    return tuple(Booking(*row) for row in rows)


def _accounts_of_key(
    connection: duckdb.DuckDBPyConnection, named: tuple[str | None, str]
) -> tuple[tuple[str, str, float | None], ...]:
    """The accounts that hold what a statement names: of a record its own, of an e-mail or a phone all that have it."""
    rows = connection.execute(
        """
        select account_id, rule, confidence
        from cocanal.identity.account_links
        where
            record_id = $2
            and feed = case $1 when 'customer_id' then 'shop_customers' when 'card_id' then 'loyalty_members' end
        union
        select account_id, 'holds the identifier', null
        from restricted.account.identifiers
        where identifier_type in ('email', 'phone') and identifier = $2
        order by all
        """,
        list(named),
    ).fetchall()
    return tuple(rows)


def _outcomes(connection: duckdb.DuckDBPyConnection, account_id: str) -> tuple[Outcome, ...]:
    rows = connection.execute(
        """
        select audience, destination, arm, null as reason from cocanal.audience.members where account_id = $1
        union all
        select audience, destination, null, reason from cocanal.audience.waterfall where account_id = $1
        order by all
        """,
        [account_id],
    ).fetchall()
    return tuple(Outcome(*row) for row in rows)


def find_key(settings: Settings, feed_name: str, file: str, line: int) -> str:
    """The key of the row that stands on ``line`` (1 = first after the header) of a delivered ``file`` (path under
    landing). Raises SettingsError where there is none, or where the row could not be read.
    """
    feed = _feed(feed_name)
    delivery = read_register(settings.register).get(file)
    if delivery is None or delivery.feed != feed_name:
        raise SettingsError(f"No run has read a file {file} of {feed_name}: name it as <feed>/<YYYY-MM-DD>/<name>.")
    path = settings.raw / feed.name / f"{delivery.sha256}.parquet"
    if not path.exists():
        raise SettingsError(f"{file} holds no rows: {delivery.message or delivery.status}.")
    columns = ", ".join(
        f"sha256(lower(trim({name})))" if column.personal else f"trim({name})"
        for name in feed.key
        for column in feed.columns
        if column.name == name
    )
    with Warehouse(settings).scratch() as connection:
        rows = connection.execute(
            f"select _rule, {columns} from read_parquet($1) where line = $2", [str(path), line]
        ).fetchall()
    if not rows:
        raise SettingsError(f"{file} has {delivery.row_count} rows after the header; there is no line {line}.")
    ((rule, *parts),) = rows
    if rule is not None or any(not part for part in parts):
        raise SettingsError(
            f"Line {line} of {file} has no readable key ({rule or 'a part of it is missing'}): it is in quarantine. "
            "«cocanal quarantine export» writes it out for the supplier."
        )
    return "|".join(parts)


def trace(settings: Settings, feed_name: str, key: str) -> Trace:
    """All that is known of one key (parts joined by ``|``); takes some seconds, most of them to read the feed's raw
    files and to build the models of staging.

    Raises SettingsError for a feed or a key that cannot be, ReleaseError where the release cannot be read.
    """
    feed = _feed(feed_name)
    parts = _key_parts(feed, key)
    current = release.current_release(settings.home)
    manifest = current.manifest() if current else {}
    released = {(entry["file"], entry["sha256"]) for entry in manifest.get("inputs", ())}
    found = _find(settings, feed, parts, released)
    if current is None:
        return Trace(
            feed.name, key, None, None, found.occurrences, found.unreadable_row_count, found.removed_file_count
        )
    header = f"{feed.header}:{parts[0]}" if feed.header else None
    with Warehouse(settings).scratch() as connection:
        try:
            attach_release(connection, current.directory)
            booking: Booking | None = None
            related: tuple[Booking, ...] = ()
            if feed.name in _LEDGER_FEEDS or header:
                own = header or f"{feed.name}:{key}"
                booking = next(iter(_bookings(connection, "transaction_id = $1", [own])), None)
                if own.startswith("shop_orders:"):
                    related = _bookings(
                        connection, "order_id = $1 and transaction_id <> $2", [own.partition(":")[2], own]
                    )
            linked: tuple[tuple[str, str, float | None], ...]
            if booking is not None:
                own_account = (booking.account_id or "", booking.rule or "", booking.confidence)
                linked = (own_account,) if booking.account_id else ()
            elif feed.name in _PERSON_FEEDS:
                linked = tuple(
                    connection.execute(
                        """
                        select account_id, rule, confidence from cocanal.identity.account_links
                        where feed = $1 and record_id = $2
                        """,
                        [feed.name, key],
                    ).fetchall()
                )
            elif found.named is not None:
                linked = _accounts_of_key(connection, found.named)
            else:
                linked = ()
            outcomes = {account_id: _outcomes(connection, account_id) for account_id, *_ in linked}
        except (duckdb.Error, OSError) as error:
            raise release.ReleaseError(
                f"The release {current.release_id} cannot be read ({type(error).__name__}): only the user who runs "
                "Cocanal may, and a trace needs both of its databases."
            ) from None
    return Trace(
        feed=feed.name,
        key=key,
        release_id=current.release_id,
        as_of=date.fromisoformat(manifest["as_of"]),
        occurrences=found.occurrences,
        unreadable_row_count=found.unreadable_row_count,
        removed_file_count=found.removed_file_count,
        header=header,
        booking=booking,
        related=related,
        accounts=linked,
        outcomes=outcomes,
    )
