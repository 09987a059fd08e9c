"""The lab on the command line: python3 -m lab COMMAND."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from . import balancers, images, lifecycle, owner, prerequisites, releases
from .description import Description
from .errors import LabError
from .model import load
from .progress import say
from .recipes import MEMBERS, database, member
from .signals import ending
from .switches import Switches


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python3 -m lab", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    commands.add_parser("check", help="say in one line what is missing here")

    one = commands.add_parser("images", help="build the images that are missing")
    one.add_argument("balancer", nargs="*", help="generations, e.g. haproxy-2.6; the default lab's when none is given")
    one.add_argument("--prune", action="store_true", help="remove images of older recipes")

    plain = Description()
    one = commands.add_parser("up", help="bring a lab up")
    one.add_argument("--prefix", default=plain.prefix, help="the lab's name (%(default)s)")
    one.add_argument("--dir", type=Path, required=True, help="where it leaves its files")
    one.add_argument("--members", type=int, default=plain.members)
    one.add_argument("--balancers", type=int, default=plain.balancers)
    one.add_argument("--balancer", choices=sorted(balancers.known()), help="kind and generation, e.g. nginx-1.26")
    one.add_argument("--haproxy", default=plain.haproxy, help="generation of HAProxy")
    one.add_argument("--nginx", help="generation of nginx, instead of HAProxy")
    one.add_argument("--nginx-links", action="store_true", help="nginx whose members are switched by links")
    one.add_argument("--slots", action="store_true", help="two slots, blue and green, of half the members each")
    one.add_argument("--pool", default=plain.pool)
    one.add_argument("--subnet", help="a /24; picked free when not given")
    one.add_argument("--version", default=plain.version, help="release installed at first")
    one.add_argument("--sticky", choices=["cookie"])
    one.add_argument("--tcp", action="store_true", help="a TCP pool too, behind port 81")
    one.add_argument("--state-file", action="store_true", help="HAProxy's server-state-file")
    one.add_argument("--owner", type=int, help="process the lab must not outlive")

    one = commands.add_parser("down", help="take a lab down")
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("--dir", type=Path)
    which.add_argument("--prefix")

    commands.add_parser("list", help="the labs on this machine")

    one = commands.add_parser("release", help="make a release of the sample service")
    one.add_argument("version")
    one.add_argument("--dir", type=Path, required=True)
    for field in fields(Switches):
        flag = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            one.add_argument(flag, action="store_true")
        else:
            one.add_argument(flag, type=type(field.default), default=field.default)
    return top


def check(_arguments: argparse.Namespace) -> int:
    """Can the lab run here?"""
    problem = prerequisites.verdict(prerequisites.look())
    print(problem or "everything the lab needs is here")
    return 1 if problem else 0


def build(arguments: argparse.Namespace) -> int:
    """Build what is missing."""
    started = time.monotonic()
    prerequisites.ensure()
    wanted = arguments.balancer or [Description().generation]
    images.ensure([member(), *(balancers.find(name).recipe for name in wanted)])
    if arguments.prune:
        for name in images.prune(
            [database(), *(kind() for kind in MEMBERS.values()), *(g.recipe for g in balancers.known().values())]
        ):
            say(f"removed {name}")
    say(f"all images are there ({time.monotonic() - started:.1f} s)")
    return 0


def up(arguments: argparse.Namespace) -> int:
    """Bring a lab up and say where everything is."""
    started = time.monotonic()
    names = {field.name for field in fields(Description)} & set(vars(arguments))
    chosen = {name: getattr(arguments, name) for name in names}
    if arguments.balancer:
        kind, _dash, version = arguments.balancer.partition("-")
        chosen[kind] = version
    description = Description(**chosen)
    lab = lifecycle.up(description, arguments.dir, owner_pid=arguments.owner)
    say(f"{lab.name} is up ({time.monotonic() - started:.1f} s)")
    for host in lab.hosts:
        print(f"{host.name}\t{host.role}\t{host.address}")
    print(f"inventory\t{lab.inventory}")
    if lab.balancers:
        print(f"url\t{lab.url}")
    return 0


def down(arguments: argparse.Namespace) -> int:
    """Take a lab down; not an error when there is none."""
    if arguments.dir:
        directory = arguments.dir.resolve()
        if (directory / "lab.json").exists():
            lifecycle.down(load(directory))
            return 0
        chosen = [lab for lab in lifecycle.listing() if lab["dir"] == str(directory)]
    else:
        chosen = [lab for lab in lifecycle.listing() if lab["name"] == arguments.prefix]
    for lab in chosen:
        lifecycle.discard(lab["id"], Path(lab["dir"]))
    if not chosen:
        say("there is no such lab; nothing to take down")
    return 0


def show(_arguments: argparse.Namespace) -> int:
    """One line for each lab."""
    for lab in lifecycle.listing():
        state = ""
        if lab["owner"]:
            pid = lab["owner"].partition(".")[0]
            state = f"owner {pid}" + ("" if owner.alive(lab["owner"]) else " (gone)")
        print("\t".join([lab["name"], lab["subnet"], lab["dir"], state]).rstrip())
    return 0


def release(arguments: argparse.Namespace) -> int:
    """Make a release; print its path and its checksum."""
    switches = Switches(**{f.name: getattr(arguments, f.name) for f in fields(Switches)})
    made = releases.build(arguments.dir / "artifacts", arguments.version, switches)
    print(f"{made.path}\t{made.sha256}")
    return 0


COMMANDS = {
    "check": check,
    "images": build,
    "up": up,
    "down": down,
    "list": show,
    "release": release,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    arguments = parser().parse_args(argv)
    try:
        with ending():
            return COMMANDS[arguments.command](arguments)
    except LabError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
