"""What a night's new profiles touch among blocks: which profiles may meet others than before.

What belongs here: blocks, pieces and declared pairs. What does not: scores (``clusters.py``).
"""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity import blocking
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.remembered import among, count_rows, part, replace_part, work


def link(connection: DuckDBPyConnection, where: str) -> None:
    work(connection, "links", blocking.LINKS.format(where=f"where {where}"))


def renew_pairs(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity_pairs`` of ``identity_paired``: the profiles that may meet others than before.

    These are the new ones, of which ``identity_profiles`` is the part, those of a block or a piece of one that has
    crossed its limit, and who is declared anew.
    """
    rules = blocking.rules_for(count_rows(connection, "remembered.profiles"))
    blocking.write_keys(connection, rules, part)
    work(connection, "gone_keys", f"from remembered.block_keys where {among('profile_id', 'gone_profiles')}")
    replace_part(connection, "block_keys", among("profile_id", "gone_profiles"))
    work(connection, "blocks", "select block from identity_block_keys union select block from identity_gone_keys")
    work(connection, "touched_keys", f"from remembered.block_keys where {among('block', 'blocks')}")
    limits = blocking.block_limits(rules, policy)
    work(
        connection,
        "block_changes",
        f"""
        with now as (select block, rule, count(*) as members from identity_touched_keys group by all),
        fresh as (select block, rule, count(*) as members from identity_block_keys group by all),
        gone as (select block, rule, count(*) as members from identity_gone_keys group by all)
        select block, rule, coalesce(now.members, 0) > {limits} as is_large,
            coalesce(now.members, 0) - coalesce(fresh.members, 0) + coalesce(gone.members, 0) > {limits} as was_large
        from now full join fresh using (block, rule) full join gone using (block, rule)
        """,
    )
    # Of a block that was cut and still is, the pieces that changed.
    work(
        connection,
        "piece_changes",
        f"""
        with cut as (
            from identity_block_changes where is_large and was_large and rule < {len(blocking.RULES)}
        ),
        fresh as (
            select finer, count(*) as members from identity_block_keys semi join cut using (block) group by finer
        ),
        gone as (
            select finer, count(*) as members from identity_gone_keys semi join cut using (block) group by finer
        ),
        touched as (
            select profile_id, finer, count(*) over (partition by finer) as now
            from (from identity_touched_keys semi join cut using (block))
            semi join (select finer from fresh union select finer from gone) as changed using (finer)
        )
        select distinct profile_id
        from touched left join fresh using (finer) left join gone using (finer)
        where (now > {policy.max_block_profiles})
            <> (now - coalesce(fresh.members, 0) + coalesce(gone.members, 0) > {policy.max_block_profiles})
        """,
    )
    work(
        connection,
        "paired",
        """
        with crossed as (select block from identity_block_changes where is_large <> was_large)
        from identity_new_profiles
        union from identity_piece_changes
        union select profile_id from identity_touched_keys where block in (from crossed)
        union select profile_id from identity_relinked semi join remembered.profiles using (profile_id)
        """,
    )
    # The other blocks of those that are not new.
    work(
        connection,
        "farther_blocks",
        f"""
        select distinct block from remembered.block_keys
        where profile_id in (from identity_paired except from identity_new_profiles)
            and {among("block", "blocks")} is not true
        """,
    )
    work(
        connection,
        "asked_keys",
        f"""
        from identity_touched_keys
        union all from remembered.block_keys where {among("block", "farther_blocks")}
        """,
    )
    work(connection, "asked_blocks", "from identity_blocks union all from identity_farther_blocks")
    blocking.cut_blocks(connection, rules, policy, "identity_asked_keys", part)
    replace_part(connection, "cut_blocks", among("within", "asked_blocks"))
    link(connection, f"{among('l', 'paired')} or {among('r', 'paired')}")
    blocking.find_pairs_of(connection, "identity_paired")
