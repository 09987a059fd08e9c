# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Unpacks an archive that nobody has to trust.

Links are made last and only after every one of them was followed through the
names that the archive itself holds. So nothing is ever written through a link,
and no check depends on the order of the entries.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from calendar import timegm
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact

_CHUNK = 256 * 1024
_DEPTH = 128
_NAME_BYTES = 255
_PATH_BYTES = 2048
_HOPS = 40  # as many links as Linux follows
_HEADER_BYTES = 1024 * 1024
_LATEST = 2**33  # no file system of ours holds later times

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,
)

_DIRECTORY, _FILE, _LINK, _HARD_LINK = "directory", "file", "link", "hard link"

_Path = tuple[str, ...]


class Limits(NamedTuple):
    """What an archive may hold at most."""

    entries: int = 100_000
    size: int = 4 * 1024**3


class Contents(NamedTuple):
    """What an archive held."""

    entries: int
    size: int


def unpack(
    source: IO[bytes], target: str | None, limits: Limits, strip: int = 0, reserved: frozenset[str] = frozenset()
) -> Contents:
    """Unpacks ``source`` into the empty directory ``target``; with None it only checks.

    ``strip`` leading directories are left out; names in ``reserved`` may not stand at the top.

    Raises ``BadArtefact`` for what is unsafe or damaged and ``OSError`` when the
    disk does not take it; what was unpacked until then is the caller's to remove.
    """
    with _readable():
        tree = _Tree(target, limits, strip, reserved)
        kind = _kind(source)
        if kind == "zip":
            _read_zip(source, tree)
        else:
            _read_tar(source, kind, tree)
        return tree.finish()


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What comes from the system has a number; what the decompressors raise has none.
        if error.errno is None:
            raise BadArtefact(f"The archive is damaged: {error}.") from error
        raise
    except _DAMAGED as error:
        raise BadArtefact(f"The archive is damaged: {str(error) or type(error).__name__}.") from error


def _kind(source: IO[bytes]) -> str:
    """By content: a name can say anything."""
    source.seek(0)
    start = source.read(8)
    source.seek(0)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if start.startswith(b"\x1f\x8b"):
        return "gz"
    if start.startswith(b"BZh"):
        return "bz2"
    if start.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        raise BadArtefact("The archive is compressed with zstd, which is not supported.", "Use gzip, bzip2 or xz.")
    return "tar"


class _Tree:
    """The release as it grows. It knows every name, and what stands there."""

    def __init__(self, root: str | None, limits: Limits, strip: int, reserved: frozenset[str]) -> None:
        self._root = root
        self._limits = limits
        self._strip = strip
        self._reserved = reserved
        self._kinds: dict[_Path, str] = {(): _DIRECTORY}
        self._links: dict[_Path, str] = {}
        self._hard_links: dict[_Path, _Path | None] = {}
        self._entries = 0
        self._size = 0

    def directory(self, name: str, mode: int) -> None:
        path = self._place(name, _DIRECTORY)
        if path and self._root is not None:
            # Modes as tarfile's "data" filter gives them: nothing special, no write for others.
            os.chmod(self._on_disk(path), mode & 0o755 | 0o700)

    def file(self, name: str, mode: int, modified: float, size: int, content: IO[bytes]) -> None:
        path = self._place(name, _FILE)
        if self._size + size > self._limits.size:
            raise self._too_big(name)
        written = 0
        handle = None
        if path and self._root is not None:
            handle = os.open(self._on_disk(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            while True:
                data = content.read(_CHUNK)
                if not data:
                    break
                written += len(data)
                # Counted, not believed: an announced size can be too small.
                if self._size + written > self._limits.size:
                    raise self._too_big(name)
                if handle is not None:
                    _write(handle, data)
            if written != size:
                raise BadArtefact(f"The archive is damaged: {_shown(name)} has {written} bytes, not {size}.")
            if handle is not None:
                os.fchmod(handle, mode & 0o755 | 0o600)
                # Kept, so that all members answer with the same Last-Modified and ETag.
                when = min(max(0, int(modified)), _LATEST)
                os.utime(handle, (when, when))
        finally:
            if handle is not None:
                os.close(handle)
        self._size += written

    def link(self, name: str, target: str) -> None:
        if not target or "\0" in target:
            raise BadArtefact(f"The archive's link {_shown(name)} has no target.")
        if target.startswith("/"):
            raise _leads_out(name, target)
        if len(os.fsencode(target)) > _PATH_BYTES:
            raise BadArtefact(f"The target of the archive's link {_shown(name)} is too long.")
        path = self._place(name, _LINK)
        if path:
            self._links[path] = target

    def hard_link(self, name: str, target: str) -> None:
        path = self._place(name, _HARD_LINK)
        try:
            parts = self._parts(target)
        except BadArtefact:
            raise _leads_out(name, target) from None
        if path:
            # None: the target was stripped away, so it is outside of the release.
            self._hard_links[path] = parts[self._strip :] or None

    def finish(self) -> Contents:
        """Makes the links, after all of them were found to stay inside."""
        if not self._kinds.keys() - {()}:
            raise BadArtefact(
                "The archive holds nothing" + (f" below {self._strip} leading directories." if self._strip else "."),
                "Lower strip_components." if self._strip else "",
            )
        originals = {path: self._original(path) for path in self._hard_links}
        for path in self._links:
            self._follow(path)
        if self._root is not None:
            for path, original in originals.items():
                os.link(self._on_disk(original), self._on_disk(path), follow_symlinks=False)
            for path, target in self._links.items():
                os.symlink(target, self._on_disk(path))
        return Contents(self._entries, self._size)

    def _on_disk(self, path: _Path) -> str:
        return os.path.join(self._root or "", *path)

    def _parts(self, name: str) -> _Path:
        """The name as path components; raises ``BadArtefact``."""
        if "\0" in name:
            raise BadArtefact(f"The archive's entry {_shown(name)} has a zero byte in its name.")
        if name.startswith("/"):
            raise BadArtefact(
                f"The archive's entry {_shown(name)} has an absolute path.", "Pack it with relative names."
            )
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            raise BadArtefact(
                f"The archive's entry {_shown(name)} has '..' in its path and may lead out of the release."
            )
        if len(parts) > _DEPTH + self._strip:
            raise BadArtefact(f"The archive's entry {_shown(name)} lies more than {_DEPTH} directories deep.")
        if len(os.fsencode(name)) > _PATH_BYTES or any(len(os.fsencode(part)) > _NAME_BYTES for part in parts):
            raise BadArtefact(f"The archive's entry {_shown(name)} has a name that is too long.")
        return parts

    def _place(self, name: str, kind: str) -> _Path:
        """Takes the name's place in the tree, with its directories; () when it was stripped away."""
        self._entries += 1
        if self._entries > self._limits.entries:
            raise BadArtefact(
                f"The archive has more than {self._limits.entries} entries; the first too many is {_shown(name)}.",
                "Raise max_entries if that is meant.",
            )
        path = self._parts(name)[self._strip :]
        if path and path[0] in self._reserved:
            raise BadArtefact(f"The archive's entry {_shown(name)} has a name that is reserved for the release store.")
        for depth in range(1, len(path)):
            self._make_directory(path[:depth], name)
        if kind == _DIRECTORY:
            if path:
                self._make_directory(path, name)
        elif path in self._kinds:
            if path:
                raise self._taken(name, path)
            if not self._strip:
                raise BadArtefact(f"The archive's entry {_shown(name)} would replace the release's own directory.")
        else:
            self._kinds[path] = kind
        return path

    def _make_directory(self, path: _Path, name: str) -> None:
        found = self._kinds.get(path)
        if found == _DIRECTORY:
            return
        if found is not None:
            raise self._taken(name, path)
        self._kinds[path] = _DIRECTORY
        if self._root is not None:
            os.mkdir(self._on_disk(path), 0o700)
            os.chmod(self._on_disk(path), 0o755)

    def _taken(self, name: str, path: _Path) -> BadArtefact:
        return BadArtefact(
            f"The archive's entry {_shown(name)} would replace or go through the {self._kinds[path]} "
            f"{_shown('/'.join(path))} that came before it.",
            "Pack every name once.",
        )

    def _too_big(self, name: str) -> BadArtefact:
        return BadArtefact(
            f"The archive unpacks to more than {self._limits.size} bytes; the limit was passed at {_shown(name)}.",
            "Raise max_bytes if that is meant.",
        )

    def _original(self, path: _Path) -> _Path:
        """The file behind a hard link."""
        seen = {path}
        here = self._hard_links[path]
        while here is not None and here in self._hard_links and here not in seen:
            seen.add(here)
            here = self._hard_links[here]
        if here is None or self._kinds.get(here) != _FILE:
            raise BadArtefact(
                f"The archive's hard link {_shown('/'.join(path))} does not lead to a file in the release."
            )
        return here

    def _follow(self, link: _Path) -> None:
        """Walks a link as the kernel would; raises ``BadArtefact`` where it leaves the release."""
        here = list(link[:-1])
        ahead = self._links[link].split("/")[::-1]
        hops = 0
        while ahead:
            part = ahead.pop()
            if part == "..":
                if not here:
                    raise _leads_out("/".join(link), self._links[link])
                here.pop()
            elif part not in ("", "."):
                here.append(part)
                target = self._links.get(tuple(here))
                if target is not None:
                    hops += 1
                    if hops > _HOPS:
                        raise BadArtefact(f"The archive's link {_shown('/'.join(link))} goes in circles.")
                    here.pop()
                    ahead.extend(target.split("/")[::-1])


def _leads_out(name: str, target: str) -> BadArtefact:
    return BadArtefact(
        f"The archive's link {_shown(name)} leads out of the release, to {_shown(target)}.",
        "Links may only lead to what the archive itself holds, by a relative path.",
    )


def _shown(name: str) -> str:
    """A name fit for a message: hostile names hold escape sequences and broken characters."""
    return repr(name if len(name) <= 200 else name[:200] + "...")


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


class _Blocks:
    """What tarfile reads from. Keeps its last block, and refuses a header of many megabytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.last = b""

    def read(self, size: int) -> bytes:
        if size > _HEADER_BYTES:
            raise BadArtefact(f"The archive has a header of {size} bytes.")
        self.last = self._file.read(size)
        return self.last

    def seek(self, position: int, whence: int = 0) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()


def _opened(source: IO[bytes], kind: str) -> Any:
    if kind == "gz":
        return gzip.GzipFile(fileobj=source)
    if kind == "bz2":
        return bz2.BZ2File(source)
    if kind == "xz":
        return lzma.LZMAFile(source)
    return source


def _tar(file: Any) -> tarfile.TarFile:
    try:
        return tarfile.TarFile(fileobj=file, errorlevel=2)
    except tarfile.ReadError as error:
        raise BadArtefact(
            f"This is no archive: {error}.", "A tar file (plain, gzip, bzip2 or xz) or a zip file is needed."
        ) from error


def _read_tar(source: IO[bytes], kind: str, tree: _Tree) -> None:
    blocks = _Blocks(_opened(source, kind))
    archive = _tar(blocks)
    while True:
        entry = archive.next()
        if entry is None:
            break
        archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
        if entry.isreg():
            content = archive.extractfile(entry)
            if content is None:
                raise BadArtefact(f"The archive's entry {_shown(entry.name)} has no content.")
            with content:
                tree.file(entry.name, entry.mode, entry.mtime, entry.size, content)
        elif entry.isdir():
            tree.directory(entry.name, entry.mode)
        elif entry.issym():
            tree.link(entry.name, entry.linkname)
        elif entry.islnk():
            tree.hard_link(entry.name, entry.linkname)
        else:
            raise _special(entry.name)
    # tarfile takes a cut off or overwritten archive for a finished one.
    if not blocks.last or blocks.last.strip(b"\0"):
        raise BadArtefact("The archive is damaged: it ends without its end mark, so something may be missing.")


def _read_zip(source: IO[bytes], tree: _Tree) -> None:
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            name = entry.filename
            mode = entry.external_attr >> 16
            form = stat.S_IFMT(mode)
            if entry.flag_bits & 1:
                raise BadArtefact(f"The archive's entry {_shown(name)} is encrypted.")
            if name.endswith("/") or form == stat.S_IFDIR:
                tree.directory(name, stat.S_IMODE(mode) or 0o755)
            elif form == stat.S_IFLNK:
                with archive.open(entry) as content:
                    target = content.read(_PATH_BYTES + 1)
                tree.link(name, target.decode("utf-8", "surrogateescape"))
            elif form in (0, stat.S_IFREG):
                with archive.open(entry) as content:
                    tree.file(name, stat.S_IMODE(mode) or 0o644, _zip_time(entry), entry.file_size, content)
            else:
                raise _special(name)


def _zip_time(entry: zipfile.ZipInfo) -> float:
    # A zip file's time has no zone. Read as UTC it is the same on every member.
    try:
        return timegm(entry.date_time)
    except ValueError:
        return 0


def _special(name: str) -> BadArtefact:
    return BadArtefact(
        f"The archive's entry {_shown(name)} is a device, a pipe or something else that no release needs.",
        "Only files, directories and links are unpacked.",
    )
