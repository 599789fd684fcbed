"""Everything that is held on a person, as one readable page and as data: the answer to a request for access.

Here belong what is shown, from where, and in which words. The person's own rows come from raw, as they were delivered,
with file, line and day; what was made of them comes from the release. The data hold every column, the page those that
somebody can read. Rows of other people are not shown, also where they live in one household or hold the same telephone
(GDPR, article 15(4)). Not who asked, nor the log of it: the command.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import jinja2

from dagster_project.domain.contract import feeds
from dagster_project.domain.formats import Formats
from dagster_project.domain.identity.explanation_words import FEED_WORDS, HOUSEHOLD_WORDS, RULE_WORDS
from dagster_project.domain.privacy.raw_erasure import eraser_of, find_raw_files, match_rows
from dagster_project.domain.privacy.subject import Subject, create_subject_tables
from dagster_project.domain.release import DATABASES
from dagster_project.domain.sql_literal import literal

_TEMPLATE = Path(__file__).with_name("access.html.jinja")
_PARIS = ZoneInfo("Europe/Paris")
_OF_THE_ACCOUNTS = "account_id in (select account_id from subject_accounts)"


@dataclass(frozen=True)
class _Table:
    """A table of the release: the rows that ``where`` finds, and the columns of the page, each with its heading."""

    title: str
    name: str
    words: str
    columns: Mapping[str, str]
    where: str = _OF_THE_ACCOUNTS


_TABLES = (
    _Table(
        "Who you are to us",
        "account.accounts",
        "What we take for one person. Everything below hangs on this number.",
        {
            "account_id": "number",
            "first_seen_on": "known since",
            "last_active_on": "last active",
            "web_account_count": "web accounts",
            "card_count": "loyalty cards",
            "order_count": "orders",
            "ticket_count": "tickets",
            "counted_amount": "spent, in all",
            "birth_year": "born in",
            "department": "department",
        },
    ),
    _Table(
        "What we hold as true of you",
        "account.golden_records",
        "Each value, and the record that it comes from: the latest of the source that you keep up to date yourself.",
        {},
    ),
    _Table(
        "How we know that these records are yours",
        "identity.account_links",
        "Each record that we count as yours, and by what. This was computed; tell us if one is not yours.",
        {"feed": "record", "record_id": "number", "rule": "known by", "confidence": "how sure, 0 to 1"},
    ),
    _Table(
        "What happened to your number",
        "identity.account_events",
        "When it was made, and when it changed because we learned that two were one, or one was two.",
        {"at": "day", "event": "what"},
    ),
    _Table(
        "Your household",
        "identity.households",
        "That others share your address or your telephone. They are not shown, and nobody is merged with them.",
        {"reason": "because of"},
    ),
    _Table(
        "Your identifiers",
        "account.identifiers",
        "E-mails, telephones and addresses. One that several people carry is not used.",
        {
            "identifier_type": "kind",
            "identifier": "what",
            "last_seen_at": "last said on",
            "is_golden": "the one we use",
            "is_demoted": "carried by several people",
        },
    ),
    _Table(
        "What you agreed to",
        "account.consents",
        "By purpose and channel, for all your identifiers together. Nothing said counts as no. The proof of each is "
        "below, under consents as delivered.",
        {"purpose": "what for", "channel": "channel", "status": "you said", "occurred_at": "on"},
    ),
    _Table(
        "Profiling",
        "account.profiling",
        "Whether we may sort you by what you are worth to us. It decides nothing of legal effect (article 22).",
        {"status": "you said", "is_allowed": "we do"},
    ),
    _Table(
        "Your segments",
        "segment.account_segments",
        "By recency, frequency and amount (rfm), by how long ago you bought (lifecycle), by channel.",
        {"scheme": "by", "segment": "you are", "is_trustworthy": "can be trusted"},
    ),
    _Table(
        "Your scores",
        "segment.rfm_scores",
        "What the first of them is made of: 5 is the most, 1 the least, among all customers.",
        {
            "recency_days": "days since you bought",
            "purchase_count": "purchases",
            "counted_amount": "amount",
            "recency_score": "recency",
            "frequency_score": "frequency",
            "monetary_score": "amount, score",
        },
    ),
    _Table(
        "Your purchases",
        "account.transactions",
        "Each order, ticket and refund.",
        {
            "business_on": "day",
            "channel": "channel",
            "kind": "what",
            "store_id": "store",
            "record_id": "number",
            "amount": "amount",
            "counted_amount": "counted as",
            "rule": "known by",
        },
    ),
    _Table(
        "What you bought",
        "account.transaction_lines",
        "Line by line.",
        {
            "transaction_id": "of",
            "product_id": "product",
            "quantity": "pieces",
            "unit_price": "price",
            "amount": "amount",
        },
        f"transaction_id in (select transaction_id from analysts.account.transactions where {_OF_THE_ACCOUNTS})",
    ),
    _Table(
        "Audiences you are in",
        "audience.members",
        "What each is for is said below. Held out: you get nothing, so that we can measure what a message does.",
        {
            "audience": "audience",
            "destination": "goes to",
            "purpose": "what for",
            "channel": "channel",
            "arm": "you are",
        },
    ),
    _Table(
        "Audiences you were kept out of",
        "audience.waterfall",
        "You would have qualified; the first reason why you get nothing.",
        {"audience": "audience", "destination": "would go to", "reason": "because"},
    ),
    _Table(
        "Whom we sent something of you to",
        "activation.ledger",
        "In every release from the first to the last; their names begin with the day.",
        {
            "destination": "to whom",
            "audience": "in which audience",
            "identifier_type": "what",
            "first_release_id": "first",
            "last_release_id": "last",
        },
        f"({_OF_THE_ACCOUNTS} or identifier_hash in (select identifier_hash from subject_hashes))",
    ),
    _Table(
        "Until when we keep this",
        "account.retention",
        "Counted from your last contact with us. After that day you are erased, but for amounts without a name.",
        {"last_contact_on": "your last contact", "erase_on": "erased from", "days_left": "days left"},
    ),
    _Table(
        "Your requests",
        "account.request_deadlines",
        "What you asked of us, by when the law wants an answer, and what became of it.",
        {"request_id": "number", "kind": "what", "received_on": "received", "due_on": "due", "state": "state"},
        f"request_id in (select request_id from analysts.account.requests where is_subject and {_OF_THE_ACCOUNTS})",
    ),
)
_GOLDEN = ("email", "phone", "first_name", "last_name", "birth_date", "address_line1", "postal_code", "city", "country")

# What hangs on an order, a ticket or a refund of the person's, without naming anybody: the feed, and the column that
# names the record, which is one of the feed in the last place.
_OF_PURCHASES = (
    ("shop_order_lines", "order_id", "shop_orders"),
    ("deliveries", "order_id", "shop_orders"),
    ("pos_ticket_lines", "ticket_id", "pos_tickets"),
    ("shop_refunds", "refund_id", "shop_refunds"),
    ("shop_refund_lines", "refund_id", "shop_refunds"),
)

# Codes in the words of somebody who does not know ours. What is not here is shown as it is, without underscores.
_WORDS: Mapping[str, str] = {
    **{feed: words[0] for feed, words in FEED_WORDS.items()},
    **HOUSEHOLD_WORDS,
    "prospecting": "being told of offers",
    "profiling": "being sorted by what you buy",
    "open_tracking": "seeing whether you open messages",
    "ad_match_social": "being found again on social networks",
    "ad_match_search": "being found again by search engines",
    "partners": "being passed on to partners",
    "post": "postal address",
    "any": "all",
    "treated": "told",
    "holdout": "held out",
    "no_identifier": "we have nothing to reach you by",
    "consent_unknown": "you never agreed",
    "consent_denied": "you said no",
    "consent_withdrawn": "you took your consent back",
    "partner_consent_missing": "you did not agree to partners",
    "objection_received": "you objected",
    "erasure_requested": "you asked to be forgotten",
    "minor": "you may be too young",
    "sensitive_topic": "you told us not to write about this",
    "profiling_refused": "you refused profiling",
    "address_bounced": "your address did not work",
    "identifier_unusable": "your address cannot be used there",
    "personal_limit": "you set a limit to messages",
    "pressure": "you had enough messages lately",
    "cooling_down": "you had one of these lately",
    "lower_priority": "another message goes first",
    "over_cap": "others were drawn",
    "audience_too_small": "too few people for anybody to be sent",
    "review_overdue": "nobody looked the audience over in time",
    "out_of_stock": "the product cannot be had",
}

_RULES: Mapping[str, str] = {**RULE_WORDS, "order_link": "by the order that it belongs to"}
# The columns of the release whose values are codes.
_CODES = frozenset(
    ("feed", "reason", "purpose", "channel", "status", "scheme", "segment", "arm", "kind", "identifier_type", "event")
) | {"audience", "destination"}

Rows = list[dict[str, Any]]


def gather(
    connection: duckdb.DuckDBPyConnection,
    release: Path,
    raw: Path,
    deliveries: Mapping[tuple[str, str], Sequence[tuple[str, date]]],
    subject: Subject,
    country: str,
) -> dict[str, Any]:
    """Everything that is held on ``subject``: ``sections`` (title, words, columns of the page, rows), ``names`` of
    stores and products, ``destinations`` and ``audiences`` that concern the person, and ``delivered`` (feed -> rows).

    ``deliveries`` names the files (path under landing, day) of each feed and hash. Cost grows with raw.
    """
    create_subject_tables(connection, [subject])
    for readers, database in DATABASES.items():
        connection.execute(f"attach {literal(release / database)} as {readers} (read_only)")
    try:
        sections = [
            {
                "title": table.title,
                "table": table.name,
                "words": table.words,
                "columns": dict(table.columns),
                "rows": _rows_of(connection, f"select * from {readers}.{table.name} where {table.where} order by all"),
            }
            for table in _TABLES
            for readers in DATABASES
            if _is_there(connection, readers, table.name)
        ]
        told = {
            "names": _names(connection),
            "audiences": _rows_of(
                connection,
                f"""
                select audience, kind, purpose, destinations from analysts.audience.audiences
                where audience in (
                    select audience from analysts.audience.members where {_OF_THE_ACCOUNTS}
                    union select audience from analysts.audience.waterfall where {_OF_THE_ACCOUNTS}
                    union select audience from restricted.activation.ledger where {_OF_THE_ACCOUNTS}
                )
                order by audience
                """,
            ),
            "destinations": _rows_of(
                connection,
                f"""
                select
                    destination, description, is_third_party,
                    destination in (
                        select destination from restricted.activation.ledger where {_OF_THE_ACCOUNTS}
                    ) as was_sent
                from analysts.audience.destinations
                order by destination
                """,
            ),
        }
        connection.execute(
            f"""
            create or replace temp table own_purchases as
            select feed, record_id from analysts.account.transactions where {_OF_THE_ACCOUNTS}
            """
        )
    finally:
        for readers in DATABASES:
            connection.execute(f"detach {readers}")
    delivered: dict[str, Rows] = {}
    eraser = eraser_of(subject, country)
    for feed, sha256 in find_raw_files(connection, raw, [subject]):
        rows = match_rows(connection, feeds()[feed], raw / feed / f"{sha256}.parquet", eraser)
        delivered.setdefault(feed, []).extend(_placed(rows, deliveries.get((feed, sha256), ())))
    for feed, key, records in _OF_PURCHASES:
        for row in _rows_of_purchases(connection, raw, feed, key, records):
            placed = _placed([row], deliveries.get((feed, row.pop("sha256")), ()))
            delivered.setdefault(feed, []).extend(each for each in placed if each not in delivered[feed])
    return {
        "request": subject.request_id,
        "sections": sections,
        **told,
        "delivered": {
            feed: {
                "words": feeds()[feed].description,
                "rows": sorted(delivered[feed], key=lambda row: (row["delivered on"], row["file"], row["line"])),
            }
            for feed in feeds()
            if delivered.get(feed)
        },
    }


def _is_there(connection: duckdb.DuckDBPyConnection, readers: str, table: str) -> bool:
    schema, name = table.split(".")
    found = connection.execute(
        "select 1 from duckdb_tables() where database_name = $1 and schema_name = $2 and table_name = $3",
        [readers, schema, name],
    ).fetchall()
    return bool(found)


def _rows_of(connection: duckdb.DuckDBPyConnection, query: str) -> Rows:
    result = connection.execute(query)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _names(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The names of the stores and products of the person's purchases and visits, by id."""
    rows = connection.execute(
        f"""
        select store_id, name from analysts.staging.stg_stores
        union all
        select product_id, name from analysts.staging.stg_products
        where product_id in (
            select product_id
            from analysts.account.transaction_lines
            join analysts.account.transactions using (transaction_id)
            where {_OF_THE_ACCOUNTS}
        )
        """
    ).fetchall()
    return {each: name for each, name in rows if name}


def _rows_of_purchases(connection: duckdb.DuckDBPyConnection, raw: Path, feed: str, key: str, records: str) -> Rows:
    """The delivered rows of a feed that hang on the person's purchases, with the hash of their file."""
    if not any((raw / feed).glob("*.parquet")):
        return []
    return _rows_of(
        connection,
        f"""
        select parse_filename(filename, true) as sha256, line, {", ".join(feeds()[feed].column_names)}
        from read_parquet({literal(raw / feed / "*.parquet")}, filename = true)
        where {key} in (select record_id from own_purchases where feed = {literal(records)}) and _rule is null
        order by all
        """,
    )


def _placed(rows: Rows, files: Sequence[tuple[str, date]]) -> Rows:
    """The rows of one raw file, once for each delivered file that brought it."""
    return [{"file": file, "delivered on": day, **row} for file, day in files for row in rows]


def as_json(gathered: Mapping[str, Any]) -> str:
    """The same as data that a machine reads, with every column (GDPR, article 20)."""
    return json.dumps(gathered, ensure_ascii=False, indent=1, default=str) + "\n"


def as_page(gathered: Mapping[str, Any], *, made_at: datetime, as_of: date, currency: str) -> str:
    """The page that the person is given: dates, amounts and times of day as in France, codes in words."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    formats = Formats(currency)
    names = gathered["names"]

    def told(value: Any, column: str = "") -> str:
        match value:
            case None:
                return ""
            case bool():
                return "yes" if value else "no"
            case datetime():
                return formats.moment((value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(_PARIS))
            case date():
                return formats.day(value)
            case Decimal():
                return formats.money(value)
            case float():
                return formats.number(value, 2)
            case int():
                return str(value) if column == "birth_year" else formats.number(value)
        text = str(value)
        if column.endswith("_release_id"):
            return f"{text[6:8]}/{text[4:6]}/{text[:4]}"
        if column == "store_id" or column == "product_id":
            return f"{names[text]} ({text})" if text in names else text
        if column == "transaction_id":
            feed, _, record = text.partition(":")
            return f"{_WORDS.get(feed, feed.replace('_', ' '))} {record}"
        if column == "rule":
            return _RULES.get(text, text)
        return _WORDS.get(text, text.replace("_", " ")) if column in _CODES else text

    environment.filters["told"] = told
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        gathered=gathered,
        golden=_golden(gathered),
        feed_words={feed: words[1] for feed, words in FEED_WORDS.items()},
        made_at=made_at,
        as_of=as_of,
    )


def _golden(gathered: Mapping[str, Any]) -> Rows:
    """The golden record, a row per value that is known."""
    (rows,) = [section["rows"] for section in gathered["sections"] if section["table"] == "account.golden_records"]
    return [
        {
            "what": name.replace("_line1", "").replace("_", " "),
            "value": row[name],
            "feed": row[f"{name}_feed"],
            "record_id": row[f"{name}_record_id"],
        }
        for row in rows
        for name in _GOLDEN
        if row[name] is not None
    ]
