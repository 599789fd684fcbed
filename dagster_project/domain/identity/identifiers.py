"""The identifier policy at work: which values may speak for a person tonight, and what the stewards decided.

What belongs here: reading the values of one identifier at a time. What does not: the comparison of records
(``model.py``) and what follows when records are taken together (``clustering.py``).

The policy is applied anew every night to all the data; nothing of it is remembered.
"""

from datetime import date

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.sql_literal import literals

VALUES = {"customer_id": "customer_id", "card": "card_id", "email": "email_key", "phone": "phone"}
"""The column of ``identity.contacts`` that holds each type of identifier."""


def read_decisions(connection: DuckDBPyConnection, as_of: date) -> None:
    """Write ``identity_decisions_in_force`` and ``identity_different``: the stewards' decisions at the as-of date.

    Grain: one row per pair of records (left_feed, left_id, right_feed, right_id, decision, decision_id), the smaller
    record first. Of several decisions about one pair the latest counts; a revoked one does not.
    """
    connection.execute(
        f"""
        create or replace temp table identity_decisions_in_force as
        with decided as (
            select
                case when (left_feed, left_id) <= (right_feed, right_id) then left_feed else right_feed end as one_feed,
                case when (left_feed, left_id) <= (right_feed, right_id) then left_id else right_id end as one_id,
                case when (left_feed, left_id) <= (right_feed, right_id) then right_feed else left_feed end
                    as other_feed,
                case when (left_feed, left_id) <= (right_feed, right_id) then right_id else left_id end as other_id,
                decision, decision_id, decided_at
            from staging.stg_identity_decisions
            where decided_at < date '{as_of.isoformat()}' + interval 1 day
                and (revoked_at is null or revoked_at >= date '{as_of.isoformat()}' + interval 1 day)
                and (left_feed, left_id) <> (right_feed, right_id)
        )
        select one_feed as left_feed, one_id as left_id, other_feed as right_feed, other_id as right_id,
            decision, decision_id
        from decided
        qualify row_number() over (
            partition by one_feed, one_id, other_feed, other_id order by decided_at desc, decision_id desc
        ) = 1
        """
    )
    connection.execute(
        """
        create or replace temp table identity_different as
        select left_feed, left_id, right_feed, right_id from identity_decisions_in_force where decision = 'different'
        """
    )


def demote(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity.demoted_identifiers``, ``identity.identifier_policies``, and ``identity_demoted`` (temp).

    A demoted value joins nobody. The reason is the first that applies of ``blocked``, ``too_many_people``,
    ``over_used``. People are told apart roughly, by how their given names begin: what somebody mistypes further on does
    not make a new person.
    """
    rules = policy.identifiers.values()
    connection.execute(
        """
        create or replace table identity.identifier_policies
            (type varchar, strength integer, confidence double, max_person_count integer, blocked_count integer)
        """
    )
    connection.executemany(
        "insert into identity.identifier_policies values (?, ?, ?, ?, ?)",
        [
            (rule.name, rule.strength, rule.confidence, rule.max_persons,
             len(rule.blocked_values) + len(rule.blocked_patterns))
            for rule in rules
        ],
    )  # fmt: skip
    is_blocked = (
        " or ".join(
            [
                f"(type = '{rule.name}' and value in ({literals(rule.blocked_values)}))"
                for rule in rules
                if rule.blocked_values
            ]
            + [
                f"(type = '{rule.name}' and regexp_matches(value, {literals(['|'.join(rule.blocked_patterns)])}))"
                for rule in rules
                if rule.blocked_patterns
            ]
        )
        or "false"
    )
    values = " union all ".join(
        f"select '{type_}' as type, {column} as value, "
        "count(distinct left(given_first, 3)) as person_count "
        f"from identity.contacts where {column} is not null group by {column}"
        for type_, column in VALUES.items()
    )
    connection.execute(
        f"""
        create or replace temp table identity_demoted as
        with over_used as ({_over_used(policy)}),
        people as ({values}),
        judged as (
            select
                people.*,
                case
                    when {is_blocked} then 'blocked'
                    when person_count > max_person_count then 'too_many_people'
                    when over_used.value is not null then 'over_used'
                end as reason
            from people
            join identity.identifier_policies using (type)
            left join over_used using (type, value)
        )
        select type, value, greatest(person_count, 1) as person_count, reason from judged where reason is not null
        """
    )
    connection.execute(
        """
        create or replace table identity.demoted_identifiers as
        select type, left(sha256(type || '|' || value), 16) as value_hash, person_count, reason
        from identity_demoted
        order by type, value_hash
        """
    )


def _over_used(policy: Policy) -> str:
    """SQL: the values (type, value) that are a tool of many people: a till clerk's card, a desk's e-mail.

    Only orders and tickets count, and only values used at least twice. Three signs: more different other keys than a
    person has, many busy days, very many uses. The median that guards the first and the last holds from ten values on.
    """
    columns = {"card": "records.card_id", "email": "email_key", "phone": "phone", "payment_token": "payment_token"}
    guard = f"(count(*) over () < 10 or {{count}} > {policy.median_factor} * quantile_disc({{count}}, 0.5) over ())"
    selects = []
    for rule in policy.identifiers.values():
        if not rule.max_companions:
            continue
        companions = sorted(rule.max_companions.items())
        counts = "".join(f", count(distinct {columns[other]}) as {other}_count" for other, _ in companions)
        signs = [f"({other}_count > {limit} and {guard.format(count=f'{other}_count')})" for other, limit in companions]
        signs.append(f"(uses > {policy.max_uses} and {guard.format(count='uses')})")
        key = columns[rule.name]
        moves = (
            "from identity.records as records left join identity.contacts as contacts using (contact_id) "
            f"where {key} is not null and records.feed in ('shop_orders', 'pos_tickets')"
        )
        selects.append(
            f"""
            select '{rule.name}' as type, value
            from (select {key} as value, count(*) as uses{counts} {moves} group by {key})
            where uses >= 2
            qualify {" or ".join(signs)}
            union all
            select '{rule.name}', value
            from (
                select {key} as value {moves}
                group by {key}, date_trunc('day', records.seen_at) having count(*) >= {policy.busy_day_uses}
            )
            group by value having count(*) > {policy.max_busy_days}
            """
        )
    if not selects:
        return "select null::varchar as type, null::varchar as value where false"
    return "select distinct type, value from (" + " union all ".join(selects) + ")"
