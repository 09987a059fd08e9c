"""Every generation of balancer comes up, balances and survives a reload. Images are built at first use."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import lab
from lab import balancers, images, recipes
from lab.balancers import nginx_config
from lab.balancers.generation import Server

from .helpers import request

NewPrefix = Callable[[], str]
SERVERS = [Server("web1", "192.0.2.1"), Server("web2", "192.0.2.2")]


def description(generation: str, **options: object) -> lab.Description:
    kind, _dash, version = generation.partition("-")
    return lab.Description(**{kind: version, **options})  # type: ignore[arg-type]


@pytest.mark.lab
@pytest.mark.parametrize("name", sorted(balancers.known()))
def test_a_generation_balances_and_reloads(name: str, new_prefix: NewPrefix) -> None:
    recipe = balancers.find(name).recipe
    if not images.exists(recipe):
        pytest.skip(f"the image {recipes.image(recipe)} is not built; build it with: python3 -m lab images {name}")
    with lab.running(description(name, prefix=new_prefix(), members=2, tcp=True)) as up:
        balancer = up.balancers[0]
        unit = f"{name.partition('-')[0]}.service"
        said = up.exec(balancer, ["sh", "-c", "nginx -v 2>&1 || haproxy -v"])
        assert f"{name.partition('-')[2]}." in said.stdout
        up.exec(balancer, ["systemctl", "reload", unit])
        for _unused in range(4):
            assert request(balancer.address, "/").status == 200


def test_nginx_is_told_what_the_description_says() -> None:
    chosen = description(
        "nginx-1.30", upstream_keepalive=8, keepalive_min_timeout="2s", sticky="cookie", member_maxconn=3, tcp=True
    )
    files = balancers.find("nginx-1.30").render(chosen, SERVERS)
    upstream = files["conf.d/upstream-shop.conf"]
    assert "server 192.0.2.1:8080 weight=100 max_fails=0 max_conns=3;" in upstream
    assert "keepalive 8;" in upstream
    assert upstream.index("sticky cookie") < upstream.index("server ") < upstream.index("keepalive 8;")
    assert "keepalive_min_timeout 2s;" in files["nginx.conf"]
    assert "stream.conf" in files["nginx.conf"]
    assert "proxy_next_upstream off;" in files["conf.d/shop.conf"]


def test_a_plain_nginx_hides_no_loss_and_loads_no_module() -> None:
    files = balancers.find("nginx-1.22").render(description("nginx-1.22"), SERVERS)
    assert "load_module" not in files["nginx.conf"]
    assert "keepalive" not in files["conf.d/upstream-shop.conf"]
    assert "proxy_next_upstream off;" in files["conf.d/shop.conf"]


@pytest.mark.parametrize(
    "options", [{"sticky": "cookie"}, {"keepalive_min_timeout": "2s"}], ids=["sticky", "keepalive_min_timeout"]
)
def test_what_an_older_nginx_does_not_know_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(lab.LabError, match=r"needs? nginx 1\.2"):
        nginx_config.renderer("1.26")(description("nginx-1.26", **options), SERVERS)
