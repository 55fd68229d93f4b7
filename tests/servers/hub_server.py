"""A Hub on this machine: a real HTTP server that speaks what huggingface_hub asks of the real one.

    with HubServer() as hub:
        hub.endpoint                     # for HF_ENDPOINT
        hub.repositories["me/model"]     # what was pushed
        hub.fail("PUT", "/storage/", 500)

Accounts, repositories with commits, large files by the LFS protocol (basic transfer), downloads with ranges. What a
test switches wrong stays in this file; nothing of the code under test is replaced.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LARGE = ".safetensors"
"""Files that the preupload answer sends to LFS, as the .gitattributes of a new repository does."""


@dataclass(frozen=True)
class Blob:
    content: bytes
    large: bool

    @property
    def oid(self) -> str:
        """The git id: of the content, or of the LFS pointer file."""
        text = self.content
        if self.large:
            text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(text)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Commit:
    oid: str
    message: str
    files: dict[str, Blob]


@dataclass
class Repository:
    visibility: str = "private"
    gated: bool = False
    ignored: tuple[str, ...] = ()
    commits: list[Commit] = field(default_factory=list)
    """Those of main."""
    branches: dict[str, Commit] = field(default_factory=dict)
    """The last commit of every other branch, and of every pull request."""

    def commit(self, message: str, files: dict[str, Blob], branch: str = "main") -> Commit:
        text = json.dumps([branch, len(self.commits), message, {name: blob.oid for name, blob in files.items()}])
        made = Commit(hashlib.sha1(text.encode()).hexdigest(), message, files)
        if branch == "main":
            self.commits.append(made)
        else:
            self.branches[branch] = made
        return made

    def at(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        if revision in self.branches:
            return self.branches[revision]
        return next((one for one in (*self.commits, *self.branches.values()) if one.oid == revision), None)

    @property
    def contents(self) -> dict[str, bytes]:
        return {name: blob.content for name, blob in self.commits[-1].files.items()}


@dataclass
class Fault:
    """Requests of `method` whose path holds `part` are answered `status`, or cut off when it is 0; `times` times."""

    method: str
    part: str
    status: int
    times: int
    message: str = "Internal Error - We're working hard to fix this as soon as possible!"


class HubServer:
    """The server, its repositories, and the switches. A context; it listens while inside."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.accounts: dict[str, dict[str, Any]] = {}
        self.storage: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def content_endpoint(self) -> str:
        """Large files come from another host, which must not be shown the token."""
        return f"http://localhost:{self.port}"

    def __enter__(self) -> HubServer:
        self.listen()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def listen(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Bound", (Handler,), {"hub": self}))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self.listen()

    @contextmanager
    def fail(self, method: str, part: str, status: int, times: int = 1 << 30, message: str = "") -> Iterator[None]:
        fault = Fault(method, part, status, times, *([message] if message else []))
        self.faults.append(fault)
        try:
            yield
        finally:
            self.faults.remove(fault)

    def account(self, token: str, name: str, role: str = "write", organisations: tuple[str, ...] = ()) -> None:
        self.accounts[token] = {
            "type": "user",
            "name": name,
            "orgs": [{"type": "org", "name": one, "roleInOrg": "write"} for one in organisations],
            "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": role}},
        }

    def publish(self, name: str, files: dict[str, bytes], **settings: Any) -> Repository:
        """Put a repository there, as if someone had pushed it."""
        repository = self.repositories[name] = Repository(**{"visibility": "public", **settings})
        repository.commit("initial commit", {})
        repository.commit("files", {path: Blob(data, path.endswith(LARGE)) for path, data in files.items()})
        return repository


class Problem(Exception):
    """An answer other than success: status, `X-Error-Code`, text."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    hub: HubServer

    # Request line and answer: HTTP/1.0, one request a connection, so that closing the server closes all of it.

    def answer(self, send_body: bool = True) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.where = unquote(url.path)
        self.body = self.read_body()
        self.hub.requests.append(f"{self.command} {self.where}")
        try:
            fault = next((one for one in self.hub.faults if self.hit(one)), None)
            if fault is not None and fault.status == 0:
                return self.cut_off()
            if fault is not None:
                raise Problem(fault.status, fault.message)
            status, headers, content = self.route()
        except Problem as problem:
            status, content = problem.status, json.dumps({"error": str(problem)}).encode()
            headers = {"Content-Type": "application/json", "X-Error-Message": str(problem), "Retry-After": "0"}
            if problem.code:
                headers["X-Error-Code"] = problem.code
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if send_body:
            self.wfile.write(content)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing on stderr."""

    def hit(self, fault: Fault) -> bool:
        if fault.times < 1 or fault.method != self.command or fault.part not in self.where:
            return False
        fault.times -= 1
        return True

    def cut_off(self) -> None:
        """Promise more than is sent."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"x" * 10)

    # Routes

    def route(self) -> tuple[int, dict[str, str], bytes]:
        for method, pattern, handler in ROUTES:
            match = re.fullmatch(pattern, self.where)
            if method == self.command.replace("HEAD", "GET") and match:
                answer = getattr(self, handler)(**match.groupdict())
                if isinstance(answer, tuple):
                    return answer
                return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()
        raise Problem(404, f"no such page: {self.where}")

    def user(self, needed: bool = True) -> dict[str, Any] | None:
        """The account of the request; None for none. An unknown or expired token is refused everywhere."""
        given = self.headers.get("Authorization")
        if given is None:
            if needed:
                raise Problem(401, "Invalid username or password.")
            return None
        account = self.hub.accounts.get(given.removeprefix("Bearer "))
        if account is None:
            raise Problem(401, "Invalid credentials in Authorization header")
        return account

    def names(self, account: dict[str, Any] | None) -> list[str]:
        return [account["name"], *(one["name"] for one in account["orgs"])] if account else []

    def repository(self, name: str, write: bool = False) -> Repository:
        account = self.user(needed=write)
        found = self.hub.repositories.get(name)
        member = name.split("/")[0] in self.names(account)
        if found is None or (found.visibility == "private" and not member):
            raise Problem(404 if account else 401, "Repository not found", "RepoNotFound")
        if write and (not member or account is None or account["auth"]["accessToken"]["role"] == "read"):
            raise Problem(403, "Forbidden: you must be a member with write access to this repository")
        return found

    def commit_of(self, name: str, revision: str) -> Commit:
        commit = self.repository(name).at(revision)
        if commit is None:
            raise Problem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def whoami(self) -> Any:
        return self.user()

    def create(self) -> Any:
        asked = json.loads(self.body)
        account = self.user()
        assert account is not None
        namespace = asked.get("organization") or account["name"]
        name = f"{namespace}/{asked['name']}"
        if namespace not in self.names(account) or account["auth"]["accessToken"]["role"] == "read":
            raise Problem(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
        url = {"url": f"{self.hub.endpoint}/{name}", "name": name}
        if name in self.hub.repositories:
            content = json.dumps({"error": "You already created this model repo", **url}).encode()
            return 409, {"Content-Type": "application/json"}, content
        private = asked.get("visibility") == "private" or asked.get("private") is True
        made = self.hub.repositories[name] = Repository("private" if private else "public")
        made.commit(
            "initial commit", {".gitattributes": Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", False)}
        )
        return url

    def validate(self) -> Any:
        block = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        try:
            metadata = yaml.safe_load(block[1]) if block else None
        except yaml.YAMLError as error:
            content = json.dumps({"errors": [{"message": str(error)}], "warnings": []}).encode()
            return 400, {"Content-Type": "application/json"}, content
        warnings = [] if isinstance(metadata, dict) else [{"message": "empty or missing yaml metadata in repo card"}]
        return {"errors": [], "warnings": warnings}

    def info(self, name: str, revision: str | None = None) -> Any:
        commit, repository = self.commit_of(name, revision or "main"), self.hub.repositories[name]
        return {
            "_id": "0",
            "id": name,
            "modelId": name,
            "sha": commit.oid,
            "private": repository.visibility == "private",
            "gated": "manual" if repository.gated else False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }

    def tree(self, name: str, revision: str) -> Any:
        return [
            {
                "type": "file",
                "path": path,
                "size": len(blob.content),
                "oid": blob.oid,
                **({"lfs": {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 130}} if blob.large else {}),
            }
            for path, blob in sorted(self.commit_of(name, revision).files.items())
        ]

    def preupload(self, name: str, revision: str) -> Any:
        repository = self.repository(name, write=True)
        held = self.commit_of(name, revision).files
        return {
            "files": [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": one["path"] in repository.ignored,
                    "oid": (held[one["path"]].sha256 if held[one["path"]].large else held[one["path"]].oid)
                    if one["path"] in held
                    else None,
                }
                for one in json.loads(self.body)["files"]
            ]
        }

    def batch(self, name: str) -> Any:
        self.repository(name, write=True)
        objects = []
        for one in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.endpoint}/storage/{one['oid']}", "header": {}}
            new = {"actions": {"upload": upload}} if one["oid"] not in self.hub.storage else {}
            objects.append({"oid": one["oid"], "size": one["size"], **new})
        content = json.dumps({"transfer": "basic", "objects": objects}).encode()
        return 200, {"Content-Type": "application/vnd.git-lfs+json"}, content

    def store(self, oid: str) -> Any:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Problem(400, "content does not match its oid")
        self.hub.storage[oid] = self.body
        return {}

    def commit(self, name: str, revision: str) -> Any:
        repository = self.repository(name, write=True)
        files = dict(self.commit_of(name, revision).files)
        message = ""
        for line in self.body.splitlines():
            key, value = json.loads(line)["key"], json.loads(line)["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in self.hub.storage:
                    raise Problem(400, f"LFS object {value['oid']} was never uploaded")
                files[value["path"]] = Blob(self.hub.storage[value["oid"]], True)
            elif key == "deletedFile":
                del files[value["path"]]
            else:
                raise Problem(400, f"unknown operation {key}")
        request = len([one for one in repository.branches if one.startswith("refs/pr/")]) + 1
        opened = self.query.get("create_pr") == ["1"]
        made = repository.commit(message, files, f"refs/pr/{request}" if opened else revision)
        page = f"{self.hub.endpoint}/{name}"
        return {
            "success": True,
            "commitOid": made.oid,
            "commitUrl": f"{page}/commit/{made.oid}",
            **({"pullRequestUrl": f"{page}/discussions/{request}"} if opened else {}),
        }

    def branch(self, name: str, branch: str) -> Any:
        self.repository(name, write=True).branches[branch] = self.commit_of(name, "main")
        return {}

    def resolve(self, name: str, revision: str, path: str) -> Any:
        commit = self.commit_of(name, revision)
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if self.hub.repositories[name].gated:
            raise Problem(
                403, f"Access to model {name} is restricted and you are not in the authorized list", "GatedRepo"
            )
        if path not in commit.files:
            raise Problem(404, "Entry not found", "EntryNotFound")
        blob = commit.files[path]
        if blob.large:
            self.hub.storage[blob.sha256] = blob.content
            headers |= {"X-Linked-Size": str(len(blob.content)), "X-Linked-ETag": f'"{blob.sha256}"'}
            return 302, {**headers, "Location": f"{self.hub.content_endpoint}/storage/{blob.sha256}"}, b""
        return self.ranged(blob.content, {**headers, "ETag": f'"{blob.oid}"'})

    def fetch(self, oid: str) -> Any:
        if self.headers.get("Authorization"):  # as the real one answers: its addresses are signed
            raise Problem(400, "Only one auth mechanism allowed")
        return self.ranged(self.hub.storage[oid], {"ETag": f'"{oid}"'})

    def ranged(self, content: bytes, headers: dict[str, str]) -> Any:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return 200, headers, content
        start, end = int(wanted[1]), int(wanted[2] or len(content) - 1) + 1
        if start >= len(content):
            return 416, {**headers, "Content-Range": f"bytes */{len(content)}"}, b""
        return 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}, content[start:end]


NAME = r"(?P<name>[^/]+/[^/]+|legacy[^/]*)"
"""org/name, or one word for a model of the Hub's first ones."""
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", rf"/api/models/{NAME}", "info"),
    ("GET", rf"/api/models/{NAME}/revision/(?P<revision>.+)", "info"),
    ("GET", rf"/api/models/{NAME}/tree/(?P<revision>.+)", "tree"),
    ("POST", rf"/api/models/{NAME}/preupload/(?P<revision>.+)", "preupload"),
    ("POST", rf"/api/models/{NAME}/commit/(?P<revision>.+)", "commit"),
    ("POST", rf"/api/models/{NAME}/branch/(?P<branch>.+)", "branch"),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/storage/(?P<oid>[0-9a-f]{64})", "store"),
    ("GET", r"/storage/(?P<oid>[0-9a-f]{64})", "fetch"),
    ("GET", rf"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]
