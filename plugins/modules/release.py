#!/usr/bin/python
# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release
short_description: Install a release of a service from an archive, and make it the current one
version_added: 0.1.0
description:
  - Keeps the releases of one service side by side under O(base), each in C(releases/VERSION), with the link C(current) to the
    one that is in use. A release gets its name only when it is complete and on the disk, and C(current) is replaced in one
    step, so that neither a crash nor a full disk leaves something half done under a name that a service would use.
  - The archive's checksum is verified before it is unpacked, and the archive is not trusted even then. Absolute paths, C(..),
    links that lead out of the release, names that come twice, devices and pipes are refused; setuid bits and write permission
    for others are removed; owners in the archive are ignored.
  - After a switch it restarts O(unit) and waits until systemd says that it is active. Whether the service is healthy is for
    M(zerodrop.rollout.health_gate) to tell.
  - A switch that was interrupted before its restart succeeded is finished by the next run.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
extends_documentation_fragment:
  - zerodrop.rollout._attributes
options:
  base:
    description:
      - The directory of this service's releases, for example C(/opt/shop). It is made where it is missing.
      - It belongs to this module. A C(current) in it that is not a link to one of its releases is an error.
    type: path
    required: true
  version:
    description:
      - The release's version. It names its directory, so it starts with a letter or digit and has no slash, space or C(..).
    type: str
    required: true
  state:
    description:
      - With V(staged) the release is unpacked beside the one in use, which stays as it is.
      - With V(current) it is in use afterwards. It is staged first when O(source) is given.
    type: str
    choices: [staged, current]
    default: current
  source:
    description:
      - The archive, as an absolute path on the managed host or as an C(http://) or C(https://) URL.
      - A tar file, plain or compressed with gzip, bzip2 or xz, or a zip file. Its content decides, not its name.
      - Not looked at when the release is there already with the same checksum.
    type: str
  checksum:
    description:
      - The archive's checksum, such as V(sha256:9f86d0...), with C(sha256), C(sha384) or C(sha512).
      - A release never changes. When the version is there with another checksum the module fails; publish other content under
        another version.
    type: str
  remove_source:
    description:
      - Remove the archive afterwards, also when it was refused. Only for a O(source) that is a path.
    type: bool
    default: false
  strip_components:
    description:
      - So many leading directories of every name in the archive are left out. A leading C(./) does not count.
    type: int
    default: 0
  owner:
    description:
      - The user who is to own the release with all that is in it, by name or number.
      - Without it the files belong to the user that the module runs as, which keeps the service from changing its own code.
    type: str
  group:
    description:
      - The same for the group.
    type: str
  mode:
    description:
      - The permissions of the release's own directory, four octal digits in quotes. Use V(0750) to keep other users out.
      - What is in it keeps the permissions that the archive says, as far as they are safe.
    type: str
    default: "0755"
  timeout:
    description:
      - The most seconds that fetching O(source) from a URL may take, or waiting for another run on the same O(base).
    type: float
    default: 300
  validate_certs:
    description:
      - Whether the certificate of an C(https://) O(source) must be valid.
    type: bool
    default: true
  max_bytes:
    description:
      - The most bytes that the archive may have, and also that it may unpack to.
    type: int
    default: 4294967296
  max_entries:
    description:
      - The most files, directories and links that it may hold.
    type: int
    default: 100000
  unit:
    description:
      - The systemd unit of the service. Its file must be on the host already.
    type: str
  restart:
    description:
      - Restart O(unit) when the release changes, when it is not active, or when an earlier run was interrupted before it did.
    type: bool
    default: true
  restart_timeout:
    description:
      - The most seconds that the restart may take, the stop of the old processes included.
    type: float
    default: 60
  keep:
    description:
      - So many of the newest releases are kept when the release changes; older ones are removed. The current release, the one
        before it and those of O(protect) stay in any case.
    type: int
    default: 5
  protect:
    description:
      - Versions that are never removed.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    details:
      - A O(source) on the host is verified and looked through as if it were unpacked; one at a URL is not fetched.
  diff_mode:
    support: full
requirements:
  - systemd on the managed host, when O(unit) is given
notes:
  - A password in a URL is sent to that server only, not to where it redirects. The proxy settings of the environment are used.
  - It works for any user who may write to O(base); to change owners or to restart a unit of the system takes C(become).
seealso:
  - module: zerodrop.rollout.health_gate
"""

EXAMPLES = r"""
- name: Unpack version 2.0 beside the one in use
  zerodrop.rollout.release:
    base: /opt/shop
    version: "2.0"
    source: https://artefacts.example.com/shop-2.0.tar.gz
    checksum: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    state: staged

- name: Use it, and restart the service
  zerodrop.rollout.release:
    base: /opt/shop
    version: "2.0"
    unit: shop.service

- name: Both at once, from a file that was copied to the host
  zerodrop.rollout.release:
    base: /opt/shop
    version: "2.0"
    source: /var/tmp/shop-2.0.tar.gz
    checksum: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    remove_source: true
    strip_components: 1
    owner: root
    group: shop
    mode: "0750"
    unit: shop.service
    keep: 3

- name: Go back
  zerodrop.rollout.release:
    base: /opt/shop
    version: "1.0"
    unit: shop.service
"""

RETURN = r"""
version:
  description: The version that was asked for.
  type: str
  returned: success
  sample: "2.0"
directory:
  description: The release's directory.
  type: str
  returned: success
  sample: /opt/shop/releases/2.0
staged:
  description: Whether this run staged the release.
  type: bool
  returned: success
before:
  description: The version that was current before, or null.
  type: str
  returned: success
  sample: "1.0"
after:
  description: The version that is current now, or null.
  type: str
  returned: success
  sample: "2.0"
previous:
  description: The version that the current one replaced, which is the one to go back to; or null.
  type: str
  returned: success
  sample: "1.0"
restarted:
  description: Whether this run restarted the unit.
  type: bool
  returned: success
unit:
  description: The unit after its restart.
  type: dict
  returned: when the unit was restarted
  sample:
    name: shop.service
    active: true
    state: active (running)
    load: loaded
pruned:
  description: Versions that were removed.
  type: list
  elements: str
  returned: success
  sample: ["0.8"]
releases:
  description: The releases on the host, newest first.
  type: list
  elements: dict
  returned: success
  contains:
    version:
      description: The version.
      type: str
    unpacked_at:
      description: When it was staged, in UTC.
      type: str
    checksum:
      description: The checksum of the archive it came from.
      type: str
  sample:
    - version: "2.0"
      unpacked_at: "2026-11-03T12:00:00.123456Z"
      checksum: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
seconds:
  description: How long it took.
  type: float
  returned: success
  sample: 0.84
code:
  description:
    - What kind of error it was. V(bad_input) for a wrong option, V(bad_artefact) for an archive that is unsafe or not the one
      that was meant, V(upgrade_failed) when the switch or the restart did not work, V(refused) when the version is there with
      other content, V(permission_denied), V(unreachable), V(timed_out), V(invalid_configuration).
  type: str
  returned: failure
hint:
  description: What to do about the error.
  type: str
  returned: failure
facts:
  description: What is known about the failure; after a restart that failed, C(unit) and the last lines of its C(journal).
  type: dict
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.zerodrop.rollout.plugins.module_utils._module import run_module
from ansible_collections.zerodrop.rollout.plugins.module_utils._release import release


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "base": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["staged", "current"], "default": "current"},
            "source": {"type": "str"},
            "checksum": {"type": "str"},
            "remove_source": {"type": "bool", "default": False},
            "strip_components": {"type": "int", "default": 0},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "str", "default": "0755"},
            "timeout": {"type": "float", "default": 300},
            "validate_certs": {"type": "bool", "default": True},
            "max_bytes": {"type": "int", "default": 4294967296},
            "max_entries": {"type": "int", "default": 100000},
            "unit": {"type": "str"},
            "restart": {"type": "bool", "default": True},
            "restart_timeout": {"type": "float", "default": 60},
            "keep": {"type": "int", "default": 5},
            "protect": {"type": "list", "elements": "str", "default": []},
        },
        required_together=[("source", "checksum")],
        required_if=[("state", "staged", ("source", "checksum"))],
        supports_check_mode=True,
    )
    run_module(module, release)


if __name__ == "__main__":
    main()
