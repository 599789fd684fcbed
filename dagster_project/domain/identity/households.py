"""Households: accounts of different people who live together or share an e-mail or a phone. Never a merge."""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.clustering import connect
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.remembered import Write, among, keep

_REASONS = ("address_and_name", "shared_landline", "shared_email", "shared_phone")
"""Strongest first: one address and one family name; a value that two accounts carry and that did not join them."""


def find_households(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write what makes households, of everything: who shares what, and who lives together by that."""
    list_household_values(connection)
    share_households(connection, policy)
    connect_households(connection)


def list_household_values(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_household_values`` (component, rank, value): by what founded components may live with others.

    ``rank`` is the place of the reason.
    """
    write(
        connection,
        "household_values",
        """
        with people as (
            select labels.component, house_number, street_key, coalesce(postal_code, town_key) as town,
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
        )
        select distinct component, rank, value
        from (
            select 1 as rank, component,
                hash(1, house_number, street_key, town, unnest(family_name_forms)) as value
            from people where house_number is not null and street_key is not null and town is not null
            union all
            select case when is_mobile then 4 else 2 end, component, hash(2, phone_key)
            from people where phone_key is not null
            union all
            select 3, component, hash(3, email_key) from people where email_key is not null
        )
        """,
    )


def share_households(connection: DuckDBPyConnection, policy: Policy, write: Write = keep, of: str = "") -> None:
    """Write ``identity_household_shares`` (rank, value, component, head): the values that some components share.

    ``head`` is the smallest of them. ``of`` names a working table (value): of these only.
    """
    write(
        connection,
        "household_shares",
        f"""
        with shared as (
            select rank, value, component from remembered.household_values
            {f"where {among('value', of)}" if of else ""}
            qualify count(*) over (partition by value) between 2 and {policy.household_max_accounts}
        )
        select rank, value, component, min(component) over (partition by value) as head from shared
        """,
    )


def connect_households(connection: DuckDBPyConnection, write: Write = keep, of: str = "") -> None:
    """Write ``identity_household_components`` (node, component): the components that live with others.

    ``of`` names a working table (component) in which every household is whole: of these only.
    """
    connection.execute(
        f"""
        create or replace temp table household_pairs as
        select head as l, component as r from remembered.household_shares
        {f"where {among('component', of)}" if of else ""}
        """
    )
    connect(connection, "household_pairs", "household_connected")
    write(connection, "household_components", "from household_connected")


def name_households(connection: DuckDBPyConnection, write: Write = keep, of: str = "") -> None:
    """Write ``identity_households``: one row per component of an account that shares a household, with the strongest
    reason.

    The household is named after the smallest anchor key of its accounts. ``of`` names a working table (component) in
    which every household is whole: of these only.
    """
    only = f"where {among('component', of)}" if of else ""
    write(
        connection,
        "households",
        f"""
        with reasons as (
            select component, min(rank) as rank from remembered.household_shares {only} group by component
        ),
        members as (
            select households.component as household, reasons.component, reasons.rank, anchors.anchor_key
            from reasons
            join remembered.household_components as households on households.node = reasons.component
            join remembered.anchors as anchors on anchors.component = reasons.component
        )
        select 'H' || upper(left(sha256(min(anchor_key) over (partition by household)), 16)) as household_id,
            component, {list(_REASONS)}[rank] as reason
        from members
        """,
    )
