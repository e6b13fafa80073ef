"""Stands between a client and `ml serve`, and keeps what the client asks, without what it says.

    python recorder.py --server http://127.0.0.1:8080 --to FILE.jsonl

Prints the address to give to the client. Of each kind of request that is answered with 200 one line is kept: its path
and its body, in which the client's own texts, ids, paths and arguments are put away (`kept`). So a fixture has every
field and form of a request, is small, and holds nobody's words. What is refused is shown and not kept.
"""

import argparse
import http.client
import http.server
import json
import re
import select
import socket
import sys
import threading
import urllib.parse
from pathlib import Path

#: Strings of these fields say what a request is, and stay.
WORDS = {
    "$schema", "const", "default", "detail", "display", "effort", "encoding_format", "enum", "format", "include",
    "keep", "mode", "model", "modalities", "name", "phase", "role", "service_tier", "status", "summary", "tool_choice",
    "truncation", "ttl", "type", "verbosity",
}
#: Of a schema: names of properties.
NAMES = {"required", "propertyOrdering"}
IDS = {"call_id", "id", "item_id", "previous_response_id", "tool_call_id", "tool_use_id"}
WORD = re.compile(r"[\w.:/#+*-]{1,60}")


class Kept:
    """A body as it is kept. Ids that belong together stay the same."""

    def __init__(self):
        self.ids = {}

    def value(self, value, field="", inside=""):
        """`inside` is the field that the value's object stands in."""
        if isinstance(value, dict):
            # A schema may have a property of any name, whose value is no word.
            return {name: self.value(child, name, field) for name, child in value.items()}
        if isinstance(value, list):
            # Its objects stand in no field: what is an `input` of objects is no arguments of a call.
            named = [(child, "" if isinstance(child, dict) else field) for child in value]
            return self.list([self.value(child, name, inside) for child, name in named])
        if not isinstance(value, str) or not value:
            return value
        if field in IDS:
            return self.ids.setdefault(value, f"id{len(self.ids) + 1}")
        if field == "arguments":
            return self.arguments(value)
        if field in NAMES or (field in WORDS and inside != "input" and WORD.fullmatch(value)):
            return value
        return "text"

    def arguments(self, text):
        try:
            return json.dumps(self.value(json.loads(text)))
        except ValueError:
            return "text"

    @staticmethod
    def list(values):
        """Long ones of one form, such as token ids and texts, stand for themselves with two."""
        plain = all(isinstance(value, (int, float)) or value == "text" for value in values)
        return values[:2] if plain else values


def shape(value, field=""):
    """What two requests of the same kind have in common."""
    if isinstance(value, dict):
        return {name: shape(child, name) for name, child in sorted(value.items())}
    if isinstance(value, list):
        return sorted({json.dumps(shape(child, field)) for child in value})
    if isinstance(value, str):
        return value if field in ("type", "role", "tool_choice", "path") else "str"
    return type(value).__name__


class Recorder(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, server, file):
        super().__init__(("127.0.0.1", port), Handler)
        self.target = urllib.parse.urlsplit(server)
        self.file, self.lock = file, threading.Lock()
        self.seen = set()
        if file.exists():
            self.seen = {json.dumps(shape(json.loads(line))) for line in file.read_text().splitlines()}

    def keep(self, path, body):
        try:
            request = {"path": path.split("?")[0], "body": Kept().value(json.loads(body))}
        except ValueError:
            return
        with self.lock:
            kind = json.dumps(shape(request))
            if kind not in self.seen:
                self.seen.add(kind)
                with self.file.open("a") as file:
                    file.write(json.dumps(request, ensure_ascii=False, separators=(",", ":")) + "\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        # Either side went away.
        except (OSError, http.client.HTTPException):
            pass

    def relay(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        target = self.server.target
        upstream = http.client.HTTPConnection(target.hostname, target.port)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        upstream.request(self.command, self.path, body or None, headers)
        over = threading.Event()
        threading.Thread(target=self.watch, args=(upstream.sock, over), daemon=True).start()
        try:
            self.pass_on(upstream.getresponse(), body)
        finally:
            over.set()
            upstream.close()

    def watch(self, upstream, over):
        """A client that goes away while it waits takes its request along."""
        while not over.is_set():
            if select.select([self.connection], [], [], 0.05)[0]:
                if not self.still_there():
                    upstream.shutdown(socket.SHUT_RDWR)
                return

    def still_there(self):
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def pass_on(self, answer, body):
        if answer.status == 200 and self.command == "POST":
            self.server.keep(self.path, body)
        elif answer.status != 200:
            print(f"{answer.status} for {self.command} {self.path}", file=sys.stderr, flush=True)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while part := answer.read1(65536):
            if answer.status != 200:
                print(part.decode(errors="replace"), file=sys.stderr, flush=True)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_HEAD = do_DELETE = relay


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="the address of `ml serve`")
    parser.add_argument("--to", type=Path, required=True, help="what is kept, a request a line; it is added to")
    parser.add_argument("--port", type=int, default=0, help="any that is free unless told")
    args = parser.parse_args()
    recorder = Recorder(args.port, args.server, args.to)
    print(f"recording on http://127.0.0.1:{recorder.server_address[1]}", file=sys.stderr, flush=True)
    recorder.serve_forever()


if __name__ == "__main__":
    main()
