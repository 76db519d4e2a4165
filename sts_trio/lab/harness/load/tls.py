"""TLS on the provider's leg: a certificate of the operator's own, as in a file made by `openssl req -x509`."""

from __future__ import annotations

import ssl

from sts_trio.lab.harness.load.process import LoadError


def server_context(file: str) -> ssl.SSLContext:
    """What the agents listen with; `file` (PEM) has key and certificate.

    Raises:
        OSError: it cannot be read, or has not both.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, password="")  # of a locked key OpenSSL would ask for the password on the terminal
    return context


def check_certificate(file: str, host: str) -> None:
    """Shake hands in memory, so that what no client would accept is known before a call fails of it.

    Raises:
        LoadError: the file cannot be used, or the certificate is not for `host`, or has expired.
    """
    try:
        server = server_context(file)
        client = ssl.create_default_context(cafile=file)
    except OSError as exc:
        raise LoadError(f"--tls {file}: it must hold a key and its certificate (PEM): {exc.strerror or exc}") from exc
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=host), server.wrap_bio(up, down, server_side=True)]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as exc:
                why = getattr(exc, "verify_message", "") or exc.strerror
                raise LoadError(f"--tls {file}: no client would accept it for {host}: {why}") from exc
            ends.remove(end)
