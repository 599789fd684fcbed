"""Who is joined and who is not: the cases that a shop knows by name."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from dagster_project.domain.identity import read_policy, resolve

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


def without(person: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in person.items() if name not in names}


CAMILLE = {
    "first_name": "Camille", "last_name": "Moreau", "birth_date": "1986-04-12", "phone": "+33465710001",
    "address_line1": "14 rue des Remparts", "postal_code": "44000", "city": "Nantes",
}  # fmt: skip
TWIN = {
    "last_name": "Fontaine", "birth_date": "1997-06-21", "phone": "+33199000010",
    "address_line1": "22 quai de la Fosse", "postal_code": "44100", "city": "Rezé",
}  # fmt: skip
MICHEL = {
    "first_name": "Michel", "last_name": "Bernard", "address_line1": "8 impasse du Moulin", "postal_code": "49000",
    "city": "Angers",
}  # fmt: skip

# Two records each, by what is odd about them. All are resolved together, so every case has names, numbers and dates of
# its own; phones are of the ranges that are kept for fiction.
Pair = tuple[dict[str, Any], dict[str, Any]]
ONE_PERSON: dict[str, Pair] = {
    "a hyphen": (
        {"first_name": "Jean-Pierre", "last_name": "Aubert", "email": "jpa@mail.example"},
        {"first_name": "Jean Pierre", "last_name": "AUBERT", "email": "jpa@mail.example"},
    ),
    "a compound name in one word": (
        {"first_name": "Jean-Pierre", "last_name": "Barbier", "phone": "+33639980101"},
        {"first_name": "JEANPIERRE", "last_name": "Barbier", "phone": "+33639980101"},
    ),
    "a compound name as initials": (
        {"first_name": "Jean-Pierre", "last_name": "Collet", "email": "collet@mail.example"},
        {"first_name": "JP", "last_name": "Collet", "email": "collet@mail.example"},
    ),
    "half of a compound name": (
        {"first_name": "Jean-Pierre", "last_name": "Daniel", "email": "daniel@mail.example"},
        {"first_name": "Jean", "last_name": "Daniel", "email": "daniel@mail.example"},
    ),
    "an accent, an apostrophe and capitals": (
        {"first_name": "Zoé", "last_name": "D'Hérouville", "email": "zdh@mail.example"},
        {"first_name": "ZOE", "last_name": "DHEROUVILLE", "email": "ZDH@mail.example"},
    ),
    "another quotation mark": (
        {"first_name": "Zoé", "last_name": "L’Héritier", "email": "zlh@mail.example"},
        {"first_name": "Zoe", "last_name": "L Heritier", "email": "zlh@mail.example"},
    ),
    "mojibake": (
        {"first_name": "Hélène", "last_name": "Lefèvre", "email": "hl@mail.example"},
        {"first_name": "HÃ©lÃ¨ne", "last_name": "LefÃ¨vre", "email": "hl@mail.example"},
    ),
    "HTML escapes": (
        {"first_name": "Aimée", "last_name": "Evrard", "email": "aime@mail.example"},
        {"first_name": "Aim&eacute;e", "last_name": "Evrard", "email": "aime@mail.example"},
    ),
    "a particle that moves": (
        {"first_name": "Hugues", "last_name": "de La Fontaine", "email": "hdlf@mail.example"},
        {"first_name": "Hugues", "last_name": "LA FONTAINE (DE)", "email": "hdlf@mail.example"},
    ),
    "a particle that is left out": (
        {"first_name": "Gaspard", "last_name": "de Villiers", "phone": "+33639980102"},
        {"first_name": "Gaspard", "last_name": "Villiers", "phone": "+33639980102"},
    ),
    "maiden and married name": (
        {"first_name": "Sylvie", "last_name": "Masson", "birth_date": "1971-02-13", "email": "sylvie@masson.example"},
        {"first_name": "Sylvie", "last_name": "Perrot née Masson", "birth_date": "1971-02-13"},
    ),
    "a married name that has nothing of the maiden name": (
        {"first_name": "Audrey", "last_name": "Noël", "birth_date": "1982-10-23", "email": "audrey@mail.example"},
        {"first_name": "Audrey", "last_name": "Vasseur", "birth_date": "1982-10-23", "email": "audrey@mail.example"},
    ),
    "a double-barrelled name": (
        {"first_name": "Nadine", "last_name": "Rivière-Ollivier", "phone": "+33639980103"},
        {"first_name": "Nadine", "last_name": "Ollivier", "phone": "+33639980103"},
    ),
    "first and last name swapped": (
        {"first_name": "Philippe", "last_name": "Besnard", "email": "besnard@mail.example"},
        {"first_name": "Besnard", "last_name": "Philippe", "email": "besnard@mail.example"},
    ),
    "the whole name in the first field": (
        {"first_name": "Laure", "last_name": "Cordier", "phone": "+33639980104"},
        {"first_name": "Laure Cordier", "phone": "+33639980104"},
    ),
    "a title before the name": (
        {"first_name": "Fabienne", "last_name": "Delattre", "email": "delattre@mail.example"},
        {"first_name": "Mme Fabienne", "last_name": "DELATTRE", "email": "delattre@mail.example"},
    ),
    "a title and an initial": (
        {"first_name": "Fabienne", "last_name": "Etienne", "email": "etienne@mail.example"},
        {"first_name": "MME F.", "last_name": "ETIENNE", "email": "etienne@mail.example"},
    ),
    "a short form": (
        {"first_name": "Catherine", "last_name": "Ferrand", "birth_date": "1964-03-08", "postal_code": "35000"},
        {"first_name": "Cathy", "last_name": "Ferrand", "birth_date": "1964-03-08", "postal_code": "35000"},
    ),
    "two spellings of one sound": (
        {"first_name": "Mathieu", "last_name": "Grondin", "email": "grondin@mail.example"},
        {"first_name": "Matthieu", "last_name": "Grondin", "email": "grondin@mail.example"},
    ),
    "a letter that is no name": (
        {"first_name": "Sébastien", "last_name": "Hamel", "email": "hamel@mail.example"},
        {"first_name": "Sébastein", "last_name": "Hamel", "email": "hamel@mail.example"},
    ),
    "a second given name": (
        {"first_name": "Thérèse", "last_name": "Imbert", "birth_date": "1959-08-17", "city": "Pau"},
        {"first_name": "Thérèse Marie Louise", "last_name": "Imbert", "birth_date": "1959-08-17", "city": "Pau"},
    ),
    "a slip in the domain": (
        {"first_name": "Arnaud", "last_name": "Jacquot", "email": "arnaud.jacquot@gmail.com"},
        {"first_name": "Arnaud", "last_name": "Jacquot", "email": "arnaud.jacquot@gmial.com"},
    ),
    "the tag and the dots of a mailbox": (
        {"first_name": "Bérénice", "last_name": "Klein", "email": "berenice.klein@gmail.com"},
        {"first_name": "Bérénice", "last_name": "Klein", "email": "bereniceklein+shop@googlemail.com"},
    ),
    "a slip in the mailbox": (
        {"first_name": "Clotilde", "last_name": "Langlois", "email": "clotilde.langlois@mail.example"},
        {"first_name": "Clotilde", "last_name": "Langlois", "email": "clotilde.langlios@mail.example"},
    ),
    "a wrong digit in the phone": (
        {"first_name": "Delphine", "last_name": "Mahieu", "phone": "+33639980105", "postal_code": "59000"},
        {"first_name": "Delphine", "last_name": "Mahieu", "phone": "+33639980165", "postal_code": "59000"},
    ),
    "a birth date that a form fills in": (
        {"first_name": "Edgar", "last_name": "Nicolas", "email": "edgar@mail.example", "birth_date": "1900-01-01"},
        {"first_name": "Edgar", "last_name": "Nicolas", "email": "edgar@mail.example", "birth_date": "1988-07-09"},
    ),
    "the day of the form as birth date": (
        {"first_name": "Fernand", "last_name": "Olivier", "email": "fernand@mail.example", "birth_date": "2019-01-01"},
        {"first_name": "Fernand", "last_name": "Olivier", "email": "fernand@mail.example", "birth_date": "1951-12-09"},
    ),
    "day and month swapped": (
        {"first_name": "Gisèle", "last_name": "Picard", "birth_date": "1962-03-07", "postal_code": "06000"},
        {"first_name": "Gisèle", "last_name": "Picard", "birth_date": "1962-07-03", "postal_code": "06000"},
    ),
    "the wrong century": (
        {"first_name": "Henri", "last_name": "Quentin", "email": "henri@mail.example", "birth_date": "1938-05-21"},
        {"first_name": "Henri", "last_name": "Quentin", "email": "henri@mail.example", "birth_date": "2038-05-21"},
    ),
    "a street that is written in two ways": (
        {"first_name": "Irène", "last_name": "Rolland", "address_line1": "12 bis, av. du Gal de Gaulle",
         "postal_code": "69003", "city": "LYON CEDEX 03"},
        {"first_name": "Irène", "last_name": "Rolland", "address_line1": "12BIS AVENUE DU GENERAL DE GAULLE",
         "postal_code": "69003", "city": "Lyon"},
    ),
    "an address with a building": (
        {"first_name": "Joëlle", "last_name": "Salmon", "address_line1": "Bât. B, apt 12, 7 rue Pasteur",
         "postal_code": "80000"},
        {"first_name": "Joëlle", "last_name": "Salmon", "address_line1": "7 rue Pasteur", "postal_code": "80000"},
    ),
    "a move": (
        {"first_name": "Karine", "last_name": "Tessier", "email": "karine.tessier@mail.example",
         "address_line1": "3 rue Haute", "postal_code": "13001", "city": "Marseille"},
        {"first_name": "Karine", "last_name": "Tessier", "email": "karine.tessier@mail.example",
         "address_line1": "9 place du Marché", "postal_code": "67000", "city": "Strasbourg"},
    ),
}  # fmt: skip

# The same for two people, with the reason of the refusal; null where nothing ever spoke for a union.
TWO_PEOPLE: dict[str, tuple[str | None, Pair]] = {
    "twins": ("given_name", ({"first_name": "Emma", **TWIN}, {"first_name": "Léa", **TWIN})),
    "twins of one mailbox and names of three letters": (
        "given_name",
        (
            {"first_name": "Léa", "last_name": "Albin", "email": "nous@albin.example", "birth_date": "2000-05-17"},
            {"first_name": "Mia", "last_name": "Albin", "email": "nous@albin.example", "birth_date": "2000-05-17"},
        ),
    ),
    "a couple of one mailbox": (
        "given_name",
        (
            {"first_name": "Jean-Pierre", "last_name": "Blin", "email": "nous@blin.example"},
            {"first_name": "Jeanne", "last_name": "Blin", "email": "nous@blin.example"},
        ),
    ),
    "two known names one letter apart": (
        "given_name",
        (
            {"first_name": "Julien", "last_name": "Carre", "email": "carre@mail.example", "phone": "+33639980201"},
            {"first_name": "Julie", "last_name": "Carre", "email": "carre@mail.example", "phone": "+33639980201"},
        ),
    ),
    "Emma and Emmy": (
        "given_name",
        (
            {"first_name": "Emma", "last_name": "Drouet", "email": "drouet@mail.example", "birth_date": "1999-02-03"},
            {"first_name": "Emmy", "last_name": "Drouet", "email": "drouet@mail.example", "birth_date": "1999-02-03"},
        ),
    ),
    "a compound name and its neighbour": (
        "given_name",
        (
            {"first_name": "Jean-Pierre", "last_name": "Esnault", "phone": "+33639980202"},
            {"first_name": "Jean-Paul", "last_name": "Esnault", "phone": "+33639980202"},
        ),
    ),
    "father and son of one name": (
        "birth_date",
        (
            {**MICHEL, "phone": "+33261910020", "birth_date": "1948-03-02"},
            {**MICHEL, "phone": "+33261910020", "birth_date": "1976-11-19", "email": "michel.bernard76@mail.example"},
        ),
    ),
    "father and son where the son's birth date is not known": (
        "could_be_two_people",
        (
            {"first_name": "Alain", "last_name": "Foulon", "address_line1": "2 rue des Lilas", "postal_code": "72000",
             "phone": "+33261910021", "email": "a.foulon@poste.example", "birth_date": "1950-04-08"},
            {"first_name": "Alain", "last_name": "Foulon", "address_line1": "2 rue des Lilas", "postal_code": "72000",
             "phone": "+33639980203", "email": "alainfoulon76@mail.example"},
        ),
    ),
    "namesakes": (
        None,
        (
            {"first_name": "Marie", "last_name": "Martin", "city": "Grenoble", "email": "marie1@mail.example"},
            {"first_name": "Marie", "last_name": "Martin", "city": "Grenoble", "email": "mmartin@poste.example"},
        ),
    ),
    "namesakes of two birth dates in one street": (
        None,
        (
            {"first_name": "Nathalie", "last_name": "Gros", "birth_date": "1961-02-02", "postal_code": "21000",
             "address_line1": "4 rue Verte"},
            {"first_name": "Nathalie", "last_name": "Gros", "birth_date": "1994-09-15", "postal_code": "21000",
             "address_line1": "88 rue Verte"},
        ),
    ),
    "flatmates": (
        None,
        (
            {"first_name": "Hector", "last_name": "Ibanez", "address_line1": "6 rue Bleue", "postal_code": "34000"},
            {"first_name": "Norah", "last_name": "Jolly", "address_line1": "6 rue Bleue", "postal_code": "34000"},
        ),
    ),
    "colleagues of one landline": (
        "given_name",
        (
            {"first_name": "Oscar", "last_name": "Klee", "phone": "+33536490101"},
            {"first_name": "Paule", "last_name": "Lopez", "phone": "+33536490101"},
        ),
    ),
    "a phone that was given to somebody else": (
        "given_name",
        (
            {"first_name": "Quentin", "last_name": "Marc", "phone": "+33639980204", "created_at": "2012-01-01"},
            {"first_name": "Rachel", "last_name": "Noir", "phone": "+33639980204"},
        ),
    ),
}  # fmt: skip


def in_one_warehouse(staging_database, pairs):
    """A warehouse with the left record of each pair as web account, the right one as card, numbered by place."""
    connection = staging_database(
        {
            "shop_customers": [customer(f"C{n}", **left) for n, (left, _) in enumerate(pairs)],
            "loyalty_members": [card(f"K{n}", **right) for n, (_, right) in enumerate(pairs)],
        }
    )
    resolve(connection, as_of=AS_OF, run_id="run", previous=None)
    return connection


@pytest.fixture(scope="module")
def one_person_each(staging_database):
    return in_one_warehouse(staging_database, list(ONE_PERSON.values()))


@pytest.fixture(scope="module")
def two_people_each(staging_database):
    return in_one_warehouse(staging_database, [pair for _, pair in TWO_PEOPLE.values()])


@pytest.mark.parametrize("oddity", ONE_PERSON)
def test_two_records_of_one_person_are_one_account_in_spite_of(one_person_each, oddity):
    number = list(ONE_PERSON).index(oddity)
    found = accounts(one_person_each)
    assert found[f"C{number}"] == found[f"K{number}"]


def test_nobody_else_is_joined_with_them(one_person_each):
    assert len(set(accounts(one_person_each).values())) == len(ONE_PERSON)


@pytest.mark.parametrize("who", TWO_PEOPLE)
def test_two_people_stay_two_accounts_and_the_refusal_says_why(two_people_each, who):
    number = list(TWO_PEOPLE).index(who)
    found = accounts(two_people_each)
    assert found[f"C{number}"] != found[f"K{number}"]
    refused = two_people_each.execute(
        """
        select any_value(reason) from identity.edges
        where decision = 'refused' and left_record_id = ? and right_record_id = ?
        """,
        [f"C{number}", f"K{number}"],
    ).fetchall()
    assert refused == [(TWO_PEOPLE[who][0],)]


def test_nobody_of_them_is_joined_with_anybody(two_people_each):
    assert len(set(accounts(two_people_each).values())) == 2 * len(TWO_PEOPLE)


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
    assert edges(connection, "refused") == {("phone", "birth_date"), ("phone", "too_little_evidence")}


def test_a_record_that_fits_father_and_son_joins_neither(resolved):
    phone = {"phone": "+33261910020"}
    connection = resolved(
        customers=[
            customer("C1", birth_date="1948-03-02", **MICHEL, **phone),
            customer("C2", birth_date="1976-11-19", **MICHEL, **phone),
        ],
        cards=[card("K1", **MICHEL, **phone)],
        tickets=[ticket("T1", loyalty_card_id="K1"), ticket("T2", **phone)],
    )
    found = accounts(connection)
    assert len({found["C1"], found["C2"], found["K1"]}) == 3
    assert found["T1"] == found["K1"]
    assert "T2" not in found
    assert edges(connection, "refused") == {("phone", "birth_date"), ("phone", "could_be_two_people")}
    assert connection.execute(
        "select count(distinct household_id), min(reason) from identity.households"
    ).fetchall() == [(1, "address_and_name")]


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
                customer("C1", email="x1@mail.example", last_name="Name b", birth_date="1950-06-30"),
            ]
        )
    )
    assert found["C1"] == found["X1"]
    assert len(set(found.values())) == len(clerks_date)


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


def test_a_placeholder_email_or_phone_joins_nobody(resolved):
    nobodys = [
        {"email": "noreply@mail.example"},
        {"email": "ne-pas-repondre@shop.example"},
        {"phone": "+33600000000"},
        {"phone": "+33612345678"},
    ]
    connection = resolved(customers=[customer(f"C{n}", **nobodys[n % 4]) for n in range(8)])
    assert len(set(accounts(connection).values())) == 8
    assert connection.execute(
        "select type, reason, count(*) from identity.demoted_identifiers group by all order by all"
    ).fetchall() == [("email", "blocked", 2), ("phone", "blocked", 2)]


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
    assert edges(connection, "accepted") == set()


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
            *(ticket(f"T{n}", loyalty_card_id="K1", payment_token="own") for n in range(3)),
            ticket("T3", payment_token="own"),
            *(ticket(f"U{n}", loyalty_card_id="K1", payment_token="twice") for n in range(2)),
            ticket("U2", payment_token="twice"),
            *(ticket(f"V{n}", loyalty_card_id=f"K{1 + n % 2}", payment_token="shared") for n in range(9)),
            ticket("V9", payment_token="shared"),
            ticket("W0", payment_token="unseen"),
        ],
    )
    found = accounts(connection)
    assert found["T3"] == found["K1"]
    assert not {"U2", "V9", "W0"} & set(found)
    assert connection.execute(
        "select confidence from identity.account_links where rule = 'payment_token'"
    ).fetchall() == [(0.7,)]


def test_a_payment_token_speaks_only_around_the_time_in_which_it_was_seen(resolved):
    found = accounts(
        resolved(
            cards=[card("K1", first_name="Ana")],
            tickets=[
                *(ticket(f"T{n}", loyalty_card_id="K1", payment_token="p", sold_at=f"2019-0{n}-01") for n in (4, 5, 6)),
                ticket("EARLY", payment_token="p", sold_at="2018-11-01"),
                ticket("BEFORE", payment_token="p", sold_at="2018-12-15"),
                ticket("BETWEEN", payment_token="p", sold_at="2019-05-15"),
                ticket("AFTER", payment_token="p", sold_at="2019-09-15"),
                ticket("LATE", payment_token="p", sold_at="2019-11-01"),
            ],
        )
    )  # fmt: skip
    assert {"BEFORE", "BETWEEN", "AFTER"} == set(found) & {"EARLY", "BEFORE", "BETWEEN", "AFTER", "LATE"}
    assert len(set(found.values())) == 1


def test_a_payment_token_says_nothing_of_who_lives_with_others(resolved):
    home = {"last_name": "Lefèvre", "address_line1": "3 rue Haute", "postal_code": "31000"}
    found = accounts(
        resolved(
            cards=[card("K1", first_name="Jean-Pierre", **home), card("K2", first_name="Jeanne", **home)],
            tickets=[
                *(ticket(f"T{n}", loyalty_card_id="K1", payment_token="joint") for n in range(5)),
                ticket("T9", payment_token="joint"),
            ],
        )
    )
    assert found["T0"] == found["K1"]
    assert "T9" not in found


def test_a_card_of_which_only_the_number_is_known_keeps_its_tickets(resolved):
    found = accounts(
        resolved(
            cards=[card("K1"), card("K2", email="ana@mail.example")],
            tickets=[
                ticket("T1", loyalty_card_id="K1"),
                ticket("T2", loyalty_card_id="K2", email="ana@mail.example"),
                ticket("T3", email="ana@mail.example"),
            ],
        )
    )
    assert found["T1"] == found["K1"] != found["K2"] == found["T2"] == found["T3"]


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


ANA = {"first_name": "Ana", "last_name": "Roux", "email": "ana.roux@mail.example"}


def test_a_steward_parts_two_records_that_say_the_same(resolved):
    """Two web accounts, two guest orders, and a web account and a card of one number."""
    hugo = {"first_name": "Hugo", "last_name": "Petit", "email": "hugo.petit@mail.example"}
    ines = {"first_name": "Inès", "last_name": "Caron", "email": "ines.caron@mail.example"}
    people = {
        "customers": [customer("C1", **ANA), customer("C2", **ANA), customer("1001", **ines)],
        "orders": [order("O1", **hugo), order("O2", **hugo)],
        "cards": [card("1001", **ines)],
    }
    parted = [
        decision("D1", "shop_customers|C1", "shop_customers|C2", "different"),
        decision("D2", "shop_orders|O2", "shop_orders|O1", "different"),
        decision("D3", "shop_customers|1001", "loyalty_members|1001", "different"),
    ]
    linked = "select count(*), count(distinct account_id) from identity.account_links"
    assert resolved(**people, decisions=parted).execute(linked).fetchall() == [(6, 6)]
    revoked = [{**word, "revoked_at": "2020-06-01"} for word in parted]
    assert resolved(**people, decisions=revoked).execute(linked).fetchall() == [(6, 3)]


def test_a_third_record_that_fits_both_parted_ones_joins_neither_unless_a_steward_says_so(resolved):
    people = [customer(number, **ANA) for number in ("C1", "C2", "C3")]
    parted = decision("D1", "shop_customers|C1", "shop_customers|C2", "different")
    connection = resolved(customers=people, decisions=[parted])
    assert len(set(accounts(connection).values())) == 3
    assert edges(connection, "refused") == {
        ("email", "declared_different"), ("decision", "declared_different"), ("email", "could_be_two_people"),
    }  # fmt: skip
    joined = decision("D2", "shop_customers|C2", "shop_customers|C3", "same")
    found = accounts(resolved(customers=people, decisions=[parted, joined]))
    assert found["C1"] != found["C2"] == found["C3"]


def test_a_stewards_same_joins_even_two_names_and_of_two_decisions_the_later_counts(resolved):
    people = [
        customer("C1", first_name="Emma", last_name="Roux", birth_date="1980-01-02"),
        customer("C2", first_name="Julie", last_name="Petit", birth_date="1950-01-03"),
    ]
    same = decision("D1", "shop_customers|C1", "shop_customers|C2", "same")
    found = accounts(resolved(customers=people, decisions=[same]))
    assert found["C1"] == found["C2"]
    later = decision("D0", "shop_customers|C2", "shop_customers|C1", "different", decided_at="2020-02-01")
    found = accounts(resolved(customers=people, decisions=[same, later]))
    assert found["C1"] != found["C2"]
    tomorrow = {**later, "decided_at": "2020-07-02"}
    found = accounts(resolved(customers=people, decisions=[same, tomorrow]))
    assert found["C1"] == found["C2"]


def test_a_steward_places_a_ticket_and_takes_one_away(resolved):
    found = accounts(
        resolved(
            customers=[customer("C1", **ANA), customer("C2", first_name="Bea", email="bea@mail.example")],
            tickets=[
                ticket("T1", email="ana.roux@mail.example"),
                ticket("T2", email="ana.roux@mail.example"),
                ticket("T3", email="ana.roux@mail.example"),
                ticket("T4", payment_token="p"),
            ],
            decisions=[
                decision("D1", "pos_tickets|T1", "shop_customers|C2", "same"),
                decision("D2", "pos_tickets|T2", "shop_customers|C1", "different"),
                decision("D3", "pos_tickets|T4", "shop_customers|C1", "same"),
            ],
        )
    )
    assert found["T1"] == found["C2"]
    assert "T2" not in found
    assert found["T3"] == found["T4"] == found["C1"]


def test_a_stewards_word_about_a_ticket_goes_before_its_payment_token(resolved):
    connection = resolved(
        customers=[customer("C1", **ANA)],
        tickets=[
            *(ticket(f"T{n}", email="ana.roux@mail.example", payment_token="p") for n in range(3)),
            *(ticket(f"U{n}", payment_token="p") for n in range(3)),
        ],
        decisions=[
            decision("D1", "pos_tickets|U1", "shop_customers|C1", "different"),
            decision("D2", "pos_tickets|U2", "shop_customers|C1", "same"),
        ],
    )
    found = connection.execute("select record_id, account_id from identity.account_links order by all").fetchall()
    linked = dict(found)
    assert len(found) == len(linked), "a record stands twice"
    assert linked["U0"] == linked["U2"] == linked["C1"]
    assert "U1" not in linked


def test_a_phone_that_was_given_anew_stands_for_each_holder_in_his_time(resolved):
    phone = "+33639980001"
    found = accounts(
        resolved(
            customers=[
                customer("C1", first_name="Ana", last_name="Roux", phone=phone, created_at="2015-01-01"),
                customer("C2", first_name="Hugo", last_name="Petit", phone=phone, created_at="2018-01-01"),
            ],
            tickets=[
                ticket("T1", phone=phone, sold_at="2014-12-01"),
                ticket("T2", phone=phone, sold_at="2015-06-01"),
                ticket("T3", phone=phone, sold_at="2019-06-01"),
            ],
        )
    )
    assert found["T1"] == found["T2"] == found["C1"] != found["C2"] == found["T3"]


def test_a_phone_that_two_people_have_at_a_time_stands_for_neither(resolved):
    phone = "+33261910020"
    connection = resolved(
        customers=[
            customer("C1", first_name="Ana", last_name="Roux", phone=phone),
            customer("C2", first_name="Hugo", last_name="Petit", phone=phone),
        ],
        tickets=[ticket("T1", phone=phone)],
    )
    assert set(accounts(connection)) == {"C1", "C2"}
    assert connection.execute("select reason, account_count from identity.shared_identifiers").fetchall() == [
        ("landline", 2)
    ]
    assert connection.execute("select distinct reason from identity.households").fetchall() == [("shared_landline",)]


def test_a_mailbox_of_a_company_joins_nobody_and_receipts_sent_there_stay_anonymous(resolved):
    desk = {"email": "contact@company.example"}
    connection = resolved(
        customers=[
            customer("C1", first_name="Ana", last_name="Roux", **desk),
            customer("C2", first_name="Hugo", last_name="Petit", **desk),
        ],
        orders=[order("O1", first_name="Ines", last_name="Caron", **desk)],
        tickets=[ticket("T1", **desk)],
    )
    found = accounts(connection)
    assert set(found) == {"C1", "C2", "O1"}
    assert len(set(found.values())) == 3


def test_a_receipt_is_the_holders_unless_the_mailbox_is_a_houses_or_somebody_elses(resolved):
    mailboxes = {
        "jeanne.lefevre@poste.example": True,
        "jl1960@poste.example": True,
        "famille.lefevre@poste.example": False,
        "jeanne.et.marc@poste.example": False,
        "marc.lefevre@poste.example": False,
    }
    found = accounts(
        resolved(
            customers=[
                customer(f"C{n}", first_name="Jeanne", last_name=f"Lefèvre{chr(97 + n)}", email=mailbox)
                for n, mailbox in enumerate(mailboxes)
            ],
            tickets=[ticket(mailbox, email=mailbox) for mailbox in mailboxes],
        )
    )
    assert {mailbox: mailbox in found for mailbox in mailboxes} == mailboxes


def test_a_present_belongs_to_who_pays_and_makes_no_household_with_who_gets_it(resolved):
    paul = {
        "first_name": "Paul", "last_name": "Girard", "address_line1": "3 rue Haute", "postal_code": "31000",
    }  # fmt: skip
    home = {"address_line1": "5 rue Basse", "postal_code": "69001"}
    giver = {
        "customers": [customer("C1", phone="+33639980001", **ANA, **home)],
        "orders": [order("OWN", **ANA, **home), order("PRESENT", email=ANA["email"], **paul)],
        "tickets": [ticket("T1", email=ANA["email"])],
    }
    found = accounts(resolved(**giver))
    assert set(found) == {"C1", "OWN", "PRESENT", "T1"}
    assert len(set(found.values())) == 1
    connection = resolved(cards=[card("K1", email="paul.girard@mail.example", **paul)], **giver)
    found = accounts(connection)
    assert found["PRESENT"] == found["OWN"] == found["T1"] == found["C1"] != found["K1"]
    assert connection.execute("select * from identity.households").fetchall() == []


def test_guest_orders_of_one_person_are_one_account_whatever_each_leaves_out(resolved):
    home = {"address_line1": "5 rue Basse", "postal_code": "69001"}
    found = accounts(
        resolved(
            orders=[
                order("O1", **ANA, **home),
                order("O2", **without(ANA, "email"), **home),
                order("O3", **ANA),
                order("O4", email=ANA["email"]),
                order("O5", first_name="A.", last_name="ROUX", email=ANA["email"]),
            ]
        )
    )
    assert set(found) == {"O1", "O2", "O3", "O4", "O5"}
    assert len(set(found.values())) == 1


def test_a_card_speaks_before_an_email_and_an_email_before_a_phone(resolved):
    found = accounts(
        resolved(
            cards=[
                card("K1", first_name="Ana", last_name="Roux"),
                card("K2", first_name="Hugo", last_name="Petit", email="hugo@mail.example"),
                card("K3", first_name="Ines", last_name="Caron", phone="+33639980003"),
            ],
            tickets=[
                ticket("T1", loyalty_card_id="K1", email="hugo@mail.example", phone="+33639980003"),
                ticket("T2", email="hugo@mail.example", phone="+33639980003"),
                ticket("T3", email="new@mail.example", phone="+33639980003"),
            ],
        )
    )
    assert found["T1"] == found["K1"]
    assert found["T2"] == found["K2"]
    assert found["T3"] not in {found["K1"], found["K2"], found["K3"]}


def test_a_declared_card_ties_a_web_account_to_it_unless_the_names_forbid_it(resolved):
    connection = resolved(
        customers=[
            customer("C1", loyalty_card_id="K1", first_name="Ana", last_name="Roux"),
            customer("C2", loyalty_card_id="K2", first_name="Hugo", last_name="Petit"),
        ],
        cards=[card("K1", first_name="Ana", last_name="Roux"), card("K2", first_name="Ines", last_name="Petit")],
    )
    found = accounts(connection)
    assert found["C1"] == found["K1"]
    assert found["C2"] != found["K2"]
    assert ("card", "given_name") in edges(connection, "refused")


def test_a_policy_with_empty_lists_blocks_nothing_and_still_gives_tickets_by_email(staging_database):
    policy = read_policy()
    identifiers = {
        name: replace(rule, blocked_values=(), blocked_patterns=(), max_companions={})
        for name, rule in policy.identifiers.items()
    }
    empty = replace(policy, identifiers=identifiers, household_mailboxes=(), default_birth_dates=())
    connection = staging_database(
        {
            "shop_customers": [customer("C1", email="camille@mail.example", first_name="Camille")],
            "pos_tickets": [ticket("T1", email="camille@mail.example")],
        }
    )
    resolve(connection, as_of=AS_OF, run_id="run", previous=None, policy=empty)
    found = accounts(connection)
    assert found["C1"] == found["T1"]
