"""Labs come up fresh, do not disturb each other and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import lab

from .helpers import leftovers, request, wait_for

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
NewPrefix = Callable[[], str]


def _cli(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lab", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run(*arguments: str) -> tuple[int, str]:
    with _cli(*arguments) as process:
        output, _unused = process.communicate(timeout=60)
        return process.returncode, output


def test_two_labs_side_by_side(small_lab: lab.Lab, new_prefix: NewPrefix) -> None:
    description = lab.Description(prefix=new_prefix(), members=1, version="7.0", sticky="cookie", state_file=True)
    with lab.running(description) as other:
        assert other.subnet != small_lab.subnet
        assert request(other.balancers[0].address, "/").headers["x-version"] == "7.0"
        assert "set-cookie" in request(other.balancers[0].address, "/").headers
        assert request(small_lab.balancers[0].address, "/").headers["x-version"] == "1.0"
    assert leftovers(f"zerodrop.id={other.id}") == ""
    assert not other.directory.exists()
    assert request(small_lab.balancers[0].address, "/").status == 200


def test_a_name_in_use_is_refused_and_its_lab_left_alone(small_lab: lab.Lab, tmp_path: Path) -> None:
    with pytest.raises(lab.LabError, match="already up"):
        lab.up(lab.Description(prefix=small_lab.name, members=1), tmp_path / "new")
    with pytest.raises(lab.LabError, match="already up in"):
        lab.up(lab.Description(prefix="other", members=1), small_lab.directory)
    with pytest.raises(lab.LabError, match="is in use"):
        lab.up(lab.Description(prefix="other", members=1, subnet=small_lab.subnet), tmp_path / "new")
    assert request(small_lab.balancers[0].address, "/").status == 200


def test_nothing_is_left_when_the_body_fails(tmp_path: Path, new_prefix: NewPrefix) -> None:
    prefix = new_prefix()
    with (
        pytest.raises(ZeroDivisionError),
        lab.running(lab.Description(prefix=prefix, members=1, balancers=0), tmp_path / "lab"),
    ):
        raise ZeroDivisionError
    assert leftovers(f"zerodrop.lab={prefix}") == ""
    assert not (tmp_path / "lab").exists()


def test_nothing_is_left_when_it_does_not_come_up(tmp_path: Path, new_prefix: NewPrefix) -> None:
    prefix = new_prefix()
    (tmp_path / "mine").write_text("kept", encoding="ascii")
    # HAProxy refuses its configuration, so the balancer is never ready.
    description = lab.Description(prefix=prefix, members=0, global_lines=("no-such-keyword",))
    with pytest.raises(lab.LabError, match="healthy members behind lb1") as error:
        lab.up(description, tmp_path, timeout=3)
    assert "no-such-keyword" in str(error.value)
    assert leftovers(f"zerodrop.lab={prefix}") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["id_ed25519", "inventory.yml", "hosts"])
def test_a_directory_with_files_of_somebody_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine", encoding="ascii")
    with pytest.raises(lab.LabError, match="is there already"):
        lab.up(lab.Description(members=1), tmp_path)
    assert (tmp_path / name).read_text(encoding="ascii") == "mine"


def test_up_and_down_on_the_command_line(tmp_path: Path, new_prefix: NewPrefix) -> None:
    prefix = new_prefix()
    directory = str(tmp_path / "lab")
    code, output = _run("up", "--prefix", prefix, "--members", "1", "--dir", directory)
    assert code == 0, output
    loaded = lab.load(Path(directory))
    assert loaded.name == prefix
    assert [host.name for host in loaded.hosts] == ["lb1", "web1"]
    assert f"{prefix}\t{loaded.subnet}\t{directory}\n" in _run("list")[1]
    code, output = _run("release", "2.0", "--dir", directory, "--never-healthy")
    assert code == 0
    assert output.split("\t")[1].strip() == loaded.release("2.0", never_healthy=True).sha256
    # Its process is gone, but it belongs to none: another lab does not take it down.
    lab.reap()
    assert leftovers(f"zerodrop.id={loaded.id}") != ""
    assert _run("down", "--dir", directory)[0] == 0
    assert leftovers(f"zerodrop.id={loaded.id}") == ""
    assert not Path(directory).exists()
    assert _run("down", "--dir", directory)[0] == 0
    lab.down(loaded)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_a_signal_while_it_comes_up(
    tmp_path: Path, new_prefix: NewPrefix, number: signal.Signals
) -> None:
    prefix = new_prefix()
    directory = tmp_path / "lab"
    with _cli("up", "--prefix", prefix, "--members", "3", "--dir", str(directory)) as process:
        wait_for(lambda: leftovers(f"zerodrop.lab={prefix}"))
        time.sleep(0.3)
        process.send_signal(number)
        output, _unused = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert leftovers(f"zerodrop.lab={prefix}") == ""
    assert not directory.exists()


_OWNER = """
import sys, time
from pathlib import Path
import lab
with lab.running(lab.Description(prefix=sys.argv[1], members=1, balancers=0), Path(sys.argv[2])):
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_lab_ends_with_its_owner(tmp_path: Path, new_prefix: NewPrefix, number: signal.Signals) -> None:
    prefix = new_prefix()
    command = [sys.executable, "-c", _OWNER, prefix, str(tmp_path / "lab")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        lab.reap()
        assert leftovers(f"zerodrop.lab={prefix}") != ""
        process.send_signal(number)
        process.wait(30)
    if number == signal.SIGKILL:  # nobody could clean up; whoever comes next does
        assert leftovers(f"zerodrop.lab={prefix}") != ""
        lab.reap()
    assert leftovers(f"zerodrop.lab={prefix}") == ""
    assert not (tmp_path / "lab").exists()


def test_ansible_reads_the_inventory(small_lab: lab.Lab) -> None:
    ansible = Path(sys.executable).with_name("ansible-inventory")
    if not ansible.exists():
        pytest.skip("no ansible beside this Python")
    done = subprocess.run(
        [str(ansible), "-i", str(small_lab.inventory), "--graph"], capture_output=True, text=True, check=True
    )
    assert [word for word in done.stdout.replace("|", " ").split() if word.startswith("--")] == [
        *("--@ungrouped:", "--@shop:", "--web1", "--web2", "--@lb:", "--lb1")
    ]
