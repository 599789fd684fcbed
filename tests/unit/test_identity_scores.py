"""How alike two records are, in levels and in bits, and that what was compared once is not compared again."""

import math
from dataclasses import replace
from datetime import date

import pytest

from dagster_project.domain.identity import read_model, read_policy, resolve
from dagster_project.domain.identity.model import COMPARISONS, score_pairs
from dagster_project.domain.identity.training import prepare

AS_OF = date(2020, 7, 1)
LYON = {"postal_code": "69001", "city": "Lyon"}
TABLES = ("account_links", "edges", "households", "anchors", "cut_blocks")

# Comparison, the left record's values, the right record's, the level that they reach (null: nothing to compare).
LEVELS = [
    ("given_name", {"first_name": "Catherine"}, {"first_name": "CATHERINE"}, "exact"),
    ("given_name", {"first_name": "Catherine"}, {"first_name": "Cathy"}, "variant"),
    ("given_name", {"first_name": "Jean-Pierre"}, {"first_name": "Jean"}, "variant"),
    ("given_name", {"first_name": "Philippe", "last_name": "Besnard"},
     {"first_name": "Besnard", "last_name": "Philippe"}, "swapped"),
    ("given_name", {"first_name": "Sébastien"}, {"first_name": "Sebastein"}, "typo"),
    ("given_name", {"first_name": "Jean-Pierre"}, {"first_name": "JP"}, "initial"),
    ("given_name", {"first_name": "Camille"}, {"first_name": "C."}, "initial"),
    ("given_name", {"first_name": "Julien"}, {"first_name": "Julie"}, "different"),
    ("given_name", {"first_name": "Emma"}, {"first_name": "Léa"}, "different"),
    ("given_name", {"first_name": "Emma"}, {"first_name": None}, None),
    ("family_name", {"last_name": "Lefèvre"}, {"last_name": "LEFEVRE"}, "exact"),
    ("family_name", {"last_name": "de Villiers"}, {"last_name": "Villiers"}, "variant"),
    ("family_name", {"last_name": "Perrot née Masson"}, {"last_name": "Masson"}, "variant"),
    ("family_name", {"last_name": "Langlois"}, {"last_name": "Langlios"}, "typo"),
    ("family_name", {"last_name": "Martin"}, {"last_name": "Petit"}, "different"),
    ("birth_date", {"birth_date": "1980-02-14"}, {"birth_date": "1980-02-14"}, "exact"),
    ("birth_date", {"birth_date": "1980-02-11"}, {"birth_date": "1980-11-02"}, "swapped"),
    ("birth_date", {"birth_date": "1980-02-14"}, {"birth_date": "1981-02-14"}, "close"),
    ("birth_date", {"birth_date": "1980-02-14"}, {"birth_date": "1980-01-01"}, "year"),
    ("birth_date", {"birth_date": "1980-02-14"}, {"birth_date": "1989-11-23"}, "other_date"),
    ("birth_date", {"birth_date": "1948-03-02"}, {"birth_date": "1976-11-19"}, "different"),
    ("birth_date", {"birth_date": "1980-02-14"}, {"birth_date": "1900-01-01"}, None),
    ("birth_date", {"birth_date": "1980-02-14"}, {"birth_date": "2016-03-03"}, None),
    ("email", {"email": "clotilde.roux@gmail.com"}, {"email": "clotilderoux+x@gmial.com"}, "exact"),
    ("email", {"email": "clotilde.roux@mail.example"}, {"email": "clotilde.ruox@mail.example"}, "typo"),
    ("email", {"email": "clotilde.roux@mail.example"}, {"email": "clotilde.roux@poste.example"}, "same_name"),
    ("email", {"email": "clotilde76@mail.example"}, {"email": "clotilde77@mail.example"}, "different"),
    ("phone", {"phone": "+33639980001"}, {"phone": "+33639980001"}, "mobile"),
    ("phone", {"phone": "+33261910020"}, {"phone": "+33261910020"}, "landline"),
    ("phone", {"phone": "+33639980001"}, {"phone": "+33639980071"}, "typo"),
    ("phone", {"phone": "+33639980001"}, {"phone": "+33639984271"}, "different"),
    ("address", {"address_line1": "5 r. Basse", **LYON}, {"address_line1": "5, RUE BASSE", **LYON}, "exact"),
    ("address", {"address_line1": "5 rue Bassse", **LYON}, {"address_line1": "5 rue Basse", **LYON}, "close"),
    ("address", {"address_line1": "5 rue Basse", **LYON}, {"address_line1": "8 rue Haute", **LYON}, "other_street"),
    ("address", {**LYON}, {"address_line1": "8 rue Haute", **LYON}, "town"),
    ("address", {"postal_code": "69001"}, {"city": "Lyon"}, None),
    ("address", {"address_line1": "5 rue Basse", **LYON}, {"postal_code": "31000", "city": "Toulouse"}, "different"),
]  # fmt: skip


@pytest.fixture(scope="module")
def scored(staging_database):
    """The levels of every example, left against right and right against left: gammas and weights by place."""
    # A postal code on one side alone says nothing, but keeps records that say the same from being one profile.
    connection = staging_database(
        {
            "shop_customers": [
                {"customer_id": str(n), "created_at": "2019-01-01", **said, **left}
                for n, (name, left, _, _) in enumerate(LEVELS)
                for said in [{} if name == "address" else {"postal_code": f"{10000 + n}"}]
            ],
            "loyalty_members": [
                {"card_id": str(n), "enrolled_at": "2019-01-01", **right} for n, (_, _, right, _) in enumerate(LEVELS)
            ],
        }
    )
    prepare(connection, AS_OF, read_policy())
    found = []
    for one, other in (("shop_customers", "loyalty_members"), ("loyalty_members", "shop_customers")):
        connection.execute(
            """
            create or replace temp table examples as
            select lefts.profile_id as l, rights.profile_id as r, cast(lefts.record_id as integer) as example
            from identity_profile_speakers as lefts join identity_profile_speakers as rights using (record_id)
            where lefts.feed = ? and rights.feed = ?
            """,
            [one, other],
        )
        score_pairs(connection, read_model(), "examples", "scores")
        found.append(connection.execute("from scores join examples using (l, r) order by example").df())
    return found


def level_of(comparison, gamma):
    level = next(each for each in COMPARISONS if each.name == comparison).level_of(gamma)
    return level and level.name


def test_every_example_reaches_its_level(scored):
    answers = [level_of(name, scored[0][f"gamma_{name}"][n]) for n, (name, *_) in enumerate(LEVELS)]
    assert [(LEVELS[n][:3], answer) for n, answer in enumerate(answers)] == [
        (example[:3], example[3]) for example in LEVELS
    ]


def test_a_pair_has_one_score_whichever_record_comes_first(scored):
    columns = [column for column in scored[0] if column.startswith(("gamma_", "mw_", "weight"))]
    assert scored[0][columns].equals(scored[1][columns])


def test_a_weight_is_the_sum_of_its_parts(scored):
    model = read_model()
    parts = scored[0][[f"mw_{comparison.name}" for comparison in COMPARISONS]].sum(axis=1)
    prior = math.log2(model.prior / (1 - model.prior))
    assert (abs(scored[0]["weight"] - parts - prior) < 1e-3).all()


def test_every_level_has_an_example():
    said = {(name, level) for name, _, _, level in LEVELS if level}
    rare = {("given_name", "alike"), ("given_name", "crossed"), ("given_name", "unlike"), ("family_name", "alike"),
            ("birth_date", "near"), ("email", "alike")}  # fmt: skip
    assert {(c.name, level.name) for c in COMPARISONS for level in c.levels} - said == rare


def test_a_rare_name_that_agrees_weighs_more_than_a_common_one(night):
    """Four bits and more between Martin and a name that no list holds."""
    rows = [
        {"first_name": "Ana", "last_name": name, "email": f"{name}@mail.example".lower(), "city": city}
        for name in ("Martin", "Vandermeulebroecke")
        for city in ("Lyon", "Pau")
    ]
    connection, _ = night(rows)
    weights = connection.execute(
        "select left_record_id, weight from identity.edges where decision = 'accepted' order by 1"
    ).fetchall()
    assert [number for number, _ in weights] == ["C0", "C2"]
    assert weights[1][1] > weights[0][1] + 4


@pytest.fixture(scope="module")
def night(staging_database):
    """Resolve web accounts, on a database of its own or on that of a night before.

    The answer is the connection and what was counted.
    """

    def run(customers, connection=None, **said):
        rows = [{"customer_id": f"C{n}", "created_at": "2019-01-01", **row} for n, row in enumerate(customers)]
        staged = staging_database({"shop_customers": rows})
        if connection is not None:
            arrow = staged.sql("from staging.stg_shop_customers").to_arrow_table()
            connection.register("tonight", arrow)
            connection.execute(
                "delete from staging.stg_shop_customers; insert into staging.stg_shop_customers from tonight"
            )
            connection.unregister("tonight")
        connection = connection or staged
        return connection, resolve(connection, as_of=AS_OF, run_id="run", previous=None, **said)

    return run


def tables(connection):
    return [connection.execute(f"from identity.{table} order by all").fetchall() for table in TABLES]


PEOPLE = [
    {"first_name": "Ana", "last_name": "Roux", "email": "ana.roux@mail.example"},
    {"first_name": "ANA", "last_name": "Roux", "email": "ana.roux@mail.example", "phone": "+33639980001"},
    {"first_name": "A.", "last_name": "Roux", "phone": "+33639980001"},
    {"first_name": "Hugo", "last_name": "Roux", "phone": "+33639980001"},
]


def test_what_was_compared_once_is_not_compared_again(night):
    home, summary = night(PEOPLE)
    first = tables(home)
    assert summary.scored_pairs == summary.compared_pairs == 6
    _, summary = night(PEOPLE, home)
    assert (summary.scored_pairs, summary.compared_pairs) == (0, 6)
    assert tables(home) == first
    _, summary = night([*PEOPLE[:3], {**PEOPLE[3], "first_name": "Bea"}], home)
    assert (summary.scored_pairs, summary.compared_pairs) == (3, 6)
    assert tables(home) != first
    night(PEOPLE, home)
    assert tables(home) == first


def test_a_night_that_broke_off_leaves_nothing_that_is_believed(night):
    home, _ = night(PEOPLE)
    expected = tables(home)

    class Broken(Exception):
        pass

    def breaks_off(step):
        if step == "edges":
            raise Broken

    with pytest.raises(Broken):
        night([*PEOPLE[:2], PEOPLE[3]], home, announce=breaks_off)
    _, summary = night(PEOPLE, home)
    assert summary.scored_pairs == 6
    assert tables(home) == expected


def test_another_threshold_asks_the_same_scores_and_other_weights_ask_new_ones(night):
    home, shipped = night(PEOPLE)[0], read_model()
    strict = replace(shipped, accept_weight=90.0, version="strict")
    _, summary = night(PEOPLE, home, model=strict)
    assert summary.scored_pairs == 0
    assert len(home.execute("select account_id from identity.anchors").fetchall()) == 4
    assert tables(home) == tables(night(PEOPLE, model=strict)[0])
    email = {**shipped.levels["email"], "exact": (0.5, 1e-3)}
    weaker = replace(shipped, levels={**shipped.levels, "email": email}, version="weaker")
    _, summary = night(PEOPLE, home, model=weaker)
    assert summary.scored_pairs == 6
    assert tables(home) == tables(night(PEOPLE, model=weaker)[0])


def test_another_policy_is_applied_to_what_is_remembered(night):
    """An e-mail may join nobody any more: the two that shared it are judged without it on the same night."""
    home, policy = night(PEOPLE)[0], read_policy()
    email = replace(policy.identifiers["email"], blocked_values=("ana.roux@mail.example",))
    blocking = replace(policy, identifiers={**policy.identifiers, "email": email})
    night(PEOPLE, home, policy=blocking)
    assert tables(home) == tables(night(PEOPLE, policy=blocking)[0])


def test_a_model_with_other_name_frequencies_does_not_use_the_scores_of_the_first(night):
    said = {"updated_at": "2019-01-01", "first_name": "Camille", "last_name": "Moreau", "postal_code": "44000"}
    rows = [{"email": f"{number}@mail.example", **said} for number in range(2)]
    weights, home = [], None
    for share in (0.0001, 0.1):
        model = replace(read_model(), names={"family_name_key": {"moreau": share}})
        home, _ = night(rows, home, model=model)
        weights += home.execute("select weight from remembered.scores").fetchall()
    assert weights[0] > weights[1]
