"""Which profiles are compared: all that share something, never so many that a night explodes, none in silence."""

from dataclasses import replace

import duckdb
import pytest

from dagster_project.domain.identity import read_policy
from dagster_project.domain.identity.blocking import RULES, find_pairs

POLICY = read_policy()
LIMIT = POLICY.max_block_profiles
TEXTS = (
    "given_name_key", "given_first", "given_initials", "family_name_key", "birth_key", "email_key", "email_local",
    "phone_key", "house_number", "street_key", "postal_code", "town_key",
)  # fmt: skip


@pytest.fixture
def blocked():
    """Block ``count`` profiles, of which each column is SQL over ``n``; the answer is the connection."""
    connections = []

    def run(count, policy=POLICY, links=(), **columns):
        assert set(columns) <= set(TEXTS)
        connection = duckdb.connect(config={"threads": 1})
        connections.append(connection)
        connection.execute(
            "create schema identity; create temp table identity_links (l bigint, r bigint, type varchar)"
        )
        for link in links:
            connection.execute("insert into identity_links values (?, ?, 'card')", link)
        said = ", ".join(f"cast({columns.get(name, 'null')} as varchar) as {name}" for name in TEXTS)
        connection.execute(
            "create schema remembered; create table remembered.profiles as "
            f"select n as profile_id, {said} from range(1, {count} + 1) as t(n); "
            "create temp view identity_profiles as from remembered.profiles"
        )
        find_pairs(connection, policy)
        return connection

    yield run
    for connection in connections:
        connection.close()


def one(connection, sql):
    return connection.execute(sql).fetchall()[0][0]


def pairs(connection):
    return set(connection.execute("select l, r from identity_pairs").fetchall())


def cut(connection):
    return set(connection.execute("select rule, profile_count, outcome from remembered.cut_blocks").fetchall())


@pytest.mark.parametrize("column", ["email_key", "phone_key"])
def test_all_that_share_an_email_or_a_phone_meet_whatever_else_they_say(blocked, column):
    connection = blocked(
        600,
        **{column: "'shared' || n // 20"},
        given_first="'g' || n",
        given_initials="left(md5(cast(n as varchar)), 1)",
        family_name_key="'f' || n",
        given_name_key="'g' || n",
    )
    sharing = one(
        connection,
        f"""
        select count(*) from identity_profiles as l join identity_profiles as r using ({column})
        anti join identity_pairs as p on p.l = l.profile_id and p.r = r.profile_id
        where l.profile_id < r.profile_id
        """,
    )
    assert sharing == 0
    assert cut(connection) == set()


def test_a_declared_number_is_enough_to_meet(blocked):
    connection = blocked(10, links=[(2, 9)], family_name_key="'f' || n")
    assert pairs(connection) == {(2, 9)}


def test_who_shares_nothing_does_not_meet(blocked):
    unlike = {name: f"md5('{name}' || n)" for name in TEXTS if name != "given_initials"}
    connection = blocked(300, **unlike, given_initials="left(md5(cast(n as varchar)), 1)")
    assert one(connection, "select count(*) from identity_pairs") <= 30


ALIKE = {
    "one birth date": {"birth_key": "'1985-06-12'", "family_name_key": "'f' || n", "given_first": "'g' || n"},
    "one name": {
        "given_name_key": "'jean'", "given_first": "'jean'", "given_initials": "'j'", "family_name_key": "'martin'",
        "email_key": "n || '@mail.example'", "email_local": "cast(n as varchar)",
    },
    "one e-mail": {"email_key": "'desk@shop.example'", "given_first": "'g' || n % 300"},
    "one house": {
        "house_number": "'1'", "street_key": "'remparts'", "postal_code": "'44000'", "town_key": "'nantes'",
        "given_initials": "'j'", "given_first": "'jean'", "family_name_key": "'martin' || n % 7",
    },
    "everything": dict.fromkeys(TEXTS, "'same'"),
}  # fmt: skip


@pytest.mark.parametrize("alike", ALIKE)
def test_a_block_that_explodes_is_cut_and_the_number_of_pairs_stays_bounded(blocked, alike):
    connection = blocked(2_000, **ALIKE[alike])
    assert one(connection, "select count(*) from identity_pairs") <= 2_000 * len(RULES) * LIMIT / 2
    assert cut(connection), "what was not compared must be said"
    assert all(count > 1 and outcome in ("cut", "not_compared") for _, count, outcome in cut(connection))


def test_what_no_finer_key_can_tell_apart_is_not_compared_and_listed(blocked):
    connection = blocked(2_000, email_key="'desk@shop.example'", given_first="'jean'")
    assert pairs(connection) == set()
    assert {("email", 2_000, "cut"), ("email", 2_000, "not_compared")} <= cut(connection)


def test_a_block_is_cut_by_a_finer_key_and_what_is_left_is_compared(blocked):
    connection = blocked(LIMIT + 1, email_key="'desk@shop.example'", given_first="if(n <= 2, 'ana', 'g' || n)")
    assert pairs(connection) == {(1, 2)}
    assert cut(connection) == {("email", LIMIT + 1, "cut")}
    assert len(pairs(blocked(LIMIT, email_key="'desk@shop.example'"))) == LIMIT * (LIMIT - 1) / 2


def test_every_pair_of_a_rule_is_found_or_its_block_is_listed(blocked):
    """Blocks of 1 to 20 profiles under a limit of 10, so that some are whole, some are cut, some are left out."""
    connection = blocked(
        210,
        policy=replace(POLICY, max_block_profiles=10),
        email_key="cast(floor((sqrt(8 * n - 7) - 1) / 2) as integer) || '@mail.example'",
        given_first="if(n % 3 = 0, 'ana', 'bea')",
    )
    missed = connection.execute(
        """
        select distinct size from (
            select profile_id, email_key, count(*) over (partition by email_key) as size from identity_profiles
        ) as l
        join identity_profiles as r using (email_key)
        anti join identity_pairs as p on p.l = l.profile_id and p.r = r.profile_id
        where l.profile_id < r.profile_id
        """
    ).fetchall()
    listed = {size for rule, size, outcome in cut(connection) if rule == "email" and outcome == "cut"}
    assert {size for (size,) in missed} == listed == set(range(11, 21))
    assert {size for rule, size, outcome in cut(connection) if (rule, outcome) == ("email", "not_compared")} == {
        11,
        12,
        13,
    }


def test_a_block_is_named_by_a_hash_alone(blocked):
    connection = blocked(100, email_key="'desk@shop.example'")
    assert "shop" not in str(connection.execute("from remembered.cut_blocks").fetchall())
    assert one(connection, "select regexp_full_match(block_hash, '[0-9a-f]{16}') from remembered.cut_blocks")


def test_pairs_are_unordered_once_and_the_same_in_any_order_of_profiles(blocked):
    said = {"email_key": "'m' || n % 40", "phone_key": "'p' || n % 60", "birth_key": "'1985-06-' || n % 28"}
    connection = blocked(400, **said)
    found = connection.execute("from identity_pairs order by all").fetchall()
    assert all(left < right for left, right in found)
    assert len({pair[:2] for pair in found}) == len(found)
    connection.execute(
        "create or replace table remembered.profiles as from remembered.profiles order by hash(profile_id)"
    )
    find_pairs(connection, POLICY)
    assert connection.execute("from identity_pairs order by all").fetchall() == found
