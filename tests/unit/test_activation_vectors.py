"""What each platform must receive for a value, as its documentation says: the golden vectors of docs/audiences.md.

The expected forms are written out as literals, in the plain, and are hashed here: nothing is taken from the code that
is tested. Sources: see ``domain/activation.py``. ``None`` is an empty cell. Invisible characters are escapes.
"""

import csv
import hashlib
import re
from pathlib import Path

import pytest
from unit.audience_tables import add, audience_tables

from dagster_project.domain import activation, phones

# What is delivered, and its plain form for Google Customer Match and for a Meta custom audience.
EMAILS = [
    ("jean.pierre.d+x@gmail.com", "jeanpierred@gmail.com", "jean.pierre.d+x@gmail.com"),
    ("jean.pierre.d+x@googlemail.com", "jeanpierred@googlemail.com", "jean.pierre.d+x@googlemail.com"),
    ("jean.pierre.d+x@orange.fr", "jean.pierre.d+x@orange.fr", "jean.pierre.d+x@orange.fr"),
    ("jean.pierre@notgmail.com", "jean.pierre@notgmail.com", "jean.pierre@notgmail.com"),
    (" John_Smith@Gmail.COM ", "john_smith@gmail.com", "john_smith@gmail.com"),
    ("\u200bzoe@example.fr\u00a0", "zoe@example.fr", "zoe@example.fr"),
    ("zoe\u0308@example.fr", "zoë@example.fr", "zoë@example.fr"),
    # No account of Gmail: it stays as it is, rather than to become "@gmail.com" for everybody.
    ("+x@gmail.com", "+x@gmail.com", "+x@gmail.com"),
    (".+x@gmail.com", ".+x@gmail.com", ".+x@gmail.com"),
]
PHONES = [
    ("06 12 34 56 78", "+33612345678", "33612345678"),
    ("+33 (0)6 12 34 56 78", "+33612345678", "33612345678"),
    ("0033 6 12 34 56 78", "+33612345678", "33612345678"),
    ("06.12.34.56.78", "+33612345678", "33612345678"),
    ("\u200e06\u00a012\u202f34\u00a056\u00a078\u200b", "+33612345678", "33612345678"),
    ("+32 470 12 34 56", "+32470123456", "32470123456"),
    ("+44 844 412 4653", "+448444124653", "448444124653"),
    ("+1 (650) 555-1212", "+16505551212", "16505551212"),
]
NAMES = [
    ("zoë", "zoë", "zoë"),
    ("ZOË", "zoë", "zoë"),
    ("  Zoë ", "zoë", "zoë"),
    ("Zoe\u0308", "zoë", "zoë"),
    ("\u00a0Zo\u00adë\u200b\ufeff", "zoë", "zoë"),
    ("Zoe\u200b\u0308", "zoë", "zoë"),
    ("Mary", "mary", "mary"),
    ("Valéry", "valéry", "valéry"),
    ("정", "정", "정"),
    ("Jean-François", "jean-françois", "jeanfrançois"),
    ("Jean\u00a0\u200b François", "jean françois", "jeanfrançois"),
    ("D’Hérouville", "d’hérouville", "dhérouville"),
    ("D'HÉROUVILLE", "d'hérouville", "dhérouville"),
    ("D´Hérouville", "d´hérouville", "dhérouville"),
    ("Œuvrard", "œuvrard", "œuvrard"),
    ("ŒUVRARD", "œuvrard", "œuvrard"),
    ("de  la   Tour", "de la tour", "delatour"),
    ("Mme Zoë", "zoë", "mmezoë"),
    ("M. Jean", "jean", "mjean"),
    ("Dr. John", "john", "drjohn"),
    ("M", "m", "m"),
    ("Drusilla", "drusilla", "drusilla"),
    ("Smith, Jr.", "smith", "smithjr"),
]
# With the country of the golden record.
POSTCODES = [
    ("75011", "FR", "75011", "75011"),
    ("01000", "FR", "01000", "01000"),
    ("75 011", "FR", "75011", "75011"),
    ("\u00a075011\u200b", "FR", "75011", "75011"),
    ("1000", "BE", "1000", "1000"),
    ("SW1A 1AA", "GB", "SW1A 1AA", "sw1a1aa"),
    ("sw1a\u00a01aa", "GB", "SW1A 1AA", "sw1a1aa"),
    ("M1 1AE", "GB", "M1 1AE", "m11ae"),
    ("94035", "US", "94035", "94035"),
    ("94035-1234", "US", "94035-1234", "94035"),
    ("02134-0001", "US", "02134-0001", "02134"),
    ("1000-205", "PT", "1000-205", "1000205"),
    ("123 45", "SE", "123 45", "12345"),
    ("=75011", "FR", "75011", "75011"),
]
COUNTRIES = [
    ("FR", "FR", "fr"),
    ("be", "BE", "be"),
    (" GB\u200b", "GB", "gb"),
    ("US", "US", "us"),
    (None, "FR", "fr"),
    ("LA FRANCE", "FR", "fr"),
]

# Hashes that Meta prints in "Customer information parameters", by the column of its file and the value before.
PRINTED_BY_META = [
    ("email", " John_Smith@Gmail.COM ", "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"),
    ("phone", "+1 (650) 555-1212", "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"),
    ("fn", "Mary", "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
    ("fn", "정", "8fa8cd9c440be61d0151429310034083132b35975c4bea67fdd74158eb51db14"),
    ("fn", "Valéry", "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c"),
    ("country", "US", "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621"),
]
NEVER_SENT_TO_META = ("madid", "ct", "st", "dob", "doby", "gen", "age", "uid", "value")


DOCUMENT = Path(__file__).parents[2] / "docs/audiences.md"


def sha(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def sent(
    directory: Path,
    *,
    email: str = "zoe@example.fr",
    phone: str = "06 12 34 56 78",
    first_name: str | None = "Zoë",
    last_name: str | None = "Petit",
    postal_code: str | None = "75011",
    country: str | None = "FR",
    birth_date: str | None = None,
) -> dict[str, dict[str, str]]:
    """The cells of one person who allows everything, by destination and column; of a repeated column, the first."""
    number = phones.standardise(phone, "FR")
    assert number is not None
    with audience_tables() as connection:
        golden = (email, number, first_name, last_name, postal_code, country)
        add(
            connection,
            "a1",
            emails=(email,),
            phones=(number,),
            post="3 rue haute",
            golden=golden,
            birth_date=birth_date,
        )
        activation.write_files(connection, directory)
    cells = {}
    for path in (directory / "vip").iterdir():
        with path.open(encoding="utf-8", newline="") as stream:
            header, line = csv.reader(stream)
        cells[path.stem] = dict(reversed(list(zip(header, line, strict=True))))
    return cells


@pytest.mark.parametrize(("value", "google", "meta"), EMAILS, ids=ascii)
def test_an_email(value: str, google: str, meta: str, tmp_path: Path) -> None:
    cells = sent(tmp_path, email=value)
    assert cells["google_customer_match"]["Email"] == sha(google)
    assert cells["meta_custom_audience"]["email"] == sha(meta)


@pytest.mark.parametrize(("value", "google", "meta"), PHONES, ids=ascii)
def test_a_phone_number(value: str, google: str, meta: str, tmp_path: Path) -> None:
    cells = sent(tmp_path, phone=value)
    assert cells["google_customer_match"]["Phone"] == sha(google)
    assert cells["meta_custom_audience"]["phone"] == sha(meta)


@pytest.mark.parametrize(("value", "google", "meta"), NAMES, ids=ascii)
def test_a_name(value: str, google: str, meta: str, tmp_path: Path) -> None:
    cells = sent(tmp_path, first_name=value, last_name=value)
    google_cells, meta_cells = cells["google_customer_match"], cells["meta_custom_audience"]
    assert (google_cells["First Name"], google_cells["Last Name"]) == (sha(google), sha(google))
    assert (meta_cells["fn"], meta_cells["ln"]) == (sha(meta), sha(meta))


@pytest.mark.parametrize(("value", "country", "google", "meta"), POSTCODES, ids=ascii)
def test_a_postcode_is_plain_for_google_and_hashed_for_meta(
    value: str, country: str, google: str, meta: str, tmp_path: Path
) -> None:
    cells = sent(tmp_path, postal_code=value, country=country)
    assert cells["google_customer_match"]["Zip"] == google
    assert cells["meta_custom_audience"]["zip"] == sha(meta)


@pytest.mark.parametrize(("value", "google", "meta"), COUNTRIES, ids=ascii)
def test_a_country_is_plain_for_google_and_hashed_for_meta(
    value: str | None, google: str, meta: str, tmp_path: Path
) -> None:
    cells = sent(tmp_path, country=value)
    assert cells["google_customer_match"]["Country"] == google
    assert cells["meta_custom_audience"]["country"] == sha(meta)


@pytest.mark.parametrize(("column", "value", "printed"), PRINTED_BY_META, ids=ascii)
def test_hashes_are_those_that_meta_prints(column: str, value: str, printed: str, tmp_path: Path) -> None:
    field = {"fn": "first_name"}.get(column, column)
    assert sent(tmp_path, **{field: value})["meta_custom_audience"][column] == printed


def test_gender_and_birth_date_are_never_sent_whether_known_or_not(tmp_path: Path) -> None:
    """An unknown gender is an empty cell, and so is a known one: nobody consented to more than being found again."""
    for number, birth_date in enumerate((None, "1985-03-14")):
        cells = sent(tmp_path / str(number), birth_date=birth_date)
        meta = cells["meta_custom_audience"]
        assert {column: meta[column] for column in NEVER_SENT_TO_META} == dict.fromkeys(NEVER_SENT_TO_META, "")
        assert set(cells["google_customer_match"]) == {"Email", "Phone", "First Name", "Last Name", "Country", "Zip"}
        everything = {cell for line in cells.values() for cell in line.values()}
        assert not everything & {sha(text) for text in ("f", "m", "u", "unknown", "19850314", "1985", "03/14/1985")}


@pytest.mark.parametrize("nothing", [None, "", "  ", "\u00a0", "\u200b\ufeff"], ids=ascii)
def test_nothing_is_an_empty_cell_and_never_the_hash_of_nothing(nothing: str | None, tmp_path: Path) -> None:
    """Google matches an address only whole, so without one part none of it is sent."""
    for field, column in (("first_name", "fn"), ("last_name", "ln"), ("postal_code", "zip")):
        cells = sent(tmp_path / field, **{field: nothing})
        google, meta = cells["google_customer_match"], cells["meta_custom_audience"]
        assert [google[name] for name in ("First Name", "Last Name", "Country", "Zip")] == [""] * 4
        assert google["Email"] == meta["email"] == sha("zoe@example.fr")
        assert meta[column] == ""
        assert all(meta[other] for other in {"fn", "ln", "zip", "country"} - {column})
        assert sha("") not in {cell for line in cells.values() for cell in line.values()}


@pytest.mark.parametrize(
    ("field", "value", "column", "expected"),
    [
        ("first_name", "Zoë", "first_name", "Zoë"),
        ("first_name", "\u00a0Jean\u202f\u200b François\ufeff", "first_name", "Jean François"),
        ("first_name", "\u200b", "first_name", ""),
        ("first_name", "=cmd", "first_name", "'=cmd"),
        ("first_name", "\u200b=cmd", "first_name", "'=cmd"),
        ("first_name", "@cmd", "first_name", "'@cmd"),
        ("email", "jean.pierre.d+x@gmail.com", "email", "jean.pierre.d+x@gmail.com"),
        ("email", "+zoe@example.fr", "email", '"+zoe"@example.fr'),
    ],
    ids=ascii,
)
def test_the_email_tool_gets_what_people_read(
    field: str, value: str, column: str, expected: str, tmp_path: Path
) -> None:
    assert sent(tmp_path, **{field: value})["email_tool"][column] == expected


def test_the_documentation_shows_vectors_that_are_tested() -> None:
    tested = {
        **{("e-mail", value): forms for value, *forms in EMAILS},
        **{("phone", value): forms for value, *forms in PHONES},
        **{("name", value): forms for value, *forms in NAMES},
        **{(f"postcode, {country}", value): forms for value, country, *forms in POSTCODES},
        **{("country", value): forms for value, *forms in COUNTRIES},
    }
    _, table, _ = re.split("<!-- (?:end: )?vectors -->", DOCUMENT.read_text(encoding="utf-8"))
    shown = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]
    assert len(shown) > 15
    for kind, value, *forms in shown:
        assert tested[kind, value] == forms
