"""The match model: how two profiles are compared, and how much each agreement weighs.

What belongs here: the comparisons with their levels (code, for they say what is looked at), the parameters of a model
(a versioned JSON file: the probabilities m and u of every level, the prior, where the term frequencies come from), and
the scoring of pairs by Splink with both. What does not: which pairs are scored (``blocking.py``) and what follows
(``clustering.py``).

m is the share of pairs of one person that reach a level, u that of pairs of two people. log2(m / u) is the level's
match weight; a pair's score is the sum with the prior's (Fellegi and Sunter 1969; Splink documents the arithmetic).
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import log2
from pathlib import Path
from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.records import PROFILE

SHIPPED_MODEL = Path(__file__).with_name("model.json")

_RARE_GIVEN_NAME_RANK, _RARE_FAMILY_NAME_RANK = 3_000, 20_000
"""A name that the lists do not hold counts as one of this rank: rare, but perhaps common where it is at home."""


@dataclass(frozen=True)
class Level:
    """One level of agreement: ``sql`` over ``<column>_l`` and ``<column>_r``; ``words`` say it in the evidence."""

    name: str
    sql: str
    words: str
    term_frequency: str | None = None


@dataclass(frozen=True)
class Comparison:
    """What is compared: null where ``null`` holds, else the first level that holds, best first, else ``different``."""

    name: str
    null: str
    levels: tuple[Level, ...]

    def level_of(self, gamma: int) -> Level | None:
        """The level that Splink numbers ``gamma`` (0 is the last, -1 null)."""
        return None if gamma < 0 else self.levels[len(self.levels) - 1 - gamma]

    def gamma(self, level: str) -> int:
        """The number that Splink gives a level: its place from the end."""
        names = [candidate.name for candidate in self.levels]
        return len(names) - 1 - names.index(level)


def _close(column: str) -> str:
    """SQL: a slip of the pen apart; one letter in short words, two in long ones."""
    return (
        f"(damerau_levenshtein({column}_l, {column}_r) <= "
        f"case when least(length({column}_l), length({column}_r)) >= 8 then 2 "
        f"when least(length({column}_l), length({column}_r)) >= 3 then 1 else 0 end "
        f"or (least(length({column}_l), length({column}_r)) >= 5 "
        f"and jaro_winkler_similarity({column}_l, {column}_r) >= 0.93))"
    )


_SWAPPED = (
    "list_has_any(given_name_forms_l, family_name_forms_r) and list_has_any(family_name_forms_l, given_name_forms_r)"
)

_CROSSED = (
    "list_has_any(given_name_forms_l, family_name_forms_r) or list_has_any(family_name_forms_l, given_name_forms_r)"
)

COMPARISONS = (
    Comparison(
        "given_name",
        "given_initials_l is null or given_initials_r is null",
        (
            Level("exact", "given_name_key_l = given_name_key_r", "one given name", "given_name_key"),
            Level(
                "variant",
                "list_has_any(given_name_forms_l, given_name_forms_r) "
                "or ((given_word_count_l = 1 or given_word_count_r = 1) "
                "and list_has_any(given_word_forms_l, given_word_forms_r))",
                "two forms of one given name",
            ),
            Level("swapped", _SWAPPED, "given and family name swapped"),
            Level(
                "typo",
                f"{_close('given_name_key')} and not (is_known_given_name_l and is_known_given_name_r)",
                "given name misspelt",
            ),
            Level(
                "initial",
                "(given_name_key_l is null and starts_with(given_initials_r, given_initials_l)) "
                "or (given_name_key_r is null and starts_with(given_initials_l, given_initials_r)) "
                "or least(length(given_name_key_l), length(given_name_key_r)) between 2 and 4 "
                "and (least(length(given_name_key_l), length(given_name_key_r)) = 2 "
                "or not (is_known_given_name_l and is_known_given_name_r)) "
                "and (starts_with(given_name_key_l, given_name_key_r) "
                "or starts_with(given_name_key_r, given_name_key_l))",
                "beginning of the given name",
            ),
            Level(
                "alike",
                "not (is_known_given_name_l and is_known_given_name_r) "
                "and jaro_winkler_similarity(given_name_key_l, given_name_key_r) >= 0.75",
                "given names that look alike",
            ),
            Level("crossed", _CROSSED, "a given name that is the other's family name"),
            Level(
                "unlike",
                "not (is_known_given_name_l and is_known_given_name_r)",
                "given names that differ, one of them no common name",
            ),
            Level("different", "else", "another given name"),
        ),
    ),
    Comparison(
        "family_name",
        # Names that are swapped are counted once, as the given name's level.
        f"family_name_key_l is null or family_name_key_r is null or ({_SWAPPED})",
        (
            Level("exact", "family_name_key_l = family_name_key_r", "one family name", "family_name_key"),
            Level("variant", "list_has_any(family_name_forms_l, family_name_forms_r)", "two forms of one family name"),
            Level("typo", _close("family_name_key"), "family name misspelt"),
            Level(
                "alike",
                "jaro_winkler_similarity(family_name_key_l, family_name_key_r) >= 0.8 or " + _CROSSED,
                "family names that look alike",
            ),
            Level("different", "else", "another family name"),
        ),
    ),
    Comparison(
        "birth_date",
        "birth_key_l is null or birth_key_r is null",
        (
            Level("exact", "birth_key_l = birth_key_r and right(birth_key_l, 5) <> '01-01'", "one birth date"),
            Level(
                "swapped",
                "left(birth_key_l, 4) = left(birth_key_r, 4) and substr(birth_key_l, 6, 2) = right(birth_key_r, 2) "
                "and substr(birth_key_r, 6, 2) = right(birth_key_l, 2) and right(birth_key_l, 5) <> '01-01'",
                "day and month of birth swapped",
            ),
            Level(
                "close",
                "left(birth_key_l, 7) = left(birth_key_r, 7) or right(birth_key_l, 5) = right(birth_key_r, 5) "
                "and right(birth_key_l, 5) <> '01-01' "
                "or (left(birth_key_l, 4) = left(birth_key_r, 4) and right(birth_key_l, 2) = right(birth_key_r, 2)) "
                "or damerau_levenshtein(birth_key_l, birth_key_r) <= 1",
                "birth date off by one part",
            ),
            Level(
                "year",
                "left(birth_key_l, 4) = left(birth_key_r, 4) "
                "and (right(birth_key_l, 5) = '01-01' or right(birth_key_r, 5) = '01-01')",
                "one year of birth, once with the first of January",
            ),
            Level(
                "near",
                "abs(date_diff('day', cast(birth_key_l as date), cast(birth_key_r as date))) <= 62",
                "birth dates within two months",
            ),
            Level(
                "other_date",
                "abs(cast(left(birth_key_l, 4) as integer) - cast(left(birth_key_r, 4) as integer)) < 15",
                "another birth date",
            ),
            Level("different", "else", "birth date of another generation"),
        ),
    ),
    Comparison(
        "email",
        "email_key_l is null or email_key_r is null",
        (
            Level("exact", "email_key_l = email_key_r", "one e-mail"),
            Level(
                "typo",
                "split_part(email_key_l, '@', 2) = split_part(email_key_r, '@', 2) "
                "and least(length(email_local_l), length(email_local_r)) >= 6 "
                "and damerau_levenshtein(email_local_l, email_local_r) <= 1 "
                "and regexp_replace(email_local_l, '[^0-9]', '', 'g') "
                "= regexp_replace(email_local_r, '[^0-9]', '', 'g')",
                "e-mail misspelt",
            ),
            Level(
                "same_name",
                "email_local_l = email_local_r and length(email_local_l) >= 6",
                "one name at two mail providers",
            ),
            Level(
                "alike",
                "jaro_winkler_similarity(email_key_l, email_key_r) >= 0.92 "
                "and regexp_replace(email_key_l, '[^0-9]', '', 'g') = regexp_replace(email_key_r, '[^0-9]', '', 'g')",
                "e-mails that look alike",
            ),
            Level("different", "else", "another e-mail"),
        ),
    ),
    Comparison(
        "phone",
        "phone_key_l is null or phone_key_r is null",
        (
            Level("mobile", "phone_key_l = phone_key_r and is_mobile_l", "one mobile phone"),
            Level("landline", "phone_key_l = phone_key_r", "one landline"),
            Level(
                "typo",
                "length(phone_key_l) = length(phone_key_r) and damerau_levenshtein(phone_key_l, phone_key_r) <= 1",
                "phone off by one digit",
            ),
            Level("different", "else", "another phone"),
        ),
    ),
    Comparison(
        "address",
        "(street_key_l is null and postal_code_l is null and town_key_l is null) "
        "or (street_key_r is null and postal_code_r is null and town_key_r is null) "
        "or ((street_key_l is null or street_key_r is null) and (postal_code_l is null or postal_code_r is null) "
        "and (town_key_l is null or town_key_r is null))",
        (
            Level(
                "exact",
                "house_number_l = house_number_r and street_key_l = street_key_r "
                "and (postal_code_l = postal_code_r or town_key_l = town_key_r)",
                "one address",
            ),
            Level(
                "close",
                "street_key_l is not null and street_key_r is not null and "
                "((postal_code_l = postal_code_r or town_key_l = town_key_r) "
                "and coalesce(house_number_l = house_number_r, true) "
                "and (street_key_l = street_key_r or jaro_winkler_similarity(street_key_l, street_key_r) >= 0.9) "
                "or house_number_l = house_number_r and street_key_l = street_key_r "
                "and (length(street_key_l) >= 6 or postal_code_l is null or postal_code_r is null))",
                "one address, written in two ways",
            ),
            Level(
                "other_street",
                "(postal_code_l = postal_code_r or town_key_l = town_key_r) "
                "and street_key_l is not null and street_key_r is not null",
                "one town, another street",
            ),
            Level("town", "postal_code_l = postal_code_r or town_key_l = town_key_r", "one town"),
            Level("different", "else", "another town"),
        ),
    ),
)
GAMMAS = tuple(f"gamma_{comparison.name}" for comparison in COMPARISONS)


@dataclass(frozen=True)
class Model:
    """The parameters of a model. ``levels``: comparison -> level -> (m, u); ``prior`` is the share of random pairs that
    are one person; a pair joins from ``accept_weight`` (log2 odds) on; ``version`` names the file in tables and logs.

    Which disagreements prove two people is a property of the population, too: ``two_people`` and ``perhaps_two`` name
    levels by comparison. ``tells_generations``: one name at one address may be a father and a son.
    ``tells_households``: what a household shares joins nobody, unless something of the person agrees.

    ``names``: names (``given_name_key``, ``family_name_key``: name -> share of the people) that may be more common in
    the population than in France; ``least_name_share``: no name counts as rarer.
    """

    version: str
    prior: float
    accept_weight: float
    levels: Mapping[str, Mapping[str, tuple[float, float]]]
    two_people: Mapping[str, Sequence[str]]
    perhaps_two: Mapping[str, Sequence[str]]
    tells_generations: bool
    tells_households: bool = True
    names: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    least_name_share: float = 0.0

    def __post_init__(self) -> None:
        for comparison in COMPARISONS:
            weights = sorted([0.0, *(self.weight(comparison.name, level.name) for level in comparison.levels)])
            if any(after - before < 1e-6 for before, after in pairwise(weights)):
                raise ValueError(f"The model {self.version} gives two levels of {comparison.name} one weight.")

    def weight(self, comparison: str, level: str) -> float:
        """log2(m / u) of a level, before any adjustment for a name's frequency."""
        m, u = self.levels[comparison][level]
        return log2(m / u)

    def settings(self) -> dict[str, Any]:
        """The model as Splink takes it."""
        comparisons = []
        for comparison in COMPARISONS:
            levels: list[dict[str, Any]] = [
                {"sql_condition": comparison.null, "label_for_charts": "null", "is_null_level": True}
            ]
            for level in comparison.levels:
                m, u = self.levels[comparison.name][level.name]
                node: dict[str, Any] = {
                    "sql_condition": level.sql if level.sql == "else" else f"({level.sql})",
                    "label_for_charts": level.name,
                    "m_probability": m,
                    "u_probability": u,
                }
                if level.sql == "else":
                    node["sql_condition"] = "ELSE"
                if level.term_frequency:
                    node |= {"tf_adjustment_column": level.term_frequency, "tf_adjustment_weight": 1.0}
                levels.append(node)
            comparisons.append({"output_column_name": comparison.name, "comparison_levels": levels})
        return {
            "link_type": "dedupe_only",
            "unique_id_column_name": "profile_id",
            "probability_two_random_records_match": self.prior,
            "retain_matching_columns": False,
            "retain_intermediate_calculation_columns": True,
            "blocking_rules_to_generate_predictions": [],
            "comparisons": comparisons,
        }


def read_model(path: Path | None = None) -> Model:
    """The model in a file, or the shipped one where there is no such file.

    Raises KeyError where a level that the code compares has no parameters, ValueError where two have one weight.
    """
    if path is None or not path.exists():
        path = SHIPPED_MODEL
    node = json.loads(path.read_text(encoding="utf-8"))
    return Model(
        version=node["version"],
        prior=node["prior"],
        accept_weight=node["accept_weight"],
        levels={
            comparison.name: {
                level.name: tuple(node["levels"][comparison.name][level.name]) for level in comparison.levels
            }
            for comparison in COMPARISONS
        },
        two_people=node["two_people"],
        perhaps_two=node["perhaps_two"],
        tells_generations=node["tells_generations"],
        tells_households=node.get("tells_households", True),
        names=node.get("names", {}),
        least_name_share=node.get("least_name_share", 0.0),
    )


def write_term_frequencies(connection: DuckDBPyConnection, model: Model) -> None:
    """Write ``tf_given_name_key`` and ``tf_family_name_key``: how common each name of the profiles is, 0 to 1.

    The frequencies are the model's, never tonight's: a name has one weight for ever. They follow from its rank among
    the names of France by the curve that fits published counts (INSEE: Martin 0.36 %, rank 100 0.08 %, rank 1000
    0.014 %), unless the model says that it is more common. A name that the lists do not hold is rare.
    """
    for name in ("given_name_key", "family_name_key"):
        shares = model.names.get(name, {})
        table = pa.table(
            {"name": pa.array(list(shares), pa.string()), "share": pa.array(shares.values(), pa.float64())}
        )
        connection.register("model_names", table)
        connection.execute(f"create or replace temp table share_of_{name} as select * from model_names")
        connection.unregister("model_names")
    least = model.least_name_share
    connection.execute(
        f"""
        create or replace temp table tf_family_name_key as
        select family_name_key, greatest({least!r}, coalesce(any_value(share), 0),
            0.0036 * pow(21.0 / (20 + coalesce(min(rank), {_RARE_FAMILY_NAME_RANK})), 0.85)) as tf_family_name_key
        from (select distinct family_name_key from splink_profiles where family_name_key is not null)
        left join (select replace(words_of(name), ' ', '') as letters, rank from reference_family_names) as names
            on letters = family_name_key
        left join share_of_family_name_key on share_of_family_name_key.name = family_name_key
        group by family_name_key;
        create or replace temp table tf_given_name_key as
        select given_name_key, greatest({least!r}, coalesce(share, 0),
            0.02 * pow(9.0 / (8 + least(coalesce(rank, {_RARE_GIVEN_NAME_RANK}), {_RARE_GIVEN_NAME_RANK})), 1.3)
            ) as tf_given_name_key
        from (select distinct given_name_key from splink_profiles where given_name_key is not null)
        left join reference_given_letters on letters = given_name_key
        left join share_of_given_name_key on share_of_given_name_key.name = given_name_key;
        drop table share_of_family_name_key;
        drop table share_of_given_name_key
        """
    )


def score_pairs(connection: DuckDBPyConnection, model: Model, pairs: str, into: str) -> None:
    """Score the pairs (l, r) of profiles in the table ``pairs`` by Splink.

    Writes the temp table ``into``: l, r, weight (log2 odds), and per comparison ``gamma_<name>`` (the level reached),
    ``mw_<name>`` (its weight, a name's frequency included).
    """
    from splink import DuckDBAPI, Linker

    logging.getLogger("splink").setLevel(logging.WARNING)
    columns = ", ".join(PROFILE)
    connection.execute(
        f"""
        create or replace temp table splink_profiles as
        select profile_id, {columns}, given_name_forms, given_word_forms, given_first, given_word_count,
            is_known_given_name, family_name_forms, email_local, is_mobile
        from remembered.profiles
        semi join (select l as profile_id from {pairs} union select r from {pairs}) using (profile_id);
        create or replace temp table splink_pairs as
        select l as join_key_l, r as join_key_r, 0 as match_key from {pairs}
        """
    )
    write_term_frequencies(connection, model)
    weights = ", ".join(
        f"cast(mw_{c.name} + coalesce(mw_tf_adj_{c.name}, 0) as real) as mw_{c.name}"
        if any(level.term_frequency for level in c.levels)
        else f"cast(mw_{c.name} as real) as mw_{c.name}"
        for c in COMPARISONS
    )
    # Splink gives the levels only together with every column that it compared, which is most of the work of a large
    # batch. The weights say them just as well: those of a comparison differ (``Model`` refuses others).
    gammas = ", ".join(
        f"cast(case {cases} else -1 end as tinyint) as gamma_{comparison.name}"
        for comparison in COMPARISONS
        for cases in [
            " ".join(
                f"when abs(mw_{comparison.name} - ({model.weight(comparison.name, level.name)!r})) < 1e-7"
                f" then {comparison.gamma(level.name)}"
                for level in comparison.levels
            )
        ]
    )
    with _beside_the_file(connection) as schema:
        api = DuckDBAPI(connection=connection, output_schema=schema)
        linker = Linker(
            api.table_to_splink_dataframe("splink_profiles", "splink_profiles"),
            model.settings(),
            log_level=None,
            validate_settings=False,
        )
        for name in ("given_name_key", "family_name_key"):
            linker.table_management.register_term_frequency_lookup(
                api.table_to_splink_dataframe(f"tf_{name}", f"tf_{name}"), name
            )
        registered = linker.table_management.register_blocked_pairs_for_predict(
            api.table_to_splink_dataframe("splink_pairs", "splink_pairs")
        )
        # Of pairs that it did not find itself Splink first copies the profiles, once per side, to leave out all others:
        # there are no others.
        registered.metadata["registered_for_predict"] = False
        found = linker.inference.predict(warning_mode="never")
        connection.execute(
            f"""
            create or replace temp table {into} as
            select profile_id_l as l, profile_id_r as r, cast(match_weight as real) as weight, {gammas}, {weights}
            from {found.physical_name}
            """
        )
    for table in ("splink_profiles", "splink_pairs"):
        connection.execute(f"drop table if exists {table}")


@contextmanager
def _beside_the_file(connection: DuckDBPyConnection) -> Iterator[str]:
    """A schema in memory where new tables go meanwhile, unless told otherwise: Splink's need not outlive its work, and
    in the database's file they cost more than the comparison.
    """
    ((database, schema),) = connection.execute("select current_database(), current_schema()").fetchall()
    connection.execute("attach ':memory:' as scoring")
    try:
        yield "scoring.main"
    finally:
        connection.execute(f'use "{database}"."{schema}"; detach scoring')


def write_model(connection: DuckDBPyConnection, model: Model, declared_weight: float) -> None:
    """Write ``identity.model_levels``: one row per comparison and level of the model in force, with its weight.

    ``prior`` and ``declared`` stand in it as comparisons of one level: a pair's weight is the sum over them all, and
    what is left over is the rarity of the names that agree.
    """
    rows: list[tuple[object, ...]] = [
        (model.version, "prior", "prior", None, None, model.prior, log2(model.prior / (1 - model.prior)),
         "two records of the file at random"),
        (model.version, "declared", "declared", None, None, None, declared_weight,
         "one record names the other's number"),
    ]  # fmt: skip
    for comparison in COMPARISONS:
        for level in comparison.levels:
            m, u = model.levels[comparison.name][level.name]
            rows.append(
                (model.version, comparison.name, level.name, comparison.gamma(level.name), m, u,
                 model.weight(comparison.name, level.name), level.words)
            )  # fmt: skip
    connection.execute(
        """
        create or replace table identity.model_levels (
            model_version varchar, comparison varchar, level varchar, gamma tinyint, m_probability double,
            u_probability double, weight double, words varchar
        )
        """
    )
    connection.executemany("insert into identity.model_levels values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
