"""The hosts of a job on one machine: each is a loopback address, and inside the job its name leads there.

AWS gives the instances of a job the names algo-1, algo-2, ... With a mount namespace the job has an /etc/hosts of its
own. Without one, a `sitecustomize` module on PYTHONPATH answers for the names: in Python programs that resolve them
through the module `socket`, and nowhere else.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

ETC_HOSTS = Path("/etc/hosts")
VARIABLE = "LOCAL_AWS_HOSTS"  # read by sitecustomize.py beside this file


def loopback_addresses(hosts: list[str]) -> dict[str, str]:
    """An address for each host, so that all of them can listen on the same port, as different machines can.

    Linux answers on all of 127.0.0.0/8. The block is drawn, since jobs of other servers may run on this machine too.
    macOS has 127.0.0.1 only: there the hosts share it, and a program must not expect one port to be free on each.
    """
    if sys.platform != "linux":
        return dict.fromkeys(hosts, "127.0.0.1")
    block = f"127.{random.randint(64, 127)}.{random.randint(0, 255)}"  # noqa: S311 (no secret)
    return {host: f"{block}.{number}" for number, host in enumerate(hosts, 1)}


def hosts_file(addresses: dict[str, str]) -> str:
    """The text of the job's /etc/hosts: its own hosts, then what this machine knows."""
    own = "".join(f"{address} {host}\n" for host, address in addresses.items())
    return own + ETC_HOSTS.read_text() if ETC_HOSTS.exists() else own


def python_environment(addresses: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
    """An environment in which Python programs find the hosts without /etc/hosts."""
    path = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    return environment | {
        "PYTHONPATH": ":".join([*path, str(Path(__file__).parent)]),
        VARIABLE: " ".join(f"{host}={address}" for host, address in addresses.items()),
    }
