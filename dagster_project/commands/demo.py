"""``cocanal demo``: a generated retailer, and its nights. Presentation only."""

import json
from typing import Annotated

import typer

from dagster_project.commands.terminal import (
    Home,
    Verbose,
    announce_step,
    console,
    print_summary,
    quieten,
    say_number,
    settings_of,
    tell_night,
    told_in_sentences,
)
from dagster_project.settings import Settings, SettingsError


def _is_foreign(settings: Settings) -> bool:
    """Whether the home holds something that the demo did not make."""
    return not settings.demo_mark.exists() and any(
        path.exists() for path in (settings.landing, settings.raw, settings.warehouse, settings.releases)
    )


def demo(
    home: Home = None,
    persons: Annotated[int, typer.Option(min=50, help="People of the generated retailer.")] = 5000,
    nights: Annotated[int, typer.Option(min=1, max=30, help="Nights to run.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 7,
    verbose: Verbose = False,
) -> None:
    """Generate a retailer, run its nights one after the other, and say where the results are."""
    import shutil

    with told_in_sentences():
        settings = settings_of(home)
        if _is_foreign(settings):
            raise SettingsError(
                f"{settings.home} holds a deployment that is not the demo's: the demo would run over it. "
                "Name another home with --home."
            )
        quieten(verbose)
        from dagster_project.demo import DemoPlan, generate
        from dagster_project.nightly import run_night
        from dagster_project.run_lock import hold_run_lock

        hold_run_lock(settings.lock)
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in (settings.landing, settings.raw, settings.releases, settings.home / "truth", settings.dbt_target):
            shutil.rmtree(old, ignore_errors=True)
        settings.warehouse.unlink(missing_ok=True)
        settings.demo_mark.write_text(json.dumps({"persons": persons, "nights": nights, "seed": seed}) + "\n")
        console.print(f"Generating a retailer with {say_number(persons)} people (seed {seed}) in {settings.landing}")
        with console.status("generating") as status:
            summary = generate(
                settings.landing,
                settings.home / "truth",
                DemoPlan(persons=persons, nights=nights, seed=seed),
                lambda what, share: status.update(f"generating: {what} ({share:.0%})"),
            )
        for number, day in enumerate(summary.nights, start=1):
            console.print(f"[bold]Night {number} of {len(summary.nights)}[/bold], as of {day:%d/%m/%Y}")
            night = run_night(settings, as_of=day, announce=announce_step, is_verbose=verbose)
            tell_night(night, settings)
            if night.exit_code:
                raise typer.Exit(night.exit_code)
        print_summary(settings)
    raise typer.Exit(0)
