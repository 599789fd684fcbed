"""The command ``cocanal``: what a person types, what they are told, and the exit code.

Presentation only. Heavy imports stand inside the commands, for a help text must not take five seconds.
"""

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dagster_project.doctor_cli import doctor
from dagster_project.explain_cli import explain
from dagster_project.identity_cli import app as identity_app
from dagster_project.quarantine_cli import app as quarantine_app
from dagster_project.rebuild_cli import rebuild
from dagster_project.settings import Settings, SettingsError, is_home_named, load_settings, parse_day
from dagster_project.trace_cli import trace

if TYPE_CHECKING:
    from dagster_project.nightly import Night

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Cocanal: one account per person, every euro on the right account, audiences that may lawfully be contacted.",
)
landing_app = typer.Typer(no_args_is_help=True, help="Work with the files that suppliers deliver.")
release_app = typer.Typer(no_args_is_help=True, help="List the releases, or go back to one.")
app.add_typer(landing_app, name="landing")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(identity_app, name="identity")
app.add_typer(release_app, name="release")
app.command()(explain)
app.command()(trace)
app.command()(doctor)
app.command()(rebuild)

console = Console(highlight=False)
complaints = Console(stderr=True, highlight=False)

WRONG_USE = 2
_Home = Annotated[
    Path | None, typer.Option("--home", help="Folder of the deployment; default: COCANAL_HOME, else ./var.")
]
_Verbose = Annotated[bool, typer.Option("--verbose", help="Show Dagster's own log lines too.")]


@contextmanager
def _told_in_sentences() -> Iterator[None]:
    """Errors that a person can mend end in a sentence and an exit code, never in a stack trace."""
    import duckdb

    from dagster_project.domain.landing.deliveries import RawDamaged
    from dagster_project.domain.release import ReleaseError
    from dagster_project.mishaps import masked
    from dagster_project.run_lock import HomeIsBusy, HomeIsUnusable
    from dagster_project.transform import TransformError

    try:
        yield
    except (SettingsError, ReleaseError) as error:
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


def _settings(home: Path | None) -> Settings:
    try:
        return load_settings(home=home)
    except SettingsError as error:
        complaints.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(WRONG_USE) from None


def _quieten(is_verbose: bool) -> None:
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


def _announce(step: str, seconds: float) -> None:
    name = _STEPS.get(step, step)
    mark = "gate" if step.endswith("_gate") else "done"
    shown = name.removesuffix("_gate")
    console.print(f"  [green]{mark}[/green]  {shown:<32} {seconds:6.1f} s")


def _tell(night: "Night", settings: Settings) -> None:
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


def _accepted(gates: list[str], because: str | None) -> dict[str, str]:
    from dagster_project.stages import STAGES

    if bool(gates) != bool(because and because.strip()):
        raise SettingsError("--accept and --because go together: name the gate, and the reason that is kept with it.")
    for gate in gates:
        if gate.split(".")[0] not in STAGES:
            raise SettingsError(f"There is no gate «{gate}»; the gates are {', '.join(STAGES)}.")
    return dict.fromkeys(gates, because or "")


@app.callback()
def _keep_others_out() -> None:
    """Whatever a command writes, nobody but the owner and the group may read."""
    os.umask(0o027)


@app.command()
def run(
    home: _Home = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Day to judge everything at, YYYY-MM-DD; default: newest delivery.")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option("--accept", help="Let this gate (or gate.statement) pass once; repeatable.")
    ] = None,
    because: Annotated[str | None, typer.Option("--because", help="The reason; it is kept in the manifest.")] = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Minutes to wait for another run in the home; default: none.")
    ] = 0,
    verbose: _Verbose = False,
) -> None:
    """Run the nightly job now: the same as the schedule's, without a screen.

    Exit codes: 0 released (or nothing new), 3 a gate stopped it, 2 wrong use or configuration, 1 anything else.
    """
    with _told_in_sentences():
        settings = _settings(home)
        if settings.demo_mark.exists() and home is None and not is_home_named():
            raise SettingsError(
                f"{settings.home} is the demo's home. For your own files name another home "
                f"(--home or COCANAL_HOME); to run the demo's again, name this one."
            )
        day = parse_day(as_of) if as_of else None
        accepted = _accepted(accept or [], because)
        _quieten(verbose)
        from dagster_project.nightly import run_night

        night = run_night(
            settings, as_of=day, accept=accepted, wait_minutes=wait, announce=_announce, is_verbose=verbose
        )
        _tell(night, settings)
    raise typer.Exit(night.exit_code)


def _is_foreign(settings: Settings) -> bool:
    """Whether the home holds something that the demo did not make."""
    return not settings.demo_mark.exists() and any(
        path.exists() for path in (settings.landing, settings.raw, settings.warehouse, settings.releases)
    )


@app.command()
def demo(
    home: _Home = None,
    persons: Annotated[int, typer.Option(min=50, help="People of the generated retailer.")] = 5000,
    nights: Annotated[int, typer.Option(min=1, max=30, help="Nights to run.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 7,
    verbose: _Verbose = False,
) -> None:
    """Generate a retailer, run its nights one after the other, and say where the results are."""
    import shutil

    with _told_in_sentences():
        settings = _settings(home)
        if _is_foreign(settings):
            raise SettingsError(
                f"{settings.home} holds a deployment that is not the demo's: the demo would run over it. "
                "Name another home with --home."
            )
        _quieten(verbose)
        from dagster_project.demo import DemoPlan, generate
        from dagster_project.nightly import run_night
        from dagster_project.run_lock import hold_run_lock

        hold_run_lock(settings.lock)
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in (settings.landing, settings.raw, settings.releases, settings.home / "truth", settings.dbt_target):
            shutil.rmtree(old, ignore_errors=True)
        settings.warehouse.unlink(missing_ok=True)
        settings.demo_mark.write_text(json.dumps({"persons": persons, "nights": nights, "seed": seed}) + "\n")
        console.print(f"Generating a retailer with {_number(persons)} people (seed {seed}) in {settings.landing}")
        with console.status("generating") as status:
            summary = generate(
                settings.landing,
                settings.home / "truth",
                DemoPlan(persons=persons, nights=nights, seed=seed),
                lambda what, share: status.update(f"generating: {what} ({share:.0%})"),
            )
        for number, day in enumerate(summary.nights, start=1):
            console.print(f"[bold]Night {number} of {len(summary.nights)}[/bold], as of {day:%d/%m/%Y}")
            night = run_night(settings, as_of=day, announce=_announce, is_verbose=verbose)
            _tell(night, settings)
            if night.exit_code:
                raise typer.Exit(night.exit_code)
        _print_summary(settings)
    raise typer.Exit(0)


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _amount(value: float, currency: str) -> str:
    sign = {"EUR": "€", "GBP": "£"}.get(currency, currency)
    return f"{value:,.2f}".replace(",", "\u202f").replace(".", ",") + f"\u202f{sign}"


def _print_summary(settings: Settings) -> None:
    from dagster_project.summary import summarise

    found = summarise(settings)
    if found is None:
        console.print("There is no release yet.")
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("release", f"{found.release_id}, as of {found.as_of:%d/%m/%Y}")
    table.add_row("files and rows", f"{_number(found.file_count)} files, {_number(found.row_count)} rows")
    table.add_row("in quarantine", f"{_number(found.quarantined_count)} rows")
    table.add_row("accounts", f"{_number(found.account_count)} from {_number(found.record_count)} records of people")
    table.add_row("tickets identified", f"{found.identified_ticket_share:.1%}".replace(".", ","))
    table.add_row(
        "the books",
        f"delivered {_amount(found.delivered_amount, settings.currency)} = "
        f"counted {_amount(found.counted_amount, settings.currency)} + "
        f"excluded {_amount(found.excluded_amount, settings.currency)}"
        + ("" if found.is_balanced else "  [red]they do not balance[/red]"),
    )
    for audience, destination, treated, holdout, excluded in found.audiences:
        table.add_row(
            f"audience {audience}",
            f"{destination}: {_number(treated)} to contact, {_number(holdout)} held out, {_number(excluded)} excluded",
        )
    console.print(table)
    # Outside the table, so that a terminal breaks no path.
    console.print(f"release folder  {found.directory}", soft_wrap=True)
    console.print(f"report          {found.directory / 'report' / 'index.html'}", soft_wrap=True)
    console.print(f"look at it      make ui, or: cocanal ui --home {shlex.quote(str(settings.home))}", soft_wrap=True)


@app.command()
def status(home: _Home = None) -> None:
    """Say what state the home is in: its current release, what was delivered since, whether a run is going on."""
    with _told_in_sentences():
        settings = _settings(home)
        from dagster_project.domain.landing.deliveries import newest_date
        from dagster_project.run_lock import is_locked

        console.print(f"home: {settings.home}" + (" (the demo's)" if settings.demo_mark.exists() else ""))
        console.print("a run is going on" if is_locked(settings.lock) else "no run is going on")
        newest = newest_date(settings.landing, settings.register)
        console.print(f"newest delivery: {newest:%d/%m/%Y}" if newest else "nothing was ever delivered")
        _print_summary(settings)


@app.command()
def ui(home: _Home = None, host: str | None = None, port: int | None = None) -> None:
    """Open Dagster: the asset graph, the runs, the gates, the schedule. Ends with Ctrl-C."""
    with _told_in_sentences():
        settings = _settings(home)
        from dagster_project.instance import prepare_instance
        from dagster_project.project import WORKSPACE
        from dagster_project.transform import prepare_manifest

        prepare_instance(settings)
        prepare_manifest(settings)
        host, port = host or settings.ui_host, port or settings.ui_port
        console.print(f"Dagster is starting on http://{host}:{port} (home {settings.home})")
        command = Path(sys.executable).with_name("dagster")
        os.execv(
            command,
            [str(command), "dev", "--workspace", str(WORKSPACE), "--host", host, "--port", str(port)],
        )


@app.command(name="tidy")
def tidy_home(
    home: _Home = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Only say what would go.")] = False,
) -> None:
    """Remove deliveries, releases, run records, pages and left-overs that were kept for their period; say what went."""
    with _told_in_sentences():
        settings = _settings(home)
        if not settings.home.is_dir():
            raise SettingsError(f"There is no home at {settings.home}: name it with --home or COCANAL_HOME.")
        _quieten(False)
        from datetime import UTC, datetime

        from dagster_project.instance import open_instance
        from dagster_project.tidy import say, tidy

        with open_instance(settings) as instance:
            removed = tidy(settings, instance, datetime.now(UTC), is_rehearsal=rehearse)
        for sentence in say(removed):
            verb = "Would remove: " if rehearse else "Removed: "
            console.print(escape((verb if removed else "") + sentence), soft_wrap=True)


@app.command(name="settings")
def show_settings(home: _Home = None) -> None:
    """List every setting with its variable, its value and what it does."""
    settings = _settings(home)
    table = Table("variable", "value", "what it does")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        shown = "(set)" if name in ("webhook_url", "holdout_salt") and value else str(value)
        table.add_row(f"COCANAL_{name.upper()}", shown, field.description or "")
    console.print(table)


@landing_app.command(name="check")
def landing_check(
    files: Annotated[list[Path], typer.Argument(help="Files to check.", exists=True, dir_okay=False)],
    feed: Annotated[str | None, typer.Option(help="Feed of the files; default: the folder that they lie in.")] = None,
) -> None:
    """Tell a supplier what is wrong with a file, without a run. Exit code 3 if rows would be refused."""
    with _told_in_sentences():
        _quieten(False)
        from dagster_project.supplier_check import check_files

        reports = check_files(files, feed)
        is_clean = True
        for report in reports:
            console.print(
                f"[bold]{report.file}[/bold] as {report.feed}: {_number(report.row_count)} rows, {report.status}"
            )
            for finding in report.findings:
                console.print(f"  {escape(finding)}", soft_wrap=True)
            is_clean = is_clean and report.is_clean
        if is_clean:
            console.print("[green]Every row would be accepted.[/green]")
    raise typer.Exit(0 if is_clean else 3)


@landing_app.command(name="import")
def landing_import(
    kind: Annotated[str, typer.Argument(help="Kind of export: online-retail.")],
    files: Annotated[list[Path], typer.Argument(help="Files of the export.", exists=True)],
    home: _Home = None,
) -> None:
    """Turn another system's export into deliveries of the contract, in this home's landing folder."""
    with _told_in_sentences():
        settings = _settings(home)
        from dagster_project.importers import IMPORTERS

        if kind not in IMPORTERS:
            raise SettingsError(f"There is no importer «{kind}»; there are: {', '.join(sorted(IMPORTERS))}.")
        if settings.demo_mark.exists():
            raise SettingsError(f"{settings.home} is the demo's home; name another with --home.")
        show: Callable[[str], None] = console.print
        summary = IMPORTERS[kind](files, settings.landing, show)
        console.print(summary)
        console.print(f"Now: cocanal run --home {settings.home}")


@release_app.command(name="list")
def release_list(home: _Home = None) -> None:
    """List the releases on disk, oldest first."""
    with _told_in_sentences():
        settings = _settings(home)
        from dagster_project.domain.release import list_releases

        releases = list_releases(settings.home)
        if not releases:
            console.print(f"There is no release in {settings.home} yet: «cocanal run» makes one.", soft_wrap=True)
        for release in releases:
            manifest = release.manifest()
            accepted = f", accepted: {len(manifest['accepted_gates'])} gates" if manifest["accepted_gates"] else ""
            mark = "→" if release.is_current else " "
            console.print(f"{mark} {release.release_id}  as of {manifest['as_of']}{accepted}")


@release_app.command(name="rollback")
def release_rollback(
    release_id: Annotated[str, typer.Argument(help="Id of the release, or «previous».")], home: _Home = None
) -> None:
    """Point «current» at another release. Nothing is deleted; the next run builds on the release that is current."""
    with _told_in_sentences():
        settings = _settings(home)
        from dagster_project.domain.release import rollback
        from dagster_project.run_lock import hold_run_lock

        hold_run_lock(settings.lock)
        console.print(f"The current release is now {rollback(settings.home, release_id).release_id}.")


if __name__ == "__main__":
    app()
