# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives are unpacked inside of their target or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._archive import Contents, Limits, unpack
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact


class Entry(NamedTuple):
    """One entry of an archive; ``kind`` is a type of tarfile."""

    name: str
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    content: bytes = b"content"
    mode: int = 0o644


def directory(name: str, mode: int = 0o755) -> Entry:
    return Entry(name, tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> Entry:
    return Entry(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> Entry:
    return Entry(name, tarfile.LNKTYPE, target)


def tar(*entries: Entry) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.linkname, info.mode, info.mtime = entry.kind, entry.target, entry.mode, 1_700_000_000
            if entry.kind == tarfile.REGTYPE:
                info.size = len(entry.content)
            archive.addfile(info, io.BytesIO(entry.content))
    return data.getvalue()


def zipped(*entries: Entry) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.name, (2024, 1, 2, 3, 4, 6))
            info.create_system = 3
            form = {tarfile.SYMTYPE: stat.S_IFLNK, tarfile.DIRTYPE: stat.S_IFDIR, tarfile.FIFOTYPE: stat.S_IFIFO}
            info.external_attr = (form.get(entry.kind, stat.S_IFREG) | entry.mode) << 16
            archive.writestr(info, entry.target if entry.kind == tarfile.SYMTYPE else entry.content)
    return data.getvalue()


def into(target: Path | None, data: bytes, limits: Limits | None = None, strip: int = 0) -> Contents:
    return unpack(io.BytesIO(data), str(target) if target else None, limits or Limits(), strip, frozenset({".record"}))


def found(root: Path) -> dict[str, str]:
    """Every name below root, with a file's content or a link's target."""
    result = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            if path.is_symlink():
                result[str(path.relative_to(root))] = f"-> {path.readlink()}"
            elif path.is_file():
                result[str(path.relative_to(root))] = path.read_bytes().decode("latin-1")
            else:
                result[str(path.relative_to(root))] = "/"
    return result


APP = (directory("bin"), Entry("bin/run", mode=0o755, content=b"#!"), Entry("etc/app.ini"), link("run", "bin/run"))
APP_FOUND = {"bin": "/", "bin/run": "#!", "etc": "/", "etc/app.ini": "content", "run": "-> bin/run"}


@pytest.mark.parametrize(
    "packed",
    [tar(*APP), gzip.compress(tar(*APP)), bz2.compress(tar(*APP)), lzma.compress(tar(*APP)), zipped(*APP)],
    ids=["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"],
)
def test_every_format_is_known_by_its_content(tmp_path: Path, packed: bytes) -> None:
    contents = into(tmp_path, packed)
    assert found(tmp_path) == APP_FOUND
    assert contents == Contents(4, 9)
    assert os.access(tmp_path / "bin/run", os.X_OK)


def test_hard_links_and_links_within_the_release_are_made(tmp_path: Path) -> None:
    into(
        tmp_path,
        tar(
            link("deep/down/up", "../../lib"),
            Entry("lib/one"),
            hard_link("two", "lib/one"),
            hard_link("three", "two"),
            link("later", "not/there/yet"),
        ),
    )
    assert (tmp_path / "deep/down/up/one").read_bytes() == b"content"
    assert (tmp_path / "three").stat().st_ino == (tmp_path / "lib/one").stat().st_ino
    assert (tmp_path / "later").is_symlink()


def test_special_bits_and_write_for_others_are_stripped(tmp_path: Path) -> None:
    into(
        tmp_path,
        tar(directory("d", 0o7777), Entry("d/f", mode=0o6777), Entry("secret", mode=0o600), Entry("no", mode=0)),
    )
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("d", "d/f", "secret", "no")}
    assert modes == {"d": 0o755, "d/f": 0o755, "secret": 0o600, "no": 0o600}


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        into(tmp_path, tar(Entry("a/b")))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("packed", "expected"), [(tar(Entry("f")), 1_700_000_000), (zipped(Entry("f")), 1_704_164_646)]
)
def test_times_are_kept_so_that_all_members_serve_the_same_etag(tmp_path: Path, packed: bytes, expected: int) -> None:
    into(tmp_path, packed)
    assert (tmp_path / "f").stat().st_mtime == expected


def test_leading_directories_are_stripped(tmp_path: Path) -> None:
    packed = tar(
        directory("./shop-2.0"),
        Entry("./shop-2.0/bin/run"),
        hard_link("shop-2.0/run", "shop-2.0/bin/run"),
        Entry("README"),
    )
    into(tmp_path, packed, strip=1)
    assert found(tmp_path) == {"bin": "/", "bin/run": "content", "run": "content"}


def test_nothing_left_after_stripping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="holds nothing below 2 leading"):
        into(tmp_path, tar(Entry("a/b")), strip=2)


HOSTILE: dict[str, tuple[Sequence[Entry], str]] = {
    "absolute": ([Entry("/etc/cron.d/x")], "'/etc/cron.d/x' has an absolute path"),
    "absolute directory": ([directory("//x")], "absolute path"),
    "up": ([Entry("../x")], r"'\.\./x' has '\.\.' in its path"),
    "up in the middle": ([Entry("a/../../x")], r"has '\.\.' in its path"),
    "up at the end": ([directory("a/..")], r"has '\.\.' in its path"),
    "link to root": ([link("l", "/")], "link 'l' leads out of the release, to '/'"),
    "link to above": ([link("l", "..")], "link 'l' leads out"),
    "link to above, deep": ([link("a/b/l", "../../../x")], "link 'a/b/l' leads out"),
    # By its text b/../.. stays inside; on a disk b is a link, and it does not.
    "link by way of a link": (
        [link("a/b/deep", "../.."), link("x", "a/b/deep/../y")],
        "link 'x' leads out",
    ),
    "link by way of a later link": (
        [link("x", "a/b/deep/../y"), link("a/b/deep", "../..")],
        "link 'x' leads out",
    ),
    "circle": ([link("a", "b"), link("b", "a")], "goes in circles"),
    "link to nothing": ([link("l", "")], "'l' has no target"),
    "file through a link": (
        [directory("d"), link("l", "d"), Entry("l/f")],
        "'l/f' would replace or go through the link 'l'",
    ),
    "link over a file's directory": (
        [Entry("l/f"), link("l", "d")],
        "'l' would replace or go through the directory 'l'",
    ),
    "file over a link": ([link("l", "f"), Entry("l")], "'l' would replace or go through the link 'l'"),
    "link over a link": ([link("l", "f"), link("l", "g")], "'l' would replace"),
    "the same file twice": ([Entry("f"), Entry("./f")], "'./f' would replace"),
    "file through a file": ([Entry("f"), Entry("f/g")], "'f/g' would replace or go through the file 'f'"),
    "hard link to above": ([hard_link("h", "../x")], "link 'h' leads out"),
    "hard link to root": ([hard_link("h", "/etc/shadow")], "link 'h' leads out"),
    "hard link to nothing": ([hard_link("h", "f")], "hard link 'h' does not lead to a file"),
    "hard link to a link": ([link("l", "f"), Entry("f"), hard_link("h", "l")], "hard link 'h' does not lead to a file"),
    "hard link to itself": ([hard_link("h", "h")], "hard link 'h' does not lead to a file"),
    "fifo": ([Entry("p", tarfile.FIFOTYPE)], "'p' is a device, a pipe"),
    "character device": ([Entry("c", tarfile.CHRTYPE)], "'c' is a device, a pipe"),
    "block device": ([Entry("b", tarfile.BLKTYPE)], "'b' is a device, a pipe"),
    "our own record": ([Entry(".record")], "'.record' has a name that is reserved"),
    "below our own record": ([Entry("./.record/x")], "reserved"),
    "name too long": ([Entry("n" * 300)], "name that is too long"),
    "path too long": ([Entry("/".join(["n" * 100] * 30))], "name that is too long"),
    "too deep": ([Entry("d/" * 200 + "f")], "more than 128 directories deep"),
    "the root itself": ([Entry(".")], "release's own directory"),
}


@pytest.mark.parametrize(("entries", "message"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("on_disk", [True, False], ids=["unpacked", "checked"])
def test_hostile_entries_are_refused_by_name(
    tmp_path: Path, entries: Sequence[Entry], message: str, on_disk: bool
) -> None:
    target = tmp_path / "a/b/target"
    target.mkdir(parents=True)
    with pytest.raises(BadArtefact, match=message):
        into(target if on_disk else None, tar(*entries))
    assert [path for path in tmp_path.rglob("*") if target not in path.parents] == [
        tmp_path / "a",
        tmp_path / "a/b",
        target,
    ]


IN_ZIP = [
    name
    for name, (entries, _message) in HOSTILE.items()
    if all(each.kind in (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE) for each in entries)
]


@pytest.mark.parametrize("name", IN_ZIP)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_entries_in_a_zip_are_refused_by_name(tmp_path: Path, name: str) -> None:
    entries, message = HOSTILE[name]
    with pytest.raises(BadArtefact, match=message):
        into(tmp_path, zipped(*entries))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    packed = bytearray(zipped(Entry("f")))
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadArtefact, match="'f' is encrypted"):
        into(tmp_path, bytes(packed))


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    packed = tar(*(Entry(f"f{number}") for number in range(4)))
    assert into(tmp_path, packed, Limits(entries=4)).entries == 4
    with pytest.raises(BadArtefact, match="more than 3 entries; the first too many is 'f3'"):
        into(None, packed, Limits(entries=3))


@pytest.mark.parametrize("pack", [lambda *all_: gzip.compress(tar(*all_)), zipped], ids=["tar", "zip"])
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, pack: Callable[..., bytes]) -> None:
    packed = pack(Entry("small", content=b"0" * 1000), Entry("bomb", content=b"0" * 10_000_000))
    with pytest.raises(BadArtefact, match="more than 10000 bytes; the limit was passed at 'bomb'"):
        into(tmp_path, packed, Limits(size=10_000))
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_an_announced_size_is_not_believed(tmp_path: Path) -> None:
    packed = bytearray(zipped(Entry("f", content=b"0" * 5000)))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = packed.index(mark) + offset
        packed[start : start + 4] = (10).to_bytes(4, "little")
    with pytest.raises(BadArtefact, match="damaged"):
        into(tmp_path, bytes(packed))


def test_a_header_of_many_megabytes_is_refused(tmp_path: Path) -> None:
    packed = bytearray(tar(Entry("n" * 150)))
    packed[124:136] = b"77777777777\0"
    header = packed[:512]
    header[148:156] = b" " * 8
    packed[148:156] = f"{sum(header):06o}\0 ".encode()
    with pytest.raises(BadArtefact, match="header of 8589934"):
        into(tmp_path, bytes(packed))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    whole = tar(*(Entry(f"f{number}", content=os.urandom(600)) for number in range(8)))
    for part in (0.2, 0.4, 0.55):  # more of a plain tar is padding
        packed = compress(whole)
        with pytest.raises(BadArtefact):
            into(None, packed[: int(len(packed) * part)])


def test_a_tar_that_ends_between_two_entries_is_refused() -> None:
    packed = tar(Entry("a"), Entry("b"))
    with pytest.raises(BadArtefact, match="without its end mark"):
        into(None, packed[:1024])


def test_a_tar_with_a_broken_entry_is_refused() -> None:
    packed = bytearray(tar(Entry("a"), Entry("b")))
    packed[1024:1100] = b"\xff" * 76
    with pytest.raises(BadArtefact, match="damaged"):
        into(None, bytes(packed))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"", "no archive"),
        (b"#!/bin/sh\n" * 200, "no archive"),
        (gzip.compress(b"text" * 500), "no archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd, which is not supported"),
        (b"PK\x03\x04" + bytes(600), "damaged"),
        (b"\x1f\x8b" + bytes(600), "damaged"),
        (bytes(10240), "holds nothing|damaged"),  # Python 3.9 cannot tell
        (zipped(), "holds nothing"),
    ],
    ids=["empty", "script", "text.gz", "zstd", "no zip", "no gzip", "empty tar", "empty zip"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, packed: bytes, message: str) -> None:
    with pytest.raises(BadArtefact, match=message):
        into(tmp_path, packed)


def test_the_file_system_s_own_errors_are_not_called_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        into(tmp_path / "missing", tar(Entry("f")))


_PART = st.sampled_from(["a", "b", "c", ".", "..", "", "\x1b[2J", "e" * 300, "\u00fc", "\\", "C:"])
_NAME = st.lists(_PART, min_size=1, max_size=5).map("/".join).filter(lambda name: len(name) < 600)
_ENTRY = st.builds(
    Entry,
    name=_NAME,
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
    target=_NAME,
    content=st.binary(max_size=20),
    mode=st.integers(0, 0o7777),
)
# Mostly tame entries: an archive with one wild entry is refused as a whole, and would show little.
_TAME_NAME = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
_TAME_TARGET = st.lists(st.sampled_from(["a", "b", "c", "..", "..", "."]), min_size=1, max_size=4).map("/".join)
_TAME = st.builds(
    Entry,
    name=_TAME_NAME,
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
    target=_TAME_TARGET | _TAME_NAME,
    content=st.binary(max_size=20),
    mode=st.integers(0, 0o7777),
)
_PROPERTY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def everything_in(folder: Path) -> list[Path]:
    """Without following links, whose targets may be too long to be looked at."""
    return [Path(where, name) for where, folders, files in os.walk(folder) for name in (*folders, *files)]


def _stays_inside(packed: bytes, strip: int) -> bool:
    """Unpacks below a folder with a bait beside it; whether the archive was taken."""
    with tempfile.TemporaryDirectory() as name:
        outside = Path(os.path.realpath(name))
        target = outside / "releases/one/release"
        target.mkdir(parents=True)
        (outside / "a").write_text("bait")
        (outside / "releases/b").mkdir()
        (outside / "releases/b/c").write_text("bait")
        refusal = ""
        try:
            into(target, packed, strip=strip)
        except BadArtefact as error:
            refusal = error.message
        assert not refusal or refusal.isprintable()
        others = {path for path in everything_in(outside) if target not in path.parents}
        assert {str(path.relative_to(outside)) for path in others} == {
            "a", "releases", "releases/b", "releases/b/c", "releases/one", "releases/one/release",
        }  # fmt: skip
        assert (outside / "a").read_text() == (outside / "releases/b/c").read_text() == "bait"
        for path in everything_in(target):
            # Wherever a link leads on this disk, it is inside.
            assert Path(os.path.realpath(path)).is_relative_to(target)
            facts = path.lstat()
            assert stat.S_ISLNK(facts.st_mode) or not facts.st_mode & 0o7022
            assert stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode) or stat.S_ISLNK(facts.st_mode)
        return not refusal


@_PROPERTY
@given(st.lists(_ENTRY, max_size=6), st.integers(0, 2))
def test_no_archive_writes_outside_of_its_target(entries: list[Entry], strip: int) -> None:
    _stays_inside(tar(*entries), strip)


@_PROPERTY
@given(st.lists(_TAME, min_size=1, max_size=7), st.integers(0, 1))
@example([link("a/b/c", "../.."), link("b", "a/b/c/../a")], 0)
@example([link("a", "b/.."), link("b", "c/c"), directory("c/c")], 0)
def test_no_combination_of_links_leads_outside(entries: list[Entry], strip: int) -> None:
    _stays_inside(tar(*entries), strip)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@_PROPERTY
@given(st.lists(_ENTRY | _TAME, max_size=5), st.integers(0, 2))
def test_no_zip_writes_outside_of_its_target(entries: list[Entry], strip: int) -> None:
    _stays_inside(zipped(*entries), strip)


@_PROPERTY
@given(st.lists(_TAME, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_the_entries_does_not_decide(entries: list[Entry], random: object) -> None:
    other = list(entries)
    random.shuffle(other)  # type: ignore[attr-defined]
    assert _stays_inside(tar(*entries), 0) == _stays_inside(tar(*other), 0)


@_PROPERTY
@given(st.lists(_ENTRY | _TAME, max_size=5))
def test_a_check_refuses_what_unpacking_refuses(entries: list[Entry]) -> None:
    def refusal(target: Path | None) -> str:
        try:
            into(target, tar(*entries))
        except BadArtefact as error:
            return error.message
        return ""

    with tempfile.TemporaryDirectory() as name:
        assert refusal(Path(name)) == refusal(None)


@_PROPERTY
@given(st.binary(max_size=3000), st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00"]))
def test_rubbish_is_a_clear_error(data: bytes, start: bytes) -> None:
    with pytest.raises(BadArtefact):
        into(None, start + data)


@_PROPERTY
@given(st.data())
def test_a_damaged_archive_is_taken_whole_or_not_at_all(data: st.DataObject) -> None:
    packed = bytearray(data.draw(st.sampled_from([tar(*APP), gzip.compress(tar(*APP)), zipped(*APP)])))
    for _number in range(data.draw(st.integers(1, 5))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    _stays_inside(bytes(packed), 0)
