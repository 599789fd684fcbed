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

    These are the new ones, those of a block or a piece of one that has crossed its limit, and who is declared anew.
    """
    rules = blocking.rules_for(count_rows(connection, "remembered.profiles"))
    part(connection, "profiles", f"from remembered.profiles where {among('profile_id', 'new_profiles')}")
    blocking.write_keys(connection, rules, part)
    work(connection, "gone_keys", f"from remembered.block_keys where {among('profile_id', 'gone_profiles')}")
    replace_part(connection, "block_keys", among("profile_id", "gone_profiles"))
    work(connection, "blocks", "select block from identity_block_keys union select block from identity_gone_keys")
    limits = blocking.block_limits(rules, policy)
    work(
        connection,
        "block_changes",
        f"""
        with now as (
            select block, rule, count(*) as members from remembered.block_keys
            where {among("block", "blocks")} group by all
        ),
        fresh as (select block, rule, count(*) as members from identity_block_keys group by all),
        gone as (select block, rule, count(*) as members from identity_gone_keys group by all)
        select block, rule, coalesce(now.members, 0) > {limits} as is_large,
            coalesce(now.members, 0) - coalesce(fresh.members, 0) + coalesce(gone.members, 0) > {limits} as was_large
        from now full join fresh using (block, rule) full join gone using (block, rule)
        """,
    )
    # Of a block that was cut and still is, the pieces that changed.
    finer = blocking.finer_key(rules)
    cut = f"(from identity_block_changes where is_large and was_large and rule < {len(blocking.RULES)})"
    work(
        connection,
        "piece_changes",
        f"""
        with fresh as (
            select {finer} as piece, count(*) as members
            from (from identity_block_keys semi join {cut} as cut using (block))
            join identity_profiles using (profile_id)
            group by piece
        ),
        gone as (
            select {finer} as piece, count(*) as members
            from (from identity_gone_keys semi join {cut} as cut using (block))
            join identity_old_profiles using (profile_id)
            group by piece
        ),
        members as (
            select profile_id, {finer} as piece
            from (from remembered.block_keys semi join {cut} as cut using (block))
            join remembered.profiles using (profile_id)
        ),
        touched as (
            select profile_id, piece, count(*) over (partition by piece) as now
            from members semi join (select piece from fresh union select piece from gone) as changed using (piece)
        )
        select distinct profile_id
        from touched left join fresh using (piece) left join gone using (piece)
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
        union select profile_id from remembered.block_keys where block in (from crossed)
        union select profile_id from identity_relinked semi join remembered.profiles using (profile_id)
        """,
    )
    work(
        connection,
        "asked_blocks",
        f"from identity_blocks union select block from remembered.block_keys where {among('profile_id', 'paired')}",
    )
    work(connection, "asked_keys", f"from remembered.block_keys where {among('block', 'asked_blocks')}")
    blocking.cut_blocks(connection, rules, policy, "identity_asked_keys", part)
    replace_part(connection, "cut_blocks", among("within", "asked_blocks"))
    link(connection, f"{among('l', 'paired')} or {among('r', 'paired')}")
    blocking.find_pairs_of(connection, "identity_paired")
