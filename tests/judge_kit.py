"""A chat endpoint of the tests' own, on loopback: it records every byte that it is sent, and
answers what a test says, byte by byte.
"""

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

KEY = "sk-never-write-this-0123456789"
Reply = bytes | Sequence[bytes | float]  # bytes, and seconds of silence between them


def http(body: bytes | str, status: str = "200 OK", *headers: str) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chat(content: object, *headers: str) -> bytes:
    """A completion whose message is this."""
    message = {"role": "assistant", "content": content}
    return http(json.dumps({"choices": [{"index": 0, "message": message}]}), "200 OK", *headers)


def grades(subject: object, prompt: object) -> bytes:
    return chat(json.dumps({"subject": subject, "prompt": prompt}))


@dataclass
class Asked:
    """One request, as it came."""

    raw: bytes

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> dict:
        return json.loads(self.raw.partition(b"\r\n\r\n")[2])

    @property
    def parts(self) -> list[dict]:
        return self.body["messages"][0]["content"]

    @property
    def pictures(self) -> list[str]:
        return [part["image_url"]["url"] for part in self.parts if part["type"] == "image_url"]


@dataclass
class Endpoint:
    """`replies(number)`: what the number-th request is answered."""

    replies: Callable[[int], Reply]
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def judge(self) -> str:
        return f"judge:http://127.0.0.1:{self.port}/v1#small-eye"

    def answer(self, raw: bytes) -> Reply:
        self.asked.append(Asked(raw))
        return self.replies(len(self.asked) - 1)


@contextmanager
def endpoint(replies: Callable[[int], Reply] | Reply) -> Iterator[Endpoint]:
    said = replies if callable(replies) else (lambda _: replies)
    here = Endpoint(said)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = self.rfile.readline()
                if not line:
                    return
                head += line
            length = [line for line in head.lower().split(b"\r\n") if b"content-length:" in line]
            body = self.rfile.read(int(length[0].partition(b":")[2])) if length else b""
            reply = here.answer(head + body)
            for part in [reply] if isinstance(reply, bytes) else reply:
                if isinstance(part, bytes):
                    try:
                        self.wfile.write(part)
                    except OSError:
                        return
                else:
                    time.sleep(part)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        here.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield here
        server.shutdown()
