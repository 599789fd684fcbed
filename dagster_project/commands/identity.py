"""``cocanal identity …``: measure who was taken for whom, correct it, and try out another way. Presentation only."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from dagster_project.commands.terminal import (
    WRONG_USE,
    Home,
    announce_step,
    complaints,
    console,
    quieten,
    say_amount,
    say_number,
    settings_of,
    told_in_sentences,
)
from dagster_project.domain.sql_literal import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dagster_project.domain.identity.evaluation import Attribution, Estimate, Evaluation, Pairs
    from dagster_project.domain.identity.review import Decision
    from dagster_project.domain.release import Release
    from dagster_project.identity_diff import DryRun
    from dagster_project.identity_training import Training
    from dagster_project.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Measure who was taken for whom, correct it, try out another way.")

_DeliveredOn = Annotated[
    str | None,
    typer.Option("--delivered-on", help="Day to deliver under, YYYY-MM-DD; default: that of the newest delivery."),
]


@app.callback()
def _is_a_group() -> None:
    """Measure who was taken for whom, correct it, try out another way."""


@app.command()
def evaluate(
    truth: Annotated[
        Path | None,
        typer.Argument(
            help="CSV or parquet: feed, record_id, person_id; household_id and scenario if known. "
            "Default: the demo's truth in the home."
        ),
    ] = None,
    transactions: Annotated[
        Path | None,
        typer.Option(
            help="CSV or parquet on transactions: feed, record_id, person_id (the buyer); key_owner_person_id where "
            "the key shown is somebody else's."
        ),
    ] = None,
    home: Home = None,
    release_id: Annotated[str | None, typer.Option("--release", help="Id of the release; default: current.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every figure to this file too.", dir_okay=False)
    ] = None,
) -> None:
    """Measure a release's accounts against records of which the person is known.

    Below each share stands its 95 % interval. Exit codes: 0 measured, 2 wrong use or nothing to measure.
    """
    from dagster_project.domain.identity.evaluation import RESAMPLES, EvaluationError, evaluate_release
    from dagster_project.domain.release import DATABASES, ReleaseError, list_releases
    from dagster_project.settings import SettingsError
    from dagster_project.warehouse import Warehouse

    with told_in_sentences():
        settings = settings_of(home)
        if truth is None:
            truth = settings.home / "truth" / "records.csv"
            if not truth.is_file():
                raise SettingsError(f"Name a file of truth: {settings.home} has none of its own (truth/records.csv).")
            beside = settings.home / "truth" / "transactions.csv"
            transactions = transactions or (beside if beside.is_file() else None)
        releases = list_releases(settings.home)
        chosen = next(
            (each for each in releases if (each.release_id == release_id if release_id else each.is_current)), None
        )
        if chosen is None:
            raise ReleaseError(
                f"There is no release {release_id}; «cocanal release list» lists those there are."
                if release_id
                else f"There is no release in {settings.home} yet: «cocanal run» makes one."
            )
        try:
            with Warehouse(settings).scratch() as connection:
                found = evaluate_release(connection, chosen.directory / DATABASES["analysts"], truth, transactions)
            if json_file:
                _write_json(json_file, found, chosen.release_id, truth)
        except EvaluationError as error:
            complaints.print(str(error), style="red", markup=False, soft_wrap=True)
            raise typer.Exit(WRONG_USE) from None
        except OSError as error:
            complaints.print(f"{json_file} cannot be written: {error.strerror}.", style="red", markup=False)
            raise typer.Exit(WRONG_USE) from None
    console.print(f"Release [bold]{chosen.release_id}[/bold] against {truth}", soft_wrap=True)
    for table in _tables(found):
        console.print(table)
    if found.missing_records or found.missing_transactions:
        console.print(
            f"Labelled but not in the release, so in no figure: {say_number(found.missing_records)} people records, "
            f"{say_number(found.missing_transactions)} transactions.",
            soft_wrap=True,
        )
    console.print(f"Below each share: its 95\u202f% interval ({RESAMPLES} resamples of whole persons).", soft_wrap=True)


@dataclass(frozen=True)
class _Desk:
    """What a steward works on: the current release, attached as ``analysts`` and ``restricted``, and the decisions."""

    settings: "Settings"
    release: "Release"
    connection: "DuckDBPyConnection"
    delivered: "dict[str, Decision]"

    def day(self, typed: str | None) -> date:
        """The day to deliver under."""
        from dagster_project.domain.landing.deliveries import newest_date
        from dagster_project.settings import SettingsError, parse_day

        day = parse_day(typed) if typed else newest_date(self.settings.landing, self.settings.register)
        if day is None:
            raise SettingsError("Nothing was ever delivered: name a day with --delivered-on.")
        return day

    def deliver(self, decisions: "list[Decision]", day: date) -> None:
        """Deliver the decisions, and say where they went."""
        from dagster_project.domain.identity.review import deliver

        path = deliver(decisions, self.settings.landing, day, self.delivered)
        console.print(f"{say_number(len(decisions))} decisions: {path}", soft_wrap=True)
        console.print(f"The next night follows them: cocanal run --home {self.settings.home}", soft_wrap=True)


@contextmanager
def _desk(home: Path | None) -> Iterator[_Desk]:
    """A steward's desk; what a person can mend ends in sentences and the exit code of wrong use."""
    import tempfile

    from dagster_project.domain.identity.review import DecisionError, delivered_decisions
    from dagster_project.domain.landing.deliveries import read_released
    from dagster_project.domain.release import DATABASES, ReleaseError, current_release, input_files
    from dagster_project.warehouse import Warehouse

    with told_in_sentences():
        settings = settings_of(home)
        current = current_release(settings.home)
        if current is None:
            raise ReleaseError(f"There is no release in {settings.home} yet: «cocanal run» makes one.")
        released = input_files([current.directory]) | read_released(settings.released_files)
        try:
            with (
                Warehouse(settings).scratch() as connection,
                tempfile.TemporaryDirectory(dir=settings.home, prefix=".decisions-") as scratch,
            ):
                for readers, file in DATABASES.items():
                    connection.execute(f"attach {literal(current.directory / file)} as {readers} (read_only)")
                delivered = delivered_decisions(
                    connection,
                    landing=settings.landing,
                    raw=settings.raw,
                    register=settings.register,
                    released=released,
                    scratch=Path(scratch),
                )
                yield _Desk(settings, current, connection, delivered)
        except DecisionError as error:
            complaints.print(str(error), style="red", markup=False, soft_wrap=True)
            raise typer.Exit(WRONG_USE) from None
        except OSError as error:
            complaints.print(
                f"{error.filename} cannot be read or written: {error.strerror}.", style="red", markup=False
            )
            raise typer.Exit(WRONG_USE) from None


@app.command()
def review(
    home: Home = None,
    most: Annotated[int, typer.Option(min=1, help="Pairs on the sheet.")] = 200,
    out: Annotated[
        Path | None, typer.Option(help="The sheet; default: identity/review_<release>.csv in the home.", dir_okay=False)
    ] = None,
) -> None:
    """Write a sheet of the pairs that a steward should decide, most useful first. It holds personal data.

    Fill in the column decision (same or different) where you are sure, then «cocanal identity decide». Exit codes: 0
    written (or nothing to decide), 2 wrong use.
    """
    from dagster_project.domain.identity import read_model
    from dagster_project.domain.identity.review import DecisionError, useful_pairs, write_sheet

    with _desk(home) as desk:
        rows = useful_pairs(
            desk.connection,
            analysts="analysts",
            restricted="restricted",
            accept_weight=read_model(desk.settings.identity_model).accept_weight,
            most=most,
            decided=[
                (each.left_feed, each.left_id, each.right_feed, each.right_id)
                for each in desk.delivered.values()
                if not each.revoked_at
            ],
        )
        if not rows:
            console.print(f"Release {desk.release.release_id} has no pair that a steward has to decide.")
            return
        path = out
        if path is None:
            path = desk.settings.home / "identity" / f"review_{desk.release.release_id}.csv"
            path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            write_sheet(path, rows)
        except FileExistsError:
            raise DecisionError(
                f"{path} is there already, and may be filled in: name another file with --out."
            ) from None
        console.print(f"{say_number(len(rows))} pairs of release {desk.release.release_id}: {path}", soft_wrap=True)
        console.print(
            "The sheet holds personal data: only you can read it; do not send it, and delete it when you are done.",
            soft_wrap=True,
        )
        console.print(f"Now: cocanal identity decide {path} --by NAME --home {desk.settings.home}", soft_wrap=True)


@app.command()
def decide(
    sheet: Annotated[Path, typer.Argument(help="The sheet, filled in.", exists=True, dir_okay=False)],
    by: Annotated[str | None, typer.Option(help="Who decided, where the sheet does not say.")] = None,
    home: Home = None,
    delivered_on: _DeliveredOn = None,
) -> None:
    """Deliver the decisions of a filled sheet, for the next night to follow. Rows without a decision stay open.

    All of the sheet is delivered or none of it. Exit codes: 0 delivered (or nothing new in it), 2 something is wrong
    with it, each with its line and column.
    """
    from dagster_project.domain.identity.review import checked, known_records, read_sheet

    with _desk(home) as desk:
        filled, empty = read_sheet(sheet)
        day = desk.day(delivered_on)
        decisions, repeated = checked(
            filled,
            known_records=known_records(desk.connection, "restricted", filled),
            delivered=desk.delivered,
            delivered_on=day,
            now=datetime.now(UTC),
            by=by,
        )
        if empty:
            console.print(f"{say_number(empty)} rows without a decision stay open.")
        if repeated:
            console.print(f"{say_number(repeated)} decisions were delivered before.")
        if decisions:
            desk.deliver(decisions, day)
        else:
            console.print("Nothing new was decided: nothing is delivered.")


@app.command()
def revoke(
    numbers: Annotated[list[str], typer.Argument(help="Numbers of decisions (decision_id).", metavar="DECISION_ID...")],
    home: Home = None,
    delivered_on: _DeliveredOn = None,
) -> None:
    """Take decisions back: the next night judges their records by itself again.

    Exit codes: 0 delivered, 2 wrong use.
    """
    from dagster_project.domain.identity.review import revoked

    with _desk(home) as desk:
        day = desk.day(delivered_on)
        now = datetime.now(UTC)
        desk.deliver([revoked(each, desk.delivered, delivered_on=day, now=now) for each in dict.fromkeys(numbers)], day)


@app.command()
def diff(
    policy: Annotated[
        Path | None, typer.Option(help="Another identifier policy, in the form of policy.yml.", dir_okay=False)
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Another match model, in the form of model.json.", dir_okay=False)
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Another accept threshold, in bits (log2 of the odds that two are one).")
    ] = None,
    home: Home = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every figure to this file too.", dir_okay=False)
    ] = None,
) -> None:
    """Say what another policy, model or threshold would change in the current release. Nothing is published.

    Works on a copy of the working database. Exit codes: 0 compared, 2 wrong use or nothing to compare with, 1 a run is
    writing in the home.
    """
    from math import isfinite

    from dagster_project.settings import SettingsError

    with told_in_sentences():
        settings = settings_of(home)
        if threshold is not None and not isfinite(threshold):
            raise SettingsError("A threshold is a number of bits, such as 5.")
        quieten(False)
        from dagster_project.identity_diff import dry_run

        console.print("Working on a copy: nothing of the home changes.")
        found = dry_run(settings, policy=policy, model=model, threshold=threshold, announce=announce_step)
        if json_file:
            try:
                content = json.dumps({**asdict(found), "is_none": found.differences.is_none}, indent=2, default=float)
                json_file.write_text(content + "\n", encoding="utf-8")
            except OSError as error:
                complaints.print(f"{json_file} cannot be written: {error.strerror}.", style="red", markup=False)
                raise typer.Exit(WRONG_USE) from None
    _tell_differences(found, settings.currency)


@app.command()
def train(
    home: Home = None,
    method: Annotated[
        str,
        typer.Option(
            "--from",
            help="accounts: the accounts of the last build are the labels (shops); pairs: expectation maximisation "
            "(registers, files without households).",
        ),
    ] = "accounts",
    adopt: Annotated[bool, typer.Option("--adopt", help="Let the nightly run use the candidate from now on.")] = False,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="CSV: feed, record_id, person_id. Default: the home's own truth, if it has one.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Train a match model on the last build, and compare it with the one in force. Nothing is published.

    The candidate lies in the home beside the model in force. Exit codes: 0 trained, 2 wrong use, too little to train on
    or a candidate that is not fit, 1 a run is writing in the home.
    """
    from dagster_project.domain.identity.evaluation import EvaluationError
    from dagster_project.domain.identity.training import TrainingError
    from dagster_project.settings import SettingsError

    with told_in_sentences():
        if method not in ("accounts", "pairs"):
            raise SettingsError("--from is accounts or pairs.")
        settings = settings_of(home)
        quieten(False)
        from dagster_project.identity_training import train as train_model

        try:
            found = train_model(
                settings,
                method="pairs" if method == "pairs" else "accounts",
                truth=truth,
                adopt=adopt,
                announce=lambda step: console.print(f"  {step}", highlight=False),
            )
        except (TrainingError, EvaluationError) as error:
            complaints.print(str(error), style="red", markup=False, soft_wrap=True)
            raise typer.Exit(WRONG_USE) from None
    _tell_training(found, settings.home)


def _tell_training(found: "Training", home: Path) -> None:

    model = found.trained.model
    console.print(f"Trained on {escape(found.trained.trained_on)}.", soft_wrap=True)
    table = _table("Weights in bits", "comparison", "level", "before", "after", "change")
    last = ""
    for comparison, level, before, after in found.weights:
        mark = "" if comparison in found.trained.filled else " (never filled)"
        shown = comparison + mark if comparison != last else ""
        last = comparison
        table.add_row(shown, level, *(f"{value:+.1f}" for value in (before, after, after - before)))
    table.add_row("prior", "", *(f"{value:.2g}" for value in (found.before.prior, model.prior)), "")
    console.print(table)
    for which, words in (("two_people", "prove two people"), ("perhaps_two", "say two people unless much agrees")):
        before, after = getattr(found.before, which), getattr(model, which)
        for comparison in sorted({*before, *after}):
            old, new = list(before.get(comparison, ())), list(after.get(comparison, ()))
            if old != new:
                did, do = (" and ".join(levels) or "nothing" for levels in (old, new))
                console.print(f"Of {comparison}, {did} did {words}; now {do}.", soft_wrap=True)
    pairs = found.pairs
    table = _table("Pairs, each by itself", "", "compared", "joined before", "after", "would join", "no longer join")
    sizes = (pairs.scored, pairs.joined_before, pairs.joined_after, pairs.gained, pairs.lost)
    table.add_row("all", *map(say_number, sizes))
    console.print(table)
    changes = found.changes
    table = _table("Accounts", "", "before", "after", "merged", "split", "people's records that move")
    table.add_row("all", *map(say_number, (*found.accounts, changes.merged, changes.split, found.moved_records)))
    console.print(table)
    if found.evaluations:
        table = _table("Against the truth", "model", "precision", "recall", "F1", "households merged")
        for model_version, each in zip((found.before.version, model.version), found.evaluations, strict=True):
            records = each.people or each.all_records
            if records:
                merged = _estimate(each.households.merged_share) if each.households else "–"
                table.add_row(escape(model_version), *_pairs(records.pairs), merged)
        console.print(table)
    if found.adopted:
        console.print(f"Adopted: {found.adopted}. The next night publishes anew with it.", soft_wrap=True)
        back = f"put {found.kept} in its place" if found.kept else "delete it, and the shipped model counts again"
        console.print(f"To go back, {back}.", soft_wrap=True)
    else:
        console.print(f"The candidate: {found.candidate}. Nothing uses it yet.", soft_wrap=True)
        ask = f"cocanal identity diff --model {found.candidate} --home {home}"
        console.print(f"What it would change in money and audiences: {ask}", soft_wrap=True)


def _tell_differences(found: "DryRun", currency: str) -> None:

    changes = found.differences
    console.print(
        f"Release [bold]{found.release_id}[/bold], as of {found.as_of}, made with the model "
        f"{escape(found.released_model_version)}, against the policy "
        f"{escape(found.policy or 'in force')} and the model {escape(found.model_version)} "
        f"with threshold {found.accept_weight:g}",
        soft_wrap=True,
    )
    for promise in found.broken_promises:
        complaints.print(f"  {promise} The night would stop.", style="red", markup=False, soft_wrap=True)
    if changes.is_none:
        console.print("Nothing would change.")
    table = _table("Accounts", "", "before", "after", "created", "merged", "split", "retired")
    counts = (changes.accounts_before, changes.accounts_after)
    table.add_row(
        "accounts", *map(say_number, (*counts, changes.created, changes.merged, changes.split, changes.retired))
    )
    console.print(table)
    if changes.sample:
        table = _table("Some of them", "change", "account", "of or into", "because")
        for each in changes.sample:
            table.add_row(each.event, each.account_id, each.other_account_id or "", escape(each.cause))
        console.print(table)
    table = _table("Records", "feed", "all", "to another account", "to an account", "to none", "such as")
    for feed in changes.records:
        sizes = (feed.records, feed.moved, feed.linked, feed.unlinked)
        table.add_row(feed.feed, *map(say_number, sizes), escape(", ".join(feed.sample[:3])))
    console.print(table)
    money = changes.revenue
    table = _table("Revenue, counted and net of returns", "", "transactions", "amount")
    for name, count, amount in (
        ("all", money.transactions, money.amount),
        ("moves to another account", money.moved_transactions, money.moved_amount),
        ("newly identified", money.identified_transactions, money.identified_amount),
        ("becomes anonymous", money.anonymous_transactions, money.anonymous_amount),
    ):
        table.add_row(name, say_number(count), say_amount(float(amount), currency))
    console.print(table)
    table = _table("Audiences", "audience", "destination", "before", "after", "in both", "come in", "go out")
    for audience in changes.audiences:
        members = (audience.before, audience.after, audience.both, audience.came_in, audience.went_out)
        table.add_row(audience.audience, audience.destination, *map(say_number, members))
    console.print(table)


def _write_json(path: Path, found: "Evaluation", release_id: str, truth: Path) -> None:
    content = {"release_id": release_id, "truth": truth.name, **asdict(found)}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _tables(found: "Evaluation") -> Iterator[Table]:
    records = _table(
        "What was compared", "records", "number", "persons", "accounts", "largest account", "largest person"
    )
    quality = _table("Is one person one account?", "records", "measure", "precision", "recall", "F1")
    for name, each in (("web accounts and cards", found.people), ("all of people", found.all_records)):
        if each:
            sizes = (each.records, each.persons, each.accounts, each.largest_account, each.largest_person)
            records.add_row(name, *(say_number(size) for size in sizes))
            quality.add_row(name, "pairs", *_pairs(each.pairs))
            bcubed = (each.bcubed_precision, each.bcubed_recall, each.bcubed_f1)
            quality.add_row("", "B-cubed", *(_estimate(measure) for measure in bcubed))
    yield records
    yield quality
    if found.households:
        merged = found.households
        table = _table("Were households merged?", "households", "pairs of people", "in one account", "share")
        table.add_row(
            *(say_number(count) for count in (merged.households, merged.pairs, merged.merged)),
            _estimate(merged.merged_share),
        )
        yield table
    if found.attribution:
        table = _table("Whose account did transactions with a key go to?", "", "number", "right", "wrong", "none")
        table.add_row("all", *_shares(found.attribution), end_section=True)
        by_scenario = {name: each.attribution for name, each in found.scenarios.items() if each.attribution}
        for part in (found.attribution_by_channel, found.attribution_by_rule, by_scenario):
            for name, shares in part.items():
                table.add_row(escape(name), *_shares(shares))
            table.add_section()
        yield table
    if found.scenarios:
        table = _table("Pairs with a record of the scenario", "scenario", "records", "precision", "recall", "F1")
        for name, scenario in found.scenarios.items():
            if scenario.pairs:
                table.add_row(escape(name), say_number(scenario.records), *_pairs(scenario.pairs))
        yield table


def _table(title: str, first: str, *others: str) -> Table:
    columns = [Column(first, overflow="fold"), *(Column(name, justify="right") for name in others)]
    return Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD)


def _pairs(found: "Pairs") -> list[str]:
    return [_estimate(each) for each in (found.precision, found.recall, found.f1)]


def _shares(found: "Attribution") -> list[str]:
    counted = ((found.right, found.right_share), (found.wrong, found.wrong_share), (found.none, found.none_share))
    return [say_number(found.transactions), *(f"{say_number(count)}  {_estimate(share)}" for count, share in counted)]


def _estimate(found: "Estimate") -> str:
    """The share, and below it its interval."""
    if found.value is None or found.low is None or found.high is None:
        return "–"
    return f"{_percent(found.value)}\u202f%\n[dim]{_percent(found.low)}–{_percent(found.high)}[/dim]"


def _percent(share: float) -> str:
    """Two decimals, and never rounded to a perfect hundred or nought that it is not."""
    shown = f"{100 * share:.2f}"
    if shown == "100.00" and share < 1:
        shown = "99.99"
    if shown == "0.00" and share > 0:
        shown = "0.01"
    return shown.replace(".", ",")
