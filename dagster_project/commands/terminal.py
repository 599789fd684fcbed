"""What every command has in common at the terminal: the console, errors as sentences, settings, French numbers.

Light to import: a help text must not take five seconds, so what is heavy is imported where it is used.
"""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dagster_project.domain.formats import Formats
from dagster_project.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from dagster_project.nightly import Night

console = Console(highlight=False)
complaints = Console(stderr=True, highlight=False)

WRONG_USE = 2
Home = Annotated[
    Path | None, typer.Option("--home", help="Folder of the deployment; default: COCANAL_HOME, else ./var.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Dagster's own log lines too.")]


@contextmanager
def told_in_sentences() -> Iterator[None]:
    """Errors that a person can mend end in a sentence and an exit code, never in a stack trace."""
    import duckdb

    from dagster_project.domain.landing.deliveries import RawDamaged
    from dagster_project.domain.privacy.tombstones import KeyLost
    from dagster_project.domain.release import ReleaseError
    from dagster_project.mishaps import masked
    from dagster_project.run_lock import HomeIsBusy, HomeIsUnusable
    from dagster_project.transform import TransformError

    try:
        yield
    except (SettingsError, ReleaseError, KeyLost) as error:
        complaints.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(WRONG_USE) from None
    except (HomeIsBusy, HomeIsUnusable, RawDamaged, TransformError) as error:
        complaints.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(1) from None
    except (duckdb.Error, OSError) as error:
        text = masked(str(error).splitlines()[0])
        complaints.print(
            f"[red]{escape(text.rstrip('.'))}. «cocanal doctor» says what state the home is in.[/red]", soft_wrap=True
        )
        raise typer.Exit(1) from None


def settings_of(home: Path | None) -> Settings:
    """The settings of a home; a wrong one ends the command with a sentence."""
    try:
        return load_settings(home=home)
    except SettingsError as error:
        complaints.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(WRONG_USE) from None


def quieten(is_verbose: bool) -> None:
    """Keep the log lines of the libraries off the screen, unless they were asked for."""
    if not is_verbose:
        for name in ("dagster", "dbt", "great_expectations", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


_STEPS = {
    "landing": "landing",
    "dictionaries": "staging: dictionaries",
    "staging_models": "staging",
    "drift": "segment: drift",
    "release__current": "release: pointer moved",
}


def announce_step(step: str, seconds: float) -> None:
    """Say that a step of a run is done."""
    name = _STEPS.get(step, step)
    mark = "gate" if step.endswith("_gate") else "done"
    shown = name.removesuffix("_gate")
    console.print(f"  [green]{mark}[/green]  {shown:<32} {seconds:6.1f} s")


def tell_night(night: "Night", settings: Settings) -> None:
    """Say how a night ended, and what to do."""
    for note in night.notes:
        complaints.print(f"[yellow]{escape(note)}[/yellow]", soft_wrap=True)
    if night.outcome == "released":
        for warning in night.warnings:
            complaints.print(f"  [yellow]warning[/yellow]  {escape(warning)}", soft_wrap=True)
        console.print(f"Released [bold]{night.release_id}[/bold] in {sum(night.seconds.values()):.0f} s.")
    elif night.outcome == "nothing_new":
        console.print(
            f"Nothing is new: the release {night.release_id} stays. Nothing was built or published.", soft_wrap=True
        )
    elif night.outcome == "stopped":
        complaints.print("[red bold]A gate stopped the run; the last release stays as it was.[/red bold]")
    else:
        complaints.print("[red bold]The run did not reach a release; the last release stays as it was.[/red bold]")
    for sentence in night.sentences:
        complaints.print(f"  [red]{escape(sentence)}[/red]", soft_wrap=True)
    if night.outcome in ("stopped", "failed"):
        complaints.print(
            f"  Every step and finding: cocanal ui --home {shlex.quote(str(settings.home))}", soft_wrap=True
        )


def say_number(value: float) -> str:
    """A whole number as in France."""
    return Formats("EUR").number(value)


def say_amount(value: float, currency: str) -> str:
    """An amount as in France; ``currency`` is an ISO 4217 code."""
    return Formats(currency).money(value)


def print_summary(settings: Settings) -> None:
    """The current release in a dozen figures."""
    from dagster_project.summary import summarise

    found = summarise(settings)
    if found is None:
        console.print("There is no release yet.")
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("release", f"{found.release_id}, as of {found.as_of:%d/%m/%Y}")
    table.add_row("files and rows", f"{say_number(found.file_count)} files, {say_number(found.row_count)} rows")
    table.add_row("in quarantine", f"{say_number(found.quarantined_count)} rows")
    table.add_row(
        "accounts", f"{say_number(found.account_count)} from {say_number(found.record_count)} records of people"
    )
    table.add_row("tickets identified", f"{found.identified_ticket_share:.1%}".replace(".", ","))
    table.add_row(
        "the books",
        f"delivered {say_amount(found.delivered_amount, settings.currency)} = "
        f"counted {say_amount(found.counted_amount, settings.currency)} + "
        f"excluded {say_amount(found.excluded_amount, settings.currency)}"
        + ("" if found.is_balanced else "  [red]they do not balance[/red]"),
    )
    for audience, destination, treated, holdout, excluded in found.audiences:
        table.add_row(
            f"audience {audience}",
            f"{destination}: {say_number(treated)} to contact, {say_number(holdout)} held out, "
            f"{say_number(excluded)} excluded",
        )
    console.print(table)
    # Outside the table, so that a terminal breaks no path.
    console.print(f"release folder  {found.directory}", soft_wrap=True)
    console.print(f"report          {found.directory / 'report' / 'index.html'}", soft_wrap=True)
    console.print(f"look at it      make ui, or: cocanal ui --home {shlex.quote(str(settings.home))}", soft_wrap=True)
