"""How a release of the sample service is told to misbehave."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from .errors import LabError


@dataclass(frozen=True)
class Switches:
    """Written as settings.json into a release; all off by default."""

    start_delay: float = 0.0  # seconds before the port opens
    warm_up: float = 0.0  # seconds in which the open port answers 503 to everything
    never_healthy: bool = False  # health says 503 and every request gets 500
    error_share: float = 0.0  # share of requests that get 500; health is spared
    extra_latency: float = 0.0  # seconds added to every answer; health is spared
    cold_requests: int = 0  # the first requests that are slow; health is spared
    cold_latency: float = 0.0  # seconds added to each of these
    loopback_only: bool = False  # the port is open on 127.0.0.1 alone
    slots: int = 0  # requests that are worked on at once, the others wait in line; 0: as many as come; health is spared
    slow_starts: str = ""  # hosts that take longer to open their port, in seconds, such as web2=3,web5=1.5
    crash_after: float = 0.0  # seconds after the start at which the process dies; 0 is never

    customers: str = ""  # the column of the table customers that /customers/ID reads and writes; empty: no such page

    def __post_init__(self) -> None:
        for name in ("start_delay", "warm_up", "extra_latency", "cold_latency", "crash_after"):
            if not 0 <= getattr(self, name) <= 86400:
                raise LabError(f"{name} must lie between 0 and 86400 seconds")
        if not 0 <= self.cold_requests <= 1_000_000:
            raise LabError("cold_requests must lie between 0 and 1000000")
        if not 0 <= self.slots <= 1_000_000:
            raise LabError("slots must lie between 0 and 1000000")
        for part in filter(None, self.slow_starts.split(",")):
            host, _sign, seconds = part.partition("=")
            if not host.isalnum() or not seconds.replace(".", "", 1).isdigit():
                raise LabError("slow_starts must be such as web2=3,web5=1.5")
        if self.customers and not self.customers.isidentifier():
            raise LabError("customers must be the name of a column")
        if not 0 <= self.error_share <= 1:
            raise LabError("error_share must lie between 0 and 1")

    def to_json(self) -> str:
        """The text of settings.json, the same for the same switches."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"
