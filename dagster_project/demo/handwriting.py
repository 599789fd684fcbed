"""How a person's name, birth date and address come out of a form: SQL over rows of what the person would say.

``written`` takes a relation with one row per record: ``k`` names the record (and its version), the columns ``…_now``
are what is true of the person that day. It goes in steps: what the person calls themselves, the slips of the hand, the
fields that things end up in, capitals and accents. The rates are those of ``dirt``, the words those of ``spelling``.
"""

from dagster_project.demo import dirt, spelling

# One number between 0 and 1 for each thing that can go wrong, made once per record.
_DRAWS = ", ".join(
    f"u(k, '{salt}') as u_{salt.replace(' ', '_')}"
    for salt in ("given", "form", "family", "given slip", "family slip", "field", "case", "birth", "birth digit",
                 "home", "home case", "number", "flat", "code", "city", "city case")
)  # fmt: skip

_PART1, _PART2 = "split_part(first_name_now, '-', 1)", "split_part(first_name_now, '-', 2)"
_COMPOUND = dirt.drawn_cases("u_form", [
    (0.33, f"{_PART1} || ' ' || {_PART2}"), (0.17, _PART1), (0.1, f"upper({_PART1} || {_PART2})"),
    (0.12, f"upper({_PART1}[1] || {_PART2}[1])"), (0.08, f"upper({_PART1}[1] || '-' || {_PART2}[1])"),
    (0.06, f"upper({_PART1}[1] || '.' || {_PART2}[1] || '.')"), (0.08, f"{_PART1} || lower({_PART2})"),
], f"{_PART1} || '-' || {_PART2}[1] || '.'")  # fmt: skip

_GIVEN = f"""
    case when contains(first_name_now, '-') and u(k, 'compound') < {dirt.COMPOUND_VARIED} then {_COMPOUND}
        else {dirt.drawn_cases("u_given", [
    (dirt.FIRST_NAME_INITIAL, "first_name_now[1] || '.'"),
    (dirt.FIRST_NAME_DIMINUTIVE, "coalesce(first_name_short, first_name_now)"),
    (dirt.SECOND_NAME_APPENDED, "concat_ws(' ', first_name_now, second_name)"),
    (dirt.SECOND_NAME_ONLY, "coalesce(second_name, first_name_now)"),
    (dirt.SPELLED_OTHERWISE, "coalesce(first_name_also, first_name_now)"),
], "first_name_now")} end
"""  # fmt: skip

# `de La Fontaine`: DE LAFONTAINE, La Fontaine, La Fontaine (de), De La Fontaine or D’Arcy, Delafontaine.
_BASE = "regexp_replace(last_name_now, '^(de |du |d'')', '')"
_JOINED = "regexp_replace(regexp_replace(last_name_now, '^(d)''|^(du) ', '\\1\\2'), '(La|Saint|L'')[ -]?', '\\1')"
_PARTICLE = dirt.drawn_cases("u_form", [
    (0.25, f"upper({_JOINED})"), (0.25, _BASE), (0.15, f"{_BASE} || ' (' || rtrim(left(last_name_now, 2)) || ')'"),
    (0.2, "'D' || replace(substr(last_name_now, 2), '''', case when u_given < 0.5 then '’' else ' ' end)"),
], "'D' || lower(regexp_replace(substr(last_name_now, 2), '[ ''-]', '', 'g'))")  # fmt: skip

_DOUBLE = dirt.drawn_cases("u_form", [
    (0.25, "last_part1"), (0.2, "last_part2"), (0.2, "last_part1 || ' ' || last_part2"),
    (0.13, "last_part2 || ' ' || last_part1"), (0.12, "last_part1 || '-' || last_part2"),
], "last_part2 || '-' || last_part1")  # fmt: skip

_MARRIED = dirt.drawn_cases("u_form", [
    (0.45, "birth_name || ' ép. ' || last_name_now"), (0.35, "last_name_now || ' née ' || birth_name"),
], "birth_name || '-' || last_name_now")  # fmt: skip

_FAMILY = f"""
    case when birth_name <> last_name_now and u_family < {dirt.MARRIED_DOUBLED} then {_MARRIED}
        when birth_name <> last_name_now and u_family < {dirt.MARRIED_DOUBLED + dirt.MAIDEN_NAME} then birth_name
        when last_name_now <> last_name then last_name_now
        when has_particle and u_family < {dirt.PARTICLE_VARIED} then {_PARTICLE}
        when last_part1 is not null and u_family < {dirt.DOUBLE_NAME_VARIED} then {_DOUBLE}
        when last_name_also is not null and u_family > {1 - dirt.SPELLED_OTHERWISE} then last_name_also
        else last_name_now end
"""

_SWAPPED = f"u_field < case when is_family_first then {dirt.FAMILY_NAME_FIRST} else {dirt.NAMES_SWAPPED} end"
_TITLED = f"u_field > {1 - dirt.TITLE_IN_NAME}"
_TITLE = "case when sex = 'm' then 'M. ' when u_given < 0.25 then 'Mlle ' else 'Mme ' end"
_ALL_IN_FIRST = f"u_field > {1 - dirt.TITLE_IN_NAME - dirt.FULL_NAME_IN_FIRST}"


def _cased(value: str) -> str:
    """A name in the capitals and with the accents of whoever typed it, or of the system that it went through."""
    return dirt.drawn_cases("u_case", [
        (dirt.MOJIBAKE, dirt.swapped_letters(value, spelling.MOJIBAKE)),
        (dirt.HTML_ENTITIES, dirt.swapped_letters(value, spelling.ENTITIES)),
        (dirt.NAME_UPPER, f"upper(strip_accents({value}))"),
        (dirt.NAME_UPPER_ACCENTS, f"upper({value})"), (dirt.NAME_LOWER, f"lower({value})"),
        (dirt.NAME_NO_ACCENTS, f"strip_accents({value})"),
        (dirt.NAME_SPACES, f"' ' || replace({value}, ' ', '  ') || ' '"),
    ], value)  # fmt: skip


def _birth_date() -> str:
    """One digit wrong falls on the day, the month or the year; what is no date then is a wrong digit of the year."""
    day, month, year = "day(birth_date_now)", "month(birth_date_now)", "year(birth_date_now)"
    other = "1 + floor(u(k, 'other birth digit') * 9)::bigint"
    date = "try_cast(printf('%04d-%02d-%02d', {}, {}, {}) as date)".format
    wrong = f"{{0}} // 10 * 10 + ({{0}} % 10 + {other}) % 10".format
    digit = (
        f"coalesce(case when u_birth_digit < 0.4 then {date(year, month, wrong(day))}"
        f" when u_birth_digit < 0.6 then {date(year, wrong(month), day)} end,"
        f" {date(wrong(year), month, day)}, birth_date_now)"
    )
    return dirt.drawn_cases("u_birth", [
        (dirt.BIRTH_DATE_1900, "date '1900-01-01'"), (dirt.BIRTH_DATE_1970, "date '1970-01-01'"),
        (dirt.BIRTH_DATE_NEW_YEAR, f"make_date({year}, 1, 1)"),
        (dirt.BIRTH_DATE_SWAPPED, f"case when {day} <= 12 then make_date({year}, {day}, {month})"
         " else birth_date_now end"),
        (dirt.BIRTH_DATE_DIGIT, digit),
        (dirt.BIRTH_DATE_YEAR_OFF, "(birth_date_now + to_years(1 - 2 * (u_birth_digit < 0.5)::integer))::date"),
        (dirt.BIRTH_DATE_DECADE_OFF, "(birth_date_now - to_years(10))::date"),
        (dirt.BIRTH_DATE_CENTURY_OFF, "(birth_date_now - to_years(100))::date"),
    ], f"case when u_birth >= 1 - case when is_in_family then {dirt.BIRTH_DATE_MISSING_IN_FAMILY}"
       f" else {dirt.BIRTH_DATE_MISSING} end and not says_little then null else birth_date_now end")  # fmt: skip


_WORD = "split_part(street_now, ' ', 1)"
_SHORT_WORD = " ".join(
    f"when '{word}' then {dirt.one_of(short, 'u_form')}" for word, short in spelling.STREET_WORDS.items()
)
_SHORT_STREET = (
    f"case when u_number < 0.3 then {_WORD} else case {_WORD} {_SHORT_WORD} else {_WORD} end end"
    f" || substr(street_now, length({_WORD}) + 1)"
)
for _long, _short in spelling.TITLE_WORDS:
    _SHORT_STREET = f"replace({_SHORT_STREET}, '{_long}', '{_short}')"
_STREET = dirt.drawn_cases("u_home", [
    (dirt.STREET_SHORT, _SHORT_STREET), (dirt.STREET_TYPO, "typo(street_now, k, 'street letter')"),
], "street_now")  # fmt: skip

# `12 bis`: 12bis, 12B, 12 B.
_BIS = dirt.drawn_cases("u_form", [
    (0.4, "replace(number_now, ' ', '')"), (0.3, "replace(upper(left(number_now, -2)), ' ', '')"),
], "upper(left(number_now, -2))")  # fmt: skip
_NUMBER = f"""
    case when u_number < {dirt.NUMBER_MISSING} then ''
        when ends_with(number_now, 'is') and u_number < {dirt.BIS_VARIED} then {_BIS} || ' '
        else number_now || case when u_number > {1 - dirt.NUMBER_COMMA} then ', ' else ' ' end end
"""
_LINE = "number_written || street_written"
_FLAT = dirt.drawn_cases("u_flat", [
    (dirt.COMPLEMENT_WRITTEN * dirt.COMPLEMENT_OWN_LINE, f"complement_now || chr(10) || {_LINE}"),
    (dirt.COMPLEMENT_WRITTEN * 0.35, f"complement_now || ', ' || {_LINE}"),
    (dirt.COMPLEMENT_WRITTEN * 0.2, f"complement_now || ' ' || {_LINE}"),
    (dirt.COMPLEMENT_WRITTEN * 0.2, f"{_LINE} || ', ' || complement_now"),
    (dirt.COMPLEMENT_WRITTEN * (0.25 - dirt.COMPLEMENT_OWN_LINE), f"{_LINE} || ' ' || complement_now"),
], _LINE)  # fmt: skip
_ADDRESS = f"""
    case when u_flat > {1 - dirt.LODGES_WITH} then 'chez ' || {dirt.one_of(spelling.HOSTS, "u_form")} || ' ' || {_LINE}
        when complement_now is not null then {_FLAT} else {_LINE} end
"""
_CASED_ADDRESS = f"""
    case when u_home_case >= {1 - dirt.ADDRESS_MISSING} and not says_little then null
        when u_case < {dirt.MOJIBAKE} then {dirt.swapped_letters("line", spelling.MOJIBAKE)}
        when u_case < {dirt.MOJIBAKE + dirt.HTML_ENTITIES} then {dirt.swapped_letters("line", spelling.ENTITIES)}
        else {dirt.drawn_cases("u_home_case", [
    (dirt.ADDRESS_UPPER, "upper(strip_accents(line))"), (dirt.ADDRESS_LOWER, "lower(line)"),
    (dirt.ADDRESS_NO_ACCENTS, "strip_accents(line)"),
], "line")} end
"""  # fmt: skip

_ZERO_LOST = f"starts_with(postal_code_now, '0') and u_home < {dirt.POSTAL_CODE_ZERO_LOST}"
_POSTAL_CODE = dirt.drawn_cases("u_code", [
    (dirt.CEDEX, "left(postal_code_now, 3) || '0' || (1 + floor(u_form * 9))::integer"),
    (dirt.POSTAL_CODE_NEIGHBOUR, "left(postal_code_now, 2) || (1 + floor(u_form * 8))::integer || '00'"),
    (dirt.POSTAL_CODE_SWAPPED,
     "left(postal_code_now, 1) || postal_code_now[3] || postal_code_now[2] || substr(postal_code_now, 4)"),
    (dirt.POSTAL_CODE_MISSING, "null"),
], f"case when {_ZERO_LOST} then substr(postal_code_now, 2) else postal_code_now end")  # fmt: skip

_DISTRICT = "try_cast(right(postal_code_now, 2) as integer)"
_CITY = f"""
    case when u_code < {dirt.CEDEX} then city_now || ' CEDEX'
        when contains(city_now, 'Saint') and u_form < {dirt.CITY_SHORT}
            then replace(replace(city_now, 'Sainte-', 'Ste '), 'Saint-', 'St ')
        when city_now in ('Paris', 'Lyon', 'Marseille') and {_DISTRICT} between 1 and 20 and u_form < {dirt.CITY_SHORT}
            then city_now || ' ' || {_DISTRICT}
        else {dirt.drawn_cases("u_city", [
    (dirt.CITY_MISSING, "null"), (dirt.CITY_TYPO, "typo(city_now, k, 'town letter')"),
    (dirt.CITY_NO_HYPHEN, "replace(city_now, '-', ' ')"),
], "city_now")} end
"""  # fmt: skip


def written(source: str, *, at_till: bool) -> str:
    """Common table expressions that end with ``written``: ``source`` and a column ``typed_…`` for each field.

    ``source`` has ``k``, the columns ``…_now``, those of ``persons``, and ``says_little``: whether the record holds
    neither a phone nor a known e-mail, so that whoever took it down asked for the birth date and the address.
    """
    of_given = dirt.FIRST_NAME_TYPO_TILL if at_till else dirt.FIRST_NAME_TYPO_WEB
    of_family = dirt.LAST_NAME_TYPO_TILL if at_till else dirt.LAST_NAME_TYPO_WEB
    return f"""
    draws as (select *, {_DRAWS} from {source}),
    words as (
        select *,
            {_GIVEN} as given_word,
            {_FAMILY} as family_word,
            {_NUMBER} as number_written,
            {_STREET} as street_written,
            {_CITY} as city_written,
        from draws
    ),
    slips as (
        select *,
            case when u_given_slip < {of_given} then typo(given_word, k, 'given letter') else given_word end as given,
            case when u_family_slip < {of_family} then typo(family_word, k, 'family letter') else family_word end
                as family,
            {_ADDRESS} as line,
        from words
    ),
    fields as (
        select *,
            case when {_SWAPPED} then family when {_TITLED} and u_form < 0.5 then {_TITLE} || given
                when {_ALL_IN_FIRST} and not {_TITLED} then concat_ws(' ', given, family) else given end as first_field,
            case when {_SWAPPED} then given when {_TITLED} and u_form >= 0.5 then {_TITLE} || family
                when {_ALL_IN_FIRST} and not {_TITLED} then null else family end as last_field,
        from slips
    ),
    written as (
        select *,
            {_cased("first_field")} as typed_first_name,
            {_cased("last_field")} as typed_last_name,
            {_birth_date()} as typed_birth_date,
            {_CASED_ADDRESS} as typed_address,
            {_POSTAL_CODE} as typed_postal_code,
            case when u_city_case < {dirt.CITY_UPPER} then upper(strip_accents(city_written)) else city_written end
                as typed_city,
            typed_country(k) as typed_country,
        from fields
    )
    """
