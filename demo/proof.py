"""What became of a rollout: its report, the orders, and the hosts as they are now."""

from __future__ import annotations

import csv
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import Reconciliation, reconcile, sent_posts
from lab import Lab


@dataclass(frozen=True)
class Fact:
    """Something that had to be shown, and whether it was."""

    holds: bool
    text: str


@dataclass(frozen=True)
class Proof:
    """Everything that is known after a run."""

    report: Mapping[str, Any]
    witness: Mapping[str, Any]  # the witness's own summary
    orders: Reconciliation
    versions: Mapping[str, str]  # what each member answers now
    states: Mapping[str, str]  # what the balancer says of each member now


def newest_report(folder: Path, before: frozenset[Path]) -> Path | None:
    """The report that was written since."""
    new = reports(folder) - before
    return max(new, key=lambda path: path.stat().st_mtime) if new else None


def reports(folder: Path) -> frozenset[Path]:
    """The reports that are there."""
    return frozenset(folder.glob("rollout-reports/*/report.json"))


def gather(lab: Lab, path: Path) -> Proof:
    """Read the report, compare the orders, and ask every host."""
    return Proof(
        report=json.loads(path.read_text(encoding="utf-8")),
        witness=json.loads(path.with_name("witness.json").read_text(encoding="utf-8")),
        orders=reconcile(sent_posts(str(path.with_name("witness.log"))), [order.id for order in lab.orders()]),
        versions={host.name: _version(host.address) for host in lab.members},
        states=_states(lab),
    )


def _version(address: str) -> str:
    """What a member answers, asked past the balancer."""
    try:
        with urllib.request.urlopen(f"http://{address}:8080/", timeout=2) as answer:
            return str(json.load(answer)["version"])
    except (OSError, ValueError, KeyError) as error:
        return f"no version ({error})"


def _states(lab: Lab) -> dict[str, str]:
    table = csv.DictReader(lab.ask("lb1", "show stat").lstrip("# ").splitlines())
    names = {host.name for host in lab.members}
    return {row["svname"]: row["status"] for row in table if row["pxname"] == "shop" and row["svname"] in names}


def facts(proof: Proof, outcome: str, version: str) -> list[Fact]:
    """What must hold when the demo showed what it is to show."""
    report, orders = proof.report, proof.orders
    witness = proof.witness
    failed = {name: count for name, count in witness["by_class"].items() if count and name not in ("ok", "late")}
    return [
        Fact(report["outcome"] == outcome, f"the outcome is {outcome}" + _but(report["outcome"], outcome)),
        Fact(
            not failed and not witness["not_sent"] and report["requests_failed"] == 0,
            f"none of {witness['requests_total']:,} requests failed" + _problems(failed, witness["not_sent"]),
        ),
        Fact(
            orders.clean and orders.sent > 0,
            f"of {orders.sent:,} orders (POST) {len(orders.lost)} were lost, {len(orders.failed_but_executed)} were "
            f"executed although the client was told that they failed, {len(orders.executed_twice)} were executed twice",
        ),
        Fact(
            set(proof.versions.values()) == {version},
            f"every member answers as version {version}" + _others(proof.versions, version),
        ),
        Fact(set(proof.states.values()) == {"UP"}, "every member is in service" + _others(proof.states, "UP")),
    ]


def untouched(proof: Proof) -> Fact:
    """Whether only the first batch was ever taken out."""
    first = set(proof.report["batches"][0])
    out = {host for host, member in proof.report["members"].items() if member["out_of_service_seconds"]}
    return Fact(out <= first, f"only {', '.join(sorted(first))} left service; the later batches never began")


def remarks(proof: Proof) -> list[str]:
    """What else the reader should know."""
    found = []
    lost, late = proof.witness["sessions_lost"], proof.witness["late"]
    if lost:
        found.append(
            f"{lost} sessions began anew: the sample service keeps them in the memory of the process that is "
            "restarted, and no deployment can save them there. Their requests were answered."
        )
    if late > 0.02 * proof.witness["requests_total"]:
        found.append(
            f"{late:,} answers came late: this machine was too busy with other things for this load. "
            "Times, and losses if there were any, say little about the rollout then."
        )
    return found


def _but(found: str, wanted: str) -> str:
    return "" if found == wanted else f", but it was {found}"


def _problems(failed: Mapping[str, int], not_sent: int) -> str:
    words = [f"{count} {name}" for name, count in failed.items()] + ([f"{not_sent} not sent"] if not_sent else [])
    return f", but: {', '.join(words)}" if words else ""


def _others(found: Mapping[str, str], wanted: str) -> str:
    others = [f"{name}: {value}" for name, value in found.items() if value != wanted]
    return f", but {', '.join(others)}" if others else ""
