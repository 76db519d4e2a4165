"""A real browser without a screen, spoken to over its debugging protocol; a test is skipped where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio_websocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--mute-audio", "--no-first-run")
_SECONDS = 20.0


class Browser:
    """One page. `said` are the lines of its console, `asked` the addresses that it has asked for."""

    def __init__(self, ws: trio_websocket.WebSocketConnection) -> None:
        self._ws = ws
        self._number = 0
        self.said: list[str] = []
        self.asked: list[str] = []

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command and wait for its answer; what happens meanwhile is noted."""
        self._number += 1
        await self._ws.send_message(json.dumps({"id": self._number, "method": method, "params": parameters}))
        with trio.fail_after(_SECONDS):
            while (message := json.loads(await self._ws.get_message())).get("id") != self._number:
                self._note(message.get("method"), message.get("params", {}))
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def _note(self, what: str | None, told: dict[str, Any]) -> None:
        match what:
            case "Network.requestWillBeSent":
                self.asked.append(told["request"]["url"][:100])
            case "Log.entryAdded":
                self.said.append(told["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.said.append(str(told["exceptionDetails"]))

    async def open(self, page: Path, width: int, scheme: str) -> None:
        """Open a page in a window of this width; `scheme`: light or dark."""
        for name in ("Page", "Network", "Log", "Runtime"):
            await self.command(f"{name}.enable")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        await self.command("Emulation.setDeviceMetricsOverride", **size)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.command("Emulation.setEmulatedMedia", features=media)
        await self.command("Page.navigate", url=page.as_uri())
        await self.until("document.readyState === 'complete'")

    async def ask(self, expression: str) -> Any:
        """Return what a JavaScript expression comes to."""
        told = await self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        with trio.fail_after(_SECONDS):
            while not await self.ask(expression):
                await trio.sleep(0.05)

    async def press(self, key: str, code: int) -> None:
        """Press a key where the focus is."""
        for kind in ("keyDown", "keyUp"):
            await self.command("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)


@asynccontextmanager
async def open_browser(directory: Path) -> AsyncIterator[Browser]:
    """Start a browser, whose own files go to `directory`."""
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is there")
    command = [program, *_FLAGS, f"--user-data-dir={directory / 'browser'}", "about:blank"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, **quiet))
        try:
            active = directory / "browser" / "DevToolsActivePort"
            with trio.fail_after(_SECONDS):
                while not active.exists() or "\n" not in active.read_text():
                    await trio.sleep(0.05)
            port, path = active.read_text().splitlines()
            whole = f"ws://127.0.0.1:{port}{path}"
            async with trio_websocket.open_websocket_url(whole) as ws:
                targets = (await Browser(ws).command("Target.getTargets"))["targetInfos"]
            (target,) = [each["targetId"] for each in targets if each["type"] == "page"]
            url = f"ws://127.0.0.1:{port}/devtools/page/{target}"
            async with trio_websocket.open_websocket_url(url, max_message_size=2**24) as ws:
                yield Browser(ws)
        finally:
            process.terminate()
