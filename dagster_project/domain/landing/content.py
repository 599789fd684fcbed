"""The bytes of a delivered file: copied aside while they are hashed and looked at, so that nobody can change them.

Everything after works on the copy, whose name is plain and whose content is that of its hash, whatever happens to the
file in landing meanwhile. Here belong opening, copying, hashing, unpacking and what the bytes as a whole tell: whether
they are an archive, whole, UTF-8, how many lines they hold. Not for rows: ``reader``.
"""

import codecs
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# DuckDB refuses a longer line, and one that does not fit into its buffer it drops without a word.
LONGEST_LINE_BYTES = 2_000_000
_CHUNK_BYTES = 1 << 20
_TRIES = 3
_MAGIC = {
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "write it as .csv, .csv.gz or .parquet"),
    b"PAR1": ("Parquet", "let its name end with .parquet"),
    b"\x1f\x8b": ("a gzip archive", "let its name end with .csv.gz, and pack it once"),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", "pack it with gzip"),
    b"BZh": ("a bzip2 archive", "pack it with gzip"),
    b"\xfd7zXZ": ("an xz archive", "pack it with gzip"),
    b"7z\xbc\xaf": ("a 7-Zip archive", "pack it with gzip"),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet", "write it as CSV"),
    b"\xff\xfe": ("UTF-16", "write it in UTF-8"),
    b"\xfe\xff": ("UTF-16", "write it in UTF-8"),
}


class Unreadable(Exception):
    """Nothing in the file can be read; the message says why and what to do, without any of its values."""


class Withheld(Exception):
    """The file could not be had tonight, through no fault of its content; the next night asks for it again."""


class StillChanging(Withheld):
    """Somebody writes to the file: what it will hold is not known yet."""


@dataclass
class Ending:
    """How an archive ended: cut off before its end, or whole with something behind it."""

    is_cut_off: bool = False
    has_tail: bool = False


@dataclass
class Lines:
    """What the text of a file tells before anybody parses it; ``count`` leaves blank lines out.

    ``ends_open``: the last line has no line end. ``is_utf8``: all of it is, and not only ASCII.
    """

    count: int = 0
    has_blank: bool = False
    has_long: bool = False
    has_quote: bool = False
    has_nul: bool = False
    has_end_mark: bool = False
    ends_open: bool = False
    is_utf8: bool = False
    ending: Ending = field(default_factory=Ending)


@dataclass(frozen=True)
class Copy:
    """A delivered file as it was when it was read: where its copy lies, and what the file system said of it."""

    path: Path
    sha256: str
    byte_count: int
    modified_ns: int


def copy_aside(path: Path, folder: Path) -> Copy:
    """Copy a file of landing into ``folder`` under a plain name.

    It is opened without following a link and without waiting for a pipe. A file that changed meanwhile is copied again,
    a few times. Raises StillChanging where it keeps changing, Withheld where it cannot be opened.
    """
    target = folder / ("delivered" + "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]))
    for _ in range(_TRIES):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise StillChanging("it was taken away while it was to be read; it is looked for again") from error
        except OSError as error:
            raise Withheld(f"it cannot be opened ({error.strerror}); let the user of the pipeline read it") from error
        with os.fdopen(handle, "rb") as source:
            before = os.fstat(handle)
            if not stat.S_ISREG(before.st_mode):
                raise Withheld("it is not a regular file; deliver the file itself")
            digest, size = hashlib.sha256(), 0
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                while chunk := _read(source, _CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    out.write(chunk)
                    if size > before.st_size:
                        break
            after = os.fstat(handle)
        if (size, after.st_size, after.st_mtime_ns) == (before.st_size, before.st_size, before.st_mtime_ns):
            return Copy(target, digest.hexdigest(), size, before.st_mtime_ns)
    raise StillChanging("it changed while it was read, several times; it is read when it has come to rest")


def _read(source, size: int) -> bytes:  # type: ignore[no-untyped-def]
    try:
        return source.read(size)
    except OSError as error:
        raise Withheld(f"it cannot be read ({error.strerror}); look at the disk that it lies on") from error


def unpacked(path: Path, ending: Ending, most_bytes: int) -> Iterator[bytes]:
    """The bytes of a file in pieces, a ``.gz`` unpacked, all its members one after the other.

    What comes before a cut is given in full. Raises Unreadable where a gz is none, is damaged inside, or unpacks to
    more than ``most_bytes``; memory stays small whatever it unpacks to.
    """
    if path.suffix != ".gz":
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk
        return
    seen = 0
    with path.open("rb") as source:
        waiting = source.read(_CHUNK_BYTES)
        if waiting and waiting[:2] not in (b"\x1f\x8b", b"\x1f"):
            what, then = next(
                (words for magic, words in _MAGIC.items() if waiting.startswith(magic)),
                ("not gzip", "let its name end with .csv, or pack it with gzip"),
            )
            raise Unreadable(f"its name ends with .gz, but it is {what}; {then}")
        member = zlib.decompressobj(wbits=31)
        is_inside = bool(waiting)
        while waiting or is_inside:
            if not waiting:
                waiting = source.read(_CHUNK_BYTES)
                if not waiting:
                    ending.is_cut_off = True
                    if rest := member.flush():
                        yield rest
                    return
            try:
                piece = member.decompress(waiting, _CHUNK_BYTES)
            except zlib.error as error:
                raise Unreadable(
                    "the archive is damaged: its bytes changed on the way, and nobody can say which rows are right; "
                    "ask for the file again"
                ) from error
            seen += len(piece)
            if seen > most_bytes:
                raise Unreadable(
                    f"it unpacks to more than {most_bytes / 1e9:g} GB; ask for the file in parts, or set "
                    "COCANAL_MOST_UNPACKED_GB"
                )
            if piece:
                yield piece
            waiting = member.unconsumed_tail
            if member.eof:
                # Another member may follow, and zeros that fill a block up.
                waiting = member.unused_data.lstrip(b"\0")
                while not waiting and (more := source.read(_CHUNK_BYTES)):
                    waiting = more.lstrip(b"\0")
                if len(waiting) == 1:
                    waiting += source.read(_CHUNK_BYTES)
                is_inside = waiting[:2] == b"\x1f\x8b"
                if not is_inside:
                    ending.has_tail = bool(waiting)
                    return
                member = zlib.decompressobj(wbits=31)


def look_at_lines(path: Path, most_bytes: int) -> Lines:
    """Read a CSV file or archive to its end and say what its text is like; memory stays small.

    Raises Unreadable where it is another format, or as ``unpacked`` does.
    """
    found = Lines()
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8, has_foreign = True, False
    is_first, last, since_end = True, b"\n", 0
    for chunk in unpacked(path, found.ending, most_bytes):
        if is_first:
            is_first = False
            for magic, (what, then) in _MAGIC.items():
                if chunk.startswith(magic):
                    raise Unreadable(f"it is {what}; {then}")
        if not chunk.isascii():
            has_foreign = True
        if is_utf8 and has_foreign:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                is_utf8 = False
        found.has_quote = found.has_quote or b'"' in chunk
        found.has_nul = found.has_nul or b"\0" in chunk
        text = chunk
        if b"\r" in text or last == b"\r":
            if last == b"\r" and text.startswith(b"\n"):
                text = text[1:]
            ends_with_return = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            ends_with_return = False
        if not text:
            last = b"\n"
            continue
        starts_blank = last in (b"\n", b"\r") and text.startswith(b"\n")
        if starts_blank or b"\n\n" in text:
            found.has_blank = True
            text = re.sub(rb"\n+", b"\n", text)
            text = text.removeprefix(b"\n") if starts_blank else text
        ends = text.count(b"\n")
        found.count += ends
        if ends:
            found.has_long = found.has_long or since_end + text.index(b"\n") > LONGEST_LINE_BYTES
            since_end = len(text) - text.rindex(b"\n") - 1
        else:
            since_end += len(text)
        last = b"\r" if ends_with_return else text[-1:] or b"\n"
    found.has_long = found.has_long or since_end > LONGEST_LINE_BYTES
    found.ends_open = since_end > 0
    if since_end == 1 and last == b"\x1a":  # the end mark of DOS, which old tills still write
        found.has_end_mark, found.ends_open = True, False
    found.count += found.ends_open
    found.is_utf8 = is_utf8 and has_foreign and not decoder.getstate()[0]
    return found
