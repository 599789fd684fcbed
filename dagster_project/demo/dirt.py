"""What goes wrong on the way into a system: the rates, and the SQL macros that type values as people and tills do.

The rates stand at the top, all of them. Every choice is made by hashing the seed, a key and a salt (``u``), so it does
not depend on the order in which rows are worked on. Which rows are then damaged in a file belongs in ``files``.
"""

import duckdb

from dagster_project.demo import seasons

# How a value is typed (share of the values of a feed).
EMAIL_UPPER, EMAIL_SPACES, EMAIL_TYPO, EMAIL_TAG = 0.06, 0.02, 0.012, 0.008
PHONE_SPACED, PHONE_DOTTED, PHONE_PLUS, PHONE_PLUS_SPACED, PHONE_DOUBLE_ZERO, PHONE_UNREADABLE = (
    0.25,
    0.1,
    0.08,
    0.06,
    0.04,
    0.003,
)
NAME_UPPER, NAME_LOWER, NAME_NO_ACCENTS, NAME_TYPO = 0.16, 0.05, 0.12, 0.012
FIRST_NAME_INITIAL, FIRST_NAME_DIMINUTIVE, NAMES_SWAPPED = 0.012, 0.03, 0.007
BIRTH_DATE_MISSING, BIRTH_DATE_DEFAULT, BIRTH_DATE_SWAPPED, BIRTH_DATE_GARBLED = 0.25, 0.02, 0.006, 0.002
ADDRESS_MISSING, ADDRESS_UPPER, ADDRESS_SHORT, ADDRESS_TWO_LINES = 0.12, 0.2, 0.15, 0.004
POSTAL_CODE_WRONG, CITY_UPPER, ORDER_EMAIL_MISSING = 0.01, 0.3, 0.01
PHONE_MISSING, ORDER_PHONE_MISSING = 0.25, 0.15
CARD_EMAIL_MISSING, CARD_PHONE_MISSING, CARD_LANDLINE = 0.3, 0.15, 0.12
# Values that many people share.
DESK_EMAIL, NOREPLY_EMAIL, PLACEHOLDER_PHONE, COMPANY_MAILBOX = 0.012, 0.005, 0.01, 0.004
# Business defects: the row stays.
TOTAL_OFF, UNKNOWN_STORE, UNKNOWN_PRODUCT = 0.002, 0.0005, 0.0008
# Rows of a file: said twice in the file, said again at the next delivery, said twice with a difference, unreadable.
ROW_TWICE, ROW_AGAIN, ROW_CONFLICT, ROW_BROKEN = 0.002, 0.002, 0.0005, 0.003
HEADER_LATE, ORPHAN_LINES = 0.001, 0.0005
# Files.
FILE_AGAIN, FILE_SPLIT, FILE_BOM, FILE_CRLF, FILE_REORDERED = 0.03, 0.1, 0.06, 0.08, 0.06

NOREPLY = "noreply@cocagne.example"
PLACEHOLDER_NUMBER = "0600000000"

_DIMINUTIVES = (
    ("Catherine", "Cathy"), ("Christine", "Chris"), ("Nathalie", "Nath"), ("Isabelle", "Isa"), ("Véronique", "Véro"),
    ("Valérie", "Val"), ("Sandrine", "Sandy"), ("Stéphanie", "Steph"), ("Frédéric", "Fred"), ("Philippe", "Phil"),
    ("Christophe", "Chris"), ("Nicolas", "Nico"), ("Alexandre", "Alex"), ("Alexandra", "Alex"), ("Maxime", "Max"),
    ("Thomas", "Tom"), ("Benjamin", "Ben"), ("Élisabeth", "Babeth"), ("Jacqueline", "Jackie"), ("Dominique", "Dom"),
    ("Emmanuelle", "Manu"), ("Emmanuel", "Manu"), ("Jean-Pierre", "JP"), ("Marie-Claude", "Marie"),
    ("Caroline", "Caro"),
    ("Florence", "Flo"), ("Charlotte", "Lotte"), ("Mathilde", "Mat"), ("Guillaume", "Guigui"), ("Sébastien", "Seb"),
)  # fmt: skip
_DOMAINS = (
    (0.34, "gmail.com"), (0.46, "orange.fr"), (0.56, "hotmail.fr"), (0.65, "free.fr"), (0.72, "yahoo.fr"),
    (0.78, "wanadoo.fr"),
    (0.84, "outlook.fr"), (0.89, "laposte.net"), (0.93, "sfr.fr"), (0.96, "icloud.com"), (0.98, "live.fr"),
    (1.01, "poste.example"),
)  # fmt: skip


def _cases(key: str, salt: str, choices: list[tuple[float, str]], otherwise: str) -> str:
    """``case`` over cumulated shares of ``u(key, salt)``."""
    edge, parts = 0.0, []
    for share, value in choices:
        edge += share
        parts.append(f"when u({key}, '{salt}') < {edge:.6f} then {value}")
    return f"case {' '.join(parts)} else {otherwise} end"


def create_macros(con: duckdb.DuckDBPyConnection, seed: int, nights: int) -> None:
    """Create the macros that the SQL of the generator is written in."""
    first_night = seasons.nights(nights)[0]
    daily_from = f"(date '{first_night}' - {seasons.DAILY_DELIVERIES_BEFORE_NIGHTS})"
    diminutives = " ".join(f"when '{name}' then '{short}'" for name, short in _DIMINUTIVES)
    domains = " ".join(f"when x < {edge} then '{domain}'" for edge, domain in _DOMAINS)
    spaced = "regexp_replace(n, '(\\d\\d)(\\d\\d)(\\d\\d)(\\d\\d)(\\d\\d)', '{}')"
    name_cases = [(NAME_UPPER, "upper(n)"), (NAME_LOWER, "lower(n)"), (NAME_NO_ACCENTS, "strip_accents(n)"),
                  (NAME_TYPO, "n[:2] || n[4:]")]  # fmt: skip
    macros = {
        "u(key, salt)": f"(hash(hash({seed}, salt, key)) >> 11)::double / 9007199254740992.0",
        # Days and moments.
        "day_date(d)": f"date '{seasons.FIRST_DAY}' + d::integer",
        "utc(s)": f"timezone('UTC', timezone('Europe/Paris', timestamp '{seasons.FIRST_DAY}' + to_seconds(s::bigint)))",
        "paris(t)": "timezone('Europe/Paris', timezone('UTC', t))",
        "iso(p, t)": "strftime(p, '%Y-%m-%dT%H:%M:%S')"
        " || case when p > t + interval 90 minute then '+02:00' else '+01:00' end",
        "paris_iso(t)": "iso(paris(t), t)",
        "at_day(d, key, salt)": "d::bigint * 86400 + 30000 + (u(key, salt) * 40000)::bigint",
        # The day on which something of a day is delivered; days before the calendar came with the first delivery.
        "delivered_date(x)": f"case when x + 1 >= {daily_from} then x + 1 else least((date_trunc('month',"
        f" greatest(x, date '{seasons.FIRST_DAY}')) + interval 1 month)::date, {daily_from}) end",
        "delivered(d)": "delivered_date(day_date(d))",
        "next_delivery(x)": "delivered_date(x)",
        # Values.
        "plain(n)": "regexp_replace(lower(strip_accents(n)), '[^a-z]', '', 'g')",
        "domain(x)": f"case {domains} end",
        "mail_name(f, l, pattern, n)": "case pattern when 0 then plain(f) || '.' || plain(l) || n"
        " when 1 then plain(f)[1] || '.' || plain(l) || n when 2 then plain(f) || '_' || plain(l) || n"
        " when 3 then plain(f) || n when 4 then plain(l) || '.' || plain(f) || n else plain(f) || plain(l)[1] || n end",
        "mobile_of(m)": "['060','061','062','064','065','066','067','068','073','074','075','076','077','078','079']"
        "[(m // 10000000)::integer + 1] || lpad((m % 10000000)::varchar, 7, '0')",
        "mobile(k)": f"mobile_of((k::bigint * 7368787 + 12345678 + {seed % 1000} * 1009) % 150000000)",
        "landline(h, code)": "'0' || case when code[:2] in ('75','77','78','91','92','93','94','95') then '1' else"
        " (2 + h % 4)::varchar end || '8' || lpad(((h::bigint * 7368787 + 4321) % 10000000)::varchar, 7, '0')",
        "typed_email(e, k)": _cases("k", "email", [
            (EMAIL_UPPER, "upper(e)"), (EMAIL_SPACES, "'  ' || e || ' '"),
            (EMAIL_TYPO, "replace(replace(replace(e, 'gmail.com', 'gmial.com'),"
             " 'orange.fr', 'ornage.fr'), 'free.fr', 'freee.fr')"),
            (EMAIL_TAG, "case when e like '%@gmail.com' then replace(e, '@', '+boutique@') else e end"),
        ], "e"),
        "typed_phone(n, k)": _cases("k", "phone", [
            (PHONE_SPACED, spaced.format("\\1 \\2 \\3 \\4 \\5")), (PHONE_DOTTED, spaced.format("\\1.\\2.\\3.\\4.\\5")),
            (PHONE_PLUS, "'+33' || n[2:]"),
            (PHONE_PLUS_SPACED, "'+33 ' || " + spaced.format("\\1 \\2 \\3 \\4 \\5") + "[2:]"),
            (PHONE_DOUBLE_ZERO, "'0033' || n[2:]"), (PHONE_UNREADABLE, "'ne sait pas'"),
        ], "n"),
        "typed_name(n, k)": _cases("k", "name", name_cases, "n"),
        "typed_first_name(n, k)": "typed_name(" + _cases("k", "given", [
            (FIRST_NAME_INITIAL, "n[1] || '.'"), (FIRST_NAME_DIMINUTIVE, f"case n {diminutives} else n end"),
        ], "n") + ", k)",
        "typed_address(n, s, k)": _cases("k", "address", [
            (ADDRESS_MISSING, "null"), (ADDRESS_UPPER, "upper(strip_accents(n || ' ' || s))"),
            (ADDRESS_SHORT, "replace(replace(n || ', ' || s, 'boulevard', 'bd'), 'avenue', 'av.')"),
            (ADDRESS_TWO_LINES, "'Bât. B, appt ' || n || chr(10) || n || ' ' || s"),
        ], "n || ' ' || s"),
        "typed_postal_code(c, k)": _cases(
            "k", "code", [(POSTAL_CODE_WRONG, "c[:3] || c[5] || c[4]"), (0.03, "null")], "c"
        ),
        "typed_city(c, k)": _cases("k", "city", [(CITY_UPPER, "upper(strip_accents(c))"), (0.03, "null")], "c"),
        "typed_country(k)": _cases("k", "country", [(0.6, "'FR'"), (0.08, "'France'"), (0.02, "'fr'")], "null"),
        "typed_birth_date(d, k)": _cases("k", "birth", [
            (BIRTH_DATE_MISSING, "null"), (BIRTH_DATE_DEFAULT, "date '1900-01-01'"),
            (BIRTH_DATE_SWAPPED, "case when day(d) <= 12 then make_date(year(d), day(d), month(d)) else d end"),
        ], "d"),
    }  # fmt: skip
    for signature, body in macros.items():
        con.execute(f"create or replace macro {signature} as {body}")
