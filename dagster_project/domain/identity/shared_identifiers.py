"""Identifiers that more than one person carries, as a table: who shares what, without saying the value.

What belongs here: reporting. What does not: what a shared value may still join (``identifiers``, ``attribution``).
"""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.attribution import key_of
from dagster_project.domain.identity.identifiers import MARK
from dagster_project.domain.identity.remembered import Write, among, keep, work


def find_value_carriers(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_value_carriers`` (type, value, component): e-mails and phones of several components."""
    write(
        connection,
        "value_carriers",
        """
        select type, value, component
        from (
            select distinct 'email' as type, email_key as value, component
            from identity_profiles join identity_labels using (profile_id) where email_key is not null
            union all
            select distinct 'phone', phone_key, component
            from identity_profiles join identity_labels using (profile_id) where phone_key is not null
        )
        qualify count(*) over (partition by type, value) > 1
        """,
    )


def find_token_carriers(connection: DuckDBPyConnection, write: Write = keep, of: str = "") -> None:
    """Write ``identity_token_carriers`` (token, value, component): the payment tokens that several components use.

    ``of`` names a working table (token): of these only. ``identity_token_names`` (token, value) says how they
    are called.
    """
    only = f"and {among('token', of)}" if of else ""
    write(
        connection,
        "token_carriers",
        f"""
        with used as (
            select distinct token, component from remembered.account_links where token is not null {only}
        ),
        shared as (from used qualify count(*) over (partition by token) > 1),
        names as (
            select token, any_value(value) as value from identity_token_names semi join shared using (token)
            group by token
        )
        select token, value, component from shared join names using (token)
        """,
    )


def write_shared_identifiers(connection: DuckDBPyConnection) -> None:
    """Write ``identity.shared_identifiers``: one row per value that is demoted or that several accounts carry.

    ``reason``: of a demoted value that of the policy; else ``given_anew`` (a phone, one account after the other),
    ``landline``, ``household`` (accounts of one household), ``payment_card``, ``several_people``.

    What ties nobody to anybody, demoted values, is looked up among all contacts.
    """
    work(
        connection,
        "idle",
        f"select type, value, {MARK} as mark from remembered.demoted where type in ('email', 'phone')",
    )
    work(
        connection,
        "idle_contacts",
        """
        select type, idle.value, contact_id
        from identity_idle as idle join remembered.carried as carried on carried.value = idle.mark
        """,
    )
    keep(
        connection,
        "shared_identifiers",
        f"""
        with carried as (
            select type, value, component from remembered.value_carriers semi join remembered.anchors using (component)
            union all
            select 'payment_token', value, component from remembered.token_carriers
            union all
            select distinct type, value, component
            from identity_idle_contacts join remembered.placed using (contact_id)
            semi join remembered.anchors using (component)
        ),
        counted as (
            select type, value, count(*) as account_count,
                count(distinct households.component) = 1 and count(households.component) = count(*) as is_household
            from carried
            left join remembered.household_components as households on households.node = carried.component
            group by type, value
        ),
        in_turn as (
            select distinct key from remembered.holders where from_at > timestamp '0001-01-01'
        )
        select
            counted.value, counted.type, left(sha256(counted.type || '|' || counted.value), 16) as value_hash,
            counted.account_count, demoted.person_count, demoted.value is not null as is_demoted,
            case
                when demoted.value is not null then demoted.reason
                when in_turn.key is not null then 'given_anew'
                when counted.type = 'payment_token' then 'payment_card'
                when counted.type = 'phone' and not regexp_matches(counted.value, '^\\+33[67]') then 'landline'
                when counted.is_household then 'household'
                else 'several_people'
            end as reason
        from counted
        left join remembered.demoted as demoted using (type, value)
        left join in_turn on counted.type = 'phone' and in_turn.key = {key_of("phone", "counted.value")}
        where counted.account_count > 1 or demoted.value is not null
        """,
    )
