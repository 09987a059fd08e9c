"""Is somebody there?"""

from __future__ import annotations

import http.client
import socket


def ssh_answers(address: str) -> bool:
    """Does sshd greet?"""
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            connection.settimeout(1)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def http_status(address: str, port: int, path: str) -> int | None:
    """The status of one GET, None when there was no answer."""
    connection = http.client.HTTPConnection(address, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def port_open(address: str, port: int) -> bool:
    """Does anybody listen there?"""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False
