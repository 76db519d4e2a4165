"""Templates become a page: what comes from outside is text in it, whatever it says.

The page's own policy forbids every request, and every script but the one that is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import jinja2

from sts_trio import __version__

if TYPE_CHECKING:
    from datetime import datetime

_FOLDER = "templates"


def render(template: str, made: datetime, **values: object) -> bytes:
    """Make a page of a template, which extends ``base.html``. Times of day are in the zone of `made`."""
    style, script = _part("page.css"), _part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; media-src data:; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = _templates().get_template(template)
    return page.render(
        policy=policy,
        style=style,
        script=script,
        version=__version__,
        made=made,
        **values,
    ).encode()


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(_part)
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _part(name: str) -> str:
    return files(__package__).joinpath(_FOLDER, name).read_text("utf-8")
