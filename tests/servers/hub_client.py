"""A process that talks to the stand-in for the Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from servers.hub_server import HubServer

CHILD = """
import json, sys, traceback, types
from pathlib import Path
from abliterate.errors import FLAGS_SPOKEN, AbliterateError
FLAGS_SPOKEN.set()
for line in sys.stdin:
    names = {"Path": Path, "sys": sys}
    try:
        exec(json.loads(line), names)
        answer = {"value": names.get("value")}
    except AbliterateError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except Exception as error:
        answer = {"error": type(error).__name__, "message": traceback.format_exc()}
    print("ANSWER " + json.dumps(answer), flush=True)
"""


TOKEN = "hf_" + "SecretOfTheTests" * 2


class Client:
    """The child process; it runs Python text and answers with what the text calls `value`, or the error."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {
            "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost", "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        self.said = folder / "said.txt"
        self.errors = self.said.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment, text=True,
        )  # fmt: skip
        self.answers: list[str] = []

    def run(self, text: str) -> Any:
        answer = self.ask(text)
        assert "error" not in answer, answer
        return answer["value"]

    def error(self, text: str) -> tuple[str, str]:
        """The class and the message of what the text raises; the message is one line without any token."""
        answer = self.ask(text)
        assert "error" in answer, answer
        assert "\n" not in answer["message"], answer["message"]
        return answer["error"], answer["message"]

    def push(self, folder: Path, repository: str, **options: Any) -> str:
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        return f"from abliterate.hub.push import push\nvalue = push(Path({str(folder)!r}), {repository!r}{given})"

    def check(self, repository: str, **options: Any) -> str:
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        return f"from abliterate.hub.push import check_push\ncheck_push({repository!r}{given})"

    def resolve(self, model: str, **options: Any) -> str:
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        return (
            f"from abliterate.models.source import resolve\nsource = resolve({model!r}{given})\n"
            "value = [str(source.folder), source.revision, sorted(source.checkpoint.tensors)]"
        )

    def ask(self, text: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(text) + "\n")
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline()).startswith("ANSWER "):
            assert line, self.said.read_text()
            self.answers.append(line)
        self.answers.append(line)
        answer: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()
        self.errors.close()
