# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module ``release``: what its options become, and how its errors leave."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.zerodrop.rollout.plugins.modules import release


def run(capsys: pytest.CaptureFixture[str], check: bool = False, **options: Any) -> dict[str, Any]:
    with patch_module_args({**options, "_ansible_check_mode": check, "_ansible_diff": True}), pytest.raises(SystemExit):
        release.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def archive(folder: Path, name: str = "app") -> dict[str, Any]:
    path = folder / "shop.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        info = tarfile.TarInfo(name)
        info.size = 3
        file.addfile(info, io.BytesIO(b"2.0"))
    return {"source": str(path), "checksum": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"}


def test_a_release_is_installed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"base": str(tmp_path / "shop"), "version": "2.0", **archive(tmp_path)}
    would = run(capsys, check=True, **options)
    assert would["changed"] is True
    assert not (tmp_path / "shop").exists()
    result = run(capsys, **options)
    assert (result["changed"], result["staged"], result["before"], result["after"]) == (True, True, None, "2.0")
    assert result["diff"] == would["diff"] == {"before": {"current": None}, "after": {"current": "2.0"}}
    assert (tmp_path / "shop/current/app").read_text() == "2.0"
    again = run(capsys, **options)
    assert (again["changed"], again["after"]) == (False, "2.0")


def test_every_documented_result_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml = pytest.importorskip("yaml")
    documented = {name for name, each in yaml.safe_load(release.RETURN).items() if each["returned"] == "success"}
    # Packed once: gzip writes the second of the packing into the file, and another checksum is another release.
    options = {"base": str(tmp_path / "shop"), "version": "2.0", **archive(tmp_path)}
    for state in ("staged", "current"):
        result = run(capsys, state=state, **options)
        assert documented <= set(result), result


@pytest.mark.parametrize("name", ["/etc/passwd", "../shop", "a/../../b"])
def test_an_unsafe_archive_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    result = run(capsys, base=str(tmp_path / "shop"), version="2.0", **archive(tmp_path, name))
    assert (result["failed"], result["code"]) == (True, "bad_artefact")
    assert name in result["msg"]
    assert not (tmp_path / "shop").exists()


def test_a_wrong_checksum_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**archive(tmp_path), "checksum": "sha256:" + "0" * 64}
    result = run(capsys, base=str(tmp_path / "shop"), version="2.0", **options)
    assert (result["failed"], result["code"]) == (True, "bad_artefact")
    assert "not sha256:0000" in result["msg"]
    assert os.listdir(tmp_path) == ["shop.tar.gz"]


@pytest.mark.parametrize("version", ["../2.0", "a/b", "2 0", "2.0\n", ""])
def test_a_bad_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str) -> None:
    result = run(capsys, base=str(tmp_path / "shop"), version=version, **archive(tmp_path))
    assert (result["failed"], result["code"]) == (True, "bad_input")
    assert result["hint"] or "non-empty" in result["msg"]


@pytest.mark.parametrize(
    "options", [{"state": "staged"}, {"source": "/tmp/shop.tar"}, {"checksum": "sha256:00"}, {"state": "absent"}]
)
def test_options_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    assert run(capsys, base=str(tmp_path / "shop"), version="2.0", **options)["failed"] is True


def test_the_documentation_has_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = pytest.importorskip("yaml")
    seen: dict[str, Any] = {}

    class Stop(Exception):
        pass

    def module(argument_spec: dict[str, Any], **_: Any) -> None:
        seen.update(argument_spec)
        raise Stop

    monkeypatch.setattr(release, "AnsibleModule", module)
    with pytest.raises(Stop):
        release.main()
    documented = yaml.safe_load(release.DOCUMENTATION)["options"]
    assert {name: each.get("default") for name, each in seen.items()} == {
        name: each.get("default") for name, each in documented.items()
    }
