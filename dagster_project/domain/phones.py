"""Telephone numbers in their standard form, E.164.

Numbers as French people write them are read set-wise with the library's own patterns of the French numbering plan;
every other distinct number is parsed by the library itself, once. Not for deciding whom a number belongs to: identity.
"""

import unicodedata

import duckdb
import phonenumbers
import pyarrow as pa

from dagster_project.domain.contract import feeds

# What people put between and before the digits of a French number: spaces of all kinds, dots, dashes, «(0)».
_SEPARATORS = r"[\s\x{00A0}\x{202F}.\-/_]|\(0\)"


def _french_pattern() -> str:
    """RE2 pattern of the nine significant digits of a valid French number, from the library's metadata."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region("FR", None)
    assert metadata is not None
    kinds = (
        metadata.fixed_line,
        metadata.mobile,
        metadata.toll_free,
        metadata.premium_rate,
        metadata.shared_cost,
        metadata.voip,
        metadata.uan,
    )
    patterns = [kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern]
    return "|".join(f"(?:{pattern})" for pattern in patterns)


def standardise(text: str, country: str) -> str | None:
    """E.164 of one number as a person wrote it, or None where it cannot be one."""
    try:
        # NFKC: the library takes the narrow spaces of French typography for letters.
        number = phonenumbers.parse(unicodedata.normalize("NFKC", text), country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _distinct_phones() -> str:
    parts = []
    for feed in feeds().values():
        for column in feed.columns:
            if column.type == "phone":
                parts.append(f"select {column.name} as value from landing.{feed.name}")
            elif column.type == "key_value":
                is_phone = "key_type = 'phone'" if "key_type" in feed.column_names else f"{column.name} not like '%@%'"
                parts.append(f"select {column.name} as value from landing.{feed.name} where {is_phone}")
    return " union ".join(parts)


def write_standard_phones(
    connection: duckdb.DuckDBPyConnection, given: str, table: str, country: str, *, is_temporary: bool = False
) -> None:
    """Write ``table`` (delivered_value, e164, is_mobile): one row per distinct value of the query ``given``, whose one
    column is ``value``. Cost grows with the distinct values; the library (some 50 µs a number) sees only those that the
    pattern does not settle.
    """
    kind = "temp table" if is_temporary else "table"
    is_french = f"regexp_full_match(national, '{_french_pattern()}')" if country == "FR" else "false"
    connection.execute(
        f"""
        create or replace {kind} {table} as
        with given as ({given}),
        stripped as (
            select distinct value, regexp_replace(value, '{_SEPARATORS}', '', 'g') as digits
            from given
            where value is not null
        ),
        national as (
            select value, regexp_extract(digits, '^(?:0|\\+33|0033)0?([1-9][0-9]{{8}})$', 1) as national, digits
            from stripped
        )
        select
            value as delivered_value,
            case when {is_french} then '+33' || national end as e164,
            digits
        from national
        """
    )
    values = [
        value
        for (value,) in connection.execute(
            f"select distinct delivered_value from {table} where e164 is null order by 1"
        ).fetchall()
    ]
    parsed = pa.table(  # noqa: F841 - read by the SQL below
        {
            "value": pa.array(values, pa.string()),
            "e164": pa.array([standardise(v, country) for v in values], pa.string()),
        }
    )
    connection.execute(
        f"""
        create or replace {kind} {table} as
        with numbers as (
            select delivered_value, coalesce(phone_numbers.e164, parsed.e164) as e164
            from {table} as phone_numbers
            left join parsed on parsed.value = phone_numbers.delivered_value
        )
        select delivered_value, e164, coalesce(regexp_matches(e164, '^\\+33[67]'), false) as is_mobile
        from numbers
        order by delivered_value
        """
    )


def write_phone_numbers(connection: duckdb.DuckDBPyConnection, country: str) -> int:
    """Write ``staging.phone_numbers``: one row per distinct number as delivered; returns how many there are.

    A number without an international prefix is read as one of ``country``.
    """
    write_standard_phones(connection, _distinct_phones(), "staging.phone_numbers", country)
    ((count,),) = connection.execute("select count(*) from staging.phone_numbers").fetchall()
    return count
