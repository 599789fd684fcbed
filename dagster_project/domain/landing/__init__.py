"""Landing: delivered files become immutable raw Parquet, addressed by content.

``deliveries`` finds the files and remembers them, ``reader`` turns one file into one raw Parquet file, ``repair`` makes
a damaged CSV readable line by line, ``tables`` shows all of it to SQL. What a value means is not decided here: raw
holds text, and staging gives it its type.
"""
