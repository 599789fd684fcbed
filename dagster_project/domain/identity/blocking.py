"""Blocking: which pairs of profiles are worth a comparison. Bounded, whatever the data.

What belongs here: the keys, their limits, what becomes of a block that explodes. What does not: the comparison.

Each rule gives profiles a key, and profiles with one key are a block. A block of more than the rule's limit is cut into
blocks by a finer key; a piece that is still too large is not compared. Both are rows of ``identity.cut_blocks``. So the
number of pairs is at most rules x limit / 2 per profile: cost grows with the number of profiles, not with its square.
"""

from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.policy import Policy

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


def find_pairs(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity_pairs`` (l, r: profile ids, l < r) and ``identity.cut_blocks``.

    The number of a profile's declared account or card (``identity_links``) pairs it, too. Grain of ``cut_blocks``: one
    row per block that was cut or not compared, with the rule, the hash of its key, and how many profiles it held.
    """
    limit = policy.max_block_profiles
    ((profiles,),) = connection.execute("select count(*) from identity_profiles").fetchall()
    rules = RULES + (SMALL_FILE_RULES if profiles <= SMALL_FILE_PROFILES else ())
    keys = " union all ".join(
        f"select profile_id, {number}::utinyint as rule, hash({number}, {rule.key}) as block "
        f"from identity_profiles where ({rule.key}) is not null"
        for number, rule in enumerate(rules)
    )
    finer = " ".join(
        f"when {number} then hash({number}, {rule.key}, coalesce({rule.finer}, ''))"
        for number, rule in enumerate(rules)
    )
    names = ", ".join(f"'{rule.name}'" for rule in rules)
    limits = ", ".join(str(min(limit, rule.most or limit)) for rule in rules)
    connection.execute(f"create or replace temp table identity_block_keys as {keys}")
    connection.execute(
        """
        create or replace temp table identity_blocks_found as
        select block, any_value(rule) as rule, count(*) as profile_count
        from identity_block_keys group by block having count(*) > 1
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_large as
        select block from identity_blocks_found where profile_count > ([{limits}])[rule + 1]
        """
    )
    connection.execute(
        f"""
        delete from identity_block_keys
        where rule >= {len(RULES)} and block in (select block from identity_large);
        delete from identity_blocks_found
        where rule >= {len(RULES)} and block in (select block from identity_large)
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_finer_keys as
        select profile_id, rule, case rule {finer} end as finer
        from (from identity_block_keys semi join identity_large using (block)) join identity_profiles using (profile_id)
        """
    )
    connection.execute(
        """
        create or replace temp table identity_pieces as
        select finer as block, any_value(rule) as rule, count(*) as profile_count
        from identity_finer_keys
        group by finer
        having count(*) > 1
        """
    )
    connection.execute(
        f"""
        create or replace table identity.cut_blocks as
        select ([{names}])[rule + 1] as rule, printf('%016x', block) as block_hash, profile_count, outcome
        from (
            select rule, block, profile_count, 'cut' as outcome from identity_blocks_found semi join identity_large
                using (block)
            union all
            select rule, block, profile_count, 'not_compared' from identity_pieces where profile_count > {limit}
        )
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_pairs as
        with members as (
            select profile_id, block
            from identity_block_keys
            semi join identity_blocks_found using (block)
            anti join identity_large using (block)
            union all
            select profile_id, finer
            from identity_finer_keys
            semi join (select block as finer from identity_pieces where profile_count <= {limit}) as pieces
                using (finer)
        )
        select lefts.profile_id as l, rights.profile_id as r
        from members as lefts join members as rights using (block)
        where lefts.profile_id < rights.profile_id
        union
        select l, r from identity_links
        """
    )
    for table in (
        "identity_block_keys",
        "identity_finer_keys",
        "identity_blocks_found",
        "identity_pieces",
        "identity_large",
    ):
        connection.execute(f"drop table {table}")


def link_declared(connection: DuckDBPyConnection) -> None:
    """Write ``identity_links`` (l, r, type): profiles that a number ties to the record whose own number it is.

    A web account that names its loyalty card, an order that names its web account. The number is
    evidence of its own kind, and no more than that: where names or birth dates contradict it the pair is refused.
    """
    connection.execute(
        """
        create or replace temp table identity_links as
        with owners as (
            select 'customer_id' as type, contacts.customer_id as value, profile_id
            from identity.contacts join identity_profile_contacts using (contact_id)
            where feed = 'shop_customers'
            union all
            select 'card', contacts.card_id, profile_id
            from identity.contacts join identity_profile_contacts using (contact_id)
            where feed = 'loyalty_members'
        ),
        named as (
            select 'customer_id' as type, customer_id as value, profile_id
            from identity.contacts join identity_profile_contacts using (contact_id)
            where customer_id is not null and feed <> 'shop_customers'
            union all
            select 'card', card_id, profile_id
            from identity.contacts join identity_profile_contacts using (contact_id)
            where card_id is not null and feed <> 'loyalty_members'
        )
        select least(owners.profile_id, named.profile_id) as l, greatest(owners.profile_id, named.profile_id) as r,
            min(type) as type
        from owners join named using (type, value)
        anti join identity_demoted as demoted using (type, value)
        where owners.profile_id <> named.profile_id
        group by l, r
        """
    )
