"""Differences: what another answer to who is who would change, against a release.

What belongs here: the comparison of two databases on one connection. What does not: how the other answer came about
(``dagster_project.identity_diff``), and whether it is the better one (``evaluation.py``).

Account ids are compared as they are: ``resolve`` gave the other answer the release's ids wherever the records stayed
together. Members of audiences are compared after redirects, for who was merged has not left. Samples are ids, never
what somebody is called.
"""

from dataclasses import dataclass
from decimal import Decimal

import duckdb

SAMPLE = 10


@dataclass(frozen=True)
class AccountChange:
    """One account that would be created, merged, split or retired; the other is the one it joins or comes from."""

    event: str
    account_id: str
    other_account_id: str | None
    cause: str


@dataclass(frozen=True)
class RecordChanges:
    """The records of one feed that have an account in either: ``moved`` from one account to another, ``linked`` from
    none to one, ``unlinked`` back. ``sample`` holds the first keys of such records.
    """

    feed: str
    records: int
    moved: int
    linked: int
    unlinked: int
    sample: tuple[str, ...]


@dataclass(frozen=True)
class Revenue:
    """Transactions and their counted amount (net of returns): all, and those whose account changes.

    ``moved``: from one account to another; ``identified``: from nobody to an account; ``anonymous``: from an account to
    nobody.
    """

    transactions: int
    amount: Decimal
    moved_transactions: int
    moved_amount: Decimal
    identified_transactions: int
    identified_amount: Decimal
    anonymous_transactions: int
    anonymous_amount: Decimal


@dataclass(frozen=True)
class AudienceChange:
    """The members of one audience at one destination, held out or not: in the release, in the other, in both."""

    audience: str
    destination: str
    before: int
    after: int
    both: int
    came_in: int
    went_out: int


@dataclass(frozen=True)
class Differences:
    """Everything that would change; all counts are nought where nothing does."""

    accounts_before: int
    accounts_after: int
    created: int
    merged: int
    split: int
    retired: int
    sample: tuple[AccountChange, ...]
    records: tuple[RecordChanges, ...]
    revenue: Revenue
    audiences: tuple[AudienceChange, ...]

    @property
    def is_none(self) -> bool:
        """Whether nothing would change."""
        return (
            not (self.created or self.merged or self.split or self.retired)
            and not any(each.moved or each.linked or each.unlinked for each in self.records)
            and not (
                self.revenue.moved_transactions
                or self.revenue.identified_transactions
                or self.revenue.anonymous_transactions
            )
            and not any(each.came_in or each.went_out for each in self.audiences)
        )


def differences(connection: duckdb.DuckDBPyConnection, *, before: str, after: str, run_id: str) -> Differences:
    """What changes from the release in the attached database ``before`` to the answer in ``after``.

    ``after`` was resolved with ``before`` as its last release under the build id ``run_id``, and has the stages account
    and audience. Cost grows with records and transactions.
    """
    events = dict(
        connection.execute(
            f"select event, count(*) from {after}.identity.account_events where run_id = $1 group by event", [run_id]
        ).fetchall()
    )
    sample = connection.execute(
        f"""
        select event, account_id, other_account_id, cause
        from {after}.identity.account_events
        where run_id = $1
        qualify row_number() over (partition by event order by account_id) <= {SAMPLE}
        order by event, account_id
        """,
        [run_id],
    ).fetchall()
    accounts = {
        name: int(connection.execute(f"select count(*) from {name}.identity.anchors").fetchall()[0][0])
        for name in (before, after)
    }
    return Differences(
        accounts_before=accounts[before],
        accounts_after=accounts[after],
        created=events.get("created", 0),
        merged=events.get("merged", 0),
        split=events.get("split", 0),
        retired=events.get("retired", 0),
        sample=tuple(AccountChange(*row) for row in sample),
        records=_records(connection, before, after),
        revenue=_revenue(connection, before, after),
        audiences=_audiences(connection, before, after),
    )


def _records(connection: duckdb.DuckDBPyConnection, before: str, after: str) -> tuple[RecordChanges, ...]:
    rows = connection.execute(
        f"""
        with compared as (
            select feed, record_id,
                coalesce(old.account_id <> new.account_id, false) as is_moved,
                old.account_id is null as is_linked,
                new.account_id is null as is_unlinked
            from {before}.identity.account_links as old
            full join {after}.identity.account_links as new using (feed, record_id)
        )
        select feed, count(*), count(*) filter (where is_moved), count(*) filter (where is_linked),
            count(*) filter (where is_unlinked),
            coalesce(
                list_slice(
                    list(record_id order by record_id) filter (where is_moved or is_linked or is_unlinked), 1, {SAMPLE}
                ),
                []
            )
        from compared
        group by feed
        order by feed
        """
    ).fetchall()
    return tuple(
        RecordChanges(feed, count, moved, linked, unlinked, tuple(sample))
        for feed, count, moved, linked, unlinked, sample in rows
    )


def _revenue(connection: duckdb.DuckDBPyConnection, before: str, after: str) -> Revenue:
    kinds = {
        "moved": "old_id <> new_id",
        "identified": "old_id is null and new_id is not null",
        "anonymous": "old_id is not null and new_id is null",
    }
    sums = ", ".join(
        f"count(*) filter (where {condition}) as {kind}_transactions, "
        f"cast(coalesce(sum(counted_amount) filter (where {condition}), 0) as decimal(18, 2)) as {kind}_amount"
        for kind, condition in {"all": "true", **kinds}.items()
    )
    ((transactions, amount, *others),) = connection.execute(
        f"""
        with compared as (
            select old.account_id as old_id, new.account_id as new_id, new.counted_amount
            from {before}.account.transactions as old
            join {after}.account.transactions as new using (transaction_id)
        )
        select {sums} from compared
        """
    ).fetchall()
    return Revenue(transactions, amount, *others)


def _audiences(connection: duckdb.DuckDBPyConnection, before: str, after: str) -> tuple[AudienceChange, ...]:
    rows = connection.execute(
        f"""
        with old as (
            select distinct audience, destination, coalesce(redirects.account_id, members.account_id) as account_id
            from {before}.audience.members as members
            left join {after}.identity.account_redirects as redirects on redirects.old_account_id = members.account_id
        ),
        compared as (
            select audience, destination, old.account_id is not null as is_old, new.account_id is not null as is_new
            from old full join {after}.audience.members as new using (audience, destination, account_id)
        ),
        counted as (
            select audience, destination, count(*) filter (where is_old and is_new) as stay,
                count(*) filter (where not is_old) as came_in, count(*) filter (where not is_new) as went_out
            from compared group by audience, destination
        )
        select audience, destination,
            (select count(*) from {before}.audience.members as members
             where members.audience = counted.audience and members.destination = counted.destination),
            stay + came_in, stay, came_in, went_out
        from counted
        order by audience, destination
        """
    ).fetchall()
    return tuple(AudienceChange(*row) for row in rows)
