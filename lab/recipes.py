"""What the images are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "python3-apt",
    "iproute2",
    "procps",
    "curl",
    "ca-certificates",
    "sudo",
)


@dataclass(frozen=True)
class Bootstrap:
    """An image made from nothing: a minimal Debian."""

    suite: str
    packages: tuple[str, ...] = PACKAGES

    @property
    def name(self) -> str:
        """What the image is called without its tag."""
        return f"base-{self.suite}"


@dataclass(frozen=True)
class Layer:
    """An image built on another one."""

    name: str
    parent: Bootstrap | Layer
    commands: tuple[str, ...]  # one RUN each
    files: tuple[tuple[str, str], ...] = ()  # path in the image and text, copied first


Recipe = Bootstrap | Layer

REPOSITORY = "localhost/zerodrop-lab-"


def image(recipe: Recipe) -> str:
    """The image's name, tagged with a hash of everything it is made of."""
    text = json.dumps(asdict(recipe), sort_keys=True)
    return f"{REPOSITORY}{recipe.name}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def chain(recipe: Recipe) -> list[Recipe]:
    """The recipe's ancestors, the oldest first, and itself."""
    return [*chain(recipe.parent), recipe] if isinstance(recipe, Layer) else [recipe]


# One host key, made at the first start: images hold no secrets, and an RSA key takes a second.
_SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 500:30:1000
MaxSessions 500
"""
_SSH_UNIT = """\
[Unit]
After=network.target
StartLimitIntervalSec=0
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c '\
test -s /etc/ssh/ssh_host_ed25519_key || \
ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
"""
_JOURNAL = """\
[Journal]
Storage=volatile
RuntimeMaxUse=32M
RateLimitIntervalSec=0
"""
# Units that wait for hardware, sit on a terminal or tidy up at odd times.
_MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "kmod-static-nodes.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-firstboot.service",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-pcrphase.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)


def host(suite: str) -> Layer:
    """A host: a Debian that boots fast and lets Ansible in."""
    return Layer(
        name=f"host-{suite}",
        parent=Bootstrap(suite),
        files=(
            ("etc/ssh/sshd_config.d/lab.conf", _SSHD),
            ("etc/systemd/system/ssh.service.d/lab.conf", _SSH_UNIT),
            ("etc/systemd/journald.conf.d/lab.conf", _JOURNAL),
            ("etc/default/locale", "LANG=C.UTF-8\n"),
        ),
        commands=(
            "install -d -m 700 /root/.ssh",
            "sed -i '/pam_motd/d; /pam_mail/d' /etc/pam.d/sshd",
            f"systemctl mask {' '.join(_MASKED)}",
            "systemctl set-default multi-user.target && systemctl enable ssh.service",
        ),
    )


# An engine within an engine: control groups are the outer one's, and so are the limits.
_CONTAINERS = """\
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
cgroups = "disabled"
netns = "host"
log_driver = "k8s-file"
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
seccomp_profile = "unconfined"
apparmor_profile = "unconfined"
"""
# The same for Docker, which has no word for "no control groups" itself, but takes another runtime.
_DOCKER = """\
{
 "runtimes": {"crun": {"path": "/usr/bin/crun", "runtimeArgs": ["--cgroup-manager=disabled"]}},
 "default-runtime": "crun",
 "exec-opts": ["native.cgroupdriver=cgroupfs"],
 "bridge": "none", "iptables": false, "ip6tables": false,
 "default-ulimits": {
  "nofile": {"Name": "nofile", "Hard": 20000, "Soft": 20000},
  "nproc": {"Name": "nproc", "Hard": 20000, "Soft": 20000}
 },
 "seccomp-profile": "/etc/docker/all.json",
 "insecure-registries": ["198.18.0.0/15"]
}
"""
_MODEST = "[Service]\nLimitNOFILE=20000\nLimitNPROC=20000\nLimitCORE=0\nOOMScoreAdjust=0\nDelegate=no\n"
# Python with all it needs, as the only layer below the sample service in an image.
_PYTHON = """\
library=/usr/lib/python3.$(python3 -c 'import sys; print(sys.version_info[1])')
find /usr/bin/python3 "$library" -name '*.so' -o -name python3 | xargs ldd \\
    | grep -o '/lib[^ :]*' | grep -v "$library/" | sort -u >/tmp/libraries
tar --hard-dereference -chf "$1" -C / --exclude test --exclude __pycache__ --exclude idlelib \\
    usr/bin/python3 "${library#/}" $(sed 's,^/,,' /tmp/libraries)
rm /tmp/libraries
"""


def _install(*packages: str, target: str = "", unit: str = "") -> str:
    """The command that installs some of Debian's packages, enables a unit of theirs and leaves nothing else."""
    return (
        "apt-get update -q"
        " && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "
        + (f"-t {target} " if target else "")
        + " ".join(packages)
        + (f" && systemctl enable {unit}" if unit else "")
        + " && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb"
    )


# The number is fixed because the lab gives the service its log directory from outside.
SHOP_UID = 990


def member(suite: str = "bookworm") -> Layer:
    """A member: a host with the sample service's unit; the release comes later."""
    unit = Path(__file__).parent / "service" / "shop.service"
    return Layer(
        name="member" if suite == "bookworm" else f"member-{suite}",
        parent=host(suite),
        files=(("etc/systemd/system/shop.service", unit.read_text(encoding="utf-8")),),
        commands=(
            f"useradd --system --uid {SHOP_UID} --no-create-home --shell /usr/sbin/nologin shop",
            "systemctl enable shop.service",
        ),
    )


def with_engine(suite: str = "bookworm") -> Layer:
    """A member that runs containers; a registry of images lies beside, not started."""
    return Layer(
        name=f"member-engine-{suite}",
        parent=member(suite),
        files=(
            ("etc/containers/containers.conf", _CONTAINERS),
            ("usr/local/lib/pack-python", _PYTHON),
        ),
        commands=(
            _install("podman", "crun", "docker-registry"),
            "systemctl disable docker-registry.service",
            "sh -e /usr/local/lib/pack-python /usr/local/lib/python.tar",
        ),
    )


def with_docker() -> Layer:
    """A member that runs containers of Docker; a registry of images lies beside, not started."""
    return Layer(
        name="member-docker",
        parent=member(),
        files=(
            ("etc/docker/daemon.json", _DOCKER),
            ("etc/docker/all.json", '{"defaultAction": "SCMP_ACT_ALLOW"}\n'),
            ("etc/systemd/system/docker.service.d/lab.conf", _MODEST),
            ("etc/systemd/system/containerd.service.d/lab.conf", _MODEST),
            ("usr/local/lib/pack-python", _PYTHON),
        ),
        commands=(
            _install("docker.io", "crun", "docker-registry"),
            "systemctl disable docker-registry.service",
            "sh -e /usr/local/lib/pack-python /usr/local/lib/python.tar",
        ),
    )


def with_rpm() -> Layer:
    """A member that also has dnf, with what makes packages and a repository for it."""
    return Layer(
        name="member-rpm",
        parent=member(),
        commands=(
            _install("dnf", "dnf-plugins-core", "rpm", "createrepo-c"),
            # As on distributions that are made of it: one database, and no repository of past downloads.
            "install -d /etc/rpm && echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros",
            "printf '[main]\\nenabled = 0\\n' >/etc/dnf/plugins/local.conf",
        ),
    )


def with_database_client() -> Layer:
    """A member whose service can speak to PostgreSQL."""
    return Layer(name="member-database", parent=member(), commands=(_install("python3-psycopg2"),))


def database() -> Layer:
    """PostgreSQL, which lets the hosts of its lab in as anybody."""
    folder = "/etc/postgresql/*/main"
    return Layer(
        name="database",
        parent=host("bookworm"),
        commands=(
            "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d",
            _install("postgresql", unit="postgresql.service"),
            f"echo 'host all all 0.0.0.0/0 trust' >>$(echo {folder}/pg_hba.conf)",
            f"sed -i s/scram-sha-256/trust/ {folder}/pg_hba.conf",
            f"echo \"listen_addresses = '*'\" >>$(echo {folder}/postgresql.conf)",
            "rm /usr/sbin/policy-rc.d",
        ),
    )


# What a lab's members can be, by the word in its description.
MEMBERS: Mapping[str, Callable[[], Layer]] = {
    "plain": member,
    "engine": with_engine,  # Podman 4, without Quadlets
    "engine-5": lambda: with_engine("trixie"),
    "docker": with_docker,
    "rpm": with_rpm,
    "database": with_database_client,
}


def with_newer(parent: Layer, old: str, new: str) -> Layer:
    """A host that can also install from a newer suite, what is asked for by name and what that needs.

    Its init stays the old one: that of a newer Debian may not boot on this kernel's control groups.
    """
    return Layer(
        name=f"{parent.name}-{new}",
        parent=parent,
        files=((f"etc/apt/preferences.d/{new}", f"Package: *\nPin: release n={new}\nPin-Priority: 100\n"),),
        commands=(f"sed -n 's/ {old} / {new} /p' /etc/apt/sources.list >/etc/apt/sources.list.d/{new}.list",),
    )


def with_packages(name: str, parent: Layer, packages: tuple[str, ...], unit: str, suite: str = "") -> Layer:
    """A host with more of Debian's packages, and their unit enabled and free to restart often."""
    return Layer(
        name=name,
        parent=parent,
        files=((f"etc/systemd/system/{unit}.d/lab.conf", "[Unit]\nStartLimitIntervalSec=0\n"),),
        commands=(_install(*packages, target=suite, unit=unit),),
    )
