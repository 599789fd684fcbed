"""Importers: another system's export becomes deliveries of the source contract, in a landing folder.

An importer takes the files of the export, the landing folder and a function that shows a line of progress; it returns
a summary in words and raises SettingsError, with a sentence, where it was given something it cannot use. It maps every
row of the export to exactly one row of a feed and refuses none: what cannot be right is judged by the pipeline, where
it is on record. Not for that judgement.
"""

from collections.abc import Callable
from pathlib import Path

from dagster_project.importers import online_retail

IMPORTERS: dict[str, Callable[[list[Path], Path, Callable[[str], None]], str]] = {
    "online-retail": online_retail.import_files,
}
