"""``cocanal status``, ``ui``, ``settings`` and ``tidy``: what a home is, and what is kept in it. Presentation only."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from dagster_project.commands.terminal import Home, console, print_summary, quieten, settings_of, told_in_sentences
from dagster_project.settings import SettingsError


def status(home: Home = None) -> None:
    """Say what state the home is in: its current release, what was delivered since, whether a run is going on."""
    with told_in_sentences():
        settings = settings_of(home)
        from dagster_project.domain.landing.deliveries import newest_date
        from dagster_project.run_lock import is_locked

        console.print(f"home: {settings.home}" + (" (the demo's)" if settings.demo_mark.exists() else ""))
        console.print("a run is going on" if is_locked(settings.lock) else "no run is going on")
        newest = newest_date(settings.landing, settings.register)
        console.print(f"newest delivery: {newest:%d/%m/%Y}" if newest else "nothing was ever delivered")
        print_summary(settings)


def ui(home: Home = None, host: str | None = None, port: int | None = None) -> None:
    """Open Dagster: the asset graph, the runs, the gates, the schedule. Ends with Ctrl-C."""
    with told_in_sentences():
        settings = settings_of(home)
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


def tidy_home(
    home: Home = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Only say what would go.")] = False,
) -> None:
    """Remove deliveries, releases, run records, pages and left-overs that were kept for their period; say what went."""
    with told_in_sentences():
        settings = settings_of(home)
        if not settings.home.is_dir():
            raise SettingsError(f"There is no home at {settings.home}: name it with --home or COCANAL_HOME.")
        quieten(False)
        from datetime import UTC, datetime

        from dagster_project.instance import open_instance
        from dagster_project.tidy import say, tidy

        with open_instance(settings) as instance:
            removed = tidy(settings, instance, datetime.now(UTC), is_rehearsal=rehearse)
        for sentence in say(removed):
            verb = "Would remove: " if rehearse else "Removed: "
            console.print(escape((verb if removed else "") + sentence), soft_wrap=True)


def show_settings(home: Home = None) -> None:
    """List every setting with its variable, its value and what it does."""
    settings = settings_of(home)
    table = Table("variable", "value", "what it does")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        shown = "(set)" if name in ("webhook_url", "holdout_salt") and value else str(value)
        table.add_row(f"COCANAL_{name.upper()}", shown, field.description or "")
    console.print(table)
