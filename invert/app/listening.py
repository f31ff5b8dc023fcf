"""Whether the server could listen where it is to: asked in a moment, where Gradio would try a hundred ports for minutes."""

from __future__ import annotations

import socket

from invert.errors import InputError


def check_address(host: str, port: int | None) -> None:
    """InputError that names the host or the port, whichever cannot be had. port: None for any.

    A name may stand for several addresses, of which one is enough.
    """
    found = addresses(host)
    for number in dict.fromkeys((0, port or 0)):  # any port first: a host that cannot be had is not the port's fault
        reasons = [reason for family, address in found if (reason := obstacle(family, address, number))]
        if len(reasons) < len(found):
            continue
        if number == 0:
            raise InputError(
                f"`host` {host} is no address that this machine can listen on ({reasons[0]}): give 127.0.0.1 for this machine "
                "alone, 0.0.0.0 for the whole network, or the address of one of its interfaces"
            )
        raise InputError(f"`port` {port} cannot be opened ({reasons[0]}): choose another one, or end what listens there")


def addresses(host: str) -> list[tuple[int, tuple[object, ...]]]:
    """The address family and the address of each that a name stands for; InputError where it stands for none."""
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host  # as browsers write IPv6
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # a label of more than 63 letters is no name
        raise InputError(
            f"`host` {host!r} is no address and no name of this machine: give 127.0.0.1 for this machine alone, or 0.0.0.0 "
            "for the whole network"
        ) from error
    return [(family, address) for family, _, _, _, address in found]


def obstacle(family: int, address: tuple[object, ...], port: int) -> str:
    """Why nothing can listen there, in the system's words; "" where it can. port: 0 for any."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((address[0], port, *address[2:]))
            trial.listen()
    except OSError as error:
        return error.strerror or str(error)
    return ""
