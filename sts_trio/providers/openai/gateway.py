"""Where a service is asked, and by which headers; and what to do when it refuses. Pure.

OpenAI's own service, Azure's, and gateways before either (docs/protocols/realtime.md 9.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from sts_trio.providers.advice import common_advice
from sts_trio.providers.reading import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.providers.advice import Refusal
    from sts_trio.providers.dial import Endpoint
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.session import Options

AUTO, BEARER = "auto", "bearer"
_AUTHORIZATION = "Authorization"
_KEY_HEADER = "api-key"  # Azure's
_APIM_HEADER = "Ocp-Apim-Subscription-Key"
_RESOURCES = (".azure.com", ".azure.us", ".azure.cn")
_APIM = (".azure-api.net", ".azure-api.us", ".azure-api.cn")
_SCOPE = "https://ai.azure.com/.default"
# What the base URL ends in that clients of HTTP have: the protocol's own part is missing.
_VERSION = re.compile(r"v\d+\w*")
_PREVIEW = re.compile(r"/openai/(?:deployments/[^/]+/)?realtime/*$")
_GENERAL = "/openai/v1"
_NO_DEPLOYMENT = "DeploymentNotFound"
_NO_SPEECH = re.compile("Opp?erationNotSupported")  # Azure spells it both ways
_MISSING_KEY = re.compile(r"missing (?:subscription|api)[ -]key", re.IGNORECASE)
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Access:
    """How sessions are let in, beside the key.

    `key_header` is the name of the header that carries the key; `bearer`: as a bearer token; `auto`: as the host wants
    it. `token_file` names a file with a token that goes as bearer. `headers` are the operator's own.
    """

    key_header: str = AUTO
    token_file: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def key_goes_into(host: str, key_header: str) -> str:
    """The name of the header that carries the key; see `Access.key_header`."""
    if key_header == AUTO:
        key_header = _KEY_HEADER if host.endswith((*_RESOURCES, *_APIM)) else BEARER
    return _AUTHORIZATION if key_header == BEARER else key_header


def credentials(endpoint: Endpoint, key: str, access: Access, token: str | None) -> dict[str, str]:
    """The headers of the upgrade. With a token the key is sent only in a header that the operator has named."""
    headers = dict(access.headers)
    if token is not None:
        headers[_AUTHORIZATION] = f"Bearer {token}"
        return headers | ({access.key_header: key} if key and access.key_header not in (AUTO, BEARER) else {})
    name = key_goes_into(endpoint.host, access.key_header)
    headers[name] = f"Bearer {key}" if name == _AUTHORIZATION else key
    return headers


def clash(host: str, access: Access, identifies_callers: bool) -> str | None:
    """Say which two of OpenAI's settings want the same header; None if none do."""
    named = {name.lower() for name in access.headers}
    if access.token_file is not None and access.key_header == BEARER:
        return "OPENAI_KEY_HEADER is bearer, as which the token of OPENAI_TOKEN_FILE is sent; unset one"
    if access.token_file is not None and _AUTHORIZATION.lower() in named:
        return "OPENAI_HEADERS has Authorization, in which the token of OPENAI_TOKEN_FILE is sent; unset one"
    name = key_goes_into(host, access.key_header)
    if name.lower() in named and access.token_file is None:
        return f"OPENAI_HEADERS has {name}, in which OPENAI_API_KEY is sent; take it out, or see OPENAI_KEY_HEADER"
    if identifies_callers and "openai-safety-identifier" in named:
        return "OPENAI_HEADERS has OpenAI-Safety-Identifier, which OPENAI_SAFETY_SECRET makes for each call; unset one"
    return None


def is_base(path: str, query: str) -> bool:
    """Whether a URL lacks the protocol's own part: its path ends in a version or is none, and it names no model."""
    last = path.rstrip("/").rpartition("/")[2]
    return (not last or _VERSION.fullmatch(last) is not None) and not names_model(query)


def names_model(query: str) -> bool:
    """Whether the query of a URL says which model is asked."""
    return not {"model", "deployment"}.isdisjoint(dict(parse_qsl(query)))


def target(endpoint: Endpoint, options: Options, conversation: str | None) -> str:
    """The path and query of the upgrade: what the URL has, and what it lacks."""
    path, _, query = endpoint.path.partition("?")
    if is_base(path, query):
        path = path.rstrip("/")
        if not path and endpoint.host.endswith(_RESOURCES):
            path = _GENERAL  # the portal shows the host alone
        path += options.dialect.path
    pairs = [query] if query else []
    if not names_model(query):
        pairs.append(f"model={quote(options.model, safe='')}")
    if conversation is not None:
        pairs.append(f"conversation_id={quote(conversation, safe='')}")
    return f"{path}?{'&'.join(pairs)}"


def beta_advice(endpoint: Endpoint, dialect: Dialect) -> str:
    """What to do about Azure's preview path; nothing if the URL has another."""
    path, _, query = endpoint.path.partition("?")
    asked = dict(parse_qsl(query))
    if not _PREVIEW.search(path) or not ("api-version" in asked or endpoint.host.endswith(_RESOURCES)):
        return ""
    named = f", and {dialect.prefix}_MODEL to {_name(asked['deployment'])}" if "deployment" in asked else ""
    return (
        f"{dialect.prefix}_BASE_URL has Azure's preview path, which speaks the beta of this protocol; "
        f"set it to https://{endpoint.host_header}{_GENERAL}{named}"
    )


def advise(refusal: Refusal, endpoint: Endpoint, options: Options, key: str, access: Access) -> str:
    """Say which setting to look at after a refusal; see `advice.Advise`."""
    prefix, url = options.dialect.prefix, f"{options.dialect.prefix}_BASE_URL"
    asked, _, query = target(endpoint, options, None).partition("?")
    if advice := common_advice(refusal, endpoint, asked, url) or beta_advice(endpoint, options.dialect):
        return advice
    versioned = _GENERAL in asked and "api-version" in dict(parse_qsl(query))
    if refusal.status is not None and refusal.status < 500 and versioned:
        return f"take api-version out of {url}: Azure's {_GENERAL} refuses it"
    if _NO_DEPLOYMENT in refusal.body or _NO_SPEECH.search(refusal.body):
        return deployment_advice(endpoint, options, refusal.body)
    match refusal.status:
        case 400:
            return f"check {prefix}_MODEL and {url}"
        case 401:
            return _unauthorized(refusal, endpoint, options, key, access)
        case 403:
            rules = ", and whether the resource's network rules let this machine in"
            return f"check {_credential(prefix, access)}{rules if endpoint.host.endswith(_RESOURCES) else ''}"
        case 404 | 405 | 410 | 426:
            return _nowhere(endpoint, options)
    return ""


def deployment_advice(endpoint: Endpoint, options: Options, said: str = _NO_DEPLOYMENT) -> str:
    """Name the deployment that Azure does not have, or that cannot speak."""
    asked = dict(parse_qsl(endpoint.path.partition("?")[2]))
    name = asked.get("deployment") or asked.get("model")
    setting = f"{options.dialect.prefix}_{'BASE_URL' if name else 'MODEL'}"
    name = _name(name or options.model)
    if _NO_SPEECH.search(said):
        return f"the deployment {name} is not of a realtime model; {setting} must name one that is"
    return f"{endpoint.host} has no deployment {name}; {setting} must name a deployment there, which is not the model"


def _unauthorized(refusal: Refusal, endpoint: Endpoint, options: Options, key: str, access: Access) -> str:
    prefix = options.dialect.prefix
    if _MISSING_KEY.search(refusal.body):
        now = "" if access.key_header == AUTO else f" (it is {access.key_header})"
        return f"the gateway wants its key in another header: set {prefix}_KEY_HEADER{now} to {_APIM_HEADER} or api-key"
    if access.token_file is not None:
        return (
            f"check the token in {prefix}_TOKEN_FILE: Azure's has the scope {_SCOPE}, "
            "and its holder the role Cognitive Services OpenAI User"
        )
    if endpoint.host.endswith((*_RESOURCES, *_APIM)) or access.key_header != AUTO:
        if key.startswith("eyJ") and key.count(".") == 2:
            return f"{prefix}_API_KEY holds a token; put it into a file, and name that by {prefix}_TOKEN_FILE"
        whose = "a key of this resource" if endpoint.host.endswith(_RESOURCES) else "the key of this gateway"
        return f"check {prefix}_API_KEY: {whose} is wanted; a token of Entra's goes into {prefix}_TOKEN_FILE"
    if "/openai/" in endpoint.path:
        return f"check {prefix}_API_KEY; before Azure it goes into a header of its own: {prefix}_KEY_HEADER=api-key"
    return f"check {prefix}_API_KEY"


def _nowhere(endpoint: Endpoint, options: Options) -> str:
    path, _, query = endpoint.path.partition("?")
    url, asked = f"{options.dialect.prefix}_BASE_URL", target(endpoint, options, None).partition("?")[0]
    if endpoint.host.endswith(_RESOURCES) and not asked.startswith(_GENERAL):
        return f"set {url} to https://{endpoint.host_header}{_GENERAL}"
    how = f", to which {options.dialect.path} is added" if is_base(path, query) else ", which is taken as it stands"
    return f"nothing speaks this protocol at {shown(asked)}; check {url}{how}"


def _credential(prefix: str, access: Access) -> str:
    return f"{prefix}_API_KEY" if access.token_file is None else f"the token in {prefix}_TOKEN_FILE"


def _name(name: str) -> str:
    return repr(shown(name, _LONGEST_NAME))
