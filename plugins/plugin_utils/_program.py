# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations as a self-contained program for a host's Python.

The program and its requests go over standard input of an interpreter, so that
nothing is copied to the host, nothing of it is left there, and no parameter
ever reaches a shell. It answers one request after another and ends with its
input. Its modules come as source, and beside that compiled for hosts with this
Python, for whom compiling would take longer than the work.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import marshal
import re
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadReply
from ansible_collections.zerodrop.rollout.plugins.module_utils._operations import OPERATIONS, PACKAGE

_UTILS = Path(__file__).resolve().parent.parent / "module_utils"
_IMPORT = re.compile(
    rf"^([^\S\n]*)(?:from|import)\s+{re.escape(PACKAGE)}([\w.]+)(?:\s+import\s+([\w, ]+))?", re.MULTILINE
)
_IMPORT_FROM_PACKAGE = re.compile(
    rf"^([^\S\n]*)from\s+{re.escape(PACKAGE[:-1])}\s+import\s+(?:\(([^)]*)\)|([\w, ]+))", re.MULTILINE
)

# What the interpreter is started with: read a counted block, run it; the rest of standard input is for the block.
BOOT = "import sys,zlib;i=sys.stdin.buffer;exec(zlib.decompress(i.read(int(i.readline()))))"

# Where a member's releases are kept, by the parameter that says so, and the module for them.
_OF_MEMBERS = {"base": "_release", "package": "_package", "engine": "_container"}

# Dozens of hosts are asked at once, and it takes tens of milliseconds to put a program together.
_ONE_AT_A_TIME = threading.Lock()

# Marks the answer's line, since a login shell may print a banner before it.
MARK = "zerodrop-answer:"

_MAIN = '''
import json, marshal, os, sys, zlib
from _frozen_importlib_external import MAGIC_NUMBER
from importlib.machinery import ModuleSpec  # importlib.abc would load a dozen modules, for longer than the work takes

class _Sources:
    """Serves the modules that came along, and the empty packages above them."""

    def find_spec(self, name, path=None, target=None):
        package = any(each.startswith(name + ".") for each in SOURCES)
        return ModuleSpec(name, self, origin="<zerodrop>", is_package=package) if package or name in SOURCES else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        code = COMPILED.get(module.__name__)
        code = code or compile(SOURCES.get(module.__name__, ""), module.__name__, "exec", dont_inherit=True)
        exec(code, module.__dict__)

magic, length = i.readline().split()
compiled = i.read(int(length))
COMPILED = marshal.loads(zlib.decompress(compiled)) if magic.decode() == MAGIC_NUMBER.hex() else {}
sys.meta_path.insert(0, _Sources())
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._operations import operation
for line in sys.stdin.buffer:
    request = json.loads(line.decode("utf-8"))
    SOURCES.update(request["sources"])
    try:
        answer = {"result": operation(request["operation"])(request["params"], request["check"])}
    except RolloutError as error:
        answer = {"error": error.to_dict()}
    except Exception as error:
        import traceback
        answer = {"error": {"code": "error", "message": "unexpected: %s: %s" % (type(error).__name__, error),
                            "hint": "This is a bug; please report it.", "facts": {"traceback": traceback.format_exc()}}}
    sys.stdout.write("\\n" + MARK + json.dumps(answer) + "\\n")
    sys.stdout.flush()
os._exit(0)  # nothing is left to be done, and taking an interpreter down in order takes longer than many an operation
'''


def _sources(operation: str) -> Mapping[str, str]:
    """The modules that an operation may need, by their full names."""
    with _ONE_AT_A_TIME:
        return _sources_with(OPERATIONS[operation])


@functools.cache
def _sources_with(module: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name in ("_errors", "_operations", module):
        _collect(name, found)
    return {PACKAGE + name: source for name, source in found.items()}


def opening(operation: str, params: Mapping[str, Any]) -> bytes:
    """What starts a program that can run this operation, and whatever it is sent later: two counted blocks.

    The second has the modules that it is sure to need, compiled.
    """
    with _ONE_AT_A_TIME:
        return _opening_with(OPERATIONS[operation]) + _compiled_with(_sure_to_need(operation, params))


def _sure_to_need(operation: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """The operation's module, a balancer's driver, and what a member that is looked at will be upgraded with."""
    names = ["_errors", "_operations", OPERATIONS[operation]]
    driver = str(params.get("driver") or "")
    if driver.isidentifier():
        names += [f"_drivers.{path.stem}" for path in sorted(_UTILS.glob(f"_drivers/{driver}*.py"))]
    if operation == "member_info":
        names.append("_member_sockets")
        names += [module for param, module in _OF_MEMBERS.items() if params.get(param)]
    return tuple(names)


def sources_alone(operation: str) -> bytes:
    """The same for a program that lies on a disk until it is needed: half as long."""
    with _ONE_AT_A_TIME:
        return _opening_with(OPERATIONS[operation]) + b"none 0\n"


@functools.cache
def _opening_with(module: str) -> bytes:
    program = f"SOURCES = {dict(_sources_with(module))!r}\nMARK = {MARK!r}\n{_MAIN}"
    data = zlib.compress(program.encode())
    return b"%d\n" % len(data) + data


@functools.cache
def _compiled_with(modules: tuple[str, ...]) -> bytes:
    found: dict[str, str] = {}
    for name in modules:
        _collect(name, found, at_once=True)
    compiled = {
        PACKAGE + name: compile(source, PACKAGE + name, "exec", dont_inherit=True, optimize=2)
        for name, source in found.items()
    }
    data = zlib.compress(marshal.dumps(compiled))
    return b"%s %d\n" % (importlib.util.MAGIC_NUMBER.hex().encode(), len(data)) + data


def _collect(name: str, sources: dict[str, str], at_once: bool = False) -> None:
    """Add a private module util and what it imports, by its dotted name below ``module_utils``.

    With ``at_once`` only what is imported with it, and not what a function of it imports when it is called.
    """
    if name in sources:
        return
    path = _UTILS.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        return  # an attribute of a module, not a module
    source = file.read_text(encoding="utf-8")
    if path.is_dir() and not source.strip():
        source = ""
    sources[name] = source
    for indent, dotted, names in _IMPORT.findall(source):
        if indent and at_once:
            continue
        _collect(dotted, sources, at_once)
        for each in filter(None, (part.strip() for part in names.split(","))):
            _collect(f"{dotted}.{each}", sources, at_once)
    for indent, parenthesised, plain in _IMPORT_FROM_PACKAGE.findall(source):
        if indent and at_once:
            continue
        for each in filter(None, (part.strip() for part in (parenthesised or plain).split(","))):
            _collect(each.split(" ")[0], sources, at_once)


def request(operation: str, params: Mapping[str, Any], check: bool, known: set[str]) -> bytes:
    """One request as a line; ``known`` are the operations whose modules the program has, and grows."""
    there = {name for each in known for name in _sources(each)}
    lacking = {name: source for name, source in _sources(operation).items() if name not in there}
    known.add(operation)
    line = {"operation": operation, "params": params, "check": check, "sources": lacking}
    return json.dumps(line).encode() + b"\n"


def standard_input(operation: str, params: Mapping[str, Any], check: bool) -> bytes:
    """What an interpreter that was started with ``BOOT`` is to read for a single operation."""
    return opening(operation, params) + request(operation, params, check, {operation})


def answer(output: bytes | str) -> dict[str, Any]:
    """The answer in a program's output: ``{"result": …}`` or ``{"error": …}``; raises ``BadReply``."""
    text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    for line in reversed(text.splitlines()):
        if line.startswith(MARK):
            try:
                data = json.loads(line[len(MARK) :])
            except ValueError as error:
                raise BadReply(f"The host's answer is cut off: {error}.") from error
            if isinstance(data, dict) and ("result" in data or "error" in data):
                return data
    raise BadReply("The host gave no answer.")
