"""``cocanal doctor``: what state a home is in. Presentation only."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

SOMETHING_IS_WRONG = 3
_COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}


def doctor(
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of the deployment; default: COCANAL_HOME, else ./var.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read every byte of raw and of the releases too: minutes, for a large home.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON, for monitoring.")] = False,
) -> None:
    """Say what state a home is in, and what to do about it. Changes nothing; may be asked while a run is going on.

    Exit codes: 0 nothing is wrong, 3 something is, 2 wrong use or configuration.
    """
    from dagster_project import doctor as doctors
    from dagster_project.cli import _quieten, _settings, _told_in_sentences, console

    with _told_in_sentences():
        settings = _settings(home)
        _quieten(False)
        now = datetime.now(UTC)
        findings = doctors.examine(settings, now=now, is_full=full)
        if as_json:
            print(doctors.as_json(settings, findings, now))
        else:
            for finding in findings:
                mark = f"[{_COLOURS[finding.state]}]{finding.state:<5}[/]"
                console.print(f"{mark}  {finding.subject:<9}  {escape(finding.sentence)}", soft_wrap=True)
    raise typer.Exit(0 if doctors.is_well(findings) else SOMETHING_IS_WRONG)
