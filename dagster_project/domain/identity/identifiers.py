"""The identifier policy at work: which values may speak for a person tonight, and what the stewards decided.

What belongs here: reading the values of one identifier at a time. What does not: the comparison of records
(``model.py``) and what follows when records are taken together (``clustering.py``).

The policy is applied anew every night, to what is counted of all the data: a median moves with every value.
"""

from datetime import date

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.remembered import Write, keep
from dagster_project.domain.sql_literal import literals

VALUES = {"customer_id": "customer_id", "card": "card_id", "email": "email_key", "phone": "phone"}
"""The column of ``identity.contacts`` that holds each type of identifier."""

_NUMBERS = {type_: number for number, type_ in enumerate(VALUES, 1)}

_WHICH = " ".join(f"when '{type_}' then {number}" for type_, number in _NUMBERS.items())

MARK = f"hash(case type {_WHICH} end, value)"
"""SQL: the number under which a value (type, value) stands in ``remembered.carried``."""

CARRIED = " union all ".join(
    f"select contact_id, hash({_NUMBERS[type_]}, {column}) as value from identity_contacts where {column} is not null"
    for type_, column in VALUES.items()
)
"""SQL: one row per contact and value that it carries, demoted or not; the value as a number (``MARK``)."""


def marks(values: str) -> str:
    """SQL: the numbers under which ``values`` (type, value) stand in ``remembered.carried``."""
    return f"select {MARK} from {values}"


def find_carriers(connection: DuckDBPyConnection, marked: str) -> None:
    """Write ``identity_carriers``: who carries one of the values of the query ``marked`` (of their numbers)."""
    connection.execute(
        f"""
        create or replace temp table identity_carriers as
        select contact_id, given_first, {", ".join(VALUES.values())} from remembered.contacts
        where contact_id in (select contact_id from remembered.carried where value in ({marked}))
        """
    )


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


def write_policies(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity.identifier_policies``: one row per type of identifier."""
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
            for rule in policy.identifiers.values()
        ],
    )  # fmt: skip


def _people(only: str) -> str:
    """SQL: one row per value (type, value, person_count) of the contacts; of those in the table ``only``, if named.

    Who carries any of these is in ``identity_carriers``.
    """
    contacts = "identity_carriers" if only else "remembered.contacts"
    return " union all ".join(
        f"select '{type_}' as type, {column} as value, count(distinct left(given_first, 3)) as person_count "
        f"from {contacts} where {column} is not null {_among(only, type_, column)} group by {column}"
        for type_, column in VALUES.items()
    )


def _among(only: str, type_: str, column: str) -> str:
    return f"and {column} in (select value from {only} where type = '{type_}')" if only else ""


def count_people(connection: DuckDBPyConnection, policy: Policy, write: Write = keep, only: str = "") -> None:
    """Write ``identity_notable``: the values that are blocked or carried by too many people.

    Columns: type, value, person_count, reason. ``only`` names a table (type, value): no other is looked at,
    and who carries any of them is in ``identity_carriers``.
    """
    rules = policy.identifiers.values()
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
    write(
        connection,
        "notable",
        f"""
        with judged as (
            select people.*,
                case when {is_blocked} then 'blocked'
                    when person_count > max_person_count then 'too_many_people' end as reason
            from ({_people(only)}) as people join identity.identifier_policies using (type)
        )
        from judged where reason is not null
        """,
    )


_COLUMNS = {"card": "card_id", "email": "email_key", "phone": "phone", "payment_token": "payment_token"}


def count_uses(connection: DuckDBPyConnection, policy: Policy, write: Write = keep, only: str = "") -> None:
    """Write ``identity_uses`` and ``identity_worn_tokens``: how the values of orders and tickets are used.

    ``identity_uses``: one row per value that is used twice or on many busy days: type, value, uses, with how many
    others of each type (``<type>_count``), busy_days. ``identity_worn_tokens`` (value): payment tokens that are used
    more often than one person's. ``only`` names a table (type, value): no other is looked at,
    and who carries any of them is in ``identity_carriers``.
    """
    token = policy.identifiers.get("payment_token")
    _read_moves(connection, only, reads_beside_tokens=token is not None and bool(token.max_companions))
    selects = []
    for rule in policy.identifiers.values():
        if not rule.max_companions:
            continue
        counts = ", ".join(
            f"count(distinct {column}) as {other}_count"
            if other in rule.max_companions
            else f"0::bigint as {other}_count"
            for other, column in _COLUMNS.items()
        )
        key = _COLUMNS[rule.name]
        moves = f"from identity_moves where {key} is not null {_among(only, rule.name, key)}"
        selects.append(
            f"""
            select '{rule.name}' as type, used.*, coalesce(busy_days, 0) as busy_days
            from (select {key} as value, count(*) as uses, {counts} {moves} group by {key}) as used
            left join (
                select value, count(*) as busy_days
                from (
                    select {key} as value {moves}
                    group by {key}, date_trunc('day', seen_at) having count(*) >= {policy.busy_day_uses}
                )
                group by value having count(*) > {policy.max_busy_days}
            ) as busy using (value)
            where uses >= 2 or busy_days is not null
            """
        )
    nothing = ", ".join(f"0::bigint as {other}_count" for other in _COLUMNS)
    write(
        connection,
        "uses",
        " union all ".join(selects)
        or "select ''::varchar as type, ''::varchar as value, 0::bigint as uses, "
        f"{nothing}, 0::bigint as busy_days limit 0",
    )
    write(
        connection,
        "worn_tokens",
        f"""
        select payment_token as value from identity_moves
        where payment_token is not null {_among(only, "payment_token", "payment_token")}
        group by payment_token having count(*) > {policy.token_max_uses}
        """,
    )
    connection.execute("drop table identity_moves")


def _read_moves(connection: DuckDBPyConnection, only: str, *, reads_beside_tokens: bool) -> None:
    """Write ``identity_moves``: what orders and tickets carry; with ``only``, those that carry one of its values."""
    by_value = (
        "and (payment_token in (select value from {only} where type = 'payment_token') "
        "or contact_id in (from identity_movers))"
    )
    # Where of a payment token only its uses are counted, what else they carry is asked of the carriers alone.
    contacts = "identity_carriers" if only and not reads_beside_tokens else "remembered.contacts"
    if only:
        carried = " or ".join(
            f"({column} is not null {_among(only, type_, column)})" for type_, column in VALUES.items()
        )
        connection.execute(
            f"create or replace temp table identity_movers as select contact_id from identity_carriers where {carried}"
        )
    connection.execute(
        f"""
        create or replace temp table identity_moved as
        select contact_id, card_id, payment_token, seen_at from remembered.records
        where feed in ('shop_orders', 'pos_tickets') {by_value.format(only=only) if only else ""};
        create or replace temp table identity_moves as
        select moved.*, email_key, phone
        from identity_moved as moved
        left join (
            select contact_id, email_key, phone from {contacts} semi join identity_moved using (contact_id)
        ) as contacts using (contact_id);
        drop table identity_moved
        """
    )


def demote(connection: DuckDBPyConnection, policy: Policy, write: Write = keep) -> None:
    """Write ``identity.demoted_identifiers`` and ``identity_demoted``, from all that was counted.

    A demoted value joins nobody. The reason is the first that applies of ``blocked``, ``too_many_people``,
    ``over_used``. People are told apart roughly, by how their given names begin: what somebody mistypes further on does
    not make a new person.
    """
    connection.execute(f"create or replace temp table identity_over_used as {_over_used(policy)}")
    find_carriers(connection, marks("identity_over_used"))
    write(
        connection,
        "demoted",
        f"""
        select type, value, greatest(person_count, 1) as person_count, reason from remembered.notable
        union all
        select type, value, greatest(person_count, 1), 'over_used'
        from ({_people("identity_over_used")}) as people
        anti join remembered.notable as notable using (type, value)
        """,
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
    selects = []
    for rule in policy.identifiers.values():
        if not rule.max_companions:
            continue
        limits = {**{f"{other}_count": limit for other, limit in rule.max_companions.items()}, "uses": policy.max_uses}
        usual = ", ".join(f"quantile_disc({count}, 0.5) as usual_{count}" for count in limits)
        signs = " or ".join(
            f"({count} > {limit} and (everything < 10 or {count} > {policy.median_factor} * usual_{count}))"
            for count, limit in limits.items()
        )
        selects.append(
            f"""
            select '{rule.name}' as type, value
            from remembered.uses,
                (select count(*) as everything, {usual} from remembered.uses where type = '{rule.name}' and uses >= 2)
            where type = '{rule.name}' and ((uses >= 2 and ({signs})) or busy_days > {policy.max_busy_days})
            """
        )
    return " union all ".join(selects) or "select null::varchar as type, null::varchar as value where false"
