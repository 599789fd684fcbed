"""The report of a release: one static page that says what was delivered, what became of it, and whom it reaches.

Here belong the page's figures, its charts and its French numbers. It reads only the released database for analysts, so
nothing can be in it that analysts may not see, and only sums: no row of a person. The page needs no network and no
script. Not for judging: whether a figure is good enough is the gates' business.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import jinja2

from dagster_project.domain.formats import Formats
from dagster_project.domain.release import DATABASES
from dagster_project.domain.sql_literal import literal

_TEMPLATE = Path(__file__).with_name("report.html.jinja")

_KEPT = ("kept", "held out")

_HEADLINES = """
    with files as (
        select count(*) as file_count, coalesce(sum(row_count), 0) as row_count from landing.files
    ),

    quarantine as (select count(*) as quarantined_count from staging.quarantine),

    accounts as (
        select count(*) as account_count, count(*) filter (where is_online and is_store) as omnichannel_count
        from account.accounts
    ),

    tickets as (
        select count(*) as ticket_count, count(account_id) as identified_ticket_count
        from account.transactions
        where feed = 'pos_tickets'
    ),

    balance as (
        select
            coalesce(sum(delivered_amount), 0) as delivered_amount,
            coalesce(sum(counted_amount), 0) as counted_amount,
            coalesce(sum(excluded_amount), 0) as excluded_amount,
            count(*) as day_count,
            coalesce(max(abs(delivered_amount - counted_amount - excluded_amount)), 0) as largest_gap_amount
        from account.reconciliation
    )

    select * from release.info, files, quarantine, accounts, tickets, balance
"""

_REVENUE = """
    select strftime(date_trunc('month', business_on), '%m/%Y') as month, channel, sum(counted_amount) as amount
    from account.reconciliation
    group by date_trunc('month', business_on), channel
    order by date_trunc('month', business_on), channel
"""

_OUTCOMES = """
    with outcomes as (
        select audience, destination, case arm when 'treated' then 'kept' else 'held out' end as outcome, 0 as place
        from audience.members
        union all
        select audience, destination, replace(reason, '_', ' ') as outcome, 1 as place
        from audience.waterfall
    )

    select audience, destination, outcome, count(*) as account_count
    from outcomes
    group by audience, destination, outcome, place
    order by audience, destination, place, outcome desc
"""

_AUDIENCES = """
    select audience, kind, owner, priority, review_on, is_review_overdue, purpose, kpi, kpi_target
    from audience.audiences
    order by kind, priority, audience
"""

# From who qualified down to who is kept, one step per rule that excluded somebody, in the order of the rules.
_WATERFALLS = """
    with steps as (
        select
            audience, destination, replace(reason, '_', ' ') as step, reason_order as place, -count(*) as account_count
        from audience.waterfall
        group by all
        union all
        select
            audience, destination, case arm when 'treated' then 'kept' else 'held out' end as step,
            case arm when 'treated' then 101 else 100 end as place, -count(*)
        from audience.members
        group by all
    ),

    qualified as (
        select audience, destination, 'qualified' as step, 0 as place, -sum(account_count) as account_count
        from steps
        group by all
    ),

    placed as (
        select
            *,
            sum(case when place = 0 then 0 else account_count end) over (
                partition by audience, destination order by place
            ) as fallen
        from (select * from qualified union all select * from steps)
    )

    select
        placed.audience, placed.destination, placed.step, placed.place, abs(placed.account_count) as account_count,
        qualified.account_count + placed.fallen as low_count,
        qualified.account_count + placed.fallen + case when placed.place = 0 then 0 else -placed.account_count end
            as high_count
    from placed
    inner join qualified using (audience, destination)
    order by audience, destination, place
"""

_CHANGES = """
    select audience, destination, change, replace(reason, '_', ' ') as reason, count(*) as account_count
    from audience.changes
    group by all
    order by audience, destination, change, count(*) desc, reason
"""

_FATES = """
    with fates as (
        unpivot (
            select
                feed,
                current_row_count as "counts",
                identical_row_count as "said again",
                superseded_row_count as "another version counts",
                refused_row_count as "in quarantine",
                erased_row_count as "erased"
            from staging.row_counts
        )
        on * exclude (feed)
        into name fate value row_count
    )

    select feed, fate, row_count, row_count / nullif(sum(row_count) over (partition by feed), 0) as row_share
    from fates
    order by feed, fate
"""

_EXCLUDED = """
    select channel, replace(exclusion, '_', ' ') as reason, count(*) as transaction_count, sum(amount) as amount
    from account.transactions
    where exclusion is not null
    group by channel, exclusion
    order by channel, count(*) desc, exclusion
"""

_UNREFUNDED = """
    select
        count(*) as return_count,
        coalesce(sum(outstanding_amount), 0) as outstanding_amount,
        max(days_open) as days_open
    from account.unrefunded_returns
"""

_QUARANTINE = """
    with refused as (
        select
            feed, rule, sum(row_count)::bigint as refused_count, count(distinct file) as file_count,
            sum(amount) as amount
        from staging.quarantine_summary
        group by feed, rule
    ),

    delivered as (select feed, sum(row_count) as row_count from landing.files group by feed)

    select refused.*, refused.refused_count / nullif(delivered.row_count, 0) as refused_share
    from refused
    left join delivered on refused.feed = delivered.feed
    order by refused.refused_count desc, refused.feed, refused.rule
    limit 40
"""

_GATES = """
    select gate, statement, severity, expected, observed, failed_scopes, is_passed, accepted_because
    from release.gate_results
"""

_SEGMENTS = """
    select
        scheme,
        replace(segment, '_', ' ') as segment,
        case when is_trustworthy then 'trustworthy' else 'clouded by a closure' end as trust,
        count(*) as account_count,
        count(*) / sum(count(*)) over (partition by scheme) as account_share
    from segment.account_segments
    group by scheme, segment, is_trustworthy
    order by scheme, sum(count(*)) over (partition by scheme, segment) desc, segment, trust desc
"""

_SIZES = """
    with sizes as (select account_id, count(*) as record_count from identity.account_links group by account_id),

    classes as (
        select
            case
                when record_count < 5 then record_count
                when record_count < 10 then 5
                when record_count < 20 then 10
                when record_count < 50 then 20
                else 50
            end as least,
            record_count
        from sizes
    )

    select
        least,
        case least
            when 5 then '5–9' when 10 then '10–19' when 20 then '20–49' when 50 then '50+' else least::varchar
        end as records,
        count(*) as account_count,
        max(record_count) as largest
    from classes
    group by least
    order by least
"""


Rows = list[dict[str, Any]]


def write_report(connection: duckdb.DuckDBPyConnection, directory: Path, *, currency: str = "EUR") -> Path:
    """Write ``report/index.html`` of the release that lies in ``directory``; returns its path.

    Any connection will do: the released database is attached to it, read-only, and detached again.
    """
    connection.execute(f"attach {literal(directory / DATABASES['analysts'])} as reported (read_only)")
    # A cursor of its own, so that the caller's connection keeps its default database.
    cursor = connection.cursor()
    try:
        cursor.execute("use reported")
        figures = _figures(cursor)
    finally:
        cursor.close()
        connection.execute("detach reported")
    page = _page(figures, Formats(currency))
    path = directory / "report" / "index.html"
    path.parent.mkdir(mode=0o750, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        stream.write(page)
        stream.flush()
        os.fsync(stream.fileno())
    path.chmod(0o640)
    return path


def _figures(cursor: duckdb.DuckDBPyConnection) -> dict[str, Rows]:
    queries = {
        "headlines": _HEADLINES,
        "revenue": _REVENUE,
        "outcomes": _OUTCOMES,
        "audiences": _AUDIENCES,
        "waterfalls": _WATERFALLS,
        "changes": _CHANGES,
        "fates": _FATES,
        "excluded": _EXCLUDED,
        "unrefunded": _UNREFUNDED,
        "quarantine": _QUARANTINE,
        "gates": _GATES,
        "segments": _SEGMENTS,
        "sizes": _SIZES,
    }
    return {name: _rows(cursor, query) for name, query in queries.items()}


def _rows(cursor: duckdb.DuckDBPyConnection, query: str) -> Rows:
    result = cursor.execute(query)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _page(figures: Mapping[str, Rows], formats: Formats) -> str:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "number": formats.number,
        "money": formats.money,
        "share": formats.share,
        "day": formats.day,
        "moment": formats.moment,
        "measure": formats.measure,
    }
    # Imported here: what draws takes a second to load that nobody else should wait for.
    from dagster_project.domain.charts import draw

    (headlines,) = figures["headlines"]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        figures=headlines,
        identified_share=_share(headlines["identified_ticket_count"], headlines["ticket_count"]),
        quarantined_share=_share(headlines["quarantined_count"], headlines["row_count"]),
        audiences=_audiences(figures["audiences"], figures["outcomes"], figures["changes"]),
        excluded=figures["excluded"],
        unrefunded=figures["unrefunded"][0],
        quarantine=figures["quarantine"],
        largest_refusal=max((row["refused_count"] for row in figures["quarantine"]), default=1),
        gates=_gates(figures["gates"]),
        segments=_by(figures["segments"], "scheme"),
        largest_account=max((row["largest"] for row in figures["sizes"]), default=None),
        charts=draw(figures, formats.symbol),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _by(rows: Rows, column: str) -> dict[str, Rows]:
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def _audiences(audiences: Rows, outcomes: Rows, changes: Rows) -> Rows:
    """Each audience with one line per destination: qualified, kept, held out, excluded by reason, entered and left."""
    by_audience = _by(outcomes, "audience")
    moved = _by(changes, "audience")
    described = []
    for audience in audiences:
        destinations = []
        for destination, rows in _by(by_audience.get(audience["audience"], []), "destination").items():
            counts = {row["outcome"]: row["account_count"] for row in rows}
            destinations.append(
                {
                    "destination": destination,
                    "qualified": sum(counts.values()),
                    "kept": counts.get("kept", 0),
                    "held_out": counts.get("held out", 0),
                    **{
                        change: sum(
                            row["account_count"]
                            for row in moved.get(audience["audience"], [])
                            if row["destination"] == destination and row["change"] == change
                        )
                        for change in ("entered", "left")
                    },
                    "reasons": sorted(
                        ((reason, count) for reason, count in counts.items() if reason not in _KEPT),
                        key=lambda item: (-item[1], item[0]),
                    ),
                }
            )
        described.append({**audience, "destinations": destinations})
    return described


def _gates(rows: Rows) -> Rows:
    """Each gate, in the order in which it was judged, with its statements and the worst of their verdicts."""
    gates = []
    for gate, statements in _by(rows, "gate").items():
        for statement in statements:
            statement["verdict"] = _verdict(statement)
        verdicts = {statement["verdict"] for statement in statements}
        worst = next(word for word in ("stopped", "accepted", "warned", "held") if word in verdicts)
        gates.append({"gate": gate, "verdict": worst, "statements": statements})
    return gates


def _verdict(statement: Mapping[str, Any]) -> str:
    if statement["is_passed"]:
        return "held"
    if statement["accepted_because"]:
        return "accepted"
    return "warned" if statement["severity"] == "warn" else "stopped"
