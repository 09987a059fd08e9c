# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the witness."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import sys
from typing import Any, NoReturn

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._processes import alive
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.libraries import (
    MissingLibraryError,
    need_libraries,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.runner import Witness
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.schedule import Kind
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.settings import (
    SettingsError,
    WitnessSettings,
    read_json,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.summary import Summary


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other wrong setting."""
        raise SettingsError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="witness",
        description="Send requests on a fixed schedule, repeat nothing, and count what failed.",
        epilog="Exit code: 0 nothing failed, 1 something failed or could not be sent, 2 bad input.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--settings", metavar="FILE", help="JSON file with any of the settings; options win over it")
    add("--url", help="where to send, http or https")
    add("--rate", help="requests per second")
    add("--duration", help="seconds of sending (3600)")
    add("--max-requests", help="send no more than this many")
    add("--mix", metavar="JSON", help=f"share of each kind of client; kinds: {', '.join(Kind)}")
    add("--timeout", help="seconds for one request, over what its kind is expected to take (10)")
    add("--late-after", help="seconds after its schedule at which a good answer is late (1)")
    add("--header", action="append", metavar="NAME: VALUE", help="add a header to each request")
    add("--ca-file", help="trust these certificates")
    add("--insecure", action="store_const", const=True, help="check no certificate")
    add("--dumb", action="store_const", const=True, help="use idle connections without a look")
    add("--log", metavar="FILE", help="one line for each request; .gz is compressed")
    add("--summary", metavar="FILE", help="the result as JSON")
    add("--status", metavar="FILE", help="live totals as JSON, rewritten twice a second")
    add("--die-with-parent", metavar="PID", help="stop when this process is gone")
    add("--quiet", action="store_const", const=True, help="do not print the sentence")
    return parser


_FLOATS = ("rate", "duration", "timeout", "late_after")
_INTEGERS = ("max_requests", "die_with_parent")


def settings_from(arguments: argparse.Namespace) -> WitnessSettings:
    """Settings from a file and from options; every mistake is a ``SettingsError``."""
    given = {
        name: value
        for name, value in vars(arguments).items()
        if value is not None and name not in ("settings", "quiet", "header")
    }
    for name in _FLOATS + _INTEGERS:
        if name in given:
            given[name] = _number(name, given[name], whole=name in _INTEGERS)
    if "mix" in given:
        try:
            given["mix"] = json.loads(given["mix"])
        except json.JSONDecodeError as exc:
            raise SettingsError(f"mix: is not JSON: {exc}") from None
    data: Any = read_json(arguments.settings, "settings") if arguments.settings else {}
    if not isinstance(data, dict):
        raise SettingsError("settings: must be a JSON object")
    if arguments.header:
        given["headers"] = {**(data.get("headers") or {}), **_headers(arguments.header)}
    return WitnessSettings.from_mapping({**data, **given})


def _number(name: str, text: str, *, whole: bool) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise SettingsError(f"{name}: must be a {'whole ' if whole else ''}number, got {text!r}") from None


def _headers(lines: list[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise SettingsError("header: must look like NAME: VALUE")
        headers[name] = value.strip(" ")
    return headers


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(settings: WitnessSettings) -> Summary:
    witness = Witness(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, witness.stop, number.name)
    return await witness.run()


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; the return value is the exit code."""
    try:
        arguments = _parser().parse_args(argv)
        settings = settings_from(arguments)
        if settings.die_with_parent is not None and not alive(settings.die_with_parent):
            raise SettingsError(f"die_with_parent: no process {settings.die_with_parent}")
        need_libraries()
        _allow_many_connections()
        summary = asyncio.run(_run(settings))
    except (SettingsError, MissingLibraryError, OSError) as exc:
        print(f"witness: {exc}", file=sys.stderr)
        return 2
    if not arguments.quiet:
        print(summary.sentence())
    if summary.log_error:
        print(f"witness: {summary.log_error}", file=sys.stderr)
    return 0 if summary.interrupted and not summary.failed else summary.exit_code


if __name__ == "__main__":
    sys.exit(main())
