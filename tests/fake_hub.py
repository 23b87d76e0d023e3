"""A hub in this process: the answers that huggingface_hub asks for, from folders of files.

`Hub({"owner/name": folder}, token=...)` serves on an address of its own and remembers what was
asked. With `accepts=FOLDER` whoever bears the token may make repositories and commit to them, by
the calls of the real client; every commit is a folder below it.
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent
SILENT = "http://127.0.0.1:9"  # nobody listens
COMMIT = "0123456789abcdef0123456789abcdef01234567"

COMMAND = """
import sys
from benchmarks.cli import main
sys.argv[0] = "perfbench"
main()
"""


def as_model(path: str) -> str:
    """Data sets are answered as models are; no test has both under one name."""
    return path.replace("/api/datasets/", "/api/models/").removeprefix("/datasets")


class Hub:
    def __init__(
        self, models: dict[str, Path], token: str = "", accepts: Path | None = None
    ) -> None:
        self.asked: list[str] = []
        self.token, self.accepts = token, accepts
        self.commits: dict[str, dict[str, Path]] = {}  # of repositories that were made here
        self.objects: dict[str, bytes] = {}  # large files by their sha256
        self.made: list[dict] = []  # what `create_repo` asked for
        self.hidden: set[str] = set()  # repositories that were made private
        self.role = "write"  # of the token
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def do_POST(self) -> None:
                self.take()

            def do_PUT(self) -> None:
                self.take()

            def take(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.asked.append(f"{self.command} {path}")
                content = self.rfile.read(int(self.headers.get("content-length", 0)))
                bearer = self.headers.get("authorization", "")
                self.send(*hub.taken(self.command, path, bearer, content))

            def answer(self, body: bool) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.asked.append(f"{self.command} {path}")
                found = hub.reply(path, self.headers.get("authorization", ""), token, models)
                self.send(*found, body=body)

            def send(
                self, status: int, headers: dict[str, str], content: bytes, body: bool = True
            ) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if body:
                    self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reply(
        self, path: str, bearer: str, token: str, models: dict[str, Path]
    ) -> tuple[int, dict[str, str], bytes]:
        path = as_model(path)
        api = path.startswith("/api/models/")
        name = "/".join(path.removeprefix("/api/models/").strip("/").split("/")[:2])
        rest = path.removeprefix("/api/models/").strip("/").removeprefix(name).strip("/")
        if path == "/api/whoami-v2":
            auth = {"accessToken": {"role": self.role}}
            return 200, {}, json.dumps({"name": "me", "orgs": [], "auth": auth}).encode()
        if rest.startswith("auth-check") and name not in self.commits:
            return 403, {"X-Error-Message": "You may not write here"}, b"{}"
        if rest.startswith("auth-check"):
            return 200, {}, b"{}"
        if name in self.commits:
            return self.reply_of_made(name, rest, api)
        if name not in models:
            return (
                401,
                {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
                b"{}",
            )
        return self.files(
            name, models[name], COMMIT, rest, api, token and bearer != f"Bearer {token}"
        )

    def reply_of_made(self, name: str, rest: str, api: bool) -> tuple[int, dict[str, str], bytes]:
        """Of a repository that was pushed: the revision that is asked for, or the last one."""
        commits = self.commits[name]
        asked = rest.split("/")[1] if "/" in rest else "main"
        commit = list(commits)[-1] if asked == "main" else asked
        if commit not in commits:
            return self.no_revision()
        return self.files(name, commits[commit], commit, rest.replace(asked, commit, 1), api, False)

    @staticmethod
    def no_revision() -> tuple[int, dict[str, str], bytes]:
        said = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"}
        return 404, said, b"{}"

    def files(
        self, name: str, folder: Path, commit: str, rest: str, api: bool, closed: bool | str
    ) -> tuple[int, dict[str, str], bytes]:
        """What a repository at a commit answers."""
        paths = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        kind, _, what = rest.partition("/")
        if what.split("/")[0] not in ("", "main", commit):
            return self.no_revision()
        if api and kind in ("", "revision"):
            files = [{"rfilename": file.relative_to(folder).as_posix()} for file in paths]
            told = {"id": name, "sha": commit, "siblings": files, "private": name in self.hidden}
            return 200, {}, json.dumps(told).encode()
        if api and kind == "tree":
            entries = [
                {
                    "type": "file",
                    "path": file.relative_to(folder).as_posix(),
                    "size": file.stat().st_size,
                    "oid": self.oid(file),
                }
                for file in paths
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(entries).encode()
        # what is in a gated model is for all to know
        if kind == "resolve" and closed:
            return (
                403,
                {
                    "X-Error-Code": "GatedRepo",
                    "X-Error-Message": "Access to this model is restricted",
                },
                b"{}",
            )
        if kind == "resolve":
            file = folder / what.partition("/")[2]
            if not file.is_file():
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            return 200, {"X-Repo-Commit": commit, "ETag": f'"{self.oid(file)}"'}, file.read_bytes()
        return 404, {}, b""

    # ---- what is sent here ----

    def taken(
        self, verb: str, path: str, bearer: str, content: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """A repository made, a file stored, a commit; nothing without the token."""
        path = as_model(path)
        if path.startswith("/objects/"):  # an address with a signature of its own
            self.objects[path.removeprefix("/objects/")] = content
            return 200, {}, b""
        if self.accepts is None or not self.token or bearer != f"Bearer {self.token}":
            said = {"X-Error-Message": "Invalid username or password."}
            return 401, said, b'{"error": "Invalid username or password."}'
        if path == "/api/validate-yaml":
            return 200, {}, b'{"errors": [], "warnings": []}'
        if path == "/api/repos/create":
            return self.create(json.loads(content))
        if path.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(content))
        name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
        if name not in self.commits:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if "/preupload/" in path:
            modes = [self.mode(one["path"]) for one in json.loads(content)["files"]]
            return 200, {}, json.dumps({"files": modes}).encode()
        assert "/commit/main" in path, path
        return self.commit(name, [json.loads(line) for line in content.splitlines()])

    def create(self, asked: dict) -> tuple[int, dict[str, str], bytes]:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] == "somebody-else":
            said = {"X-Error-Message": "You don't have the rights to create a model there"}
            return 403, said, b"{}"
        self.made.append(asked)
        if name not in self.commits and asked.get("visibility") == "private":
            self.hidden.add(name)
        if name in self.commits:
            there = json.dumps({"url": f"{self.address}/{name}"}).encode()
            return 409, {"X-Error-Message": "You already created this model repo"}, there
        assert self.accepts is not None
        first = hashlib.sha1(name.encode()).hexdigest()
        self.commits[name] = {first: self.accepts / name / first}
        self.commits[name][first].mkdir(parents=True)
        return 200, {}, json.dumps({"url": f"{self.address}/{name}"}).encode()

    @staticmethod
    def mode(path: str) -> dict:
        """Weights and pictures are large files to a real hub, text is not."""
        large = path.endswith((".safetensors", ".png", ".parquet"))
        return {
            "path": path,
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
            "oid": None,
        }

    def batch(self, asked: dict) -> tuple[int, dict[str, str], bytes]:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.address}/objects/{one['oid']}"}}}
            for one in asked["objects"]
        ]
        return 200, {}, json.dumps({"transfer": "basic", "objects": objects}).encode()

    def commit(self, name: str, lines: list[dict]) -> tuple[int, dict[str, str], bytes]:
        before = list(self.commits[name].values())[-1]
        commit = hashlib.sha1(json.dumps([before.name, lines]).encode()).hexdigest()
        folder = shutil.copytree(before, before.with_name(commit))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                (folder / value["path"]).parent.mkdir(parents=True, exist_ok=True)
                (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                (folder / value["path"]).parent.mkdir(parents=True, exist_ok=True)
                stored = self.objects[value["oid"]]
                assert hashlib.sha256(stored).hexdigest() == value["oid"]
                (folder / value["path"]).write_bytes(stored)
            elif line["key"] == "deletedFile":
                (folder / value["path"]).unlink()
        self.commits[name][commit] = folder
        said = {"commitUrl": f"{self.address}/{name}/commit/{commit}", "commitOid": commit}
        return 200, {}, json.dumps(said).encode()

    @staticmethod
    def oid(file: Path) -> str:
        return hashlib.sha1(file.read_bytes()).hexdigest()

    def fetched(self) -> set[str]:
        """Files whose bytes were asked for."""
        return {
            line.partition(f"/resolve/{COMMIT}/")[2]
            for line in self.asked
            if line.startswith("GET")
        } - {""}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def known_here(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """The client of this process knows this hub alone, with the token of the tests."""
    for name, value in {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(cache),
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def asked_of(
    home: Path, *words: str, code: str, endpoint: str = SILENT, **more: str
) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, which knows this hub alone; without one, a silent one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {
        **kept,
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        **more,
    }
    environment |= {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_ETAG_TIMEOUT": "2",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
