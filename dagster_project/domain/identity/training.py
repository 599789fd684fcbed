"""Training: the parameters of a match model, estimated from records of which the person is taken to be known.

What belongs here: two ways to a candidate model, what makes one degenerate, and the comparison of two models. What does
not: where the profiles come from, and what becomes of a candidate (``identity_training``).

From accounts: a retailer has no truth, so the accounts of its last build are the labels. They were joined by guarded
unions, which refuse conflicts, so the estimate does not slide from persons to households as expectation maximisation
does on such data. From pairs: Splink's expectation maximisation, for files without households, such as registers.

Training never changes the model in force. It writes a candidate beside it, and says what would change.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity import build_people
from dagster_project.domain.identity.blocking import find_pairs
from dagster_project.domain.identity.identifiers import read_decisions, write_policies
from dagster_project.domain.identity.model import COMPARISONS, Model, read_model, score_pairs
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.remembered import count_rows
from dagster_project.domain.identity.scores import look_up, start_scores
from dagster_project.domain.identity.verdicts import judge

if TYPE_CHECKING:
    from splink import Linker

PAIRS_PER_PERSON = 45
"""At most so many pairs of one person are counted (those of ten profiles): no large account rules the estimate."""
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
                f"select gamma_{comparison.name}, count(*) from {table} where gamma_{comparison.name} >= 0 group by all"
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
        select profile_id, label from ({labels}) join identity_profiles using (profile_id)
        """
    )
    connection.execute(
        f"""
        create or replace temp table training_same as
        select lefts.profile_id as l, rights.profile_id as r
        from training_labels as lefts join training_labels as rights using (label)
        where lefts.profile_id < rights.profile_id
        qualify row_number() over (
            partition by label order by hash(lefts.profile_id, rights.profile_id)
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
            select *, row_number() over (order by profile_id) - 1 as place, count(*) over () as total
            from training_labels
        ),
        drawn as (
            select lefts.profile_id as l, (place * 48271 + shift * 7919 + 1) % total as other, label
            from placed as lefts
            cross join range(1, 1 + {RANDOM_PAIRS} // (select count(*) from training_labels)) as t(shift)
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
        levels[comparison.name] = {name: (m[name] / sum(m.values()), u[name] / sum(u.values())) for name in old}
    return replace(model, version=version, levels=levels)


def write_model_file(model: Model, path: Path, trained_on: str) -> None:
    """Write a model as a file that ``read_model`` reads; figures with six significant digits, one level a line.

    Only its owner can read it, for it may say which names are common. It is whole or it is not there.
    """
    written = _as_written(model)
    node = {
        "version": written.version,
        "trained_on": trained_on,
        "prior": written.prior,
        "accept_weight": written.accept_weight,
        "two_people": written.two_people,
        "perhaps_two": written.perhaps_two,
        "tells_generations": written.tells_generations,
        "tells_households": written.tells_households,
        "least_name_share": written.least_name_share,
        "names": written.names,
        "levels": {
            comparison.name: {
                level.name: list(written.levels[comparison.name][level.name]) for level in comparison.levels
            }
            for comparison in COMPARISONS
        },
    }
    text = json.dumps(node, indent=2)
    # [m, u] on one line.
    text = text.replace("[\n        ", "[").replace(",\n        ", ", ").replace("\n      ]", "]")
    beside = path.with_name(f".{path.name}")
    beside.unlink(missing_ok=True)
    beside.touch(mode=0o600)
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(path)


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


@dataclass(frozen=True)
class Trained:
    """A candidate and what it was trained on: ``pairs`` that are taken for one person's, ``records`` that were read (as
    profiles: records that say the same are one), and the comparisons that were ``filled``.
    """

    model: Model
    pairs: int
    records: int
    filled: frozenset[str]
    trained_on: str


def train_from_accounts(connection: DuckDBPyConnection, model: Model, labels: str, version: str) -> Trained:
    """A candidate from ``labels`` (a query: profile_id, label) over ``identity_profiles``. Raises TrainingError."""
    same, different = count_pairs(connection, model, labels)
    candidate = estimate(model, same, different, version)
    # Accounts were made without the pairs that prove two people: how often one person differs so, they cannot tell.
    candidate = _with_levels(candidate, {name: _unjudged(model, candidate, name) for name in model.levels})
    filled = {name for name, levels in same.levels.items() if sum(levels.values())}
    return Trained(
        _with_proofs(candidate, filled),
        same.pairs,
        count_rows(connection, "identity_profiles"),
        frozenset(filled),
        f"{same.pairs} pairs of records of one account, {different.pairs} of two",
    )


def train_from_pairs(connection: DuckDBPyConnection, model: Model, pairs: str, version: str) -> Trained:
    """A candidate by Splink's expectation maximisation over ``identity_profiles``; ``pairs`` is the table (l, r) of
    those that blocking found, from which the prior is estimated.

    u comes from all pairs of a sample of profiles. Among them are pairs of one person, as many as the prior and m say:
    they are taken off, and all is estimated again. m comes from a session for each of the blocks that the data fill. A
    comparison that the data never fill keeps its parameters. Deterministic. Raises TrainingError.
    """
    total = count_rows(connection, "identity_profiles")
    sessions = _sessions(connection)
    connection.execute(
        f"""
        create or replace temp table training_profiles as select * from identity_profiles order by profile_id;
        create or replace temp table training_sample as
        select * from training_profiles order by hash(profile_id) limit {_SAMPLED_PROFILES}
        """
    )
    seen = _read_u(connection, model)
    sampled = min(total, _SAMPLED_PROFILES)
    random_pairs = sampled * (sampled - 1) / 2
    candidate, found, filled = model, 0.0, set[str]()
    for _ in range(_ROUNDS):
        u = {name: _without_matches(levels, candidate, model, name, random_pairs) for name, levels in seen.items()}
        candidate = _with_levels(candidate, {name: (_ms(candidate, name), u[name]) for name in u})
        m, filled = _read_m(connection, candidate, sessions)
        expected = max(found, 1000.0)
        candidate = _with_levels(
            candidate,
            {name: (_drawn(m[name], _ms(model, name), expected), _us(candidate, name)) for name in filled},
        )
        candidate = _with_prior(connection, candidate, pairs, total)
        found = candidate.prior * total * (total - 1) / 2
    for table in ("profiles", "sample"):
        connection.execute(f"drop table training_{table}")
    never = {comparison.name for comparison in COMPARISONS} - filled
    kept = {name: model.levels[name] for name in never}
    names, least = _read_names(connection)
    candidate = replace(
        candidate, version=version, levels={**candidate.levels, **kept}, names=names, least_name_share=least
    )
    return Trained(
        _with_proofs(candidate, filled),
        round(found),
        total,
        frozenset(filled),
        f"{total} records, some {round(found)} pairs of them one person's by expectation maximisation, blocked on "
        + ", ".join(" and ".join(columns) for columns in sessions),
    )


_SESSIONS = (
    ("birth_key",),
    ("given_name_key", "family_name_key"),
    ("street_key", "house_number"),
    ("email_key",),
    ("phone_key",),
)
"""Blocks within which m is estimated: what a block agrees on cannot be estimated in it, so two of them are needed."""
_LEAST_SESSION_PAIRS = 300
_MOST_SESSION_PAIRS = 2_000_000.0
_SAMPLED_PROFILES = 2000
_ROUNDS = 2
_COMMON = 5
"""Profiles that bear a name which the model tells from rare ones."""
_PAIRS_PRIOR = 20.0
"""Pairs of one person that the model in force counts for beside those that expectation maximisation found."""


def _sessions(connection: DuckDBPyConnection) -> list[tuple[str, ...]]:
    """The blocks that hold enough pairs. Raises TrainingError where they cannot estimate one another's comparisons."""
    chosen: list[tuple[str, ...]] = []
    for columns in _SESSIONS:
        filled = " and ".join(f"{column} is not null" for column in columns)
        ((pairs,),) = connection.execute(
            f"""
            select coalesce(sum(profiles * (profiles - 1) / 2), 0)
            from (select count(*) as profiles from identity_profiles where {filled} group by {", ".join(columns)})
            """
        ).fetchall()
        if pairs >= _LEAST_SESSION_PAIRS:
            chosen.append(columns)
    if len(chosen) < 2:
        raise TrainingError(
            "Too little is filled in to train on pairs: at least two of birth date, whole name, address, e-mail and "
            "phone must be shared by some hundred pairs of records."
        )
    return chosen


def _linker(connection: DuckDBPyConnection, model: Model, table: str) -> "Linker":
    """Splink over a table of profiles. Names weigh alike: a name's frequency is no parameter of the training."""
    from splink import DuckDBAPI, Linker

    logging.getLogger("splink").setLevel(logging.ERROR)
    settings = model.settings()
    for comparison in settings["comparisons"]:
        for level in comparison["comparison_levels"]:
            level.pop("tf_adjustment_column", None)
            level.pop("tf_adjustment_weight", None)
    api = DuckDBAPI(connection=connection)
    return Linker(api.table_to_splink_dataframe(table, table), settings, log_level=None, validate_settings=False)


def _parameters(linker: "Linker", which: str) -> dict[str, dict[str, float]]:
    return {
        comparison["output_column_name"]: {
            level["label_for_charts"]: float(level[which])
            for level in comparison["comparison_levels"]
            if not level.get("is_null_level")
        }
        for comparison in linker.misc.save_model_to_json()["comparisons"]
    }


def _read_u(connection: DuckDBPyConnection, model: Model) -> dict[str, dict[str, float]]:
    """The shares of random pairs at each level, pairs of one person among them; 0 for a level that none reaches.

    Comparisons that no random pair fills are left out.
    """
    linker = _linker(connection, model, "training_sample")
    # The sample is drawn by contents above, so that Splink takes it whole: its own depends on the number of threads.
    linker.training.estimate_u_using_random_sampling(max_pairs=1e12, seed=1, min_count_per_level=None)
    found = _parameters(linker, "u_probability")
    linker.table_management.delete_tables_created_by_splink_from_db()
    return {
        name: seen
        for name, levels in found.items()
        for seen in [
            {level: 0.0 if value == model.levels[name][level][1] else value for level, value in levels.items()}
        ]
        if any(seen.values())
    }


def _read_m(
    connection: DuckDBPyConnection, model: Model, sessions: list[tuple[str, ...]]
) -> tuple[dict[str, dict[str, float]], set[str]]:
    """The m of each level, 0 for those that no session reached; and the comparisons that any session reached."""
    from splink import block_on

    linker = _linker(connection, model, "training_profiles")
    for columns in sessions:
        linker.training.estimate_parameters_using_expectation_maximisation(
            block_on(*columns), estimate_without_term_frequencies=True, max_pairs=_MOST_SESSION_PAIRS
        )
    found = _parameters(linker, "m_probability")
    linker.table_management.delete_tables_created_by_splink_from_db()
    reached = {
        name: {level: 0.0 if value == model.levels[name][level][0] else value for level, value in levels.items()}
        for name, levels in found.items()
    }
    return reached, {name for name, levels in reached.items() if any(levels.values())}


def _read_names(connection: DuckDBPyConnection) -> tuple[dict[str, dict[str, float]], float]:
    """The shares of the names that at least ``_COMMON`` profiles bear, and the share of the least common of these."""
    total = max(count_rows(connection, "identity_profiles"), 1)
    names = {
        column: {
            name: float(f"{count / total:.3g}")
            for name, count in connection.execute(
                f"""
                select {column}, count(*) from identity_profiles where {column} is not null
                group by all having count(*) >= {_COMMON} order by all
                """
            ).fetchall()
        }
        for column in ("given_name_key", "family_name_key")
    }
    return names, float(f"{_COMMON / total:.3g}")


def _ms(model: Model, comparison: str) -> dict[str, float]:
    return {level: m for level, (m, _) in model.levels[comparison].items()}


def _us(model: Model, comparison: str) -> dict[str, float]:
    return {level: u for level, (_, u) in model.levels[comparison].items()}


def _unjudged(before: Model, after: Model, comparison: str) -> tuple[dict[str, float], dict[str, float]]:
    """The m and u of a comparison in ``after``, but m as in ``before`` where the level proves two people there."""
    kept = {*before.two_people.get(comparison, ()), *before.perhaps_two.get(comparison, ())}
    old, new = _ms(before, comparison), _ms(after, comparison)
    left = sum(m for level, m in new.items() if level not in kept)
    scale = (1 - sum(old[level] for level in kept)) / left
    return {level: old[level] if level in kept else m * scale for level, m in new.items()}, _us(after, comparison)


def _drawn(seen: Mapping[str, float], old: Mapping[str, float], pairs: float) -> dict[str, float]:
    """The m seen among so many pairs, drawn a little towards the old."""
    total = sum(seen.values())
    return {level: (pairs * seen[level] / total + _PAIRS_PRIOR * old[level]) / (pairs + _PAIRS_PRIOR) for level in old}


def _without_matches(
    seen: Mapping[str, float], model: Model, before: Model, comparison: str, random_pairs: float
) -> dict[str, float]:
    """The u seen among random pairs, without the pairs of one person that are among them.

    What is left must be more than chance: less than two standard deviations above what one person's pairs explain says
    nothing, and the level takes its u in the model ``before``, or the most that the sample allows.
    """
    least = 0.5 / random_pairs
    found = {}
    for level, (m, _) in model.levels[comparison].items():
        expected = model.prior * m
        u = before.levels[comparison][level][1]
        left = seen[level] - expected
        noise = 2 * ((seen[level] + expected) / random_pairs) ** 0.5
        found[level] = left if left > noise + least else min(u, max(seen[level], least))
    return found


def _with_levels(model: Model, given: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]) -> Model:
    """The model with m and u of some comparisons replaced; each sums to 1."""
    levels = {name: dict(pairs) for name, pairs in model.levels.items()}
    for name, (m, u) in given.items():
        levels[name] = {level: (m[level] / sum(m.values()), u[level] / sum(u.values())) for level in model.levels[name]}
    return replace(model, levels=levels)


def _with_prior(connection: DuckDBPyConnection, model: Model, pairs: str, profiles: int) -> Model:
    """The model with the share of all pairs that are one person's, as expected among the pairs that blocking found."""
    score_pairs(connection, model, pairs, "training_scored")
    rows = connection.execute(
        f"select {', '.join(f'gamma_{c.name}' for c in COMPARISONS)}, count(*) from training_scored group by all"
    ).fetchall()
    connection.execute("drop table training_scored")
    weighed = []
    for *gammas, count in rows:
        weight = 0.0
        for comparison, gamma in zip(COMPARISONS, gammas, strict=True):
            level = comparison.level_of(gamma)
            weight += 0.0 if level is None else model.weight(comparison.name, level.name)
        weighed.append((weight, count))
    prior = model.prior
    for _ in range(50):
        odds = prior / (1 - prior)
        matches = sum(count * (1 - 1 / (1 + odds * 2 ** min(weight, 500.0))) for weight, count in weighed)
        prior = min(max(matches / (profiles * (profiles - 1) / 2), 1e-9), 0.5)
    return replace(model, prior=prior)


MOST_OF_MATCHES = 0.05
"""Disagreements prove two people only while they are rare in one person: all together, in a comparison, at most this
share of one person's pairs. A rule that overrides the weights loses at most so many of them. Where given names are
replaced, or dates mistyped, more often than that, as in many registers, what disagrees is left to its weight."""


def _with_proofs(model: Model, filled: set[str]) -> Model:
    """The model with the levels that prove two people in this population; comparisons never filled keep theirs."""
    shipped = read_model()
    lists: dict[str, dict[str, Sequence[str]]] = {"two_people": {}, "perhaps_two": {}}
    for name in model.levels:
        proofs = {*shipped.two_people.get(name, ()), *shipped.perhaps_two.get(name, ())}
        is_rare = sum(model.levels[name][level][0] for level in proofs) <= MOST_OF_MATCHES
        for which, found in lists.items():
            chosen = getattr(shipped if name in filled else model, which).get(name, ())
            if chosen and (is_rare or name not in filled):
                found[name] = list(chosen)
    unreachable = model.levels["email"]["different"][0] * model.levels["phone"]["different"][0]
    return replace(
        model,
        two_people=lists["two_people"],
        perhaps_two=lists["perhaps_two"],
        tells_generations=shipped.tells_generations and unreachable <= MOST_OF_MATCHES,
        # Where another given name proves nothing, one name tells no more of a person than of a household.
        tells_households=shipped.tells_households and "given_name" in lists["two_people"],
    )


LEAST_RECORDS = 500
LEAST_PAIRS = 1000
_LEAST_EXACT = 0.5
_AGREEMENTS = {
    "given_name": ("exact", "variant", "swapped", "typo"),
    "family_name": ("exact", "variant", "typo"),
    "birth_date": ("exact", "swapped", "close", "near"),
    "email": ("exact", "typo", "same_name"),
    "phone": ("mobile", "landline", "typo"),
    "address": ("exact", "close", "town"),
}
"""Levels of agreement: none may weigh less than the comparison's last level, a disagreement, and together they are what
one person's records mostly do. Expectation maximisation that took chance for people fails in the one or the other."""


def check(trained: Trained) -> None:
    """Raises TrainingError where the candidate is degenerate; the message names what is wrong with it."""
    model = trained.model
    wrong = []
    if trained.records < LEAST_RECORDS:
        wrong.append(f"it was trained on {trained.records} records, and {LEAST_RECORDS} are needed")
    if trained.pairs < LEAST_PAIRS:
        wrong.append(f"only {trained.pairs} pairs of records are one person's, and {LEAST_PAIRS} are needed")
    for comparison in COMPARISONS:
        agreements, worst = _AGREEMENTS[comparison.name], comparison.levels[-1]
        words = {level.name: level.words for level in comparison.levels}
        wrong += [
            f"in {comparison.name}, «{words[level]}» weighs less than «{worst.words}»"
            for level in agreements
            if model.weight(comparison.name, level) <= model.weight(comparison.name, worst.name)
        ]
        alike = sum(model.levels[comparison.name][level][0] for level in agreements)
        if comparison.name in trained.filled and alike < _LEAST_EXACT:
            wrong.append(
                f"in {comparison.name}, one person's records agree in {100 * alike:.0f} % only, "
                f"and {100 * _LEAST_EXACT:.0f} % are needed"
            )
    if wrong:
        raise TrainingError(f"The candidate is not fit to be used: {'; '.join(wrong)}.")


def prepare(connection: DuckDBPyConnection, as_of: date, policy: Policy) -> None:
    """Make the profiles, the pairs that blocking finds (``identity_pairs``) and what judging them needs."""
    connection.execute("create schema if not exists identity")
    read_decisions(connection, as_of)
    write_policies(connection, policy)
    build_people(connection, as_of=as_of, policy=policy, announce=lambda step: None)
    find_pairs(connection, policy)


ACCOUNTS_OF_PROFILES = """
    select profile_id, any_value(account_id) as label
    from (select contact_id, profile_id from identity_named)
    join remembered.records using (contact_id)
    join identity.account_links using (feed, record_id)
    where feed in ('shop_customers', 'loyalty_members')
    group by profile_id
    having count(distinct account_id) = 1
"""
"""The labels of ``train_from_accounts``: people's records, by the account that the last build gave them."""


@dataclass(frozen=True)
class PairChanges:
    """Decisions on the pairs that blocking finds: ``scored`` in all; how many would join, and would no longer join."""

    scored: int
    joined_before: int
    joined_after: int
    gained: int
    lost: int


def compare_pairs(connection: DuckDBPyConnection, before: Model, after: Model, policy: Policy) -> PairChanges:
    """What the pairs of ``prepare`` would be under either model, each judged by itself, before any clustering."""
    for name, model in (("before", before), ("after", after)):
        start_scores(connection)
        look_up(connection, model, "identity_pairs")
        judge(connection, model, policy)
        connection.execute(
            f"create or replace temp table training_{name} as select l, r from identity_verdicts where joins"
        )
    ((joined, joins, kept),) = connection.execute(
        """
        select (select count(*) from training_before), (select count(*) from training_after),
            (select count(*) from training_before semi join training_after using (l, r))
        """
    ).fetchall()
    connection.execute("drop table training_before; drop table training_after")
    return PairChanges(count_rows(connection, "identity_pairs"), joined, joins, joins - kept, joined - kept)


def named_by_content(model: Model, as_of: date) -> Model:
    """The model under the version ``<as-of date>-<beginning of the hash of its parameters>``."""
    model = _as_written(model)
    said = json.dumps(asdict(replace(model, version="")), sort_keys=True)
    return replace(model, version=f"{as_of.isoformat()}-{hashlib.sha256(said.encode()).hexdigest()[:8]}")


def _as_written(model: Model) -> Model:
    def digits(value: float) -> float:
        return float(f"{value:.6g}")

    return replace(
        model,
        prior=digits(model.prior),
        levels={
            name: {level: (digits(m), digits(u)) for level, (m, u) in levels.items()}
            for name, levels in model.levels.items()
        },
    )
