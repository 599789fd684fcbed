"""``cocanal identity …``: look at who was taken for whom. Presentation only."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from dagster_project.domain.identity.evaluation import Attribution, Estimate, Evaluation, Pairs

app = typer.Typer(no_args_is_help=True, help="Measure who was taken for whom.")


@app.callback()
def _is_a_group() -> None:
    """Measure who was taken for whom."""


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
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of the deployment; default: COCANAL_HOME, else ./var.")
    ] = None,
    release_id: Annotated[str | None, typer.Option("--release", help="Id of the release; default: current.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every figure to this file too.", dir_okay=False)
    ] = None,
) -> None:
    """Measure a release's accounts against records of which the person is known.

    Below each share stands its 95 % interval. Exit codes: 0 measured, 2 wrong use or nothing to measure.
    """
    from dagster_project.cli import WRONG_USE, _settings, _told_in_sentences, complaints, console
    from dagster_project.domain.identity.evaluation import RESAMPLES, EvaluationError, evaluate_release
    from dagster_project.domain.release import DATABASES, ReleaseError, list_releases
    from dagster_project.settings import SettingsError
    from dagster_project.warehouse import Warehouse

    with _told_in_sentences():
        settings = _settings(home)
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
            f"Labelled but not in the release, so in no figure: {_number(found.missing_records)} people records, "
            f"{_number(found.missing_transactions)} transactions.",
            soft_wrap=True,
        )
    console.print(f"Below each share: its 95\u202f% interval ({RESAMPLES} resamples of whole persons).", soft_wrap=True)


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
            records.add_row(name, *(_number(size) for size in sizes))
            quality.add_row(name, "pairs", *_pairs(each.pairs))
            bcubed = (each.bcubed_precision, each.bcubed_recall, each.bcubed_f1)
            quality.add_row("", "B-cubed", *(_estimate(measure) for measure in bcubed))
    yield records
    yield quality
    if found.households:
        merged = found.households
        table = _table("Were households merged?", "households", "pairs of people", "in one account", "share")
        table.add_row(
            *(_number(count) for count in (merged.households, merged.pairs, merged.merged)),
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
                table.add_row(escape(name), _number(scenario.records), *_pairs(scenario.pairs))
        yield table


def _table(title: str, first: str, *others: str) -> Table:
    columns = [Column(first, overflow="fold"), *(Column(name, justify="right") for name in others)]
    return Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD)


def _pairs(found: "Pairs") -> list[str]:
    return [_estimate(each) for each in (found.precision, found.recall, found.f1)]


def _shares(found: "Attribution") -> list[str]:
    counted = ((found.right, found.right_share), (found.wrong, found.wrong_share), (found.none, found.none_share))
    return [_number(found.transactions), *(f"{_number(count)}  {_estimate(share)}" for count, share in counted)]


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


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")
