# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which members of a pool the hosts of an inventory are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _names
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, UnknownMember
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Member, Pool


def find_members(
    hosts: Sequence[str], hostvars: Mapping[str, Any], pools: Mapping[str, Pool]
) -> dict[str, dict[str, str]]:
    """Each host's name in the pool, by balancer: by its name, else by its address and port."""
    names: dict[str, dict[str, str]] = {}
    taken: dict[tuple[str, str], str] = {}
    for host in hosts:
        names[host] = {}
        for balancer, pool in pools.items():
            member = _find_member(host, hostvars[host], balancer, pool)
            other = taken.setdefault((balancer, member.name), host)
            if other != host:
                raise UnknownMember(
                    f"{other} and {host} are both the member {member.name!r} of the pool {pool.name!r} on {balancer}.",
                    "Give each its own rollout_member, or take one out of rollout_hosts.",
                )
            names[host][balancer] = member.name
    return names


def _find_member(host: str, variables: Mapping[str, Any], balancer: str, pool: Pool) -> Member:
    given = variables.get("rollout_member")
    port = variables.get("rollout_member_port")
    if port and not str(port).isdigit():
        raise BadInput(f"rollout_member_port of {host} must be a port's number, got {port!r}.")
    name = _names.member_name(str(given), f"rollout_member of {host}") if given else host
    address = name if given else str(variables.get("ansible_host") or host)
    found = [each for each in pool.members if each.name == name]
    if not found:
        found = _at_address(pool, address, int(port) if port else None)
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{each.name} ({each.address}:{each.port})" for each in pool.members) or "nothing"
    what = "is not a member" if not found else f"is more than one member ({', '.join(m.name for m in found)})"
    raise UnknownMember(
        f"{name if given else host} {what} of the pool {pool.name!r} on {balancer}, which has {there}.",
        "Name the member in rollout_member, or its port in rollout_member_port, as a variable of that host.",
    )


def _at_address(pool: Pool, address: str, port: int | None) -> list[Member]:
    """The members at an address, which may have its port with it, as in ``10.0.0.1:80`` or ``[::1]:80``."""
    host, colon, digits = address.rpartition(":")
    if colon and digits.isdigit() and (":" not in host or host.startswith("[")):
        address, port = host.strip("[]"), int(digits)
    return pool.at_address(address, port)
