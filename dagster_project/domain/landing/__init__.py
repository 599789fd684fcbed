"""Landing: delivered files become immutable raw Parquet, addressed by content.

``deliveries`` finds the files and remembers them, ``intake`` takes a night's in, ``content`` copies one aside and looks
at its bytes, ``reader`` turns it into one raw Parquet file (by ``csv_rows`` or ``parquet_rows``), ``repair`` makes a
damaged CSV readable line by line, ``tables`` shows all of it to SQL. What a value means is not decided here: raw holds
text, and staging gives it its type.
"""
