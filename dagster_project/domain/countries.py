"""Names of countries as people and shops write them, with their ISO 3166 code, from the Unicode CLDR (Babel)."""

import duckdb
import pyarrow as pa
from babel import Locale

# The languages of France's neighbours and of most exports.
LANGUAGES = ("fr", "en", "de", "es", "it", "nl", "pt")
# What exports write and no dictionary holds.
_OTHER_NAMES = {
    "EIRE": "IE",
    "FRA": "FR",
    "HOLLAND": "NL",
    "HONG KONG": "HK",
    "RSA": "ZA",
    "UK": "GB",
    "U.S.A.": "US",
    "USA": "US",
}


def country_names() -> dict[str, str]:
    """ISO 3166 alpha-2 code by name in upper case; the codes themselves are names too."""
    names: dict[str, str] = {}
    for language in LANGUAGES:
        for code, name in Locale(language).territories.items():
            if len(code) == 2 and code.isalpha() and code not in ("EU", "UN", "EZ", "ZZ", "XA", "XB", "QO"):
                names.setdefault(name.upper(), code)
                names.setdefault(code, code)
    return {**names, **_OTHER_NAMES}


def write_country_names(connection: duckdb.DuckDBPyConnection) -> int:
    """Write ``staging.country_names``: one row per name of a country; returns how many there are."""
    names = sorted(country_names().items())
    known = pa.table({"name": [name for name, _ in names], "code": [code for _, code in names]})  # noqa: F841
    connection.execute("create or replace table staging.country_names as select name, code from known")
    return len(names)
