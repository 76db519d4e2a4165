"""Function tools. What an operator's own tool may import is here: `CallContext` and `ToolError`."""

from sts_trio.tools.tool import CallContext, ToolError

__all__ = ["CallContext", "ToolError"]
