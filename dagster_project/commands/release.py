"""``cocanal release …``: list the releases, or go back to one. Presentation only."""

from typing import Annotated

import typer

from dagster_project.commands.terminal import Home, console, settings_of, told_in_sentences

app = typer.Typer(no_args_is_help=True, help="List the releases, or go back to one.")


@app.command(name="list")
def list_all(home: Home = None) -> None:
    """List the releases on disk, oldest first."""
    with told_in_sentences():
        settings = settings_of(home)
        from dagster_project.domain.release import list_releases

        releases = list_releases(settings.home)
        if not releases:
            console.print(f"There is no release in {settings.home} yet: «cocanal run» makes one.", soft_wrap=True)
        for release in releases:
            manifest = release.manifest()
            accepted = f", accepted: {len(manifest['accepted_gates'])} gates" if manifest["accepted_gates"] else ""
            mark = "→" if release.is_current else " "
            console.print(f"{mark} {release.release_id}  as of {manifest['as_of']}{accepted}")


@app.command(name="rollback")
def roll_back(
    release_id: Annotated[str, typer.Argument(help="Id of the release, or «previous».")], home: Home = None
) -> None:
    """Point «current» at another release. Nothing is deleted; the next run builds on the release that is current."""
    with told_in_sentences():
        settings = settings_of(home)
        from dagster_project.domain.release import rollback
        from dagster_project.run_lock import hold_run_lock

        hold_run_lock(settings.lock)
        console.print(f"The current release is now {rollback(settings.home, release_id).release_id}.")
