"""Splink used as its tutorials use it: its own comparisons, blocking, training and clustering.

The recipes follow the tutorials of Splink's documentation, «Quickstart» for the made-up people of ``fake_1000`` and
«Deduplicate 50k rows historical persons» for a retailer's records. What is added for the latter is what a retailer has
and the historical persons have not: e-mail, phone, card.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on


@dataclass(frozen=True)
class Recipe:
    """What a tutorial decides before it looks at a pair.

    ``certain``: rules that hold for duplicates only, of which they find the share ``recall``; they give the prior.
    ``trainings``: a block each for a run of expectation maximisation. ``sampled_pairs``: of random pairs, for u.
    """

    comparisons: tuple[Any, ...]
    blocking: tuple[Any, ...]
    certain: tuple[Any, ...]
    recall: float
    trainings: tuple[Any, ...]
    sampled_pairs: float


FAKE_PEOPLE = Recipe(
    comparisons=(
        cl.NameComparison("first_name"),
        cl.NameComparison("surname"),
        cl.DateOfBirthComparison("dob", input_is_string=True),
        cl.ExactMatch("city").configure(term_frequency_adjustments=True),
        cl.EmailComparison("email"),
    ),
    blocking=(block_on("first_name", "city"), block_on("surname"), block_on("dob"), block_on("email")),
    certain=(
        block_on("first_name", "dob"),
        "l.email = r.email",
        "l.first_name = r.first_name and levenshtein(l.surname, r.surname) <= 2",
    ),
    recall=0.7,
    trainings=(block_on("first_name", "surname"), block_on("dob")),
    sampled_pairs=1e6,
)

SHOPPERS = Recipe(
    comparisons=(
        cl.ForenameSurnameComparison("first_name", "last_name", forename_surname_concat_col_name="first_and_last_name"),
        cl.DateOfBirthComparison("birth_date", input_is_string=False),
        cl.EmailComparison("email"),
        cl.ExactMatch("phone"),
        cl.ExactMatch("card_id"),
        cl.LevenshteinAtThresholds("address_line1", [1, 4]),
        cl.ExactMatch("postal_code").configure(term_frequency_adjustments=True),
    ),
    blocking=(
        block_on("email"),
        block_on("phone"),
        block_on("card_id"),
        block_on("last_name", "birth_date"),
        block_on("first_name", "birth_date"),
        block_on("postal_code", "birth_date"),
        block_on("first_name", "last_name", "postal_code"),
        block_on("substr(first_name, 1, 3)", "substr(last_name, 1, 4)", "postal_code"),
        block_on("postal_code", "address_line1"),
    ),
    certain=(
        block_on("first_name", "last_name", "birth_date"),
        block_on("first_name", "last_name", "email"),
        block_on("first_name", "last_name", "phone"),
        block_on("first_name", "last_name", "address_line1", "postal_code"),
    ),
    recall=0.7,
    trainings=(block_on("first_name", "last_name"), block_on("birth_date"), block_on("email")),
    sampled_pairs=5e6,
)


@dataclass(frozen=True)
class Clusters:
    """The clusters at one threshold (log2 odds): a table of unique_id and cluster_id, and the seconds that they took,
    everything before them included.
    """

    threshold: float
    table: str
    seconds: float


def clusters_at_thresholds(
    connection: duckdb.DuckDBPyConnection, table: str, recipe: Recipe, thresholds: tuple[float, ...], seed: int
) -> Iterator[Clusters]:
    """Train on ``table`` (one row per record, ``unique_id``), score its pairs, cluster them at each threshold.

    The seconds are those of a run with this threshold alone.
    """
    logging.getLogger("splink").setLevel(logging.ERROR)
    began = time.monotonic()
    linker = _trained(connection, table, recipe, seed)
    scored = linker.inference.predict(threshold_match_weight=min(thresholds), warning_mode="never")
    before = time.monotonic() - began
    for threshold in thresholds:
        began = time.monotonic()
        found = linker.clustering.cluster_pairwise_predictions_at_threshold(scored, threshold_match_weight=threshold)
        yield Clusters(threshold, found.physical_name, before + time.monotonic() - began)
        found.drop_table_from_database_and_remove_from_cache()


def _trained(connection: duckdb.DuckDBPyConnection, table: str, recipe: Recipe, seed: int) -> Linker:
    api = DuckDBAPI(connection=connection)
    linker = Linker(
        api.table_to_splink_dataframe(table, table),
        SettingsCreator(
            link_type="dedupe_only",
            comparisons=list(recipe.comparisons),
            blocking_rules_to_generate_predictions=list(recipe.blocking),
        ),
        log_level=None,
    )
    linker.training.estimate_probability_two_random_records_match(list(recipe.certain), recall=recipe.recall)
    linker.training.estimate_u_using_random_sampling(max_pairs=recipe.sampled_pairs, seed=seed)
    for block in recipe.trainings:
        linker.training.estimate_parameters_using_expectation_maximisation(block)
    return linker
