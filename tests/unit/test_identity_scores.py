"""How alike two records are, in levels and in bits, and that what was compared once is not compared again."""

import math
import stat
from dataclasses import replace
from datetime import date

import duckdb
import pytest

from dagster_project.domain.identity import read_model, read_policy, resolve
from dagster_project.domain.identity.identifiers import demote, read_decisions
from dagster_project.domain.identity.model import COMPARISONS, score_pairs
from dagster_project.domain.identity.records import build_contacts, build_profiles, build_records

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
    connection.execute("create schema identity")
    policy = read_policy()
    read_decisions(connection, AS_OF)
    build_records(connection)
    build_contacts(connection, as_of=AS_OF, policy=policy)
    demote(connection, policy)
    build_profiles(connection)
    found = []
    for one, other in (("shop_customers", "loyalty_members"), ("loyalty_members", "shop_customers")):
        connection.execute(
            """
            create or replace temp table examples as
            select lefts.profile_id as l, rights.profile_id as r, cast(lefts.record_id as integer) as example
            from identity_profiles as lefts join identity_profiles as rights using (record_id)
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
    """Resolve web accounts; the answer is the connection and what was counted."""

    def run(customers, **said):
        rows = [{"customer_id": f"C{n}", "created_at": "2019-01-01", **row} for n, row in enumerate(customers)]
        connection = staging_database({"shop_customers": rows})
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


def test_what_was_compared_once_is_not_compared_again(night, tmp_path):
    memory = tmp_path / "scores.duckdb"
    first, summary = night(PEOPLE, memory=memory)
    assert summary.scored_pairs == summary.compared_pairs == 6
    again, summary = night(PEOPLE, memory=memory)
    assert (summary.scored_pairs, summary.compared_pairs) == (0, 6)
    changed, summary = night([*PEOPLE[:3], {**PEOPLE[3], "first_name": "Bea"}], memory=memory)
    assert (summary.scored_pairs, summary.compared_pairs) == (3, 6)
    assert tables(first) == tables(again) == tables(night(PEOPLE)[0])
    assert tables(changed) != tables(first)


def test_the_memory_holds_no_personal_data_and_is_its_owners_alone(night, tmp_path):
    memory = tmp_path / "memory" / "scores.duckdb"
    night(PEOPLE, memory=memory)
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    content = memory.read_bytes().lower()
    assert not [word for word in (b"roux", b"hugo", b"mail.example", b"39980001") if word in content]


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "another database", "a log left by a crash"])
def test_a_damaged_memory_is_forgotten(night, tmp_path, damage):
    memory = tmp_path / "scores.duckdb"
    fresh, _ = night(PEOPLE, memory=memory)
    if damage == "empty":
        memory.write_bytes(b"")
    elif damage == "text":
        memory.write_text("no database")
    elif damage == "truncated":
        memory.write_bytes(memory.read_bytes()[:5_000])
    elif damage == "another database":
        memory.unlink()
        with duckdb.connect(str(memory)) as other:
            other.execute("create table stamp (stamp integer); create table scores (x integer)")
    else:
        memory.with_name(memory.name + ".wal").write_bytes(b"torn")
    again, summary = night(PEOPLE, memory=memory)
    assert tables(again) == tables(fresh)
    assert summary.compared_pairs == 6
    assert night(PEOPLE, memory=memory)[1].scored_pairs == 0


def test_another_threshold_asks_the_same_scores_and_other_weights_ask_new_ones(night, tmp_path):
    memory, shipped = tmp_path / "scores.duckdb", read_model()
    night(PEOPLE, memory=memory)
    strict = replace(shipped, accept_weight=90.0, version="strict")
    connection, summary = night(PEOPLE, memory=memory, model=strict)
    assert summary.scored_pairs == 0
    assert len(connection.execute("select account_id from identity.anchors").fetchall()) == 4
    assert tables(connection) == tables(night(PEOPLE, model=strict)[0])
    email = {**shipped.levels["email"], "exact": (0.5, 1e-3)}
    weaker = replace(shipped, levels={**shipped.levels, "email": email}, version="weaker")
    connection, summary = night(PEOPLE, memory=memory, model=weaker)
    assert summary.scored_pairs == 6
    assert tables(connection) == tables(night(PEOPLE, model=weaker)[0])


def test_a_memory_that_is_mostly_of_other_nights_is_written_anew(night, tmp_path):
    memory = tmp_path / "scores.duckdb"
    crowd = [{"first_name": "Ana", "last_name": f"Name{chr(97 + n)}", "city": "Lyon"} for n in range(26)] * 2
    crowd = [{**row, "email": f"{n}@mail.example", "postal_code": "69001"} for n, row in enumerate(crowd)]
    held = night(crowd, memory=memory)[1].compared_pairs
    assert held > 1_008
    night(PEOPLE, memory=memory)
    with duckdb.connect(str(memory), read_only=True) as connection:
        assert connection.execute("select count(*) from scores").fetchall() == [(6,)]
    assert night(PEOPLE, memory=memory)[1].scored_pairs == 0


def test_a_model_with_other_name_frequencies_does_not_use_the_scores_of_the_first(staging_database, tmp_path):
    said = {"created_at": "2019-01-01", "updated_at": "2019-01-01", "first_name": "Camille", "last_name": "Moreau"}
    rows = {
        "shop_customers": [
            {"customer_id": f"C{number}", "email": f"{number}@mail.example", "postal_code": "44000", **said}
            for number in range(2)
        ]
    }
    weights = []
    for share in (0.0001, 0.1):
        model = replace(read_model(), names={"family_name_key": {"moreau": share}})
        connection = staging_database(rows)
        memory = tmp_path / "scores.duckdb"
        resolve(connection, as_of=date(2020, 7, 1), run_id="run", previous=None, model=model, memory=memory)
        with duckdb.connect(str(memory), read_only=True) as remembered:
            weights += remembered.execute("select weight from scores").fetchall()
    assert weights[0] > weights[1]
