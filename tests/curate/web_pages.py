"""A loopback server whose addresses do what addresses of the web do."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


def picture(seed, *, green=True, kind="PNG", size=(64, 48)):
    """An encoded picture of a seeded pattern, green or not."""
    coarse = np.random.default_rng(seed).integers(40, 200, (6, 8, 3), np.uint8)
    coarse[..., (0, 2) if green else (1,)] //= 3
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return out.getvalue()


def bomb():
    """A few bytes that say they are a picture of 60,000 pixels squared."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@contextmanager
def serving():
    """Gives the server's address and the list of what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            name = self.path.strip("/").split("?")[0]
            if name.startswith("ok/"):
                seed, _, word = name[3:].partition(".")[0].partition("-")
                kind = "JPEG" if "jpg" in name else "PNG"
                self.say(200, picture(int(seed), green=word != "grey", kind=kind), "image/png")
            elif name == "to":
                self.say(302, b"", location="/ok/1.png")
            elif name == "round":
                self.say(302, b"", location="/round")
            elif name == "astray":
                self.say(302, b"", location="http://[nowhere")
            elif name == "local":
                self.say(302, b"", location="file:///etc/hostname")
            elif name == "page":
                self.say(200, b"<html><title>Not here</title></html>", "text/html")
            elif name == "bomb":
                self.say(200, bomb(), "image/png")
            elif name == "empty":
                self.say(200, b"", "image/png")
            elif name == "cut":
                self.say(200, picture(3)[:400], "image/png")
            elif name == "noai":
                self.say(200, picture(4), "image/png", **{"X-Robots-Tag": "noai"})
            elif name == "hang":
                time.sleep(4)
                self.say(200, picture(5), "image/png")
            elif name == "drip":
                self.send_response(200)
                self.end_headers()
                for _ in range(30):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
            elif name == "slow-head":
                for sign in b"HTTP/1.0 200 OK\r\nX-Far: " + b"x" * 40:
                    self.wfile.write(bytes([sign]))
                    self.wfile.flush()
                    time.sleep(0.05)
            elif name == "cookie":
                self.say(200, b"a", **{"Set-Cookie": "who=you"})
            elif name == "busy" and asked.count(self.path) < 2:
                self.say(503, b"")
            elif name == "busy":
                self.say(200, picture(6), "image/png")
            else:
                self.say(404 if name == "gone" else 500, b"")

        def say(self, status, content, kind="text/plain", **headers):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *_):
            pass

        def handle_one_request(self):
            with suppress(OSError):
                super().handle_one_request()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
