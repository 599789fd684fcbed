"""The training of a match model on a home's last build: a candidate, its comparison with the model in force, adoption.

The working database is copied aside. Nothing of the home is written but the candidate's file, and the model in force
where the candidate is adopted; nothing is published. Not for the estimate: ``domain.identity.training``. Not for
presentation: ``commands.identity``.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import duckdb

from dagster_project.domain.identity import IdentitySummary, Model, Policy, read_model, read_policy, resolve
from dagster_project.domain.identity.evaluation import Evaluation, EvaluationError, evaluate
from dagster_project.domain.identity.training import (
    ACCOUNTS_OF_PROFILES,
    PairChanges,
    Trained,
    TrainingError,
    check,
    compare_pairs,
    differences,
    named_by_content,
    prepare,
    train_from_accounts,
    train_from_pairs,
    write_model_file,
)
from dagster_project.domain.sql_literal import literal
from dagster_project.identity_diff import copy_home, home_aside
from dagster_project.run_lock import hold_run_lock, is_locked, release_run_lock
from dagster_project.settings import Settings
from dagster_project.warehouse import Warehouse

Method = Literal["accounts", "pairs"]


@dataclass(frozen=True)
class Training:
    """A candidate beside the model in force. ``weights``: comparison, level, weight before and after. ``accounts``: the
    number under the model in force and under the candidate; ``changes`` says what became of the former.
    ``moved_records`` are people's records whose account is another. ``evaluations``: before and after, where the truth
    is known.
    """

    method: str
    before: Model
    trained: Trained
    weights: list[tuple[str, str, float, float]]
    pairs: PairChanges
    accounts: tuple[int, int]
    changes: IdentitySummary
    moved_records: int
    evaluations: tuple[Evaluation, Evaluation] | None
    candidate: Path
    adopted: Path | None
    kept: Path | None


def train(
    settings: Settings,
    *,
    method: Method = "accounts",
    truth: Path | None = None,
    adopt: bool = False,
    announce: Callable[[str], None] | None = None,
) -> Training:
    """Train a candidate on the home's last build and compare it with the model in force; adopt it if ``adopt`` says so.

    ``truth`` is a CSV file (feed, record_id, person_id); default: the home's own, if it has one. Deterministic: the
    same build gives the same candidate. Raises TrainingError where there is too little to train on, the candidate is
    degenerate, or a shop is to adopt one that is trained from pairs (nothing is written then); HomeIsBusy where a run
    writes; ReleaseError where there is no build.
    """
    tell = announce or (lambda step: None)
    before, policy = read_model(settings.identity_model), read_policy()
    if truth is None and (own := settings.home / "truth" / "records.csv").is_file():
        truth = own
    with home_aside(settings) as aside:
        tell("copying the working database")
        copy_home(settings, aside)
        with Warehouse(aside).session("training") as connection:
            as_of = _as_of(connection)
            tell("reading the records")
            prepare(connection, as_of, policy)
            if adopt and method == "pairs":
                refuse_shops(connection)
            tell(f"training from {method}")
            if method == "accounts":
                trained = train_from_accounts(connection, before, ACCOUNTS_OF_PROFILES, "")
            else:
                trained = train_from_pairs(connection, before, "identity_pairs", "")
            trained = Trained(
                named_by_content(trained.model, as_of),
                trained.pairs,
                trained.records,
                trained.filled,
                trained.trained_on,
            )
            check(trained)
            tell("judging pairs")
            pairs = compare_pairs(connection, before, trained.model, policy)
            tell("resolving with both models")
            now, changes, moved, evaluations = _resolve_both(
                connection, as_of, before, trained.model, policy, aside.home, truth
            )
    candidate = settings.identity_model.with_name(f"candidate-{trained.model.version}.json")
    candidate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_model_file(trained.model, candidate, f"the build as of {as_of}: {trained.trained_on}")
    kept = None
    if adopt:
        kept = adopt_model(settings, candidate)
    return Training(
        method=method,
        before=before,
        trained=trained,
        weights=differences(before, trained.model),
        pairs=pairs,
        accounts=(now.accounts, changes.accounts),
        changes=changes,
        moved_records=moved,
        evaluations=evaluations,
        candidate=candidate,
        adopted=settings.identity_model if adopt else None,
        kept=kept,
    )


def adopt_model(settings: Settings, candidate: Path) -> Path | None:
    """Move a candidate to where the nightly run reads its model; returns where the home's old model is kept, if any.

    Whoever reads sees the old model or the new one, never a part. Raises HomeIsBusy where a run is under way: it would
    have been announced with one model and resolved with another.
    """
    was_held = is_locked(settings.lock)
    hold_run_lock(settings.lock)
    try:
        read_model(candidate)
        target, kept = settings.identity_model, None
        if target.is_file():
            kept = target.with_name(f"model-{read_model(target).version}.json")
            beside = target.with_name(f".{kept.name}")
            shutil.copyfile(target, beside)
            os.chmod(beside, 0o600)
            os.replace(beside, kept)
        os.replace(candidate, target)
        return kept
    finally:
        if not was_held:
            release_run_lock(settings.lock)


def refuse_shops(connection: duckdb.DuckDBPyConnection) -> None:
    """Raises TrainingError where there are purchases: a shop's people live together, which pairs do not tell."""
    ((purchases,),) = connection.execute(
        "select count(*) from remembered.records where feed in ('shop_orders', 'pos_tickets')"
    ).fetchall()
    if purchases:
        raise TrainingError(
            "A model that is trained from pairs is not adopted where there are orders or tickets: a shop's customers "
            "live together, and it would take households for people. Train from accounts, or leave out --adopt to see."
        )


def _as_of(connection: duckdb.DuckDBPyConnection) -> date:
    try:
        ((as_of,),) = connection.execute("select as_of from landing.builds").fetchall()
        connection.execute("select 1 from identity.account_links limit 1")
    except (duckdb.Error, ValueError):
        raise TrainingError("The working database holds no whole build: let a night end, then train.") from None
    return as_of


def _resolve_both(
    connection: duckdb.DuckDBPyConnection,
    as_of: date,
    before: Model,
    after: Model,
    policy: Policy,
    scratch: Path,
    truth: Path | None,
) -> tuple[IdentitySummary, IdentitySummary, int, tuple[Evaluation, Evaluation] | None]:
    """Both models on the same records: the second takes the first for the release before it."""
    now = resolve(connection, as_of=as_of, run_id="before", previous=None, model=before, policy=policy)
    judged = [_evaluated(connection, truth)] if truth else []
    previous = scratch / "before.duckdb"
    connection.execute(f"attach {literal(previous)} as earlier; create schema earlier.identity")
    for table in ("account_links", "anchors", "account_redirects", "account_events"):
        connection.execute(f"create table earlier.identity.{table} as select * from identity.{table}")
    connection.execute("detach earlier")
    changes = resolve(connection, as_of=as_of, run_id="after", previous=previous, model=after, policy=policy)
    connection.execute(f"attach {literal(previous)} as earlier (read_only)")
    ((moved,),) = connection.execute(
        """
        select count(*)
        from earlier.identity.account_links as old join identity.account_links as new using (feed, record_id)
        where new.is_person_record and old.account_id <> new.account_id
        """
    ).fetchall()
    connection.execute("detach earlier")
    if truth:
        judged.append(_evaluated(connection, truth))
    return now, changes, moved, (judged[0], judged[1]) if truth else None


def _evaluated(connection: duckdb.DuckDBPyConnection, truth: Path) -> Evaluation:
    beside = truth.with_name("transactions.csv")
    try:
        return evaluate(
            connection,
            links="identity.account_links",
            truth=f"select * from read_csv({literal(truth)}, header = true, all_varchar = true)",
            transactions=f"select * from read_csv({literal(beside)}, header = true, all_varchar = true)"
            if beside.is_file()
            else None,
        )
    except duckdb.Error:
        # What DuckDB says about a broken file quotes it.
        raise EvaluationError(f"{truth} or {beside.name} beside it cannot be read as CSV with a header.") from None
