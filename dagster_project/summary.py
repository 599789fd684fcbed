"""The figures of a release that a person looks at first, read from the release itself."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from dagster_project.domain import release
from dagster_project.settings import Settings


@dataclass(frozen=True)
class Summary:
    """The current release in a dozen figures; ``audiences`` holds one row per audience and destination:
    audience, destination, treated, held out, excluded.
    """

    release_id: str
    as_of: date
    directory: Path
    file_count: int
    row_count: int
    quarantined_count: int
    record_count: int
    account_count: int
    identified_ticket_share: float
    delivered_amount: float
    counted_amount: float
    excluded_amount: float
    is_balanced: bool
    audiences: tuple[tuple[str, str, int, int, int], ...]


def summarise(settings: Settings) -> Summary | None:
    """The summary of the current release; None before the first."""
    current = release.current_release(settings.home)
    if current is None:
        return None
    with duckdb.connect(str(current.directory / release.DATABASES["analysts"]), read_only=True) as connection:
        ((files, rows),) = connection.execute(
            "select count(*), coalesce(sum(row_count), 0) from landing.files"
        ).fetchall()
        ((quarantined,),) = connection.execute("select count(*) from staging.quarantine").fetchall()
        ((records,),) = connection.execute(
            "select count(*) from identity.account_links where is_person_record"
        ).fetchall()
        ((accounts,),) = connection.execute("select count(*) from account.accounts").fetchall()
        ((share,),) = connection.execute(
            "select coalesce(avg((account_id is not null)::integer), 0) from account.transactions "
            "where feed = 'pos_tickets'"
        ).fetchall()
        ((delivered, counted, excluded),) = connection.execute(
            """
            select
                coalesce(sum(delivered_amount), 0), coalesce(sum(counted_amount), 0), coalesce(sum(excluded_amount), 0)
            from account.reconciliation
            """
        ).fetchall()
        audiences = connection.execute(
            """
            with counted as (
                select audience, destination, arm, 1 as kept, 0 as excluded from audience.members
                union all
                select audience, destination, null, 0, 1 from audience.waterfall
            )
            select
                audience, destination, count(*) filter (where arm = 'treated'),
                count(*) filter (where arm = 'holdout'), sum(excluded)::bigint
            from counted
            group by audience, destination
            order by audience, destination
            """
        ).fetchall()
    return Summary(
        release_id=current.release_id,
        as_of=date.fromisoformat(current.manifest()["as_of"]),
        directory=current.directory,
        file_count=files,
        row_count=int(rows),
        quarantined_count=quarantined,
        record_count=records,
        account_count=accounts,
        identified_ticket_share=float(share),
        delivered_amount=float(delivered),
        counted_amount=float(counted),
        excluded_amount=float(excluded),
        is_balanced=delivered == counted + excluded,
        audiences=tuple(audiences),
    )
