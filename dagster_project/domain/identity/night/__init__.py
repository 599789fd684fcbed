"""A night on what is remembered: only what new, changed and vanished records touch is worked out again.

What belongs here: what a change touches, step by step. What does not: how anything is worked out; every step is the one
of the full build, on a part.

A part is closed: nothing in it depends on what is outside. Up to the edges the part is made of profiles: those whose
content is new, who shares a block that crosses its limit, and the components that they join or leave. Who holds a value
is worked out for whole circles (``accounts.py``). From there on every step works on what the one before it changed:
contacts, customer numbers, households, records, payment tokens, components with an account. What tells of all records
at once is counted over all: birth dates, how often values are used, the sizes of blocks. Where it is unsure whether
something is touched, it is: that costs time only.

Cost: reading every staged record once and comparing its hash; then what the night touches, and scans of a few columns.
"""

from dagster_project.domain.identity.night.accounts import renew_accounts
from dagster_project.domain.identity.night.clusters import renew_clusters, work_on_all
from dagster_project.domain.identity.night.people import read_changes, renew_people

__all__ = ["read_changes", "renew_accounts", "renew_clusters", "renew_people", "work_on_all"]
