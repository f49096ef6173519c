"""The sockets that the server answers on."""

import errno
import os
import socket
from typing import Any

from loradock.types.errors import BadRequest

_OF_THE_HOST = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)
Address = tuple[socket.AddressFamily, tuple[Any, ...]]


def listen(host: str, port: int) -> list[socket.socket]:
    """Open one socket for each address of the host; `::` takes both families where the system allows it. Raises
    BadRequest, which blames the host or the port."""
    listeners: list[socket.socket] = []
    reasons: list[OSError] = []
    for family, address in _addresses(host, port):
        # Any free port is the same one for all.
        number = listeners[0].getsockname()[1] if listeners else address[1]
        try:
            listeners.append(_listener(family, (address[0], number, *address[2:])))
        except OSError as error:
            reasons.append(error)
    # A machine without IPv6 may still have an address of it for "localhost".
    serious = [error for error in reasons if error.errno not in _OF_THE_HOST]
    if serious or not listeners:
        for listener in listeners:
            listener.close()
        raise _unusable(host, port, (serious or reasons)[0])
    return listeners


def _addresses(host: str, port: int) -> list[Address]:
    bare = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _unusable(host, port, error) from error
    except UnicodeError as error:  # by the codec of host names
        raise BadRequest(f"--host {host} is not a valid host name; give an address of this machine") from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listener(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    both = address[0] == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server(address, family=family, backlog=2048, dualstack_ipv6=both)
    # Connections inherit it; asyncio leaves it off here, and answers then wait 40 ms for the client's receipt.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _unusable(host: str, port: int, error: OSError) -> BadRequest:
    number = error.errno or 0
    reason = os.strerror(number) if number in errno.errorcode else error.strerror or str(error)
    if isinstance(error, socket.gaierror) or error.errno in _OF_THE_HOST:
        return BadRequest(f"--host {host} cannot be listened on ({reason}); give an address of this machine")
    return BadRequest(f"port {port} on {host} cannot be used ({reason}); give another --port")
