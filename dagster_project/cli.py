"""The command ``cocanal``: composition only. Each command, or group of them, is a file of ``commands``."""

import os

import typer

from dagster_project.commands import identity, landing, privacy, quarantine, release
from dagster_project.commands.demo import demo
from dagster_project.commands.doctor import doctor
from dagster_project.commands.explain import explain
from dagster_project.commands.home import show_settings, status, tidy_home, ui
from dagster_project.commands.rebuild import rebuild
from dagster_project.commands.run import run
from dagster_project.commands.trace import trace

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Cocanal: one account per person, every euro on the right account, audiences that may lawfully be contacted.",
)


@app.callback()
def _keep_others_out() -> None:
    """Whatever a command writes, nobody but the owner and the group may read."""
    os.umask(0o027)


for command in (run, demo, status, ui, explain, trace, doctor, rebuild):
    app.command()(command)
app.command(name="tidy")(tidy_home)
app.command(name="settings")(show_settings)
for group in (landing, quarantine, identity, privacy, release):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])

if __name__ == "__main__":
    app()
