# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The request that reaches the idle slot."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.zerodrop.rollout.plugins.filter.preview_request import FilterModule

ask = FilterModule().filters()["preview_request"]


@pytest.mark.parametrize(
    ("preview", "url", "headers"),
    [
        ("", "http://lb1:80/a?b=c", {}),
        ("header:X-Preview=s3cret", "http://lb1:80/a?b=c", {"X-Preview": "s3cret"}),
        ("cookie:preview=s3cret", "http://lb1:80/a?b=c", {"Cookie": "preview=s3cret"}),
        ("host:new.example.com", "http://lb1:80/a?b=c", {"Host": "new.example.com"}),
        ("port:8081", "http://lb1:8081/a?b=c", {}),
    ],
)
def test_every_kind_of_preview(preview: str, url: str, headers: dict[str, Any]) -> None:
    assert ask(preview, "http://lb1:80/a?b=c") == {"url": url, "headers": headers}


@pytest.mark.parametrize(("preview", "url"), [("nothing", "http://lb1/"), ("port:81", "ftp://lb1/")])
def test_what_is_refused(preview: str, url: str) -> None:
    with pytest.raises(AnsibleFilterError):
        ask(preview, url)
