"""A hub in this process: the three answers that huggingface_hub asks for, from folders of files.

`Hub({"owner/name": folder}, token=...)` serves on an address of its own and remembers what was
asked.
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    def __init__(self, models: dict[str, Path], token: str = "") -> None:
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.asked.append(f"{self.command} {path}")
                status, headers, content = hub.reply(
                    path, self.headers.get("authorization", ""), token, models
                )
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
        api = path.startswith("/api/models/")
        name = "/".join(path.removeprefix("/api/models/").strip("/").split("/")[:2])
        rest = path.removeprefix("/api/models/").strip("/").removeprefix(name).strip("/")
        if name not in models:
            return (
                401,
                {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
                b"{}",
            )
        folder = models[name]
        paths = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        kind, _, what = rest.partition("/")
        if api and kind in ("", "revision"):
            if what not in ("", "main", COMMIT):
                return (
                    404,
                    {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"},
                    b"{}",
                )
            files = [{"rfilename": file.relative_to(folder).as_posix()} for file in paths]
            return 200, {}, json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode()
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
        if kind == "resolve" and token and bearer != f"Bearer {token}":
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
            return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{self.oid(file)}"'}, file.read_bytes()
        return 404, {}, b""

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
