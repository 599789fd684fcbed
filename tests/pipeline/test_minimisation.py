"""What a person wrote is where it is needed, is marked there as personal, and is nowhere else.

One shopper is delivered whose every value can be recognised, in good rows and in bad ones. After the night every file
of the home is looked into, byte by byte and cell by cell, and so is what the commands printed.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.dictionary import described_tables
from dagster_project.domain.contract import feeds
from dagster_project.domain.release import DATABASES
from dagster_project.stages import STAGES

DAY = date(2020, 7, 11)
AT = datetime(2020, 7, 10, 9, 0, tzinfo=UTC)
EMAIL, PHONE = "zzq.planted@zzq-mail.example", "+33639987766"
PERSON = {
    "email": "Zzq.Planted@zzq-mail.example",
    "phone": "06 39 98 77 66",
    "first_name": "Zzqualine",
    "last_name": "Zzquorum",
    "address_line1": "77 rue Zzquvlumpf",
    "postal_code": "97199",
    "city": "Zzquville",
}
# In small letters, in every spelling that the pipeline writes; what is hashed without a key can be guessed back.
NAMES_THE_PERSON = (
    "zzq.planted",
    "zzq-mail",
    "zzqualine",
    "zzquorum",
    "zzquvlumpf",
    "zzquville",
    "97199",
    "1931-03-17",
    "17/03/1931",
    "639987766",
    "06 39 98 77 66",
    "tok_zzqpaid",
    *(hashlib.sha256(value.encode()).hexdigest() for value in (EMAIL, PHONE, PHONE[1:])),
)
# What people type where text is free: no table says that it is personal, and nobody knows what it says.
TYPED = ("zzqproof", "zzqanswer", "zzqreason", "zzqsteward", "zzqbroken", "zzqunknown", "zzqbadday")
# Made for somebody who may, or may have: what was delivered, what explains it, what is sent. All for the owner alone.
MAY_HOLD = ("landing/*/*/*", "raw/*/*.parquet", "warehouse.duckdb", "identity/*", "releases/*/audiences/*/*")


@dataclass(frozen=True)
class PlantedNight:
    """A home after the night that brought the shopper, and all that commands printed on it."""

    home: Path
    printed: str


def _deliver(supplier: Any) -> None:
    def rows(feed: str, *found: dict[str, Any], name: str = "planted.csv") -> Path:
        path: Path = supplier.deliver(feed, DAY, found, name)
        return path

    account = {"customer_id": "PLANT1", **PERSON, "birth_date": date(1931, 3, 17), "created_at": AT, "updated_at": AT}
    rows("shop_customers", account, {**account, "customer_id": "PLANT2", "created_at": None}, name="good_and_bad.csv")
    odd = rows("shop_customers", {**account, "customer_id": "PLANT3"}, name="odd.csv")
    first, second = odd.read_text(encoding="utf-8").splitlines()
    broken = second.replace("PLANT3", 'PLANT4"zzqbroken').rpartition(",")[0]
    no_day = second.replace("1931-03-17", "zzqbadday")
    odd.write_text(f"{first},remark\n{no_day},zzqunknown\n{broken}\n", encoding="utf-8")
    rows("loyalty_members", {"card_id": "PLANTCARD", **PERSON, "enrolled_at": AT, "updated_at": AT})
    paid = {"payment_token": "tok_zzqpaid", "total_amount": Decimal("12.00")}
    order = {"customer_id": "PLANT1", "ordered_at": AT, "updated_at": AT, "status": "paid", "fulfilment": "delivery"}
    rows("shop_orders", {"order_id": "PLANTORDER", **order, **PERSON, **paid})
    line = {"line_no": 1, "product_id": "P1", "quantity": 1, "amount": Decimal("12.00")}
    rows("shop_order_lines", {"order_id": "PLANTORDER", "unit_price": Decimal("12.00"), **line})
    reached = {name: PERSON[name] for name in ("email", "phone")}
    ticket = {"store_id": "S1", "sold_at": AT, "ticket_type": "sale", "loyalty_card_id": "PLANTCARD"}
    rows("pos_tickets", {"ticket_id": "PLANTTICKET", **ticket, **reached, **paid})
    rows("pos_ticket_lines", {"ticket_id": "PLANTTICKET", "unit_price": Decimal("12.00"), **line})
    refund = {"order_id": "PLANTORDER", "customer_id": "PLANT1", "refunded_at": AT, "total_amount": Decimal("-1.00")}
    rows("shop_refunds", {"refund_id": "PLANTREFUND", "reason": "zzqreason", **refund})
    for place, (key_type, value) in enumerate((("email", PERSON["email"]), ("phone", PERSON["phone"]))):
        key = {"key_type": key_type, "key_value": value}
        granted = {"purpose": "prospecting", "channel": "any", "status": "granted", "occurred_at": AT}
        proof = {"source": "zzqproof", "proof_ref": "zzqproof", "text_version": "zzqproof"}
        rows("consents", {"consent_id": f"PLANTK{place}", **key, **granted, **proof}, name=f"{key_type}.csv")
        rows(
            "sensitivities",
            {"sensitivity_id": f"PLANTS{place}", **key, "topic": "mourning", "from_at": AT},
            name=f"{key_type}.csv",
        )
        answer = {"topic": "zzqanswer", "value": "zzqanswer", "declared_at": AT}
        rows("declared_preferences", {"preference_id": f"PLANTP{place}", **key, **answer}, name=f"{key_type}.csv")
        rows(
            "privacy_requests",
            {"request_id": f"PLANTQ{place}", "kind": "access", **key, "received_at": AT},
            {"request_id": f"PLANTR{place}", "kind": "zzqbroken", **key, "received_at": AT},
            name=f"{key_type}.csv",
        )
        rows(
            "campaign_assignments",
            {"campaign_id": "PLANTCAMPAIGN", **key, "arm": "treated", "assigned_at": AT},
            name=f"{key_type}.csv",
        )
        event = {"campaign_id": "PLANTCAMPAIGN", "address": value, "event": "sent", "occurred_at": AT}
        channel = "email" if key_type == "email" else "sms"
        rows("message_events", {"event_id": f"PLANTM{place}", "channel": channel, **event}, name=f"{key_type}.csv")
    decided = {"left_feed": "shop_customers", "left_id": "PLANT1", "right_feed": "loyalty_members", "right_id": "29000"}
    steward = {"decision": "different", "decided_by": "zzqsteward", "decided_at": AT, "reason": "zzqreason"}
    rows("identity_decisions", {"decision_id": "PLANTD", **decided, **steward})


@pytest.fixture(scope="module")
def nights() -> dict[str, PlantedNight]:
    return {}


@pytest.fixture
def planted(
    base_home: Path,
    tmp_path_factory: pytest.TempPathFactory,
    supplier: Any,
    capfd: pytest.CaptureFixture[str],
    nights: dict[str, PlantedNight],
) -> PlantedNight:
    """Made by the first test that asks."""
    if "night" not in nights:
        home = shutil.copytree(base_home, tmp_path_factory.mktemp("planted") / "home", symlinks=True)
        _deliver(supplier(home / "landing"))
        printed = ""
        for words in (
            ["run", "--verbose", "--accept", "landing", "--accept", "staging", "--because", "a day of one shopper"],
            ["doctor"],
            ["privacy", "list"],
            ["privacy", "erase", "--rehearse"],
            ["quarantine", "list"],
            ["explain", "shop_customers:PLANT1"],
            ["trace", "shop_customers", "PLANT1"],
            ["trace", "shop_customers", "PLANT2"],
            ["release", "list"],
        ):
            told = CliRunner().invoke(app, [*words, "--home", str(home)], env={"COCANAL_THREADS": "1"})
            assert words[0] != "run" or told.exit_code == 0, told.output[-2000:]
            printed += told.output
        caught = capfd.readouterr()
        nights["night"] = PlantedNight(home, printed + caught.out + caught.err)
    return nights["night"]


def _pattern(word: str) -> str:
    """A number stands for itself: a hash or a time may hold its digits by chance."""
    return rf"(^|[^0-9]){word}([^0-9]|$)" if word.isdigit() else re.escape(word)


def _held(text: str, words: Sequence[str]) -> list[str]:
    small = text.lower()
    return [word for word in words if re.search(_pattern(word), small)]


def _columns(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, str]]:
    yield from connection.execute(
        """
        select schema_name, table_name, column_name
        from duckdb_columns()
        where database_name = 'looked_at' and not internal
        order by all
        """
    ).fetchall()


def _words_by_column(database: Path, words: Sequence[str]) -> dict[tuple[str, str, str], list[str]]:
    """The columns of a database in whose cells one of the words stands, with these words."""
    found = {}
    with duckdb.connect() as connection:
        connection.execute(f"attach '{database}' as looked_at (read_only)")
        for schema, table, column in list(_columns(connection)):
            tests = ", ".join(
                f"count(*) filter (regexp_matches(told, '{_pattern(word)}')) as w{n}" for n, word in enumerate(words)
            )
            cells = f'select lower(cast("{column}" as varchar)) as told from looked_at."{schema}"."{table}"'
            counts = connection.execute(f"select {tests} from ({cells})").fetchone()
            assert counts is not None
            held = [word for word, count in zip(words, counts, strict=True) if count]
            if held:
                found[schema, table, column] = held
    return found


def test_a_column_that_names_or_reaches_a_person_is_marked_as_personal(planted: PlantedNight) -> None:
    """Of every table that a night makes, the working ones too; the tags are what publishing and erasing go by."""
    marked = {
        (stage, table["name"], column["name"])
        for stage in STAGES
        for table in described_tables(stage)
        for column in table["columns"]
        if ((column.get("config") or {}).get("meta") or {}).get("personal")
    } | {("landing", feed.name, column.name) for feed in feeds().values() for column in feed.columns if column.personal}
    # A line that could not be read, as it came: landing.rejected_rows is made of it.
    marked |= {("landing", feed, "_text") for feed in feeds()}
    held: dict[tuple[str, str, str], list[str]] = {}
    for database in (planted.home / "warehouse.duckdb", planted.home / "releases/current" / DATABASES["restricted"]):
        held |= _words_by_column(database, NAMES_THE_PERSON)
    assert len(held) > 40  # the search finds
    # What identity remembers is published nowhere, and goes as a whole with the working database.
    unmarked = {
        ".".join(column): words for column, words in held.items() if column not in marked and column[0] != "remembered"
    }
    assert not unmarked, unmarked


def test_what_a_person_wrote_is_in_no_table_for_analysts(planted: PlantedNight) -> None:
    analysts = planted.home / "releases/current" / DATABASES["analysts"]
    assert _words_by_column(analysts, ("plant1",))  # the shopper is there, by a number
    assert _words_by_column(analysts, NAMES_THE_PERSON + TYPED) == {}


def test_what_a_person_wrote_is_in_no_log_no_page_and_no_metadata(planted: PlantedNight) -> None:
    """Dagster's events and runs, dbt's artifacts, the report, the manifest, the registers: every other file."""
    may = {path for pattern in MAY_HOLD for path in planted.home.glob(pattern)}
    may |= set(planted.home.glob(f"releases/*/{DATABASES['restricted']}"))
    files = [path for path in planted.home.rglob("*") if path.is_file() and path.name != "run.lock"]
    others = [path for path in files if path not in may]
    assert {"dagster", "dbt", "releases"} <= {path.relative_to(planted.home).parts[0] for path in others}
    leaks = {
        path.relative_to(planted.home).as_posix(): words
        for path in others
        if (words := _held(path.read_bytes().decode("latin-1"), NAMES_THE_PERSON + TYPED))
    }
    assert leaks == {}
    assert {path.stat().st_mode & 0o077 for path in may if "releases" in path.parts} == {0}


def test_what_a_person_wrote_is_not_printed(planted: PlantedNight) -> None:
    assert "PLANT1" in planted.printed
    assert _held(planted.printed, NAMES_THE_PERSON + TYPED) == []
