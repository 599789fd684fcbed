"""Who is joined and who is not: the cases that a shop knows by name."""

from datetime import date
from typing import Any

import pytest

from dagster_project.domain.identity import resolve

AS_OF = date(2020, 7, 1)


def customer(number: str, **said: Any) -> dict[str, Any]:
    return {"customer_id": number, "created_at": "2019-01-01", "updated_at": "2019-01-01", **said}


def card(number: str, **said: Any) -> dict[str, Any]:
    return {"card_id": number, "enrolled_at": "2019-02-01", "updated_at": "2019-02-01", **said}


def order(number: str, **said: Any) -> dict[str, Any]:
    return {"order_id": number, "ordered_at": "2019-03-01", "updated_at": "2019-03-01", **said}


def ticket(number: str, **said: Any) -> dict[str, Any]:
    return {"ticket_id": number, "sold_at": "2019-04-01", "ticket_type": "sale", **said}


def decision(number: str, left: str, right: str, word: str, **said: Any) -> dict[str, Any]:
    return {
        "decision_id": number,
        **dict(zip(("left_feed", "left_id"), left.split("|"), strict=True)),
        **dict(zip(("right_feed", "right_id"), right.split("|"), strict=True)),
        "decision": word,
        "decided_by": "steward",
        "decided_at": "2020-01-01",
        **said,
    }


@pytest.fixture
def resolved(staging_database):
    """Resolve the given records; the answer maps record numbers to small numbers of accounts, null = no account."""

    def run(customers=(), cards=(), orders=(), tickets=(), decisions=()):
        rows = {
            "shop_customers": list(customers),
            "loyalty_members": list(cards),
            "shop_orders": list(orders),
            "pos_tickets": list(tickets),
            "identity_decisions": list(decisions),
        }
        connection = staging_database(rows)
        resolve(connection, as_of=AS_OF, run_id="run", previous=None)
        return connection

    return run


def accounts(connection) -> dict[str, str]:
    """The account of every linked record, by record number."""
    return dict(connection.execute("select record_id, account_id from identity.account_links").fetchall())


def edges(connection, decision: str) -> set[tuple[str, str | None]]:
    """Rules and reasons of all edges with one decision."""
    return set(connection.execute("select rule, reason from identity.edges where decision = ?", [decision]).fetchall())


def test_one_person_with_account_card_and_guest_order_is_one_account(resolved):
    found = accounts(
        resolved(
            customers=[customer("C1", email="camille@mail.example", first_name="Camille")],
            cards=[card("K1", email="camille@mail.example", phone="+33639980001", first_name="CAMILLE")],
            orders=[order("O1", phone="+33639980001", first_name="C.")],
            tickets=[ticket("T1", loyalty_card_id="K1"), ticket("T2", email="camille@mail.example")],
        )
    )
    assert set(found) == {"C1", "K1", "O1", "T1", "T2"}
    assert len(set(found.values())) == 1


def test_a_shared_phone_does_not_merge_two_people(resolved):
    connection = resolved(
        customers=[
            customer("C1", phone="+33639980001", first_name="Jean"),
            customer("C2", phone="+33639980001", first_name="Jeanne"),
        ],
    )
    found = accounts(connection)
    assert found["C1"] != found["C2"]
    assert edges(connection, "refused") == {("phone", "given_name")}
    assert connection.execute("select distinct reason from identity.households").fetchall() == [("shared_phone",)]


def test_a_couple_with_one_email_stays_two_accounts_and_their_receipts_stay_anonymous(resolved):
    found = accounts(
        resolved(
            customers=[customer("C1", email="nous@mail.example", first_name="Jean-Pierre")],
            cards=[
                card("K1", email="nous@mail.example", first_name="Jean Pierre"),
                card("K2", email="nous@mail.example", first_name="Odile"),
            ],
            tickets=[ticket("T1", email="nous@mail.example"), ticket("T2", loyalty_card_id="K2")],
        )
    )
    assert found["C1"] == found["K1"] != found["K2"] == found["T2"]
    assert "T1" not in found


def test_twins_are_told_apart_by_their_given_name(resolved):
    found = accounts(
        resolved(
            customers=[
                customer("C1", email="twins@mail.example", first_name="Léa", birth_date="2000-05-17"),
                customer("C2", email="twins@mail.example", first_name="Lia", birth_date="2000-05-17"),
            ]
        )
    )
    assert found["C1"] != found["C2"]


def test_father_and_son_of_one_name_are_told_apart_by_their_birth_date(resolved):
    connection = resolved(
        customers=[
            customer("C1", phone="+33199000001", first_name="Michel", birth_date="1950-03-04"),
            customer("C2", phone="+33199000001", first_name="Michel", birth_date="1981-11-23"),
            customer("C3", phone="+33199000001", first_name="Michel", birth_date="1950-04-03"),
            customer("C4", phone="+33199000001", first_name="Michel"),
        ]
    )
    found = accounts(connection)
    assert found["C1"] == found["C3"]
    assert len({found["C1"], found["C2"], found["C4"]}) == 3
    assert edges(connection, "refused") == {("phone", "birth_date"), ("phone", "could_be_two_people")}


def test_a_default_birth_date_separates_nobody(resolved):
    found = accounts(
        resolved(
            customers=[
                customer("C1", email="a@mail.example", first_name="Ana", birth_date="1900-01-01"),
                customer("C2", email="a@mail.example", first_name="Ana", birth_date="1988-07-09"),
            ]
        )
    )
    assert found["C1"] == found["C2"]


def test_an_over_represented_birth_date_counts_as_none(resolved):
    clerks_date = [
        customer(f"X{n}", email=f"x{n}@mail.example", last_name=f"Name {chr(97 + n)}", birth_date="1985-01-15")
        for n in range(26)
    ] + [
        customer(f"Y{n}", email=f"y{n}@mail.example", last_name=f"Other {chr(97 + n)}", birth_date="1985-01-15")
        for n in range(10)
    ]
    found = accounts(
        resolved(
            customers=[
                *clerks_date,
                customer("C1", email="x1@mail.example", birth_date="1990-06-30"),
            ]
        )
    )
    assert found["C1"] == found["X1"]


def test_a_desk_email_joins_nobody_and_is_listed(resolved):
    names = ["Anne", "Bob", "Chloé", "Denis", "Eva", "Farid", "Gina", "Hugo"]
    connection = resolved(
        cards=[card(f"K{n}", email="desk@shop.example", first_name=name) for n, name in enumerate(names)]
        + [card("K9", email="desk@shop.example", first_name="Anne")],
        tickets=[ticket("T1", email="desk@shop.example")],
    )
    found = accounts(connection)
    assert len(set(found.values())) == len(names) + 1
    assert "T1" not in found
    assert connection.execute("from identity.demoted_identifiers select type, person_count, reason").fetchall() == [
        ("email", 8, "too_many_people")
    ]
    assert edges(connection, "accepted") == set()


@pytest.mark.parametrize("email", ["noreply@mail.example", "ne-pas-repondre@shop.example"])
def test_a_placeholder_email_joins_nobody(resolved, email):
    found = accounts(resolved(customers=[customer("C1", email=email), customer("C2", email=email)]))
    assert found["C1"] != found["C2"]


@pytest.mark.parametrize("phone", ["+33600000000", "+33612345678"])
def test_a_placeholder_phone_joins_nobody(resolved, phone):
    connection = resolved(customers=[customer("C1", phone=phone), customer("C2", phone=phone)])
    assert len(set(accounts(connection).values())) == 2
    assert connection.execute("select reason from identity.demoted_identifiers").fetchall() == [("blocked",)]


def test_a_cashiers_card_keeps_its_owner_and_loses_its_tickets(resolved):
    connection = resolved(
        cards=[card("K1", first_name="Cashier"), card("K2", first_name="Ana")],
        tickets=[ticket(f"T{n}", loyalty_card_id="K1", payment_token=f"p{n}") for n in range(40)]
        + [ticket(f"U{n}", loyalty_card_id="K2", payment_token="mine") for n in range(40)]
        + [ticket(f"V{n}", loyalty_card_id=f"K{n}", payment_token=f"v{n % 3}") for n in range(3, 90)],
    )
    found = accounts(connection)
    assert "K1" in found
    assert not any(f"T{n}" in found for n in range(40))
    assert all(found[f"U{n}"] == found["K2"] for n in range(40))


def test_a_card_shown_several_times_a_day_for_weeks_is_a_cashiers(resolved):
    busy = [ticket(f"T{n}", loyalty_card_id="K1", sold_at=f"2019-04-{1 + n // 4:02d}") for n in range(40)]
    once = [ticket(f"U{n}", loyalty_card_id="K2", sold_at="2019-04-01") for n in range(20)]
    connection = resolved(cards=[card("K1"), card("K2")], tickets=busy + once)
    found = accounts(connection)
    assert not any(f"T{n}" in found for n in range(40))
    assert found["U0"] == found["K2"]
    assert connection.execute("select type, reason from identity.demoted_identifiers").fetchall() == [
        ("card", "over_used")
    ]


def test_namesakes_without_a_common_identifier_are_two_accounts(resolved):
    same = {"first_name": "Marie", "last_name": "Martin", "city": "Lyon"}
    found = accounts(resolved(customers=[customer("C1", email="a@mail.example", **same), customer("C2", **same)]))
    assert found["C1"] != found["C2"]


def test_a_record_without_a_name_does_not_bridge_two_people(resolved):
    connection = resolved(
        customers=[
            customer("C1", email="marie@mail.example", first_name="Marie"),
            customer("C2", phone="+33639980001", first_name="Paul"),
        ],
        orders=[order("O1", email="marie@mail.example", phone="+33639980001")],
    )
    found = accounts(connection)
    assert found["O1"] == found["C1"] != found["C2"]
    assert ("phone", "other_given_names") in edges(connection, "refused")


def test_an_order_for_another_person_stays_with_the_account_that_ordered(resolved):
    connection = resolved(
        customers=[customer("C1", email="marie@mail.example", first_name="Marie")],
        orders=[order("O1", customer_id="C1", email="marie@mail.example", first_name="Paul", address_line1="1 rue A")],
    )
    found = accounts(connection)
    assert found["O1"] == found["C1"]
    assert len(set(found.values())) == 1


def test_a_card_is_its_holders_even_where_the_partner_attached_it(resolved):
    found = accounts(
        resolved(
            customers=[customer("C1", loyalty_card_id="K1", first_name="Jeanne")],
            cards=[card("K1", first_name="Karl")],
            tickets=[ticket("T1", loyalty_card_id="K1")],
        )
    )
    assert found["T1"] == found["K1"] != found["C1"]


def test_unknown_keys_found_an_account(resolved):
    connection = resolved(
        orders=[order("O1", customer_id="C9"), order("O2", customer_id="C9")],
        tickets=[
            ticket("T1", loyalty_card_id="K9"),
            ticket("T2", loyalty_card_id="K9"),
            ticket("T3", phone="+33639980009"),
        ],
    )
    found = accounts(connection)
    assert found["O1"] == found["O2"]
    assert found["T1"] == found["T2"]
    assert len(set(found.values())) == 3
    assert connection.execute("select count(*) from identity.account_links where not is_person_record").fetchall() == [
        (0,)
    ]


def test_a_guest_order_needs_a_contact_or_a_name_with_an_address(resolved):
    named = {"first_name": "Ana", "last_name": "Roux"}
    found = accounts(
        resolved(
            orders=[
                order("O1", **named),
                order("O2", **named, address_line1="1 rue A", postal_code="69001"),
                order("O3", email="ana@mail.example"),
                order("O4"),
            ]
        )
    )
    assert set(found) == {"O2", "O3"}


def test_a_payment_token_speaks_only_for_one_account(resolved):
    connection = resolved(
        cards=[card("K1"), card("K2")],
        tickets=[
            ticket("T1", loyalty_card_id="K1", payment_token="own"),
            ticket("T2", payment_token="own"),
            ticket("T7", loyalty_card_id="K1", payment_token="own"),
            ticket("T8", loyalty_card_id="K2", payment_token="once"),
            ticket("T9", payment_token="once"),
            ticket("T3", loyalty_card_id="K1", payment_token="shared"),
            ticket("T4", loyalty_card_id="K2", payment_token="shared"),
            ticket("T5", payment_token="shared"),
            ticket("T6", payment_token="unseen"),
        ],
    )
    found = accounts(connection)
    assert found["T2"] == found["T1"]
    assert not {"T5", "T9"} & set(found)
    assert "T6" not in found
    assert connection.execute(
        "select confidence from identity.account_links where rule = 'payment_token'"
    ).fetchall() == [(0.7,)]


def test_a_steward_joins_and_parts_and_can_be_revoked(resolved):
    people = [
        customer("C1", email="a@mail.example", first_name="Ana"),
        customer("C2", email="a@mail.example", first_name="Ana", city="Lyon"),
        customer("C3", first_name="Bea"),
    ]
    parted = decision("D1", "shop_customers|C1", "shop_customers|C2", "different")
    joined = decision("D2", "shop_customers|C1", "shop_customers|C3", "same")
    found = accounts(resolved(customers=people, decisions=[parted, joined]))
    assert found["C1"] == found["C3"] != found["C2"]
    revoked = accounts(
        resolved(
            customers=people, decisions=[{**parted, "revoked_at": "2020-06-01"}, {**joined, "revoked_at": "2020-06-01"}]
        )
    )
    assert revoked["C1"] == revoked["C2"] != revoked["C3"]


def test_one_address_and_one_family_name_make_a_household(resolved):
    connection = resolved(
        customers=[
            customer(
                "C1", first_name="Ana", last_name="D'Hérouville", address_line1="12 bd. Foch", postal_code="69001"
            ),
            customer(
                "C2",
                first_name="Zoé",
                last_name="d Herouville",
                address_line1="12, Boulevard FOCH",
                postal_code="69001",
            ),
            customer("C3", first_name="Luc", last_name="Petit", address_line1="12 bd Foch", postal_code="69001"),
        ]
    )
    assert connection.execute(
        "select count(*), count(distinct household_id), min(reason) from identity.households"
    ).fetchall() == [(2, 1, "address_and_name")]


def test_no_raw_identifier_leaves_in_a_table_for_analysts(resolved):
    connection = resolved(
        customers=[customer(f"C{n}", email="desk@shop.example", first_name=f"Name{chr(97 + n)}") for n in range(9)],
        orders=[order("O1", email="desk@shop.example")],
    )
    for table in (
        "demoted_identifiers",
        "account_links",
        "account_events",
        "account_redirects",
        "households",
        "anchors",
    ):
        text = str(connection.execute(f"from identity.{table}").fetchall())
        assert "@" not in text
