"""What another answer to who is who would change, counted on a handful of records."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from dagster_project.domain.identity import read_model, resolve
from dagster_project.domain.identity.differences import AudienceChange, Differences, differences

AS_OF = date(2020, 7, 1)
MODEL = read_model()
NEVER = replace(MODEL, accept_weight=1000.0)
CAMILLE = {
    "email": "camille@mail.example",
    "phone": "+33639980001",
    "first_name": "Camille",
    "last_name": "Zimmerlin",
    "birth_date": "1980-05-17",
}
ROWS = {
    "shop_customers": [
        {"customer_id": "C1", "created_at": "2019-01-01", "updated_at": "2019-01-01", **CAMILLE},
        {
            "customer_id": "C2",
            "created_at": "2019-01-01",
            "updated_at": "2019-01-01",
            "email": "odile@mail.example",
            "first_name": "Odile",
            "last_name": "Abadie",
        },
    ],
    # Without the phone: what says the same is one profile, and no threshold parts it.
    "loyalty_members": [
        {"card_id": "K1", "enrolled_at": "2019-02-01", "updated_at": "2019-02-01", **CAMILLE, "phone": None}
    ],
    "pos_tickets": [
        {"ticket_id": "T1", "sold_at": "2019-04-01", "ticket_type": "sale", "loyalty_card_id": "K1"},
        {"ticket_id": "T2", "sold_at": "2019-04-02", "ticket_type": "sale", "email": "camille@mail.example"},
    ],
}
AMOUNTS = {"T1": 40, "T2": 15}


def after_identity(connection: duckdb.DuckDBPyConnection) -> None:
    """Transactions and an audience of everybody, as the later stages would make them."""
    connection.execute("create schema if not exists account; create schema if not exists audience")
    connection.execute(
        "create table account.transactions "
        "(transaction_id varchar, feed varchar, record_id varchar, account_id varchar, counted_amount decimal(18, 2))"
    )
    for record, amount in AMOUNTS.items():
        connection.execute(
            "insert into account.transactions select $1, 'pos_tickets', $1, "
            "(select account_id from identity.account_links where record_id = $1), $2",
            [record, amount],
        )
    connection.execute(
        "create table audience.members as select 'vip' as audience, 'email_tool' as destination, account_id "
        "from identity.anchors"
    )


@pytest.fixture
def compared(staging_database, tmp_path):
    """The differences from a release that was made with one model to the answer of another."""

    def run(before, after) -> Differences:
        path: Path = tmp_path / "cocanal.duckdb"
        released = staging_database(ROWS)
        resolve(released, as_of=AS_OF, run_id="night", previous=None, model=before)
        after_identity(released)
        released.execute(f"attach '{path}' as file")
        for schema, table in released.execute(
            "select table_schema, table_name from information_schema.tables "
            "where table_catalog = 'memory' and table_schema in ('identity', 'account', 'audience')"
        ).fetchall():
            released.execute(f"create schema if not exists file.{schema}")
            released.execute(f"create table file.{schema}.{table} as from memory.{schema}.{table}")
        released.close()
        connection = staging_database(ROWS)
        resolve(connection, as_of=AS_OF, run_id="dry run", previous=path, model=after)
        after_identity(connection)
        connection.execute(f"attach '{path}' as last_release (read_only)")
        return differences(connection, before="last_release", after="memory", run_id="dry run")

    return run


def test_the_same_model_changes_nothing(compared) -> None:
    found = compared(MODEL, MODEL)
    assert found.is_none
    assert (found.accounts_before, found.accounts_after) == (2, 2)
    assert (found.revenue.transactions, found.revenue.amount) == (2, Decimal(55))
    assert found.audiences == (AudienceChange("vip", "email_tool", 2, 2, 2, 0, 0),)
    assert found.sample == ()


def test_an_account_that_comes_apart_is_a_split_and_its_revenue_moves_or_becomes_anonymous(compared) -> None:
    """The card's ticket follows the card; the ticket with an e-mail that two accounts now have is nobody's."""
    found = compared(MODEL, NEVER)
    assert not found.is_none
    assert (found.split, found.merged, found.created, found.retired) == (1, 0, 0, 0)
    assert (found.accounts_before, found.accounts_after) == (2, 3)
    (change,) = found.sample
    assert change.event == "split"
    by_feed = {each.feed: each for each in found.records}
    moved = [record for each in found.records if each.feed != "pos_tickets" for record in each.sample]
    assert moved in (["C1"], ["K1"])
    assert by_feed["pos_tickets"].unlinked == 1
    assert "T2" in by_feed["pos_tickets"].sample
    money = found.revenue
    assert (money.anonymous_transactions, money.anonymous_amount) == (1, Decimal(15))
    assert (money.moved_amount, money.moved_transactions) in ((Decimal(40), 1), (Decimal(0), 0))
    assert (money.moved_transactions == 1) == (moved == ["K1"])
    assert found.audiences == (AudienceChange("vip", "email_tool", 2, 3, 2, 1, 0),)


def test_who_is_merged_has_not_left_the_audience_and_who_finds_an_account_is_identified(compared) -> None:
    found = compared(NEVER, MODEL)
    assert (found.split, found.merged, found.created, found.retired) == (0, 1, 0, 0)
    assert found.audiences == (AudienceChange("vip", "email_tool", 3, 2, 2, 0, 0),)
    assert (found.revenue.identified_transactions, found.revenue.identified_amount) == (1, Decimal(15))
    assert found.revenue.anonymous_transactions == 0
    (change,) = found.sample
    assert (change.event, change.other_account_id is not None) == ("merged", True)
