"""Cocanal: from a retailer's exports to one account per person, and to lawful audiences.

Here belongs what must hold before anything else is loaded. Nothing else does.
"""

import os

# DuckDB writes the unused ends of blocks as they were in memory, which held other people (duckdb/duckdb#23382): into
# the databases of a release, and into those that an erasure writes anew. Its allocator shall hand out zeros; it asks
# when it is loaded.
os.environ.update({"DUCKDB_JE_MALLOC_CONF": "zero:true"})
