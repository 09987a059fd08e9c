# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The request that reaches the idle slot, from what a preview is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ansible.errors import AnsibleFilterError

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import http_url
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import Preview

DOCUMENTATION = r"""
name: preview_request
short_description: The request that reaches the idle slot of blue/green
version_added: 0.1.0
author:
  - "zerodrop.rollout contributors (@zerodrop)"
description:
  - Turns what sets a preview apart into the URL and the headers of a request, as P(ansible.builtin.uri#module) takes them.
positional: _input, url
options:
  _input:
    description: What sets the requests apart, as C(rollout_preview) has it.
    type: str
    required: true
  url:
    description: The URL through a balancer, as any client has it.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Ask the idle slot
  ansible.builtin.uri:
    url: "{{ request.url }}"
    headers: "{{ request.headers }}"
  vars:
    request: "{{ 'header:X-Preview=s3cret' | zerodrop.rollout.preview_request('http://lb1/') }}"
"""

RETURN = r"""
_value:
  description: The C(url) and the C(headers).
  type: dict
  sample: {"url": "http://lb1/", "headers": {"X-Preview": "s3cret"}}
"""


def preview_request(preview: str, url: str) -> dict[str, Any]:
    """The URL and the headers; raises ``AnsibleFilterError``."""
    try:
        found = Preview.parse(str(preview), "the preview")
        parts = urlsplit(http_url(str(url), "the URL"))
    except BadInput as error:
        raise AnsibleFilterError(str(error)) from None
    if found.kind == "port":
        return {"url": urlunsplit(parts._replace(netloc=f"{parts.hostname}:{found.value}")), "headers": {}}
    headers = {
        "": {},
        "header": {found.name: found.value},
        "cookie": {"Cookie": f"{found.name}={found.value}"},
        "host": {"Host": found.value},
    }
    return {"url": urlunsplit(parts), "headers": headers[found.kind]}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"preview_request": preview_request}
