"""``cocanal rebuild``: everything again from raw. Presentation only."""

from typing import Annotated

import typer

from dagster_project.commands.terminal import Home, announce_step, quieten, settings_of, tell_night, told_in_sentences


def rebuild(
    home: Home = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Day to judge everything at, YYYY-MM-DD; default: newest delivery.")
    ] = None,
    from_nothing: Annotated[
        bool,
        typer.Option(
            "--from-nothing",
            help="Where the releases are lost: give every account a new id, and forget what was sent.",
        ),
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Minutes to wait for another run in the home; default: none.")
    ] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Dagster's own log lines too.")] = False,
) -> None:
    """Make everything again from raw: no cache is believed, all tables are built, and released if the gates pass.

    Account ids, events and the ledger go on from the current release. A raw file that cannot be read is read again from
    landing where the delivery still lies there. Exit codes are those of «cocanal run».
    """
    from dagster_project.domain.release import abandon
    from dagster_project.nightly import run_night
    from dagster_project.run_lock import run_lock
    from dagster_project.settings import parse_day

    with told_in_sentences():
        settings = settings_of(home)
        quieten(verbose)
        if from_nothing:
            with run_lock(settings.lock):
                abandon(settings.home, settings.published_mark)
        night = run_night(
            settings,
            as_of=parse_day(as_of) if as_of else None,
            is_rebuild=True,
            wait_minutes=wait,
            announce=announce_step,
            is_verbose=verbose,
        )
        tell_night(night, settings)
    raise typer.Exit(night.exit_code)
