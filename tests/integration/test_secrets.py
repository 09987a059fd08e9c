# SPDX-License-Identifier: GPL-3.0-or-later

"""A secret in a setting is used, and nobody else gets to see it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from .packages import WebFolder
from .rig import Rig

pytestmark = pytest.mark.lab

SECRET = "s3cret-Xq7"


class Lister:
    """Reads what every process on this machine, and so on every host of the lab, was started with."""

    def __init__(self) -> None:
        self.looks = 0
        self.seen: set[str] = set()
        self._end = threading.Event()

    def _run(self) -> None:
        while not self._end.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    command = path.read_bytes()
                except OSError:
                    continue
                if SECRET.encode() in command:
                    self.seen.add(command.replace(b"\0", b" ").decode(errors="replace"))
            self.looks += 1

    @contextmanager
    def looking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()


def _files_with(folder: Path, secret: str) -> list[str]:
    done = subprocess.run(["grep", "-rlaF", "--", secret, str(folder)], capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if "/settings.json" not in line]  # where the test keeps it


def test_no_secret_of_a_url_is_shown_or_kept(rig: Rig) -> None:
    release = rig.archive("2.0")
    path = Path(release["rollout_archive_src"])
    lister = Lister()
    with closing(WebFolder(path.parent, rig.lab.controller)) as web, lister.looking():
        run = rig.rollout(
            release,
            rollout_archive_src=f"{web.url}{path.name}?token={SECRET}".replace("://", f"://ci:{SECRET}@"),
            rollout_health_url=f"http://probe:{SECRET}@127.0.0.1:8080/health?token={SECRET}",
            rollout_outside_url=f"{rig.lab.url}/?token={SECRET}",
            rollout_witness_url=f"{rig.lab.url}/?token={SECRET}",
            rollout_batches=[3],
            options=["-vv", "--diff"],
        )
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on("2.0")
    assert lister.looks > 20
    assert not lister.seen
    assert SECRET not in run.output
    assert _files_with(run.folder, SECRET) == []
    for host in (*rig.lab.balancers, *rig.lab.members):
        assert _files_with(rig.root(host) / "var/lib/zerodrop", SECRET) == [], f"it lies on {host.name}"
        assert rig.leftovers(host) == []
        said = rig.lab.exec(host, ["journalctl", "--no-pager", "-q", "--since=-10min"], check=False).stdout
        assert SECRET not in said, f"it is in the journal of {host.name}"


def test_a_failure_does_not_tell_it_either(rig: Rig) -> None:
    run = rig.rollout(
        rig.archive("2.0", never_healthy=True),
        rollout_health_url=f"http://probe:{SECRET}@127.0.0.1:8080/health?token={SECRET}",
        rollout_health_timeout=2,
        rollout_batches=[3],
        options=["-vv", "--diff"],
    )
    assert run.rc != 0
    assert run.report["outcome"] == "rolled_back", str(run)
    assert SECRET not in run.output
    assert _files_with(run.folder, SECRET) == []
