"""The order of the pages on the site. On a forge docs/index.md leads to them."""

from __future__ import annotations

TREE: dict[str, tuple[str, ...]] = {
    "Start": ("start/first-call", "start/your-prompt", "start/dsai-core"),
    "Use": ("providers", "tools", "call-data", "a-call"),
    "Reference": (
        "reference/settings",
        "reference/commands",
        "reference/errors",
        "reference/metrics",
        "reference/log-events",
    ),
    "Operations": (
        "operations/deploy",
        "operations/troubleshooting",
        "operations/monitor",
        "runbook",
        "operations/scale",
        "operations/upgrade",
        "operations/security",
    ),
    "Internals": (
        "internals/contributing",
        "internals/architecture",
        "protocols/core",
        "protocols/realtime",
        "protocols/evi",
        "internals/performance",
        "internals/emulator",
        "internals/faults",
        "internals/mutation",
        "internals/assets",
    ),
}


def tables_of_contents() -> str:
    """What Sphinx makes the site's sidebar of."""
    return "".join(
        "\n".join(("\n```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```\n"))
        for caption, pages in TREE.items()
    )
