"""Training: the parameters of a match model, estimated from records of which the person is taken to be known.

What belongs here: counting how often pairs of one person, and pairs of two, reach each level; a candidate model from
the counts; the comparison of two models. What does not: where the labels come from. A retailer has no truth, so the
training job takes the accounts of its current release: they were joined by guarded unions, which refuse conflicts, so
the estimate does not slide from persons to households as expectation maximisation does on such data.

Training never changes the model in force. It writes a candidate beside it, and says what would change.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.clustering import count_rows
from dagster_project.domain.identity.model import COMPARISONS, Model, score_pairs

PAIRS_PER_PERSON = 45
"""At most so many pairs of one person are counted (those of ten profiles), so that no large account rules the estimate."""
RANDOM_PAIRS = 2_000_000
_M_PRIOR = 400.0
"""Pairs of one person that the model in force counts for: a level that was rarely seen keeps most of its old weight."""
_U_PRIOR = 20_000.0
_RARE = 1e-4
"""Levels that fewer random pairs reach by the model in force keep their u: a sample of two millions says nothing of
them, and how often two people share an e-mail depends on the size of the file, not on its people."""


class TrainingError(Exception):
    """There is too little to train on; the message is a sentence."""


@dataclass(frozen=True)
class Counts:
    """Pairs that were looked at, and per comparison and level those that reached it (nulls in neither)."""

    pairs: int
    levels: Mapping[str, Mapping[str, int]]


def _count_levels(connection: DuckDBPyConnection, table: str) -> Counts:
    levels: dict[str, dict[str, int]] = {}
    for comparison in COMPARISONS:
        rows = dict(
            connection.execute(
                f"select gamma_{comparison.name}, count(*) from {table} group by all having gamma_{comparison.name} >= 0"
            ).fetchall()
        )
        levels[comparison.name] = {
            level.name: int(rows.get(comparison.gamma(level.name), 0)) for level in comparison.levels
        }
    return Counts(count_rows(connection, table), levels)


def count_pairs(connection: DuckDBPyConnection, model: Model, labels: str) -> tuple[Counts, Counts]:
    """The levels that pairs of one person, and random pairs of two people, reach.

    ``labels`` is a table or query (profile_id, label) over ``identity_profiles``. Deterministic: which pairs are drawn
    follows from the contents of the profiles. Raises TrainingError below 1,000 pairs of one person.
    """
    connection.execute(
        f"""
        create or replace temp table training_labels as
        select profile_id, label, content from ({labels}) join identity_profiles using (profile_id)
        """
    )
    connection.execute(
        f"""
        create or replace temp table training_same as
        select lefts.profile_id as l, rights.profile_id as r
        from training_labels as lefts join training_labels as rights using (label)
        where lefts.content < rights.content
        qualify row_number() over (
            partition by label order by hash(lefts.content, rights.content)
        ) <= {PAIRS_PER_PERSON}
        """
    )
    same = count_rows(connection, "training_same")
    if same < 1000:
        raise TrainingError(
            f"Only {same} pairs of records are known to be one person's; 1000 are needed to train a model. "
            "The shipped model needs no training."
        )
    connection.execute(
        f"""
        create or replace temp table training_different as
        with placed as (
            select *, row_number() over (order by hash(content), content) - 1 as place, count(*) over () as total
            from training_labels
        ),
        drawn as (
            select lefts.profile_id as l, (place * 48271 + shift * 7919 + 1) % total as other, label
            from placed as lefts cross join range(1, 1 + {RANDOM_PAIRS} // (select count(*) from training_labels)) as t(shift)
        )
        select drawn.l, rights.profile_id as r
        from drawn join placed as rights on rights.place = drawn.other
        where drawn.l <> rights.profile_id and drawn.label <> rights.label
        group by all
        """
    )
    score_pairs(connection, model, "training_same", "training_scored")
    ones = _count_levels(connection, "training_scored")
    score_pairs(connection, model, "training_different", "training_scored")
    others = _count_levels(connection, "training_scored")
    for table in ("labels", "same", "different", "scored"):
        connection.execute(f"drop table training_{table}")
    return ones, others


def estimate(model: Model, same: Counts, different: Counts, version: str) -> Model:
    """A candidate: m and u from the counts, drawn towards the model in force where little was seen."""
    levels: dict[str, dict[str, tuple[float, float]]] = {}
    for comparison in COMPARISONS:
        old = model.levels[comparison.name]
        ones, others = same.levels[comparison.name], different.levels[comparison.name]
        ones_total, others_total = sum(ones.values()), sum(others.values())
        m = {name: (ones[name] + _M_PRIOR * old[name][0]) / (ones_total + _M_PRIOR) for name in old}
        u = {
            name: old[name][1]
            if old[name][1] < _RARE
            else (others[name] + _U_PRIOR * old[name][1]) / (others_total + _U_PRIOR)
            for name in old
        }
        levels[comparison.name] = {
            name: (m[name] / sum(m.values()), u[name] / sum(u.values())) for name in old
        }
    return replace(model, version=version, levels=levels)


def write_model_file(model: Model, path: Path, trained_on: str) -> None:
    """Write a model as a file that ``read_model`` reads; figures with six significant digits, one level a line."""
    node = {
        "version": model.version,
        "trained_on": trained_on,
        "prior": model.prior,
        "accept_weight": model.accept_weight,
        "two_people": model.two_people,
        "perhaps_two": model.perhaps_two,
        "tells_generations": model.tells_generations,
        "levels": {
            comparison.name: {
                level.name: [float(f"{value:.6g}") for value in model.levels[comparison.name][level.name]]
                for level in comparison.levels
            }
            for comparison in COMPARISONS
        },
    }
    text = json.dumps(node, indent=2)
    # [m, u] on one line.
    text = text.replace("[\n        ", "[").replace(",\n        ", ", ").replace("\n      ]", "]")
    path.write_text(text + "\n", encoding="utf-8")


def differences(before: Model, after: Model) -> list[tuple[str, str, float, float]]:
    """Comparison, level, weight before and after (log2), for every level, in order."""
    return [
        (
            comparison.name,
            level.name,
            before.weight(comparison.name, level.name),
            log2(after.levels[comparison.name][level.name][0] / after.levels[comparison.name][level.name][1]),
        )
        for comparison in COMPARISONS
        for level in comparison.levels
    ]
