"""``cocanal doctor``: what state a home is in. Presentation only."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from dagster_project.commands.terminal import Home, console, quieten, settings_of, told_in_sentences

SOMETHING_IS_WRONG = 3
_COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}


def doctor(
    home: Home = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read every byte of raw and of the releases too: minutes, for a large home.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON, for monitoring.")] = False,
) -> None:
    """Say what state a home is in, and what to do about it. Changes nothing; may be asked while a run is going on.

    Exit codes: 0 nothing is wrong, 3 something is, 2 wrong use or configuration.
    """
    from dagster_project import doctor as doctors

    with told_in_sentences():
        settings = settings_of(home)
        quieten(False)
        now = datetime.now(UTC)
        findings = doctors.examine(settings, now=now, is_full=full)
        if as_json:
            print(doctors.as_json(settings, findings, now))
        else:
            for finding in findings:
                mark = f"[{_COLOURS[finding.state]}]{finding.state:<5}[/]"
                console.print(f"{mark}  {finding.subject:<9}  {escape(finding.sentence)}", soft_wrap=True)
    raise typer.Exit(0 if doctors.is_well(findings) else SOMETHING_IS_WRONG)
