"""A headless Chromium driven over a pipe: real keys, touches and screen sizes for the tests of the report page."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe"
)
KEYS = {
    "Tab": 9,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowRight": 39,
    "Escape": 27,
    "Enter": 13,
    " ": 32,
    "b": 66,
    "n": 78,
    "p": 80,
}


class Chromium:
    """One page of a browser, by the DevTools protocol: JSON messages that end in a zero byte, on descriptors 3 and 4.

    Attributes:
        complaints: messages of the page's console and errors of its script.
        requests: every address the page asked for.
    """

    def __init__(self, profile: Path) -> None:
        assert PROGRAM
        self.complaints: list[str] = []
        self.requests: list[str] = []
        command_end, self._commands = os.pipe()
        self._answers, answer_end = os.pipe()
        shell = ["sh", "-c", f'exec "$@" 3</dev/fd/{command_end} 4>/dev/fd/{answer_end}', "sh"]
        self._process = subprocess.Popen(
            [*shell, PROGRAM, *OPTIONS.split(), f"--user-data-dir={profile}"],
            pass_fds=(command_end, answer_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_end)
        os.close(answer_end)
        self._rest, self._count, self._events = b"", 0, set[str]()
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._answers], [], [], 60)[0], "the browser hangs"
            block = os.read(self._answers, 1 << 16)
            assert block, "the browser has ended"
            self._rest += block
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        name, facts = message.get("method", ""), message.get("params", {})
        self._events.add(name)
        if name in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(facts))
        elif name == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        return message

    def open(self, page: Path, width: int, *, dark: bool, touch: bool) -> None:
        """Load a file on a screen of this width and wait for it."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._receive()

    def ask(self, expression: str) -> Any:
        """Value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press and release keys."""
        for key in keys:
            facts = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
            text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", **facts, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, touch: bool) -> None:
        """Draw a finger or the mouse over the page."""
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        if touch:
            for kind, points in (
                ("touchStart", [start]),
                ("touchMove", [middle]),
                ("touchMove", [end]),
                ("touchEnd", []),
            ):
                self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])
            return
        for kind, (x, y) in (
            ("mousePressed", start),
            ("mouseMoved", middle),
            ("mouseMoved", end),
            ("mouseReleased", end),
        ):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
