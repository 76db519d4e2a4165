"""TLS to the provider: verified, with the system's authorities or the operator's own."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from sts_trio.errors import ConfigError, ProviderRefused
from sts_trio.providers.dial import Endpoint, TcpDial
from sts_trio.providers.hume.settings import HumeSettings
from sts_trio.settings import Settings
from sts_trio.settings.parsers import Secret
from sts_trio.wiring import trust

if TYPE_CHECKING:
    from pathlib import Path


def with_ca(path: str | None) -> Settings:
    return Settings(provider=HumeSettings(api_key=Secret("key"), ca_file=path))


@pytest.fixture
async def endpoint(nursery: trio.Nursery, authority: trustme.CA) -> Endpoint:
    """A server on loopback that says one byte over TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    (listener,) = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)

    async def greet(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.send_all(b"!")
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(stream)

    nursery.start_soon(trio.serve_listeners, greet, [listener])
    transport = listener.transport_listener
    assert isinstance(transport, trio.SocketListener)
    return Endpoint("localhost", transport.socket.getsockname()[1], "/", tls=True)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_an_authority_of_the_operators_is_trusted(
    endpoint: Endpoint, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    stream = await TcpDial(trust(with_ca(str(tmp_path / "ca.pem"))))(endpoint)
    with trio.fail_after(2):
        assert await stream.receive_some(1) == b"!"
    await trio.aclose_forcefully(stream)


async def test_without_it_the_provider_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(ProviderRefused, match=r"the TLS certificate of localhost:[0-9]+ is not trusted"):
        await TcpDial(trust(with_ca(None)))(endpoint)


async def test_a_certificate_for_another_name_is_refused(
    endpoint: Endpoint, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    elsewhere = Endpoint("127.0.0.1", endpoint.port, "/", tls=True)
    with pytest.raises(ProviderRefused, match="not trusted"):
        await TcpDial(trust(with_ca(str(tmp_path / "ca.pem"))))(elsewhere)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_one_line_that_names_the_setting(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"HUMEAI_CA_FILE is .*ca.pem, which cannot be used: "):
        trust(with_ca(str(path)))
