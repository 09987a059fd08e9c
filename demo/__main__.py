"""The demo on the command line: make demo, make demo VERSION=broken, make demo KEEP=1."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lab
from lab import Description, Lab, LabError, prerequisites

from . import output, playbook, proof, site_files

FOLDER = Path(".build/demo")
BROKEN = "broken"
OLD = "1.0"


def parser() -> argparse.ArgumentParser:
    """The command and its options."""
    top = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    top.add_argument("version", nargs="?", default="2.0", help=f"what to roll out; {BROKEN!r} never gets healthy")
    top.add_argument("--keep", action="store_true", help="leave the lab up")
    top.add_argument("--dir", type=Path, default=FOLDER, help="where the files go (%(default)s)")
    top.add_argument("--prefix", default="demo", help="the lab's name (%(default)s)")
    return top


@contextmanager
def fleet(description: Description, folder: Path, keep: bool) -> Iterator[Lab]:
    """The lab; taken down at the end, or after a failure when it was to be kept."""
    if not keep:
        with lab.running(description, folder) as running:
            yield running
        return
    running = lab.up(description, folder)
    try:
        yield running
    except BaseException:
        lab.down(running)
        raise


def demo(arguments: argparse.Namespace) -> int:
    """Show it; 0 when everything was shown."""
    version, broken = arguments.version, arguments.version == BROKEN
    folder: Path = arguments.dir.resolve()
    prerequisites.ensure()
    lab.reap()  # a demo that was killed left its servers up
    output.heading("Six servers behind HAProxy, each with systemd and SSH of its own, as containers")
    output.say("The first time their images are built, which takes minutes; then they start in seconds.")
    description = Description(
        prefix=arguments.prefix, members=6, balancers=1, version=OLD, sticky="cookie", check_fall=5
    )
    with fleet(description, folder, arguments.keep) as running:
        shown = rollout(running, version, broken)
    if arguments.keep:
        say_kept(running)
    if not shown:
        output.heading("The demo did NOT show what it should: see the lines marked NO above.")
        return 1
    output.heading(f"Done in {output.seconds():.1f} s." + ("" if arguments.keep else " The servers are gone again."))
    if not broken and not arguments.keep:
        output.say("Next: make demo VERSION=broken, a version that never gets healthy, on the same fleet.")
    return 0


def rollout(running: Lab, version: str, broken: bool) -> bool:
    """Run the rollout under load and look at what became of it."""
    running.release(OLD)
    running.release(version, never_healthy=broken)
    site_files.lay_out(running)
    folder = running.directory
    arguments = playbook.command(version, site_files.EXTRAS)

    output.heading(f"{running.url} serves version {OLD}. The whole configuration of its rollouts, group_vars/all.yml:")
    output.show(site_files.lines_of(folder / site_files.SETTINGS))
    output.say(
        "And what is special here, demo.yml: two members at a time, how the health answer names its version, and a "
        f"witness: a client that sends {site_files.RATE} requests a second of every kind, repeats none, and counts."
    )
    output.show(site_files.lines_of(folder / site_files.EXTRAS))

    if broken:
        output.heading(f"Rolling out {version!r}, a version that starts but never gets healthy, under that load")
        output.say(
            "Why it matters: the first batch must not reach a client, must go back, and the others must not start."
        )
    else:
        output.heading(f"Rolling out {version} under that load")
        output.say("Why it matters: this service dies at once when it is restarted, with all that it is doing.")
    output.show([playbook.typed(folder, arguments)])
    before = proof.reports(folder)
    code = playbook.run(folder, arguments)
    path = proof.newest_report(folder, before)
    if path is None:
        output.say(f"ansible-playbook ended with {code} and left no report.")
        return False

    try:
        found = proof.gather(running, path)
    except (OSError, ValueError, KeyError) as error:
        output.say(f"What became of it is not known: {error!r}.")
        return False
    output.heading("What the run says at its end, and what the report says to programs:")
    output.say(str(found.report["sentence"]))
    output.show([str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)])
    output.heading("Looked at from outside:")
    outcome, left = ("rolled_back", OLD) if broken else ("succeeded", version)
    facts = proof.facts(found, outcome, left)
    facts.append(proof.Fact((code == 0) is not broken, f"ansible-playbook ended with exit code {code}"))
    if broken:
        facts.append(proof.untouched(found))
    for fact in facts:
        output.verdict(fact.holds, fact.text)
    for remark in proof.remarks(found):
        output.say(remark)
    return all(fact.holds for fact in facts)


def say_kept(running: Lab) -> None:
    """How to look at a lab that stays, and how to end it."""
    output.heading("The servers stay up, as you asked.")
    output.show(
        [
            f"curl {running.url}/",
            f"ssh -i {running.key} root@{running.members[0].address}",
            f"podman exec -it {running.members[0].container} bash",
            f"python3 -m lab down --prefix {running.name}    # takes them down, from this folder",
        ]
    )
    output.say("Rollouts can be repeated with the command line above, also back to 1.0.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the return value is the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return demo(arguments)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped; the servers are gone again", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
