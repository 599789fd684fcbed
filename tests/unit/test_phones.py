"""Telephone numbers: however a French number is written, the pattern in SQL says what the library says."""

from pathlib import Path

import duckdb
import phonenumbers
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from dagster_project.domain import phones
from dagster_project.domain.contract import feeds


def written(values: list[str], country: str) -> dict[str, tuple[str | None, bool]]:
    """``staging.phone_numbers`` of a landing in which one feed delivered these values."""
    with duckdb.connect() as connection:
        connection.execute("create schema landing; create schema staging")
        for feed in feeds().values():
            columns = ", ".join(f"{name} varchar" for name in feed.column_names)
            connection.execute(f"create table landing.{feed.name} ({columns})")
        connection.executemany("insert into landing.shop_customers (phone) values ($1)", [[value] for value in values])
        count = phones.write_phone_numbers(connection, country)
        rows = connection.execute("select delivered_value, e164, is_mobile from staging.phone_numbers").fetchall()
    assert count == len(rows) == len(set(values))
    return {value: (e164, is_mobile) for value, e164, is_mobile in rows}


SEPARATORS = st.sampled_from(["", " ", ".", "-", "/", "\u00a0", "\u202f", "  "])
PREFIXES = st.sampled_from(["0", "+33", "0033", "+33 ", "+33 (0)", "+33(0)", "0033 0", "33", "00 33 ", "+330", ""])


@st.composite
def french_notations(draw: st.DrawFn) -> str:
    """Nine significant digits, mostly of a number that exists, as people write them."""
    digits = draw(st.text("0123456789", min_size=8, max_size=8))
    first = draw(st.sampled_from("123456789"))
    number = first + digits
    separator = draw(SEPARATORS)
    pairs = [number[0], *(number[n : n + 2] for n in range(1, 9, 2))]
    return draw(PREFIXES) + separator.join(pairs)


def by_the_library(value: str) -> str | None:
    """The library's own answer, without Cocanal's code; it does not know the narrow space of French typography."""
    try:
        number = phonenumbers.parse(value.replace("\u202f", " "), "FR")
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(number, 0) if phonenumbers.is_valid_number(number) else None


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(french_notations(), min_size=40, max_size=80, unique=True))
@example(["06 12 34 56 78", "+33 (0)6 12 34 56 78", "0033612345678", "01.99.00.00.10", "0800 800 800", "3615", "112"])
def test_the_pattern_says_what_the_library_says(values: list[str]) -> None:
    found = written(values, "FR")
    for value in values:
        e164, is_mobile = found[value]
        assert e164 == by_the_library(value), "a French notation is read otherwise than by the library"
        assert is_mobile == bool(e164 and e164.startswith(("+336", "+337")))


def test_a_number_of_another_country_is_read_by_its_prefix_or_the_default_country() -> None:
    found = written(["+32 470 12 34 56", "0470 12 34 56", "nonsense", "", "+", "+33", "١٢٣"], "BE")
    assert found["+32 470 12 34 56"][0] == "+32470123456"
    assert found["0470 12 34 56"][0] == "+32470123456"
    assert written(["0470\u202f12\u202f34\u202f56"], "BE").popitem()[1][0] == "+32470123456"
    assert {found[value][0] for value in ("nonsense", "", "+", "+33", "١٢٣")} == {None}
    assert written(["0470123456"], "FR") != {"0470123456": ("+32470123456", False)}


def test_values_of_every_phone_and_key_column_are_read(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("create schema landing; create schema staging")
        for feed in feeds().values():
            columns = ", ".join(f"{name} varchar" for name in feed.column_names)
            connection.execute(f"create table landing.{feed.name} ({columns})")
        connection.execute("insert into landing.consents (key_type, key_value) values ('phone', '0465710001')")
        connection.execute("insert into landing.consents (key_type, key_value) values ('card_id', '0465710002')")
        connection.execute("insert into landing.message_events (address) values ('0465710003'), ('a@mail.example')")
        phones.write_phone_numbers(connection, "FR")
        rows = connection.execute("select e164 from staging.phone_numbers order by 1").fetchall()
    assert rows == [("+33465710001",), ("+33465710003",)]
