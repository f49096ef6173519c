"""Connections that only reach public addresses, so that an upload cannot read what only this machine may read.

The address is checked after name resolution and then dialled as checked: a name that resolves differently a
moment later (DNS rebinding), and every redirect, meet the same check.
"""

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpcore

from loradock.types.errors import BadRequest

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet; IPv4 wrapped in IPv6 counts as what it wraps."""
    ip: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or _nat64(ip) or ip
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None


class PublicNetwork(httpcore.SyncBackend):
    """httpcore's ordinary sockets, refusing addresses that are not public unless `allow_private`."""

    def __init__(self, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        if self._allow_private:
            return super().connect_tcp(host, port, timeout, local_address, socket_options)
        *others, last = self._resolve(host, port)
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
        return super().connect_tcp(last, port, timeout, local_address, socket_options)

    @staticmethod
    def _resolve(host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise BadRequest(f"the host {host!r} of model_source cannot be resolved: check the URL") from error
        addresses = [str(entry[4][0]) for entry in found]
        if not all(is_public(address) for address in addresses):
            raise BadRequest(
                f"the host {host!r} of model_source is a private address, which this server does not fetch from:"
                " use multipart upload or the import root, or start it with --allow-private-sources"
            )
        return addresses
