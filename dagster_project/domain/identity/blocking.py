"""Blocking: which pairs of profiles are worth a comparison. Bounded, whatever the data.

What belongs here: the keys, their limits, what becomes of a block that explodes. What does not: the comparison.

Each rule gives profiles a key, and profiles with one key are a block. A block of more than the rule's limit is cut into
blocks by a finer key; a piece that is still too large is not compared. Both are rows of ``identity.cut_blocks``. So the
number of pairs is at most rules x limit / 2 per profile: cost grows with the number of profiles, not with its square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.records import FEED
from dagster_project.domain.identity.remembered import Write, count_rows, keep

_INITIAL = "coalesce(left(given_initials, 1), '')"
_NAMES = "least(given_name_key, family_name_key) || '|' || greatest(given_name_key, family_name_key)"
_PLACE = "coalesce(postal_code, town_key, '')"


@dataclass(frozen=True)
class BlockingRule:
    """``key``: SQL over a profile, null where the rule does not apply; ``finer``: what cuts a block that is too large.

    ``most``: profiles in a block that is compared whole, where that is less than the policy's limit.
    """

    name: str
    key: str
    finer: str
    most: int | None = None


RULES = (
    BlockingRule("email", "email_key", "coalesce(given_first, '')"),
    BlockingRule("phone", "phone_key", "coalesce(given_first, '')"),
    BlockingRule(
        "email_name",
        "case when length(email_local) >= 6 then email_local end",
        "coalesce(given_first, '')",
    ),
    BlockingRule("birth_date_and_family_name", "birth_key || '|' || family_name_key", _INITIAL),
    BlockingRule(
        "birth_date_and_given_name", "birth_key || '|' || given_first", f"left(family_name_key, 2) || {_PLACE}"
    ),
    # In a small file a birth date is enough to meet; in a large one it takes the place and the initial.
    BlockingRule("birth_date", "birth_key", f"left({_PLACE}, 3) || {_INITIAL}", most=12),
    BlockingRule("names", _NAMES, f"left({_PLACE}, 2) || left(birth_key, 4)"),
    BlockingRule(
        "address",
        f"house_number || '|' || street_key || '|' || left({_PLACE}, 2) || '|' || {_INITIAL}",
        "coalesce(given_first, '')",
    ),
    BlockingRule(
        "street", f"street_key || '|' || left({_PLACE}, 2)", "coalesce(house_number, '') || family_name_key", 12
    ),
    BlockingRule("family_name_and_place", f"family_name_key || '|' || {_PLACE} || '|' || {_INITIAL}", "given_first"),
    BlockingRule(
        "given_name_and_place",
        f"given_first || '|' || {_PLACE} || '|' || left(family_name_key, 2)",
        "coalesce(street_key, '') || left(birth_key, 4)",
    ),
)
"""Several may find one pair: it is compared once."""

SMALL_FILE_PROFILES = 10_000
SMALL_FILE_RULES = (
    BlockingRule("beginning_of_street", "left(street_key, 6)", "''"),
    BlockingRule("town", "town_key", "''"),
    BlockingRule("postal_code", "postal_code", "''"),
    BlockingRule("family_name", "family_name_key", "''"),
    BlockingRule("given_name", "given_first", "''"),
    BlockingRule("beginning_of_email", "left(email_local, 4)", "''"),
)
"""In a file of at most ``SMALL_FILE_PROFILES``, such as a register, one thing in common is enough to meet: it costs
little, and finds who is written down wrongly in all else. Their blocks that are too large are left to the others."""


def rules_for(profiles: int) -> tuple[BlockingRule, ...]:
    """The rules for a file of so many profiles; the number of a rule is its place."""
    return RULES + (SMALL_FILE_RULES if profiles <= SMALL_FILE_PROFILES else ())


def write_keys(connection: DuckDBPyConnection, rules: Sequence[BlockingRule], write: Write = keep) -> None:
    """Write ``identity_block_keys``: one row per profile and rule that applies to it (profile_id, rule, block, finer).

    ``finer``: the block it goes to where ``block`` is cut.
    """
    write(
        connection,
        "block_keys",
        " union all ".join(
            f"select profile_id, {number}::utinyint as rule, hash({number}, {rule.key}) as block, "
            f"hash({number}, {rule.key}, coalesce({rule.finer}, '')) as finer "
            f"from identity_profiles where ({rule.key}) is not null"
            for number, rule in enumerate(rules)
        ),
    )


def cut_blocks(
    connection: DuckDBPyConnection, rules: Sequence[BlockingRule], policy: Policy, keys: str, write: Write = keep
) -> None:
    """Write ``identity_members`` (profile_id, block), the blocks to compare, and ``identity.cut_blocks``.

    ``keys`` is a table like ``identity_block_keys`` in which every block is whole. Also ``identity_sizes`` (block,
    rule, profile_count, is_large) and ``identity_pieces`` (block, within, rule, profile_count) of what is cut.
    """
    limit = policy.max_block_profiles
    limits = block_limits(rules, policy)
    connection.execute(
        f"""
        create or replace temp table identity_sizes as
        select *, profile_count > {limits} as is_large
        from (
            select block, any_value(rule) as rule, count(*) as profile_count
            from {keys} group by block having count(*) > 1
        )
        """
    )
    # Large blocks of the rules for small files are left to the others.
    connection.execute(
        f"""
        create or replace temp table identity_finer_keys as
        from {keys} semi join (from identity_sizes where is_large and rule < {len(RULES)}) as large using (block)
        """
    )
    connection.execute(
        """
        create or replace temp table identity_pieces as
        select finer as block, any_value(block) as within, any_value(rule) as rule, count(*) as profile_count
        from identity_finer_keys
        group by finer
        having count(*) > 1
        """
    )
    names = ", ".join(f"'{rule.name}'" for rule in rules)
    write(
        connection,
        "cut_blocks",
        f"""
        select ([{names}])[rule + 1] as rule, printf('%016x', block) as block_hash, profile_count, outcome, within
        from (
            select rule, block, profile_count, 'cut' as outcome, block as within
            from identity_sizes where is_large and rule < {len(RULES)}
            union all
            select rule, block, profile_count, 'not_compared', within from identity_pieces where profile_count > {limit}
        )
        """,
    )
    connection.execute(
        f"""
        create or replace temp table identity_members as
        select profile_id, block
        from {keys} semi join (from identity_sizes where not is_large) as whole using (block)
        union all
        select profile_id, finer
        from identity_finer_keys
        semi join (select block as finer from identity_pieces where profile_count <= {limit}) as pieces using (finer)
        """
    )


def block_limits(rules: Sequence[BlockingRule], policy: Policy) -> str:
    """SQL: how many profiles a block of ``rule`` may hold."""
    most = ", ".join(str(min(policy.max_block_profiles, rule.most or policy.max_block_profiles)) for rule in rules)
    return f"([{most}])[rule + 1]"


def find_pairs(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity_pairs`` (l, r: profile ids, l < r) and ``identity.cut_blocks``.

    The number of a profile's declared account or card (``identity_links``) pairs it, too. Grain of ``cut_blocks``: one
    row per block that was cut or not compared, with the rule, the hash of its key, and how many profiles it held.
    """
    rules = rules_for(count_rows(connection, "identity_profiles"))
    write_keys(connection, rules)
    cut_blocks(connection, rules, policy, "identity_block_keys")
    connection.execute(
        """
        create or replace temp table identity_pairs as
        select lefts.profile_id as l, rights.profile_id as r
        from identity_members as lefts join identity_members as rights using (block)
        where lefts.profile_id < rights.profile_id
        union
        select l, r from identity_links
        """
    )
    drop_blocks(connection)


def find_pairs_of(connection: DuckDBPyConnection, profiles: str) -> None:
    """Write ``identity_pairs`` of which one at least is in the table ``profiles`` (profile_id)."""
    connection.execute(
        f"""
        create or replace temp table identity_pairs as
        select least(lefts.profile_id, rights.profile_id) as l, greatest(lefts.profile_id, rights.profile_id) as r
        from (from identity_members semi join {profiles} using (profile_id)) as lefts
        join identity_members as rights using (block)
        where lefts.profile_id <> rights.profile_id
        union
        select l, r from identity_links
        """
    )
    drop_blocks(connection)


def drop_blocks(connection: DuckDBPyConnection) -> None:
    """The widest working tables of blocking: the memory is wanted."""
    for table in ("finer_keys", "sizes", "pieces", "members"):
        connection.execute(f"drop table if exists identity_{table}")


def declare(connection: DuckDBPyConnection, write: Write = keep, only: str = "") -> None:
    """Write ``identity_declared`` (type, value, l, r): profiles that a number ties to the record whose own it is.

    A web account that names its loyalty card, an order that names its web account. The number is evidence of its own
    kind, and no more than that: where names or birth dates contradict it the pair is refused. ``only`` names a table
    (type, value): no other number is looked at, and ``identity_numbered`` (contact_id) are who carries any of them.
    """
    among = f"semi join {only} using (type, value)" if only else ""
    of = "where contact_id in (from identity_numbered)" if only else ""
    write(
        connection,
        "declared",
        f"""
        with contacts as (
            select customer_id, card_id, profile_id, {FEED} as feed
            from (
                select contact_id, customer_id, card_id from remembered.contacts {of}
            )
            join (select contact_id, profile_id from remembered.named {of}) using (contact_id)
            join (select contact_id, feed_rank from remembered.speakers {of}) using (contact_id)
        ),
        owners as (
            select 'customer_id' as type, customer_id as value, profile_id from contacts where feed = 'shop_customers'
            union all
            select 'card', card_id, profile_id from contacts where feed = 'loyalty_members'
        ),
        named as (
            select 'customer_id' as type, customer_id as value, profile_id from contacts
            where customer_id is not null and feed <> 'shop_customers'
            union all
            select 'card', card_id, profile_id from contacts where card_id is not null and feed <> 'loyalty_members'
        )
        select distinct type, value,
            least(owners.profile_id, named.profile_id) as l, greatest(owners.profile_id, named.profile_id) as r
        from (from owners {among}) as owners join named using (type, value)
        anti join identity_demoted as demoted using (type, value)
        where owners.profile_id <> named.profile_id
        """,
    )


LINKS = "select l, r, min(type) as type from remembered.declared {where} group by l, r"
"""SQL: the declared pairs (l, r, type)."""


def link_declared(connection: DuckDBPyConnection) -> None:
    """Write ``identity_links`` (l, r, type): one row per declared pair."""
    declare(connection)
    connection.execute(f"create or replace temp table identity_links as {LINKS.format(where='')}")
