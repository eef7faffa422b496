"""ZIP archives: folders of files, read where they lie; nothing is ever unpacked to the disk.

Members are named by their path in the archive, which is only a name here: no file is written, so that no path leads
anywhere. What is packed far smaller than text can be, too large, encrypted, or an archive itself is refused.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, cast

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.compression import DAMAGED
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile, Source

_MOST_MEMBERS = 100_000
_MOST_BYTES = 1 << 34  # of all members, unpacked
_MOST_OF_OFFICE = 1 << 29  # an Office file is held in the memory
_RATIO = 250  # of a member; text is packed to a tenth at best
_SMALL = 1 << 20  # what is no larger does no harm
_ENCRYPTED = 1
_OFFICE = {"xl/workbook.xml": "xlsx", "word/document.xml": "docx"}
_NOT_READ = {
    "ppt/presentation.xml": "a PowerPoint file. Save it as PDF",
    "xl/workbook.bin": "a binary Excel file. Save it as .xlsx",
    "content.xml": "an OpenDocument file. Save it as .docx, .xlsx or PDF",
    "META-INF/container.xml": "an e-book. Save it as PDF or text",
}


def kind_of_zip(stream: Any) -> str:
    """Return ``"xlsx"``, ``"docx"`` or ``"zip"``; the stream is sent back to its beginning."""
    with _opened(stream) as archive:
        names = set(archive.namelist())
    stream.seek(0)
    refused = next((what for name, what in _NOT_READ.items() if name in names), None)
    if refused is not None:
        raise Malformed(f"The file is {refused}.")
    return next((kind for name, kind in _OFFICE.items() if name in names), "zip")


def check_office(stream: Any) -> None:
    """Refuse an Office file that would fill the memory; the stream is sent back to its beginning."""
    with _opened(stream) as archive:
        for member in archive.infolist():
            _check(member)
        if sum(member.file_size for member in archive.infolist()) > _MOST_OF_OFFICE:
            raise Malformed(f"Unpacked, the file is larger than {_MOST_OF_OFFICE >> 20} MiB. Split it.")
    stream.seek(0)


def read(
    file: OpenFile, reading: Reading, wanted: Callable[[str], bool], read_file: Callable[[OpenFile], Iterator[Passage]]
) -> Iterator[Passage]:
    """Give the passages of the files in an archive, in the order of their paths.

    :param wanted: tells by its name whether a file is read; the others are counted as left out.
    """
    with reading.noting(file.name), _opened(file.stream) as archive:
        for member in _members(archive):
            path = PurePosixPath(member.filename)
            if any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts):
                continue
            if not wanted(path.name):
                reading.leave_out(path.name)
                continue
            name = f"{file.name}/{member.filename}"
            try:
                _check(member)
                stream = archive.open(member)
            except (Malformed, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as problem:
                reading.bad(str(problem) or "The member cannot be read.", name)
                continue
            with stream, Source(name, f"{file.id}/{member.filename}", cast(Any, stream)).open(file.encoding) as inner:
                yield from read_file(inner)


@contextmanager
def _opened(stream: Any) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(stream) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, *DAMAGED) as error:
        raise Malformed(f"The ZIP archive is damaged, or of an unknown kind ({error}).") from error


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [member for member in archive.infolist() if member.filename and not member.is_dir()]
    if len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > _MOST_BYTES:
        raise Malformed(f"The archive holds more than {_MOST_MEMBERS:,} files or {_MOST_BYTES >> 30} GiB. Split it.")
    return sorted(members, key=lambda member: member.filename)


def _check(member: zipfile.ZipInfo) -> None:
    """Refuse a member that is not what a document can be."""
    parts = re.split(r"[/\\]", member.filename)
    if ".." in parts or member.filename.startswith(("/", "\\")) or "\0" in member.orig_filename:
        raise Malformed("The path leads out of the archive. Nothing is written, but such an archive means harm.")
    if member.flag_bits & _ENCRYPTED:
        raise Malformed("The file is encrypted. Save the archive without a password.")
    if member.file_size > max(_SMALL, _RATIO * max(member.compress_size, 1)):
        raise Malformed(
            f"The file is packed to less than 1/{_RATIO} of its {member.file_size:,} bytes, as no text is: a ZIP bomb."
        )
