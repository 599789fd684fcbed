"""The scores of pairs: what was compared once is not compared again.

What belongs here: finding the scores of tonight's pairs, among those that are known or by the model. What does not: a
decision.

A score is a function of what two profiles say and of the model, and the number of a profile is a hash of what it says:
so it is remembered under both numbers.
"""

from dataclasses import asdict
from pathlib import Path

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.model import COMPARISONS, GAMMAS, Model, score_pairs
from dagster_project.domain.identity.remembered import count_rows, hash_of, work

COLUMNS = ("l", "r", "weight", *GAMMAS, "is_inside")
_SHAPE = f"l bigint, r bigint, weight real, {', '.join(f'{gamma} tinyint' for gamma in GAMMAS)}, is_inside boolean"
_BATCH = 4_000_000
"""Pairs that are scored at once: bounds the memory of the comparison."""


def score_stamp(model: Model) -> str:
    """What a remembered score depends on besides the two contents; not what is made of it (thresholds, conflicts)."""
    here = Path(__file__)
    names = [model.names, model.least_name_share]
    return hash_of(
        [model.prior, model.levels, names, [asdict(comparison) for comparison in COMPARISONS]],
        [
            here.with_name("model.py"),
            here.with_name("standard_forms.py"),
            *sorted(here.with_name("reference").glob("*.csv")),
        ],
    )


def start_scores(connection: DuckDBPyConnection) -> None:
    """Make the empty ``identity_scores``: one row per pair (l < r), weight, levels, and whether only its component, not
    a block, has brought it together (``is_inside``).
    """
    connection.execute(
        f"""
        create schema if not exists remembered;
        create or replace table remembered.scores ({_SHAPE});
        create or replace temp view identity_scores as from remembered.scores;
        create temp table if not exists identity_known_scores ({_SHAPE})
        """
    )


def make_scores(connection: DuckDBPyConnection) -> None:
    """Make an empty ``identity_scores`` of its own, for a part of the pairs."""
    connection.execute(f"create or replace temp table identity_scores ({_SHAPE})")


def look_up(connection: DuckDBPyConnection, model: Model, pairs: str, *, is_inside: bool = False) -> int:
    """Add the scores of the pairs (l < r) of profiles in the table ``pairs``; returns how many had to be compared.

    ``identity_known_scores`` holds what is known of old. No pair may be asked twice.
    """
    connection.execute(
        f"""
        insert into remembered.scores select l, r, weight, {", ".join(GAMMAS)}, {is_inside}
        from identity_known_scores semi join {pairs} using (l, r)
        """
    )
    unknown = f"{pairs} anti join identity_known_scores using (l, r)"
    return compare(connection, model, unknown, "remembered.scores", is_inside=is_inside)


def compare(connection: DuckDBPyConnection, model: Model, pairs: str, into: str, *, is_inside: bool = False) -> int:
    """Add to ``into`` the scores of pairs (l < r) of which nothing is known; returns how many these are.

    Reads ``remembered.profiles``.
    """
    work(connection, "unscored", f"select l, r, row_number() over () as number from {pairs}")
    count = count_rows(connection, "identity_unscored")
    for start in range(0, count, _BATCH):
        work(
            connection,
            "batch",
            f"select l, r from identity_unscored where number > {start} and number <= {start + _BATCH}",
        )
        score_pairs(connection, model, "identity_batch", "identity_scored")
        connection.execute(
            f"insert into {into} select l, r, weight, {', '.join(GAMMAS)}, {is_inside} from identity_scored"
        )
        connection.execute("drop table identity_batch; drop table identity_scored")
    connection.execute("drop table identity_unscored")
    return count
