"""``cocanal run``: the nightly job, now. Presentation only."""

from typing import Annotated

import typer

from dagster_project.commands.terminal import (
    Home,
    Verbose,
    announce_step,
    quieten,
    settings_of,
    tell_night,
    told_in_sentences,
)
from dagster_project.settings import SettingsError, is_home_named, parse_day


def _accepted(gates: list[str], because: str | None) -> dict[str, str]:
    from dagster_project.stages import STAGES

    if bool(gates) != bool(because and because.strip()):
        raise SettingsError("--accept and --because go together: name the gate, and the reason that is kept with it.")
    for gate in gates:
        if gate.split(".")[0] not in STAGES:
            raise SettingsError(f"There is no gate «{gate}»; the gates are {', '.join(STAGES)}.")
    return dict.fromkeys(gates, because or "")


def run(
    home: Home = None,
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
    verbose: Verbose = False,
) -> None:
    """Run the nightly job now: the same as the schedule's, without a screen.

    Exit codes: 0 released (or nothing new), 3 a gate stopped it, 2 wrong use or configuration, 1 anything else.
    """
    with told_in_sentences():
        settings = settings_of(home)
        if settings.demo_mark.exists() and home is None and not is_home_named():
            raise SettingsError(
                f"{settings.home} is the demo's home. For your own files name another home "
                f"(--home or COCANAL_HOME); to run the demo's again, name this one."
            )
        day = parse_day(as_of) if as_of else None
        accepted = _accepted(accept or [], because)
        quieten(verbose)
        from dagster_project.nightly import run_night

        night = run_night(
            settings, as_of=day, accept=accepted, wait_minutes=wait, announce=announce_step, is_verbose=verbose
        )
        tell_night(night, settings)
    raise typer.Exit(night.exit_code)
