"""Households: accounts of different people who live together or share an e-mail or a phone. Never a merge."""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.clustering import connect
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.remembered import Write, keep


def find_households(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``household_components`` (node, component): the clusters that live with others, and ``household_shares``.

    Reasons, strongest first: ``address_and_name`` (one address, one family name), ``shared_landline``, ``shared_email``
    and ``shared_phone`` (a value that two accounts carry and that did not join them).
    """
    most = policy.household_max_accounts
    connection.execute(
        f"""
        create or replace temp table household_shares as
        with people as (
            select distinct labels.component, house_number, street_key, coalesce(postal_code, town_key) as town,
                family_name_forms, is_mobile,
                -- A present carries the e-mail of who pays: those two need not live together.
                case when presents.profile_id is null then email_key end as email_key,
                case when presents.profile_id is null then phone_key end as phone_key
            from identity_profiles
            join identity_labels as labels using (profile_id)
            left join (
                select distinct profile_id from identity_named semi join identity_presents using (contact_id)
            ) as presents using (profile_id)
            semi join identity_founded as founded on founded.component = labels.component
        ),
        shares as (
            select 1 as rank, 'address_and_name' as reason, component,
                hash(1, house_number, street_key, town, unnest(family_name_forms)) as value
            from people where house_number is not null and street_key is not null and town is not null
            union all
            select case when is_mobile then 4 else 2 end,
                case when is_mobile then 'shared_phone' else 'shared_landline' end, component, hash(2, phone_key)
            from people where phone_key is not null
            union all
            select 3, 'shared_email', component, hash(3, email_key) from people where email_key is not null
        ),
        shared as (
            select rank, reason, value, component from (select distinct rank, reason, value, component from shares)
            qualify count(*) over (partition by value) between 2 and {most}
        )
        select rank, reason, component, min(component) over (partition by value) as head from shared
        """
    )
    connection.execute(
        "create or replace temp table household_pairs as select head as l, component as r from household_shares"
    )
    connect(connection, "household_pairs", "household_components")


def name_households(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity.households``: one row per account that shares a household, with the strongest reason.

    The household is named after the smallest anchor key of its accounts.
    """
    write(
        connection,
        "households",
        """
        with reasons as (
            select component, arg_min(reason, rank) as reason from household_shares group by component
        ),
        members as (
            select households.component as household, reasons.component, reasons.reason, anchored.anchor_key
            from reasons
            join household_components as households on households.node = reasons.component
            join identity_anchored as anchored on anchored.component = reasons.component
        )
        select 'H' || upper(left(sha256(min(anchor_key) over (partition by household)), 16)) as household_id,
            component, reason
        from members
        """,
    )
