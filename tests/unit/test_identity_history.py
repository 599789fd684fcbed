"""Which account a record was in on a day that has passed, and why it moved."""

import re
from datetime import date
from pathlib import Path

import duckdb
import pytest

from dagster_project.domain.identity import resolve

WALK = Path(__file__).parents[2] / "docs" / "walk.md"
_RELEASED = ("account_links", "account_link_history", "anchors", "account_events", "account_redirects")

INES = {"first_name": "Inès", "last_name": "Caron", "created_at": "2019-01-01"}


def mail(name):
    return f"{name}@mail.example"


@pytest.fixture
def night(staging_database, tmp_path):
    """Run one night after another, each on the release of the one before; the night of 1 July 2020 is the first."""
    released = []

    def run(decisions=(), without=(), run_id=None, **feeds):
        connection = staging_database({**feeds, "identity_decisions": list(decisions)})
        number = len(released)
        resolve(
            connection,
            as_of=date(2020, 7, 1 + number),
            run_id=run_id or f"night {number}",
            previous=released[-1] if released else None,
        )
        path = tmp_path / f"{number}.duckdb"
        connection.execute(
            f"attach '{path}' as released; create schema released.identity; create schema released.account"
        )
        for table in _RELEASED:
            if table not in without:
                connection.execute(f"create table released.identity.{table} as from identity.{table}")
        connection.execute(
            """
            create table released.account.transactions as
            select 'pos_tickets' as feed, ticket_id as record_id from staging.stg_pos_tickets
            union all select 'shop_orders', order_id from staging.stg_shop_orders
            """
        )
        connection.execute("detach released")
        released.append(path)
        return connection

    return run


def ids(connection):
    return dict(connection.execute("select record_id, account_id from identity.account_links").fetchall())


def history(connection):
    return connection.execute(
        "select record_id, account_id, until_on, next_account_id from identity.account_link_history "
        "order by until_on, run_id, record_id"
    ).fetchall()


def as_of(connection, day):
    """The accounts of a day, by the query of the documentation."""
    (query,) = re.findall(r"<!-- as of a day -->\n\n```sql\n(.*?)```", WALK.read_text(encoding="utf-8"), re.DOTALL)
    query = query.replace("cocanal.identity", "identity")
    assert "date '2020-07-01'" in query
    return {record: account for _, record, account in connection.execute(
        query.replace("date '2020-07-01'", f"date '{day.isoformat()}'")
    ).fetchall()}  # fmt: skip


def events(connection):
    return connection.execute(
        "select event, account_id, other_account_id, cause from identity.account_events "
        "where run_id = (select max(run_id) from identity.account_events) order by all"
    ).fetchall()


def test_the_accounts_of_three_nights_can_be_read_from_the_last(night):
    one = {"customer_id": "C1", "email": mail("ines"), **INES}
    two = {"customer_id": "C2", "email": mail("i.caron"), "city": "Lyon", **INES}
    three = {"customer_id": "C3", "email": mail("i.caron"), "city": "Nantes", **INES}
    first = ids(night(shop_customers=[one, two, three]))
    assert first["C1"] != first["C2"] == first["C3"]
    second = ids(night(shop_customers=[{**one, "email": mail("i.caron")}, two, three]))
    assert set(second.values()) == {first["C2"]}
    last = night(shop_customers=[one, {**two, "email": mail("caron.i")}])
    third = ids(last)
    assert len({third["C1"], third["C2"]}) == 2

    assert as_of(last, date(2020, 7, 1)) == first
    assert as_of(last, date(2020, 7, 2)) == second
    assert as_of(last, date(2020, 7, 3)) == third
    assert as_of(last, date(2021, 1, 1)) == third


def test_a_night_that_changes_nothing_adds_nothing(night):
    people = [{"customer_id": f"C{n}", "email": mail(n), **INES} for n in range(3)]
    night(shop_customers=people)
    assert history(night(shop_customers=people)) == []
    night(shop_customers=people[:2])
    last = night(shop_customers=people[:2])
    assert [row[::2] for row in history(last)] == [("C2", date(2020, 7, 3))]


def test_a_merge_ends_the_time_in_the_account_that_is_redirected(night):
    one = {"customer_id": "C1", "email": mail("ines"), **INES}
    two = {"customer_id": "C2", "email": mail("i.caron"), "city": "Lyon", **INES}
    before = ids(night(shop_customers=[one, two, {**two, "customer_id": "C3"}]))
    last = night(shop_customers=[{**one, "email": mail("i.caron")}, two, {**two, "customer_id": "C3"}])
    assert history(last) == [("C1", before["C1"], date(2020, 7, 2), before["C2"])]


def test_a_record_that_vanishes_and_comes_back_was_in_no_account_meanwhile(night):
    people = [{"customer_id": f"C{n}", "email": mail(n), **INES} for n in range(2)]
    first = ids(night(shop_customers=people))
    night(shop_customers=people[:1])
    last = night(shop_customers=people)
    again = ids(last)["C1"]
    assert history(last) == [
        ("C1", first["C1"], date(2020, 7, 2), None),
        ("C1", None, date(2020, 7, 3), again),
    ]
    assert as_of(last, date(2020, 7, 1))["C1"] == first["C1"]
    assert "C1" not in as_of(last, date(2020, 7, 2))
    assert as_of(last, date(2020, 7, 3))["C1"] == again


def test_a_ticket_that_is_recognised_later_was_anonymous_before(night):
    ticket = {"ticket_id": "T1", "sold_at": "2020-06-01", "loyalty_card_id": "K1"}
    known = {"card_id": "K1", "enrolled_at": "2019-01-01", "first_name": "Inès"}
    unknown = {"ticket_id": "T2", "sold_at": "2020-06-01"}
    night(pos_tickets=[unknown])
    night(pos_tickets=[{**ticket, "loyalty_card_id": None}, unknown])
    last = night(pos_tickets=[ticket, unknown], loyalty_members=[known])
    account = ids(last)["T1"]
    assert history(last) == [("T1", None, date(2020, 7, 3), account)]
    assert as_of(last, date(2020, 7, 2)).keys() & {"T1", "T2"} == set()
    assert as_of(last, date(2020, 7, 3))["T1"] == account


def test_of_two_builds_of_one_day_the_later_one_is_that_days(night):
    people = [{"customer_id": "C1", "email": mail("ines"), **INES}, {"customer_id": "C2", "email": mail("c"), **INES}]
    night(shop_customers=people)
    first = ids(night(shop_customers=people[:1]))
    with duckdb.connect() as connection:
        connection.execute("create schema identity")
        connection.execute("create table identity.account_links (feed varchar, record_id varchar, account_id varchar)")
        connection.execute(
            """
            create table identity.account_link_history as
            from (values ('shop_customers', 'C1', 'A1', date '2020-07-02', 'A2', 'run 1'),
                ('shop_customers', 'C1', 'A2', date '2020-07-02', 'A3', 'run 2'))
                as rows (feed, record_id, account_id, until_on, next_account_id, run_id)
            """
        )
        connection.execute("insert into identity.account_links values ('shop_customers', 'C1', 'A3')")
        assert as_of(connection, date(2020, 7, 1)) == {"C1": "A1"}
        assert as_of(connection, date(2020, 7, 2)) == {"C1": "A3"}
    assert list(first) == ["C1"]


def test_a_release_of_an_earlier_version_has_no_history_and_the_next_begins_one(night):
    people = [{"customer_id": f"C{n}", "email": mail(n), **INES} for n in range(2)]
    first = ids(night(shop_customers=people, without=("account_link_history",)))
    assert history(night(shop_customers=people[:1])) == [("C1", first["C1"], date(2020, 7, 2), None)]


def test_in_a_merge_the_side_with_more_web_accounts_and_cards_stays(night):
    """The other side has more records in all, and is the older one: four guest orders and a web account."""
    busy = {"email": mail("ines"), **INES}
    orders = [
        {
            "order_id": f"O{n}",
            "ordered_at": "2018-01-01",
            "email": mail("ines"),
            "first_name": "Inès",
            "last_name": "Caron",
        }
        for n in range(4)
    ]
    card = {
        "card_id": "K1",
        "email": mail("i.caron"),
        "first_name": "Inès",
        "last_name": "Caron",
        "enrolled_at": "2020-01-01",
    }
    two = {"customer_id": "C2", "email": mail("i.caron"), "city": "Lyon", **INES, "created_at": "2020-01-01"}
    before = ids(night(shop_customers=[{"customer_id": "C1", **busy}, two], shop_orders=orders, loyalty_members=[card]))
    assert before["C1"] == before["O0"] != before["C2"] == before["K1"]
    last = night(
        shop_customers=[{"customer_id": "C1", **busy}, {**two, "email": mail("ines")}],
        shop_orders=orders,
        loyalty_members=[{**card, "email": mail("ines")}],
    )
    assert set(ids(last).values()) == {before["C2"]}
    assert {row[0] for row in history(last)} == {"C1", "O0", "O1", "O2", "O3"}


def test_of_two_sides_with_as_many_web_accounts_the_one_with_more_records_stays(night):
    orders = [
        {
            "order_id": f"O{n}",
            "ordered_at": "2020-01-01",
            "email": mail("i.caron"),
            "first_name": "Inès",
            "last_name": "Caron",
        }
        for n in range(2)
    ]
    one = {"customer_id": "C1", "email": mail("ines"), **INES}
    two = {"customer_id": "C2", "email": mail("i.caron"), "city": "Lyon", **INES}
    before = ids(night(shop_customers=[one, two], shop_orders=orders))
    assert before["C1"] != before["C2"] == before["O0"]
    last = night(shop_customers=[{**one, "email": mail("i.caron")}, two], shop_orders=orders)
    assert set(ids(last).values()) == {before["C2"]}
    assert [row[0] for row in history(last)] == ["C1"]


def test_a_merge_names_the_pair_that_bridges_and_none_within_a_side(night):
    """Within the smaller side is a pair that is stronger than the bridge; it is not the cause."""
    born = {**INES, "birth_date": "1988-02-03"}
    small = [
        {"customer_id": "C1", "email": mail("ines"), "phone": "+33639980001", "city": "Lyon", **born},
        {"customer_id": "C2", "email": mail("ines"), "phone": "+33639980001", "city": "Nantes", **born},
    ]
    large = [{"customer_id": f"D{n}", "email": mail("i.caron"), "city": f"Town {n}x", **INES} for n in range(3)]
    before = ids(night(shop_customers=[*small, *large]))
    assert before["C1"] == before["C2"] != before["D0"] == before["D2"]
    bridge = {"customer_id": "N1", "email": mail("ines"), "phone": None, **INES}
    last = night(shop_customers=[*small, *large, {**bridge, "email": mail("i.caron"), "phone": "+33639980001"}])
    merged = [row for row in events(last) if row[0] == "merged"]
    ((_, account, other, cause),) = merged
    assert (account, other) == (before["C1"], before["D0"])
    assert "shop_customers|N1" in cause or "shop_customers|D" in cause
    assert not ("|C1" in cause and "|C2" in cause)


def test_a_merge_of_records_that_now_say_the_same_says_so(night):
    one = {"customer_id": "C1", "email": mail("ines"), **INES}
    two = {"customer_id": "C2", "email": mail("i.caron"), **INES}
    before = ids(night(shop_customers=[one, two]))
    last = night(shop_customers=[one, {**two, "email": mail("ines")}])
    ((event, account, other, cause),) = events(last)
    assert (event, {account, other}) == ("merged", set(before.values()))
    assert cause == "same content, shop_customers|C1 - shop_customers|C2" or cause == (
        "same content, shop_customers|C2 - shop_customers|C1"
    )


def test_a_split_by_a_steward_names_the_decision(night):
    people = [{"customer_id": f"C{n}", "email": mail("ines"), "city": f"Town {n}x", **INES} for n in range(2)]
    different = {
        "decision_id": "D1", "left_feed": "shop_customers", "left_id": "C0", "right_feed": "shop_customers",
        "right_id": "C1", "decision": "different", "decided_by": "steward", "decided_at": "2020-01-01",
    }  # fmt: skip
    before = ids(night(shop_customers=people))
    last = night(shop_customers=people, decisions=[different])
    ((event, account, other, cause),) = events(last)
    assert (event, other) == ("split", before["C0"])
    assert account not in before.values()
    assert cause == "decision: declared_different, shop_customers|C0 - shop_customers|C1"
