"""Which contacts an identifier joins, which it refuses to join, and which identifier values join nothing.

What belongs here: reading one identifier value at a time. What does not: what follows when several values are taken
together (``clustering.py``).

All contacts of one value are sorted into *persons*: one given name and one birth date each. A contact without a given
name, with an initial only or without a birth date belongs to the person it can only be, and to none where it could be
two. Within a person the contacts are joined to one of them (a star, never all pairs); between persons nothing is joined
and the refusal is a row. A value of too many persons is demoted: it joins nobody at all.
"""

from datetime import date

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.policy import Policy


def find_persons(connection: DuckDBPyConnection) -> None:
    """Write ``identity_uses_persons``: ``identity_uses`` with ``person``, null where the contact could be two.

    ``person`` is only comparable within one value. Grain: one row per contact and value.
    """
    connection.execute(
        """
        create or replace temp table identity_uses_persons as
        with mixed as (
            select * from identity_uses where not is_simple
        ),
        given_names as (
            select value_id, left(given_name_key, 1) as given_initial, given_name_key as given
            from mixed where given_name_key is not null
            group by all
        ),
        initials as (
            select value_id, given_initial, count(*) as names, min(given) as given from given_names group by all
        ),
        lone_initials as (
            select value_id, given_initial as given
            from mixed anti join initials using (value_id, given_initial)
            where given_initial is not null
            group by all
        ),
        value_names as (
            select value_id, count(*) as names, min(given) as given
            from (select value_id, given from given_names union all select * from lone_initials)
            group by value_id
        ),
        owner_names as (
            select value_id, min(given_name_key) as given, min(birth_key) as birth
            from mixed where is_owner group by value_id
        ),
        named as (
            select
                mixed.*,
                owner_names.given as owner_given,
                owner_names.birth as owner_birth,
                case
                    when mixed.given_name_key is not null then mixed.given_name_key
                    when mixed.given_initial is not null and initials.names is null then mixed.given_initial
                    when mixed.given_initial is not null and left(owner_names.given, 1) = mixed.given_initial
                        then owner_names.given
                    when mixed.given_initial is not null and initials.names = 1 then initials.given
                    when mixed.given_initial is not null then null
                    when owner_names.given is not null then owner_names.given
                    when value_names.names is null then ''
                    when value_names.names = 1 then value_names.given
                end as given
            from mixed
            left join initials using (value_id, given_initial)
            left join value_names using (value_id)
            left join owner_names using (value_id)
        ),
        births as (
            select value_id, given, count(distinct birth_key) as births, min(birth_key) as birth
            from named where given is not null group by all
        )
        select
            named.* exclude (owner_given, owner_birth, given),
            case
                when named.given is null then null
                when named.birth_key is not null then named.given || '|' || named.birth_key
                when births.births = 0 then named.given || '|'
                when named.given = named.owner_given and named.owner_birth is not null
                    then named.given || '|' || named.owner_birth
                when births.births = 1 then named.given || '|' || births.birth
            end as person
        from named left join births using (value_id, given)
        union all
        select *, '|' from identity_uses where is_simple
        """
    )


def demote(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity.demoted_identifiers`` and ``identity.identifier_policies``, and mark the uses.

    ``identity_uses_resolved`` is ``identity_uses_persons`` with ``person_count`` and ``is_demoted``. The reason is the
    first that applies of ``blocked``, ``too_many_people``, ``over_used``.
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
    is_blocked = " or ".join(
        [
            f"(type = '{rule.name}' and value in ({_texts(rule.blocked_values)}))"
            for rule in rules
            if rule.blocked_values
        ]
        + [
            f"(type = '{rule.name}' and regexp_matches(value, {_texts(['|'.join(rule.blocked_patterns)])}))"
            for rule in rules
            if rule.blocked_patterns
        ]
    )
    connection.execute(
        f"""
        create or replace temp table identity_demoted as
        with over_used as ({_over_used(policy)}),
        mixed_people as (
            select value_id, count(distinct person) as person_count
            from identity_uses_persons where not is_simple group by value_id
        ),
        people as (
            select value_id, type, value, coalesce(person_count, 1) as person_count
            from identity_values left join mixed_people using (value_id)
        ),
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
        select * from judged where reason is not null
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
    connection.execute(
        """
        create or replace temp table identity_uses_resolved as
        select uses.*, demoted.value_id is not null as is_demoted
        from identity_uses_persons as uses left join identity_demoted as demoted using (value_id)
        """
    )


def _texts(values: tuple[str, ...] | list[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def _over_used(policy: Policy) -> str:
    """SQL: the values (type, value) that are a tool of many people: a till clerk's card, a desk's e-mail.

    Only orders and tickets count, and only values used at least twice. Three signs: more different other keys than a
    person has, many busy days, very many uses. The median that guards the first and the last holds from ten values on.
    """
    columns = {"card": "card_id", "email": "email", "phone": "phone", "payment_token": "payment_token"}
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
        moves = f"from identity_blocks where {key} is not null and feed in ('shop_orders', 'pos_tickets')"
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
                group by {key}, date_trunc('day', seen_at) having count(*) >= {policy.busy_day_uses}
            )
            group by value having count(*) > {policy.max_busy_days}
            """
        )
    return "select distinct type, value from (" + " union all ".join(selects) + ")"


def propose_edges(connection: DuckDBPyConnection) -> None:
    """Write ``identity_proposals``: the pairs of contacts that identifiers and stewards propose or refuse.

    Grain: one row per pair of contacts and rule. ``agreement`` is 2 where given name and birth date agree, 1 where the
    given name does, 0 where one side says nothing. Stewards' decisions are proposals of the rule ``decision``.
    """
    connection.execute(
        """
        create or replace temp table identity_proposals as
        with usable as (
            select * from identity_uses_resolved where not is_demoted and contact_count > 1
        ),
        -- The centre of a star is the contact that says most: it is the least likely to be pulled elsewhere.
        ranked as (
            select *, row_number() over (
                partition by value_id, person
                order by is_owner desc, given_name_key is null, birth_key is null, contact_id
            ) as place
            from usable where person is not null
        ),
        centres as (
            select * from ranked where place = 1
        ),
        firsts as (
            select * from centres
            where not is_simple
            qualify row_number() over (
                partition by value_id
                order by is_owner desc, given_name_key is null, birth_key is null, contact_id
            ) = 1
        ),
        joined as (
            select
                centres.contact_id as l, ranked.contact_id as r, ranked.type as rule, 'accepted' as decision,
                cast(null as varchar) as reason,
                case
                    when ranked.given_name_key = centres.given_name_key and ranked.birth_key = centres.birth_key then 2
                    when ranked.given_name_key = centres.given_name_key then 1
                    else 0
                end as agreement
            from ranked join centres using (value_id, person)
            where ranked.place > 1
        ),
        parted as (
            select
                firsts.contact_id as l, others.contact_id as r, others.type as rule, 'refused' as decision,
                case
                    when others.person is null then 'could_be_two_people'
                    when split_part(others.person, '|', 1) <> split_part(firsts.person, '|', 1) then 'given_name'
                    else 'birth_date'
                end as reason,
                0 as agreement
            from firsts
            join (select value_id, type, contact_id, person from centres where not is_simple
                  union all select value_id, type, contact_id, null from usable where person is null) as others
                using (value_id)
            where firsts.contact_id <> others.contact_id
        )
        select * from joined union all select * from parted
        """
    )


def read_decisions(connection: DuckDBPyConnection, as_of: date) -> None:
    """Write ``identity_decisions_in_force``: the stewards' decisions at the as-of date, as pairs of contacts.

    Of several decisions about one pair the latest counts. A decision about a record that says nothing of a person, or
    about two records with one contact block, has no effect.
    """
    connection.execute(
        f"""
        create or replace temp table identity_decisions_in_force as
        select least(lefts.contact_id, rights.contact_id) as l, greatest(lefts.contact_id, rights.contact_id) as r,
            decision, decision_id
        from staging.stg_identity_decisions as decisions
        join identity.records as lefts on lefts.feed = left_feed and lefts.record_id = left_id
        join identity.records as rights on rights.feed = right_feed and rights.record_id = right_id
        where decided_at < date '{as_of.isoformat()}' + interval 1 day
            and (revoked_at is null or revoked_at >= date '{as_of.isoformat()}' + interval 1 day)
            and lefts.contact_id <> rights.contact_id
        qualify row_number() over (partition by l, r order by decided_at desc, decision_id desc) = 1
        """
    )
