"""What goes wrong on the way into a system: the rates, and the SQL macros that type values as people and tills do.

The rates stand at the top, all of them. Every choice is made by hashing the seed, a key and a salt (``u``), so it does
not depend on the order in which rows are worked on. Which rows are then damaged in a file belongs in ``files``.
"""

from collections.abc import Mapping, Sequence

import duckdb

from dagster_project.demo import seasons, spelling
from dagster_project.domain.sql_literal import literals

# How an e-mail is typed (shares of e-mails; `_WEB` by the person, `_CARD` on a paper form, `_RECEIPT` at the till).
EMAIL_UPPER, EMAIL_SPACES = 0.06, 0.02
EMAIL_TAG, EMAIL_DOTS = 0.01, 0.01
EMAIL_DOMAIN_WEB, EMAIL_DOMAIN_CARD, EMAIL_DOMAIN_RECEIPT = 0.008, 0.012, 0.016
EMAIL_LOCAL_WEB, EMAIL_LOCAL_CARD, EMAIL_LOCAL_RECEIPT = 0.006, 0.012, 0.016
ORDER_EMAIL_MISSING, CARD_EMAIL_MISSING = 0.01, 0.3
# Who has which mailbox (shares of persons, `FAMILY_MAILBOX` of households of more than one person).
OTHER_EMAIL, OTHER_EMAIL_ON_CARD, OTHER_EMAIL_ON_RECEIPT, OTHER_EMAIL_AS_GUEST, WORK_EMAIL = 0.13, 0.65, 0.5, 0.3, 0.4
FAMILY_MAILBOX, FAMILY_MAILBOX_USED = 0.05, 0.6
# How a phone number is typed.
PHONE_SPACED, PHONE_DOTTED, PHONE_PLUS, PHONE_PLUS_SPACED, PHONE_DOUBLE_ZERO = 0.25, 0.1, 0.08, 0.06, 0.04
PHONE_UNREADABLE, PHONE_DIGIT_WRONG, PHONE_DIGITS_SWAPPED = 0.003, 0.01, 0.004
PHONE_MISSING, ORDER_PHONE_MISSING, CARD_PHONE_MISSING = 0.25, 0.15, 0.15
CARD_LANDLINE, RELATIVES_PHONE, HELPER_CONTACT = 0.12, 0.02, 0.7
# How names are written: what a person says of themselves.
FIRST_NAME_INITIAL, FIRST_NAME_DIMINUTIVE, SECOND_NAME_APPENDED, SECOND_NAME_ONLY = 0.012, 0.045, 0.02, 0.006
COMPOUND_VARIED, PARTICLE_VARIED, DOUBLE_NAME_VARIED, SPELLED_OTHERWISE = 0.5, 0.45, 0.5, 0.12
MARRIED_DOUBLED, MAIDEN_NAME = 0.05, 0.03
# How names are typed (`_WEB` by the person, `_TILL` by a cashier from what was heard or from a form).
FIRST_NAME_TYPO_WEB, FIRST_NAME_TYPO_TILL, LAST_NAME_TYPO_WEB, LAST_NAME_TYPO_TILL = 0.018, 0.035, 0.02, 0.04
NAMES_SWAPPED, FAMILY_NAME_FIRST, FULL_NAME_IN_FIRST, TITLE_IN_NAME, NAME_SPACES = 0.008, 0.3, 0.003, 0.005, 0.008
NAME_UPPER, NAME_UPPER_ACCENTS, NAME_LOWER, NAME_NO_ACCENTS = 0.14, 0.03, 0.05, 0.12
MOJIBAKE, HTML_ENTITIES = 0.003, 0.0015
# How birth dates are typed.
BIRTH_DATE_MISSING, BIRTH_DATE_MISSING_IN_FAMILY, BIRTH_DATE_GARBLED = 0.25, 0.38, 0.002
BIRTH_DATE_1900, BIRTH_DATE_1970, BIRTH_DATE_NEW_YEAR, BIRTH_DATE_SWAPPED = 0.012, 0.006, 0.008, 0.006
BIRTH_DATE_DIGIT, BIRTH_DATE_YEAR_OFF, BIRTH_DATE_DECADE_OFF, BIRTH_DATE_CENTURY_OFF = 0.01, 0.004, 0.002, 0.001
# How addresses are typed.
ADDRESS_MISSING, ADDRESS_UPPER, ADDRESS_LOWER, ADDRESS_NO_ACCENTS, ADDRESS_OLD = 0.12, 0.2, 0.03, 0.08, 0.08
STREET_SHORT, STREET_TYPO, NUMBER_MISSING, NUMBER_COMMA, BIS_VARIED = 0.22, 0.018, 0.008, 0.12, 0.6
COMPLEMENT_WRITTEN, COMPLEMENT_OWN_LINE, LODGES_WITH = 0.4, 0.05, 0.004
POSTAL_CODE_MISSING, POSTAL_CODE_NEIGHBOUR, POSTAL_CODE_SWAPPED, POSTAL_CODE_ZERO_LOST = 0.03, 0.01, 0.006, 0.02
CEDEX, CITY_UPPER, CITY_SHORT, CITY_NO_HYPHEN, CITY_TYPO, CITY_MISSING = 0.004, 0.3, 0.35, 0.08, 0.008, 0.03
# Values that many people share.
DESK_EMAIL, NOREPLY_EMAIL, PLACEHOLDER_PHONE = 0.012, 0.005, 0.012
COMPANY_MAILBOX, COMPANY_MAILBOX_USED = 0.004, 0.6
# Business defects: the row stays.
TOTAL_OFF, UNKNOWN_STORE, UNKNOWN_PRODUCT = 0.002, 0.0005, 0.0008
# Rows of a file: said twice in the file, said again at the next delivery, said twice with a difference, unreadable.
ROW_TWICE, ROW_AGAIN, ROW_CONFLICT, ROW_BROKEN = 0.002, 0.002, 0.0005, 0.003
HEADER_LATE, ORPHAN_LINES = 0.001, 0.0005
# Files.
FILE_AGAIN, FILE_SPLIT, FILE_BOM, FILE_CRLF, FILE_REORDERED = 0.03, 0.1, 0.06, 0.08, 0.06

NOREPLY = "noreply@cocagne.example"
NOREPLY_OTHERS = ("pasdemail@cocagne.example", "nc@nc.fr", "sansmail@gmail.com")
PLACEHOLDER_NUMBER = "0600000000"
PLACEHOLDER_OTHERS = ("0606060606", "0612345678", "0102030405")


def cases(key: str, salt: str, choices: Sequence[tuple[float, str]], otherwise: str) -> str:
    """``case`` over cumulated shares of ``u(key, salt)``."""
    return drawn_cases(f"u({key}, '{salt}')", choices, otherwise)


def drawn_cases(draw: str, choices: Sequence[tuple[float, str]], otherwise: str) -> str:
    """``case`` over cumulated shares of a number between 0 and 1 that is there already."""
    edge, parts = 0.0, []
    for share, value in choices:
        edge += share
        parts.append(f"when {draw} < {edge:.6f} then {value}")
    return f"case {' '.join(parts)} else {otherwise} end"


def one_of(values: Sequence[str], draw: str) -> str:
    """SQL that picks one of a few texts by a number between 0 and 1."""
    quoted = literals(values)
    return f"[{quoted}][1 + floor({draw} * {len(values)})::integer]"


def swapped_letters(value: str, pairs: Mapping[str, str]) -> str:
    """SQL that replaces each letter of ``pairs`` in ``value``."""
    for letter, instead in pairs.items():
        value = f"replace({value}, '{letter}', '{instead}')"
    return value


def create_macros(con: duckdb.DuckDBPyConnection, seed: int, nights: int) -> None:
    """Create the macros that the SQL of the generator is written in."""
    first_night = seasons.nights(nights)[0]
    daily_from = f"(date '{first_night}' - {seasons.DAILY_DELIVERIES_BEFORE_NIGHTS})"
    domains = " ".join(f"when x < {edge} then '{domain}'" for edge, domain in spelling.MAIL_DOMAINS)
    wrong_domains = " ".join(
        f"when '{domain}' then {one_of(wrong, 'r')}" for domain, wrong in spelling.WRONG_DOMAINS.items()
    )
    spaced = "regexp_replace(n, '(\\d\\d)(\\d\\d)(\\d\\d)(\\d\\d)(\\d\\d)', '{}')"
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
        "typed_country(k)": cases("k", "country", [(0.6, "'FR'"), (0.08, "'France'"), (0.02, "'fr'")], "null"),
        # Slips of the hand: `p` is a position in the text, `r` decides which kind of slip.
        "beside(c)": f"case when translate(lower(c), '{spelling.KEYS}', '{spelling.BESIDE}') = lower(c) then 'e'"
        f" when c = lower(c) then translate(c, '{spelling.KEYS}', '{spelling.BESIDE}')"
        f" else upper(translate(lower(c), '{spelling.KEYS}', '{spelling.BESIDE}')) end",
        "slip(v, p, r)": "case when r < 0.28 then left(v, p - 1) || substr(v, p + 1)"
        " when r < 0.46 then left(v, p) || lower(v[p]) || substr(v, p + 1)"
        " when r < 0.64 and lower(v[p]) <> lower(v[p + 1])"
        " then left(v, p - 1) || case when p = 1 then upper(v[2]) || lower(v[1]) else v[p + 1] || v[p] end"
        " || substr(v, p + 2)"
        " when r < 0.86 then left(v, p - 1) || beside(v[p]) || substr(v, p + 1)"
        " else left(v, p) || beside(lower(v[p])) || substr(v, p + 1) end",
        "typo(v, k, salt)": "case when length(v) < 3 then v else list_transform([greatest(1, least(length(v) - 1,"
        " 1 + floor(pow(u(k, salt), 0.7) * length(v))::bigint))], lambda p: slip(v, p, u(k, salt || ' kind')))[1] end",
        "wrong_domain(d, r)": f"case d {wrong_domains} else replace(d, '.', '') end",
        "mail_slip(e, k, of_domain, of_local)": "case when u(k, 'mail slip') < of_domain"
        " then split_part(e, '@', 1) || '@' || wrong_domain(split_part(e, '@', 2), u(k, 'wrong domain'))"
        " when u(k, 'mail slip') < of_domain + of_local"
        " then typo(split_part(e, '@', 1), k, 'mail') || '@' || split_part(e, '@', 2) else e end",
        "dotted(e)": "case when e like '%.%@gmail.com' then replace(split_part(e, '@', 1), '.', '') || '@gmail.com'"
        " when e like '%@gmail.com' then e[:3] || '.' || substr(e, 4) else e end",
        "mail_form(e, k)": cases("k", "email", [
            (EMAIL_UPPER, "upper(e)"), (EMAIL_SPACES, "'  ' || e || ' '"),
            (EMAIL_TAG, "case when e like '%@gmail.com' then replace(e, '@', '+boutique@') else e end"),
            (EMAIL_DOTS, "dotted(e)"),
        ], "e"),
        # What is slipped is bound to a name: a macro that says a text six times makes six of it.
        "typed_email(e, k, of_domain, of_local)": "list_transform([mail_slip(e, k, of_domain, of_local)],"
        " lambda slipped: mail_form(slipped, k))[1]",
        "phone_slip(n, k)": cases("k", "phone slip", [
            (PHONE_DIGIT_WRONG, "left(n, (u(k, 'digit') * 8)::bigint + 1)"
             " || (n[(u(k, 'digit') * 8)::bigint + 2]::integer + 1 + floor(u(k, 'other digit') * 9)::integer) % 10"
             " || substr(n, (u(k, 'digit') * 8)::bigint + 3)"),
            (PHONE_DIGITS_SWAPPED, "left(n, (u(k, 'digit') * 7)::bigint + 1) || n[(u(k, 'digit') * 7)::bigint + 3]"
             " || n[(u(k, 'digit') * 7)::bigint + 2] || substr(n, (u(k, 'digit') * 7)::bigint + 4)"),
        ], "n"),
        "formatted_phone(n, k)": cases("k", "phone", [
            (PHONE_SPACED, spaced.format("\\1 \\2 \\3 \\4 \\5")),
            (PHONE_DOTTED, spaced.format("\\1.\\2.\\3.\\4.\\5")), (PHONE_PLUS, "'+33' || n[2:]"),
            (PHONE_PLUS_SPACED, "'+33 ' || " + spaced.format("\\1 \\2 \\3 \\4 \\5") + "[2:]"),
            (PHONE_DOUBLE_ZERO, "'0033' || n[2:]"), (PHONE_UNREADABLE, "'ne sait pas'"),
        ], "n"),
        "typed_phone(n, k)": "formatted_phone(phone_slip(n, k), k)",
    }  # fmt: skip
    for signature, body in macros.items():
        con.execute(f"create or replace macro {signature} as {body}")
