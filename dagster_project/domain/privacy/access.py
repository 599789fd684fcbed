"""Everything that is held on a person, as one readable page and as data: the answer to a request for access.

Here belong what is shown and from where. The person's own rows come from raw, as they were delivered, with file, line
and day; what was made of them comes from the release. Rows of other people are not shown, also where they live in one
household or hold the same telephone (GDPR, article 15(4)). Not who asked, nor the log of it: the command.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import jinja2

from dagster_project.domain.contract import feeds
from dagster_project.domain.privacy.raw_erasure import find_raw_files, match_rows
from dagster_project.domain.privacy.subject import Subject, create_subject_tables
from dagster_project.domain.release import DATABASES
from dagster_project.domain.sql_literal import literal

_TEMPLATE = Path(__file__).with_name("access.html.jinja")

# What the release says of an account: the title, the table, and in words what it is. One row per row of the table.
_TABLES: tuple[tuple[str, str, str], ...] = (
    ("Your accounts", "account.accounts", "What we take for one person, and since when."),
    ("What we hold as true of you", "account.golden_records", "Each value with the record that it comes from."),
    ("Your identifiers", "account.identifiers", "E-mails, telephones and addresses, and when they were last said."),
    ("What you agreed to", "account.consents", "By purpose and channel."),
    ("Your purchases", "account.transactions", "Each order, ticket and refund, and by what we knew that it was yours."),
    ("Your segments", "segment.account_segments", "How you were placed, by scheme."),
    ("Audiences you are in", "audience.members", "For which purpose; held out means that you get nothing."),
    ("Audiences you qualified for and were kept out of", "audience.waterfall", "With the reason."),
    ("Whom your identifiers were sent to", "activation.ledger", "From the first to the last release."),
    ("Until when we keep this", "account.retention", "Counted from your last contact with us."),
    ("Your requests", "account.requests", "What you asked of us, and when."),
)

Rows = list[dict[str, Any]]


def gather(
    connection: duckdb.DuckDBPyConnection,
    release: Path,
    raw: Path,
    deliveries: Mapping[tuple[str, str], Sequence[tuple[str, date]]],
    subject: Subject,
    country: str,
) -> dict[str, Any]:
    """Everything that is held on ``subject``: ``sections`` (title, words, rows) and ``delivered`` (feed -> rows).

    ``deliveries`` names the files (path under landing, day) of each feed and hash. Cost grows with raw.
    """
    create_subject_tables(connection, [subject])
    sections = []
    for readers, database in DATABASES.items():
        connection.execute(f"attach {literal(release / database)} as {readers} (read_only)")
    try:
        for title, table, words in _TABLES:
            for readers in DATABASES:
                rows = _rows_of(connection, readers, table)
                if rows is not None:
                    sections.append({"title": title, "table": table, "words": words, "rows": rows})
    finally:
        for readers in DATABASES:
            connection.execute(f"detach {readers}")
    delivered: dict[str, Rows] = {}
    for feed, sha256 in find_raw_files(connection, raw, [subject]):
        for file, day in deliveries.get((feed, sha256), ()):
            found = match_rows(connection, feeds()[feed], raw / feed / f"{sha256}.parquet", subject, country)
            if found:
                delivered.setdefault(feed, []).extend({"file": file, "delivered on": day, **row} for row in found)
    return {
        "request": subject.request_id,
        "sections": sections,
        "delivered": {feed: {"words": feeds()[feed].description, "rows": rows} for feed, rows in delivered.items()},
    }


def _rows_of(connection: duckdb.DuckDBPyConnection, readers: str, table: str) -> Rows | None:
    schema, name = table.split(".")
    if not connection.execute(
        "select 1 from duckdb_tables() where database_name = $1 and schema_name = $2 and table_name = $3",
        [readers, schema, name],
    ).fetchall():
        return None
    result = connection.execute(
        f"select * from {readers}.{table} where account_id in (select account_id from subject_accounts) order by all"
    )
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def as_json(gathered: Mapping[str, Any]) -> str:
    """The same as data that a machine reads (GDPR, article 20)."""
    return json.dumps(gathered, ensure_ascii=False, indent=1, default=str) + "\n"


def as_page(
    gathered: Mapping[str, Any], *, made_at: datetime, as_of: date, audiences: Sequence[Mapping[str, Any]]
) -> str:
    """The page that the person is given, dates and amounts as in France. ``audiences`` say what each is for."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["told"] = _told
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        gathered=gathered, made_at=made_at, as_of=as_of, audiences=audiences
    )


def _told(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%d/%m/%Y %H:%M}"
        case date():
            return f"{value:%d/%m/%Y}"
        case Decimal():
            return f"{value:,.2f}".replace(",", "\u202f").replace(".", ",")
        case _:
            return str(value)
