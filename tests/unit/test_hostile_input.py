# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever is typed, found in a ledger or answered: it is refused, or it stays one harmless value.

Every text that a user can set meets every hostile text. Which of them a setting takes is its own affair, but what
it takes must be harmless where the setting's value goes: on a runtime socket, into a configuration file or a path.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _names
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import Counts
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.haproxy import HAProxyLog
from ansible_collections.zerodrop.rollout.plugins.module_utils._archive import Limits, unpack
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, BadInput, RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy import replies
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import BY_ROLLOUT, Held, Ledger
from ansible_collections.zerodrop.rollout.plugins.module_utils._marks import Marks
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Setting
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.page import html
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import STRATEGIES, Settings
from tests.fuzz.targets import SEEDS, commands, haproxy_replies
from tests.unit.plugins.plugin_utils.report.made import hostile

HOSTILE = {
    "two commands": "shop; shutdown sessions server shop/web1",
    "a line break": "shop\nset server shop/web1 state maint",
    "a carriage return": "shop\rset server shop/web1 state maint",
    "a NUL": "shop\x00evil",
    "an escape of a terminal": "shop\x1b[2Jgone",
    "a tabulator": "shop\tevil",
    "command substitution": "$(touch /tmp/evil)",
    "backticks": "`touch /tmp/evil`",
    "a pipe": "shop|sh",
    "and": "shop && reboot",
    "a redirection": "shop > /etc/passwd",
    "quotes": "shop\"' evil",
    "an end of quotes in a configuration": '" ; include /etc/passwd; #',
    "a template": "{{ lookup('pipe', 'touch /tmp/evil') }}",
    "a statement of a template": "{% set x = 1 %}",
    "the folder above": "../../etc/cron.d/evil",
    "an absolute path": "/etc/cron.d/evil",
    "a path with the folder above": "/opt/../etc/shadow",
    "an option": "--config=/etc/evil",
    "a payload of HAProxy": "<<\nset server",
    "a backslash": "shop\\nevil",
    "a comment": "shop # evil",
    "braces": "shop } server { listen 1;",
    "a wild card": "*",
    "an escape in a URL": "http://h/%0d%0aX-Evil: 1",
    "a header in a URL": "http://h/\r\nX-Evil: 1",
    "another scheme": "file:///etc/shadow",
    "no host": "http:///etc",
    "a script": "<script>alert(1)</script>",
    "what turns text around": "shop\u202eevil",
    "a lone surrogate": "shop\ud800",
    "an emoji": "shop\U0001f600",
    "a letter of another alphabet": "sh\u043ep",
    "a very long text": "a" * 100_000,
}

# Where a setting's value goes, and what it must look like there; the others are read on the controller alone.
WORD = re.compile(r"[A-Za-z0-9_.:@/\[\]+~\\-]*\Z", re.ASCII)
PATH = re.compile(r"/[^\x00-\x1f\x7f]*\Z")
URL = re.compile(r"https?://[^\x00-\x20\x7f]+\Z")
GOES: dict[str, re.Pattern[str]] = {
    **dict.fromkeys(("service", "pool", "version", "archive_unit", "package_name", "package_unit"), WORD),
    **dict.fromkeys(("container_image", "container_digest", "container_unit", "rollback_to"), WORD),
    **dict.fromkeys(
        ("socket", "master_socket", "nginx_config", "nginx_binary", "nginx_pid_file", "archive_base"), PATH
    ),
    **dict.fromkeys(("health_url", "outside_url", "witness_url"), URL),
}
CHECKS: dict[str, Callable[[Any, str], Any]] = {
    each.name: each.metadata["check"] for strategy in STRATEGIES.values() for each in fields(strategy)
} | {each.name: each.metadata["check"] for each in fields(Settings)}


@pytest.mark.parametrize("setting", sorted(CHECKS))
def test_a_setting_refuses_it_or_keeps_it_harmless(setting: str) -> None:
    for text in HOSTILE.values():
        value, refusal = _checked(setting, text)
        if refusal:
            assert f"rollout_{setting}" in refusal, "it is not said which setting is wrong"
            assert "\x1b" not in refusal, "the message plays with the terminal"
        elif isinstance(value, str):
            assert not re.search(r"[\x00-\x1f\x7f]", value)
            if setting in GOES and value:
                assert GOES[setting].match(value), value
                assert ".." not in value.split("/")
                assert not value.startswith("-")


def _checked(setting: str, text: str) -> tuple[Any, str]:
    """What the setting makes of a text, or the words that it refuses it with."""
    try:
        return CHECKS[setting](text, f"rollout_{setting}"), ""
    except BadInput as error:
        return None, str(error)


def test_settings_that_go_somewhere_are_all_looked_at() -> None:
    assert set(GOES) <= set(CHECKS)
    assert len(HOSTILE) * len(CHECKS) > 200


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["pool", "member"])
def test_no_name_becomes_another_command(place: str, text: str) -> None:
    names = {"pool": "shop", "member": "web1", place: text.replace("/", ":")}
    commands(
        f"{names['pool']}/{names['member']}".encode("utf-8", "surrogateescape" if "\ud800" not in text else "replace")
    )


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_stands_in_a_ledger_is_no_more_trusted_than_what_is_typed(text: str, tmp_path: Path) -> None:
    """Somebody who may write the ledger cannot speak to the balancer by it."""
    ledger = Ledger("shop", str(tmp_path))
    name = text.encode("utf-8", "replace").decode()
    with ledger.change() as tables:
        tables.hold([Held("shop", name, BY_ROLLOUT, Setting(Admin.READY, 100), "", 0.0)])
    for member in Marks("shop", "shop", str(tmp_path)).read():
        assert member == name
        commands(f"shop/{member.replace('/', ':')}".encode())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("what", ["service", "version"])
def test_no_name_leaves_its_folder(what: str, text: str) -> None:
    check = getattr(_names, what)
    try:
        value = check(text)
    except BadInput:
        return
    path = (Path("/opt/releases") / value).resolve()
    assert path.parent == Path("/opt/releases")


SECRETS = (
    "htp://user:s3cret@shop.example.com/health",
    "http://user:s3cret@/health",
    "http://user:s3cret@shop.example.com:99999/health",
    "http://user:pa/s3cret@shop.example.com/health",
    "http://user:s3cret@shop.example.com/a b",
    "http://user:s3cret@shop.example.com/\n",
    "user:s3cret@shop.example.com",
    "ftp://shop.example.com/health?token=s3cret",
    "http://shop.example.com:http/health?token=s3cret",
)


@pytest.mark.parametrize("setting", ["health_url", "outside_url", "witness_url"])
@pytest.mark.parametrize("url", SECRETS)
def test_a_message_does_not_repeat_the_secret_of_a_url(setting: str, url: str) -> None:
    with pytest.raises(BadInput) as caught:
        CHECKS[setting](url, f"rollout_{setting}")
    assert "s3cret" not in str(caught.value)


def test_what_is_shown_of_a_url_is_enough_to_find_it() -> None:
    assert _names.shown("http://user:s3cret@shop/health?token=s3cret") == "'http://***@shop/health?...'"
    assert _names.shown("http://shop/health") == "'http://shop/health'"
    assert _names.shown("web1") == "'web1'"
    assert _names.shown(7) == "7"


# --- what comes from outside: archives, answers, lines of logs ---


def words(text: str) -> str:
    """As bytes can carry it."""
    return text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("what", ["name", "target", "content"])
def test_no_archive_writes_outside_of_its_place(what: str, text: str, tmp_path: Path) -> None:
    """It is refused, or what it holds is within the folder of the release."""
    info = tarfile.TarInfo("app")
    content = b"content"
    if what == "name":
        info.name = words(text)
    elif what == "target":
        info.type, info.linkname, content = tarfile.SYMTYPE, words(text), b""
    else:
        content = words(text).encode()
    info.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(content))
    packed.seek(0)
    target = tmp_path / "release"
    target.mkdir()
    try:
        unpack(packed, str(target), Limits(), 0, frozenset())
    except BadArtefact:
        pass
    for path in target.rglob("*"):
        assert os.path.realpath(path).startswith(f"{target}{os.sep}"), path
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


STATE = (SEEDS / "haproxy_replies" / "show-servers-state").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_balancer_s_answer_is_data(text: str) -> None:
    """A server's name that an answer has is refused on its way back, as if it were typed."""
    answer = STATE.replace(" s1 ", f" {words(text)} ")
    haproxy_replies(answer.encode())
    try:
        names = [server.name for server in replies.servers_state(answer, "shop")]
    except RolloutError:
        return
    for name in names:
        commands(f"shop/{name}".encode())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_words_of_a_balancer_are_never_taken_for_success(text: str) -> None:
    assert replies.refusal("set server shop/s1 state maint", words(text)) is not None


LINE = (
    '127.0.0.1:49810 [24/Nov/2026:14:00:32.193] web shop/s1 0/0/0/6/6 200 51 - - ---- 1/1/0/0/0 0/0 "GET {} HTTP/1.1"\n'
)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_line_of_a_log_counts_as_one_request_of_one_member_or_not_at_all(text: str) -> None:
    """What a client sends stands in it: no client may invent requests of a member, or another member."""
    path = words(text).replace("\n", "\\n")  # a log never has a raw one
    for line in (LINE.format(path), LINE.format(path) + path + "\n", path + LINE.format(path)):
        found = Counts(["s1"])
        HAProxyLog("shop").count(line, found)
        assert set(found.members) == {"s1"}
        assert found.members["s1"].requests <= 1
        assert sum(found.members["s1"].kinds.values()) == 0


FORGED = 'shop/s1 0/0/0/-1/1 502 209 - - SH-- 1/1/0/0/0 0/0 "GET / HTTP/1.1"'


JSON = '{"pool":"shop","member":"s1","status":502,"state":"SH--","queue":0,"connect":0,"response":-1,"retries":"0"}'


@pytest.mark.parametrize(
    "where",
    [
        "{" + FORGED + "}",
        "{x] web " + FORGED + "}",
        "{[24/Nov/2026:14:00:32.193] web " + FORGED + "}",
        "{" + JSON + "}",
    ],
)
def test_a_header_that_is_captured_forges_no_request(where: str) -> None:
    """HAProxy logs captured headers as clients send them, quotation marks and blanks included."""
    line = LINE.format("/").replace(' "GET', f' {where} "GET')
    found = Counts(["s1"])
    HAProxyLog("shop").count(line, found)
    assert (found.members["s1"].requests, sum(found.members["s1"].kinds.values())) == (1, 0)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_report_shows_it_as_text(text: str) -> None:
    page = html(hostile(words(text)))
    assert "<script>alert(1)" not in page
