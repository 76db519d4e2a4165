"""The ways in which a peer, a proxy or a library may spell a key that it repeats."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": lambda key: "".join(f"\\u{ord(each):04x}" for each in key),
    "in JSON, large": lambda key: "".join(f"\\u{ord(each):04X}" for each in key),
    "in JSON in JSON": lambda key: "".join(f"\\\\u{ord(each):04x}" for each in key),
    "partly in JSON": lambda key: key[:5] + f"\\u{ord(key[5]):04x}" + key[6:],
    "a slash in JSON": lambda key: key.replace("/", "\\/"),
    "in a URL": lambda key: quote(key, safe=""),
    "all of it in a URL": lambda key: "".join(f"%{byte:02x}" for byte in key.encode()),
    "twice in a URL": lambda key: quote(quote(key, safe=""), safe=""),
    "in XML": lambda key: "".join(f"&#{ord(each)};" for each in key),
    "in XML, hexadecimal": lambda key: "".join(f"&#x{ord(each):X};" for each in key),
    "in base64": lambda key: b64encode(key.encode()).decode(),
    "in base64 with a user": lambda key: b64encode(f"user:{key}".encode()).decode(),
    "in base64 between others": lambda key: b64encode(f"k={key}&more".encode()).decode(),
    "in base64 for a URL": lambda key: quote(b64encode(f"aa{key}".encode(), altchars=b"-_").decode()),
    "in hexadecimal": lambda key: key.encode().hex(),
    "in hexadecimal, large": lambda key: key.encode().hex().upper(),
}
ODD_KEY = "sk-Ab/+\"9'?>~~~z"
