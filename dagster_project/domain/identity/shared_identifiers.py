"""Identifiers that more than one person carries, as a table: who shares what, without saying the value.

What belongs here: reporting. What does not: what a shared value may still join (``identifiers``, ``attribution``).
"""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.remembered import Write, keep


def write_shared_identifiers(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity.shared_identifiers``: one row per value that is demoted or that several accounts carry.

    ``reason``: of a demoted value that of the policy; else ``given_anew`` (a phone, one account after the other),
    ``landline``, ``household`` (accounts of one household), ``payment_card``, ``several_people``.

    What ties nobody to anybody, demoted values and worn-out payment tokens, is looked up among all records.
    """
    write(
        connection,
        "shared_identifiers",
        """
        with idle as (
            select type, value from identity_demoted where type in ('email', 'phone')
        ),
        carried as (
            select distinct type, value, component
            from (
                select contact_id, 'email' as type, email_key as value
                from identity_contacts where email_key is not null
                union all
                select contact_id, 'phone', phone from identity_contacts where phone is not null
            )
            join identity_placed using (contact_id)
            semi join identity_anchored as anchored using (component)
            anti join idle using (type, value)
            union all
            select distinct type, value, component
            from (
                select contact_id, 'email' as type, email_key as value from remembered.contacts
                where email_key in (select value from idle where type = 'email')
                union all
                select contact_id, 'phone', phone from remembered.contacts
                where phone in (select value from idle where type = 'phone')
            )
            join remembered.named using (contact_id)
            join remembered.labels using (profile_id)
            semi join remembered.anchors using (component)
            union all
            select distinct 'payment_token', keys.payment_token, attributed.component
            from identity_records as keys join identity_attributed as attributed using (feed, record_id)
            anti join identity_worn_tokens as worn on worn.value = keys.payment_token
            where keys.payment_token is not null
            union all
            select distinct 'payment_token', keys.payment_token, links.component
            from (
                from remembered.records semi join identity_worn_tokens as worn on worn.value = records.payment_token
            ) as keys
            join remembered.account_links as links using (feed, record_id)
        ),
        counted as (
            select type, value, count(*) as account_count,
                count(distinct household_components.component) = 1
                    and count(household_components.component) = count(*) as is_household
            from carried
            left join household_components on household_components.node = carried.component
            group by type, value
        ),
        in_turn as (
            select distinct type, value from identity_holders where from_at > timestamp '0001-01-01'
        )
        select
            counted.value, counted.type, left(sha256(counted.type || '|' || counted.value), 16) as value_hash,
            counted.account_count, demoted.person_count, demoted.value is not null as is_demoted,
            case
                when demoted.value is not null then demoted.reason
                when in_turn.value is not null then 'given_anew'
                when counted.type = 'payment_token' then 'payment_card'
                when counted.type = 'phone' and not regexp_matches(counted.value, '^\\+33[67]') then 'landline'
                when counted.is_household then 'household'
                else 'several_people'
            end as reason
        from counted
        left join identity_demoted as demoted using (type, value)
        left join in_turn using (type, value)
        where counted.account_count > 1 or demoted.value is not null
        """,
    )
