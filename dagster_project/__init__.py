"""Cocanal: from a retailer's exports to one account per person, and to lawful audiences.

Here belongs what must hold before anything else is loaded. Nothing else does.
"""

import os

# DuckDB writes the unused ends of blocks as they were in memory, which held other people (duckdb/duckdb#23382): into
# the databases of a release, and into those that an erasure writes anew. Its allocator shall hand out zeros; it asks
# when it is loaded. What a thread keeps for itself is set to zero in place; all else is given back to the system and
# faulted in anew, page by page. So a thread keeps blocks of up to 1 MB, twenty of a size at most, and tidies up after
# every 64 MB, not after each of them.
os.environ.update({"DUCKDB_JE_MALLOC_CONF": "zero:true,tcache_max:1048576,tcache_gc_incr_bytes:67108864"})
