"""What a lab should look like."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from . import names
from .errors import LabError
from .recipes import MEMBERS
from .switches import Switches

MAX_MEMBERS = 200
MAX_BALANCERS = 9


@dataclass(frozen=True)
class Description:
    """One lab: its hosts, the generation of its balancers and how they are configured."""

    prefix: str = "zd"
    members: int = 6
    balancers: int = 1
    haproxy: str = "2.6"  # the generation of HAProxy on the balancers
    nginx: str | None = None  # a generation of nginx instead of HAProxy
    mixed: tuple[str, ...] = ()  # kind and generation of each balancer, where they differ
    # What members have beside the service: "engine", "engine-5" and "docker" run containers, "rpm" has dnf, "database"
    # speaks to PostgreSQL.
    member: str = "plain"
    database: bool = False  # a host db1 with PostgreSQL, which members know as db
    pool: str = "shop"
    subnet: str | None = None  # a /24; picked free when not given
    version: str = "1.0"  # the release that runs on every member at first
    switches: Switches = field(default_factory=Switches)  # how that release behaves

    # The balancer's configuration.
    weight: int = 100
    check: bool = True  # health checks of the members
    check_inter_ms: int = 200
    check_rise: int = 2
    check_fall: int = 2
    check_timeout_s: int = 2  # HAProxy: on a busy machine a check takes longer than the time between two
    retries: int = 0  # nothing may hide a lost request
    redispatch: bool = False
    member_maxconn: int | None = None
    sticky: str | None = None  # "cookie" keeps a client on its member
    upstream_keepalive: int | None = None  # nginx: idle connections to members that a worker keeps; None: its default
    nginx_links: bool = False  # nginx: members are switched by links; the role nginx_links has to prepare it
    keepalive_min_timeout: str | None = None  # nginx 1.27.4 or newer: how long idle clients outlive a reload, e.g. 2s
    tcp: bool = False  # a second way in, port 81, in TCP mode
    state_file: bool = False  # HAProxy reads its servers' state from a file when it starts
    log_requests: bool = False
    slots: bool = False  # blue/green: the first half of the members in a pool of its own, the second in another
    extra_pools: tuple[str, ...] = ()  # more pools with the same members
    global_lines: tuple[str, ...] = ()  # taken as they are
    pool_lines: tuple[str, ...] = ()
    server_options: str = ""  # added to every server line

    def __post_init__(self) -> None:
        names.prefix(self.prefix)
        names.version(self.version)
        for pool in (self.pool, *self.extra_pools):
            names.pool(pool)
        if len(set(self.pools)) != len(self.pools):
            raise LabError("two pools have the same name")
        if not 0 <= self.members <= MAX_MEMBERS:
            raise LabError(f"members must lie between 0 and {MAX_MEMBERS}")
        if not 0 <= self.balancers <= MAX_BALANCERS:
            raise LabError(f"balancers must lie between 0 and {MAX_BALANCERS}")
        if not self.members + self.balancers:
            raise LabError("a lab needs at least one host")
        if self.mixed and len(self.mixed) != self.balancers:
            raise LabError(f"mixed names {len(self.mixed)} balancers, and there are {self.balancers}")
        if self.nginx_links and not self.nginx:
            raise LabError("nginx_links needs nginx")
        if not 0 <= self.weight <= 256:
            raise LabError("weight must lie between 0 and 256")
        if self.member not in MEMBERS:
            raise LabError(f"member {self.member!r}: known are {', '.join(MEMBERS)}")
        if self.sticky not in (None, "cookie"):
            raise LabError(f"sticky {self.sticky!r}: only 'cookie' or nothing is known")
        if self.subnet is not None:
            _check_subnet(self.subnet)

    @property
    def generation(self) -> str:
        """Which kind and version of balancer, e.g. haproxy-2.6."""
        return f"nginx-{self.nginx}" if self.nginx else f"haproxy-{self.haproxy}"

    @property
    def generations(self) -> tuple[str, ...]:
        """The generation of each balancer."""
        return self.mixed or (self.generation,) * self.balancers

    @property
    def pools(self) -> tuple[str, ...]:
        """Every pool the members are in."""
        tcp = (f"{self.pool}_tcp",) if self.tcp else ()
        return (self.pool, *self.extra_pools, *tcp)


def _check_subnet(text: str) -> None:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise LabError(f"subnet {text!r}: {error}") from None
    if network.prefixlen != 24:
        raise LabError(f"subnet {text!r}: use a /24")
