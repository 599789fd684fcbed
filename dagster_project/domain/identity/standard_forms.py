"""Standard forms of what people write: names, e-mails, addresses, towns. Each distinct value is worked on once.

What belongs here: how a value as typed becomes one that can be compared. What does not: any comparison of two records
(``model.py``), phones (staging, ``domain/phones.py``), and whether a value may join anybody (``identifiers.py``).

Nothing depends on tonight's other records: the standard form of a value is a function of the value and of the lists in
``reference/``. Raw values stay beside their standard forms.
"""

from pathlib import Path

from duckdb import DuckDBPyConnection

from dagster_project.domain.sql_literal import literal

REFERENCE = Path(__file__).with_name("reference")

KNOWN_GIVEN_NAME_RANK = 2000
"""Up to this rank (among women or among men) a given name is known: two known names one letter apart are two names."""

_MOJIBAKE = {
    "Ã©": "e", "Ã¨": "e", "Ãª": "e", "Ã«": "e", "Ã¯": "i", "Ã®": "i", "Ã´": "o", "Ã¶": "o", "Ã¼": "u", "Ã¹": "u",
    "Ã»": "u", "Ã§": "c", "Ã¢": "a", "Ã¤": "a", "Ã\u00a0": "a", "Ã ": "a", "Ã‰": "e", "Ã€": "a", "Ã‡": "c",
    "Ã\u0089": "e", "Ã\u0088": "e", "Ã\u0087": "c", "Å“": "oe", "Å\u0093": "oe", "â€™": "'",
}  # fmt: skip
_DOUBLES = ["bb", "cc", "dd", "ff", "gg", "ll", "mm", "nn", "pp", "rr", "ss", "tt", "zz", "aa", "ee", "ii", "oo", "uu"]
TITLES = "mme|mlle|melle|mr|mrs|m[.]|monsieur|madame|mademoiselle|dr|docteur|maitre"
"""What stands before a name and is none (RE2, any case); a bare M is an initial, M. is not."""
_PARTICLES = (
    "de la|de l|de los|de las|de|du|des|d|dos|das|do|da|di|van der|van den|van de|van|von|le|la|les|l|el|al|ben|bin|ibn"
)
_STREET_WORDS = {
    "av": "avenue", "ave": "avenue", "aven": "avenue", "bd": "boulevard", "bld": "boulevard", "blvd": "boulevard",
    "boul": "boulevard", "bvd": "boulevard", "r": "rue", "pl": "place", "plc": "place", "ch": "chemin",
    "chem": "chemin", "che": "chemin", "rte": "route", "imp": "impasse", "all": "allee", "allees": "allee",
    "sq": "square", "st": "saint", "ste": "sainte", "fg": "faubourg", "fbg": "faubourg", "res": "residence",
    "resid": "residence", "bat": "batiment", "bt": "batiment", "apt": "appartement", "appt": "appartement",
    "app": "appartement", "esc": "escalier", "etg": "etage", "crs": "cours", "q": "quai", "pass": "passage",
    "psg": "passage", "lot": "lotissement", "gal": "general", "gen": "general", "mal": "marechal",
    "pdt": "president", "pres": "president", "dr": "docteur", "prof": "professeur", "cdt": "commandant",
    "lt": "lieutenant", "col": "colonel", "cap": "capitaine", "sgt": "sergent", "rd": "road", "crt": "court",
    "ct": "court", "cl": "close", "cres": "crescent", "tce": "terrace", "hwy": "highway", "pde": "parade",
}  # fmt: skip
_STREET_TYPES = (
    "rue|avenue|boulevard|place|chemin|route|impasse|allee|quai|square|cours|passage|faubourg|sentier|ruelle|venelle"
    "|esplanade|promenade|montee|cote|traverse|villa|cite|hameau|lotissement|rond point|mail|parvis|voie|clos|domaine"
)
_NOISE = "batiment|appartement|escalier|etage|porte|hall|entree|boite|bp|cs|residence|immeuble|cedex|chez|lieu dit|tour"


def _map(pairs: dict[str, str]) -> str:
    keys = ", ".join(f"'{key}'" for key in pairs)
    values = ", ".join(f"'{value}'" for value in pairs.values())
    return f"map([{keys}], [{values}])"


def create_macros(connection: DuckDBPyConnection) -> None:
    """Create the temporary macros that the stage's SQL is written in, and the temp tables of the reference lists."""
    mended = "x"
    for wrong, right in _MOJIBAKE.items():
        mended = f"replace({mended}, '{wrong.replace(chr(39), chr(39) * 2)}', '{right.replace(chr(39), chr(39) * 2)}')"
    single = "x"
    for double in _DOUBLES:
        single = f"replace({single}, '{double}', '{double[0]}')"
    macros = {
        "mended(x)": f"case when contains(x, 'Ã') or contains(x, 'Å') or contains(x, 'â€') then {mended} else x end",
        "unescaped(x)": (
            "case when contains(x, '&') then replace(replace(regexp_replace(x, "
            "'&([a-zA-Z])(acute|grave|circ|uml|cedil|tilde);', '\\1', 'g'), '&#39;', ''''), '&amp;', '&') else x end"
        ),
        # No case, no accent, no ligature.
        "plain(x)": (
            "replace(replace(replace(strip_accents(lower(mended(unescaped(x)))), 'œ', 'oe'), 'æ', 'ae'), 'ß', 'ss')"
        ),
        "words_of(x)": "trim(regexp_replace(plain(x), '[^\\p{L}]+', ' ', 'g'))",
        # A French ear's view: one letter for one sound where spelling wavers (Mathieu, Matthieu; Sara, Sarah).
        "single_letters(x)": single,
        "sound(x)": (
            "single_letters(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(x, 'ph',"
            " 'f'), 'ch', '1'), 'sh', '2'), 'h', ''), '1', 'ch'), '2', 'sh'), 'y', 'i'), 'ck', 'c'), 'qu', 'c'),"
            " 'k', 'c'))"
        ),
    }
    for signature, body in macros.items():
        connection.execute(f"create or replace temp macro {signature} as {body}")
    for name in ("given_names", "family_names", "diminutives", "email_domains"):
        path = literal(REFERENCE / f"{name}.csv")
        connection.execute(
            f"create or replace temp table reference_{name} as select * from read_csv({path}, header = true)"
        )
    connection.execute(
        f"""
        create or replace temp table reference_given_letters as
        select replace(words_of(name), ' ', '') as letters,
            min(least(coalesce(rank_f, 99999), coalesce(rank_m, 99999))) as rank,
            -- Jean-Pierre is also written JEANPIERRE: a compound is taken apart again.
            arg_min(string_split(words_of(name), ' '), coalesce(rank_f, 99999) + coalesce(rank_m, 99999)) as words
        from reference_given_names
        group by letters;
        create or replace temp table reference_known_given_names as
        select letters from reference_given_letters where rank <= {KNOWN_GIVEN_NAME_RANK} or len(words) > 1;
        create or replace temp table reference_given_forms as
        select short, list_sort(list_distinct(list(sound(name)))) as forms from reference_diminutives group by short
        """
    )


def write_given_names(connection: DuckDBPyConnection, source: str) -> None:
    """Write ``identity_given_names``, one row per distinct ``first_name`` of ``source``.

    Columns: given_name_key (letters; null for initials), given_name_forms (what it may stand for, by sound),
    given_first (first word by sound), given_word_count, given_initials, is_known_given_name.
    """
    connection.execute(
        f"""
        create or replace temp table identity_given_names as
        with written as (
            select first_name,
                nullif(words_of(first_name), '') as words
            from (select distinct first_name from {source} where first_name is not null)
        ),
        parted as (
            select
                first_name,
                len(letters.words) > 1 as is_compound,
                case when not contains(written.words, ' ') and len(letters.words) > 1 then letters.words
                    else string_split(written.words, ' ') end as words,
                -- `J.`, `J P`, `JP`: letters that stand for words.
                regexp_matches(written.words, '^\\p{{L}}( \\p{{L}})*$') or (
                    regexp_matches(written.words, '^[bcdfghjklmnpqrstvwxz]{{2,3}}$') and letters.rank is null
                ) as is_initials
            from written
            left join reference_given_letters as letters on letters.letters = replace(written.words, ' ', '')
            where written.words is not null
        ),
        named as (
            select first_name, is_initials, coalesce(is_compound, false) as is_compound,
                -- `Jean-P.`: the letter behind the name is an initial.
                case when is_initials then words else list_filter(words, lambda w: length(w) > 1) end as words,
                case when is_initials then replace(array_to_string(words, ''), ' ', '')
                    else array_to_string(list_transform(words, lambda w: w[1]), '') end as given_initials
            from parted
        ),
        keyed as (
            select *, case when not is_initials then array_to_string(words, '') end as given_name_key from named
        )
        select
            first_name, given_name_key, given_initials,
            case when given_name_key is not null
                then list_sort(list_distinct(list_concat([sound(given_name_key)], coalesce(whole.forms, []))))
            end as given_name_forms,
            -- Who is called `Camille Louise` may go by either; Jean-Pierre by the first or by both.
            case when given_name_key is not null then list_sort(list_distinct(list_concat(
                case when is_compound then [sound(words[1])] else list_transform(words, lambda w: sound(w)) end,
                coalesce(first.forms, [])
            ))) end as given_word_forms,
            case when given_name_key is not null then sound(words[1]) end as given_first,
            len(words) as given_word_count,
            known.letters is not null as is_known_given_name
        from keyed
        left join reference_given_forms as whole on whole.short = given_name_key
        left join reference_given_forms as first on first.short = words[1]
        left join reference_known_given_names as known on known.letters = given_name_key
        """
    )


def write_family_names(connection: DuckDBPyConnection, source: str) -> None:
    """Write ``identity_family_names``, one row per distinct ``last_name`` of ``source``.

    Columns: family_name_key (all letters, a trailing particle put in front), family_name_forms (the key, the name
    without its particles, the parts of a double name, maiden and married name; by sound).
    """
    connection.execute(
        f"""
        create or replace temp table identity_family_names as
        with written as (
            select last_name, regexp_replace(
                words_of(last_name),
                '^(.{{2,}}) ({_PARTICLES})$', '\\2 \\1'
            ) as words
            from (select distinct last_name from {source} where last_name is not null)
        ),
        parted as (
            select last_name, words,
                -- `Martin ép. Petit`, `Petit née Martin`: two names of one person.
                string_split(regexp_replace(words, ' (ep|epouse|epse|nee|ne|veuve|vve) ', '|', 'g'), '|') as names
            from written where words <> ''
        ),
        formed as (
            select last_name, replace(names[1], ' ', '') as family_name_key,
                list_transform(names, lambda n: replace(n, ' ', '')) as wholes,
                list_transform(names, lambda n: replace(regexp_replace(n, '^(({_PARTICLES}) )+', ''), ' ', ''))
                    as cores,
                list_filter(
                    string_split(words, ' '),
                    lambda w: length(w) >= 4 and w not in ('saint', 'sainte', 'epouse', 'epse', 'veuve')
                ) as parts
            from parted
        )
        select last_name, family_name_key,
            list_sort(list_distinct(list_transform(list_concat(list_concat(wholes, cores), parts), lambda n: sound(n))))
                as family_name_forms
        from formed
        """
    )


def write_emails(connection: DuckDBPyConnection, source: str) -> None:
    """Write ``identity_emails``, one row per distinct ``email`` of ``source``: email_key, email_local.

    The key has no tag (`+x`), no dots where the provider ignores them, and the domain that a slip of the finger meant:
    one letter off a domain that many people use (two where it is long), and not itself in the list.
    """
    connection.execute(
        f"""
        create or replace temp table identity_emails as
        with given as (
            select email, split_part(plain(email), '@', 1) as box, split_part(plain(email), '@', 2) as domain
            from (select distinct email from {source} where email is not null)
        ),
        unknown_domains as (
            select distinct domain from given anti join reference_email_domains using (domain)
        ),
        slips as (
            select unknown_domains.domain, any_value(known.means) as means
            from unknown_domains join reference_email_domains as known
                on known.domain = known.means
                and abs(length(known.domain) - length(unknown_domains.domain)) <= 1
                and unknown_domains.domain not like '%.example'
                and length(known.domain) >= 7
            where damerau_levenshtein(unknown_domains.domain, known.domain) = 1
                -- Of a short domain only doubled, dropped and swapped letters are slips: sfm.fr is not sfr.fr.
                and (
                    length(known.domain) >= 8
                    or length(known.domain) <> length(unknown_domains.domain)
                    or list_sort(string_split(known.domain, '')) = list_sort(string_split(unknown_domains.domain, ''))
                )
            group by unknown_domains.domain
            having count(distinct known.means) = 1
        ),
        meant as (
            select email, regexp_replace(box, '[+].*$', '') as box, coalesce(known.means, slips.means, domain) as domain
            from given
            left join reference_email_domains as known using (domain)
            left join slips using (domain)
        ),
        boxed as (
            select email, domain, case when domain = 'gmail.com' then replace(box, '.', '') else box end as email_local
            from meant
        )
        select email, email_local || '@' || domain as email_key, email_local from boxed
        """
    )


def write_addresses(connection: DuckDBPyConnection, source: str) -> None:
    """Write ``identity_addresses``, one row per distinct ``address_line1`` of ``source``: house_number, street_key.

    The street is the letters of its name, without its kind, small words, and what belongs to the building.
    """
    connection.execute(
        f"""
        create or replace temp table identity_addresses as
        with written as (
            select address_line1, string_split(trim(regexp_replace(
                regexp_replace(plain(address_line1), '(\\d)(bis|ter|quater|[a-d])\\b', '\\1 \\2', 'g'),
                '[^\\p{{L}}0-9]+', ' ', 'g'
            )), ' ') as words
            from (select distinct address_line1 from {source} where address_line1 is not null)
        ),
        spelt as (
            select address_line1, array_to_string(
                list_transform(words, lambda w: coalesce({_map(_STREET_WORDS)}[w], w)), ' '
            ) as line
            from written
        ),
        parted as (
            select address_line1, line,
                regexp_extract(
                    line, '(?:^| )(\\d{{1,4}})(?: (?:bis|ter|quater|[a-d]))? (?:{_STREET_TYPES})(?: |$)', 1
                ) as number_before,
                regexp_extract(line, '(?:^| )(?:{_STREET_TYPES}) (.+)$', 1) as name_after
            from spelt
        ),
        named as (
            select address_line1,
                coalesce(nullif(number_before, ''), regexp_extract(line, '(?:^| )(\\d{{1,4}})(?: |$)', 1))
                    as house_number,
                trim(regexp_replace(
                    case when regexp_matches(name_after, '[a-z]{{2}}') then name_after
                        else regexp_replace(
                            regexp_replace(line, '(?:^| )(?:{_NOISE}) (?:mme |m |mr )?[a-z0-9]+', ' ', 'g'),
                            '[0-9]+( (bis|ter|quater|[a-d]))?( |$)', ' ', 'g'
                        )
                    end,
                    ' (?:{_NOISE})(?: .*)?$', ''
                )) as street
            from parted
        )
        select address_line1, nullif(house_number, '') as house_number,
            nullif(regexp_replace(
                regexp_replace(' ' || replace(street, ' ', '  ') || ' ',
                    ' (de|du|des|d|la|le|les|l|et|aux|au|a) ', ' ', 'g'),
                '[^\\p{{L}}]', '', 'g'
            ), '') as street_key
        from named
        """
    )


def write_towns(connection: DuckDBPyConnection, source: str) -> None:
    """Write ``identity_towns``, one row per distinct ``city`` of ``source``: town_key, letters without CEDEX."""
    connection.execute(
        f"""
        create or replace temp table identity_towns as
        select city, nullif(replace(regexp_replace(regexp_replace(regexp_replace(
            regexp_replace(words_of(city), ' (e|er|eme|ieme|arrondissement|arrdt)( .*)?$', ''),
            '(^| )st( |$)', ' saint '), '(^| )ste( |$)', ' sainte '), ' cedex.*$', ''), ' ', ''), '')
            as town_key
        from (select distinct city from {source} where city is not null)
        """
    )
