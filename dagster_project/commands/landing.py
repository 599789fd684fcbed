"""``cocanal landing …``: check a supplier's file, import another system's export. Presentation only."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from dagster_project.commands.terminal import Home, console, quieten, say_number, settings_of, told_in_sentences
from dagster_project.settings import SettingsError

app = typer.Typer(no_args_is_help=True, help="Work with the files that suppliers deliver.")


@app.command(name="check")
def check(
    files: Annotated[list[Path], typer.Argument(help="Files to check.", exists=True, dir_okay=False)],
    feed: Annotated[str | None, typer.Option(help="Feed of the files; default: the folder that they lie in.")] = None,
) -> None:
    """Tell a supplier what is wrong with a file, without a run. Exit code 3 if rows would be refused."""
    with told_in_sentences():
        quieten(False)
        from dagster_project.supplier_check import check_files

        reports = check_files(files, feed)
        is_clean = True
        for report in reports:
            console.print(
                f"[bold]{report.file}[/bold] as {report.feed}: {say_number(report.row_count)} rows, {report.status}"
            )
            for finding in report.findings:
                console.print(f"  {escape(finding)}", soft_wrap=True)
            is_clean = is_clean and report.is_clean
        if is_clean:
            console.print("[green]Every row would be accepted.[/green]")
    raise typer.Exit(0 if is_clean else 3)


@app.command(name="import")
def import_export(
    kind: Annotated[str, typer.Argument(help="Kind of export: online-retail.")],
    files: Annotated[list[Path], typer.Argument(help="Files of the export.", exists=True)],
    home: Home = None,
) -> None:
    """Turn another system's export into deliveries of the contract, in this home's landing folder."""
    with told_in_sentences():
        settings = settings_of(home)
        from dagster_project.importers import IMPORTERS

        if kind not in IMPORTERS:
            raise SettingsError(f"There is no importer «{kind}»; there are: {', '.join(sorted(IMPORTERS))}.")
        if settings.demo_mark.exists():
            raise SettingsError(f"{settings.home} is the demo's home; name another with --home.")
        show: Callable[[str], None] = console.print
        summary = IMPORTERS[kind](files, settings.landing, show)
        console.print(summary)
        console.print(f"Now: cocanal run --home {settings.home}")
