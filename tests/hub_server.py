"""A small model hub that speaks Hugging Face's protocol, for huggingface_hub's own client."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_of_a_test"


class Hub:
    """Repositories in memory.

    Attributes:
        commits: OWNER/REPO → list of (commit, files).
        tags: (OWNER/REPO, name) → commit.
        private, gated: repositories that need the token, or consent.
        truncated, falsified: whether files are sent cut short, or with another byte.
        downloads: files that were sent.
    """

    def __init__(self):
        self.commits = {}
        self.tags = {}
        self.private, self.gated = set(), set()
        self.truncated = self.falsified = False
        self.downloads = []
        self.stored = {}

    def commit(self, repo, files):
        """Add files to a repository; return the commit."""
        commits = self.commits.setdefault(repo, [])
        files = (commits[-1][1] if commits else {}) | files
        name = hashlib.sha1(f"{repo} {len(commits)}".encode()).hexdigest()
        commits.append((name, files))
        return name

    def files(self, repo, revision):
        """Commit and files of a revision; None if there is none."""
        revision = self.tags.get((repo, revision), revision)
        for name, files in reversed(self.commits[repo]):
            if revision in ("main", name):
                return name, files
        return None


@contextmanager
def running():
    """A hub and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        """Nothing."""

    def do_HEAD(self):
        self._resolve(with_body=False)

    def do_GET(self):
        path = unquote(self.path.partition("?")[0])
        if match := re.fullmatch(r"/api/datasets/([\w.-]+/[\w.-]+)(?:/revision/(.+))?", path):
            name, found = match[1], None
            if f"datasets/{name}" in self.hub.commits:
                found = self.hub.files(f"datasets/{name}", match[2] or "main")
            if found is None:
                return self._json(404, {"error": "no such data set"}, "RepoNotFound")
            about = {"id": name, "sha": found[0], "siblings": [], "tags": [], "private": False}
            return self._json(200, about)
        return self._resolve(with_body=True)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        path = unquote(self.path.partition("?")[0])
        host = f"http://{self.headers['host']}"
        if path == "/api/repos/create":
            if not self._knows_token():
                return self._json(401, {"error": "no token"})
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo in self.hub.commits:
                return self._json(409, {"error": "exists", "url": f"{host}/{repo}"})
            self.hub.commits[repo] = []
            self.hub.commit(repo, {})
            if asked.get("visibility") == "private" or asked.get("private"):
                self.hub.private.add(repo)
            return self._json(200, {"url": f"{host}/{repo}"})
        if path == "/api/validate-yaml":
            return self._json(200, {"errors": [], "warnings": []})
        if match := re.fullmatch(r"/api/models/(\w+/[\w.-]+)/preupload/main", path):
            modes = {True: "lfs", False: "regular"}
            files = [
                {
                    "path": file["path"],
                    "uploadMode": modes[file["path"].endswith(".safetensors")],
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self._json(200, {"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                item | {"actions": {"upload": {"href": f"{host}/lfs/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            return self._json(200, {"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/(\w+/[\w.-]+)/commit/main", path):
            files = {}
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = self.hub.stored[value["oid"]]
            commit = self.hub.commit(match[1], files)
            url = f"{host}/{match[1]}/commit/{commit}"
            return self._json(200, {"commitUrl": url, "commitOid": commit, "success": True})
        return self._json(404, {"error": f"unknown {path}"})

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["content-length"]))
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.stored[oid] = content
        self._json(200, {})

    def _knows_token(self):
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def _json(self, status, content, code=None):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _resolve(self, with_body):
        path = unquote(self.path.partition("?")[0])
        match = re.fullmatch(r"/((?:datasets/)?[\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path)
        if not match:
            return self._json(404, {"error": f"unknown {path}"})
        repo, revision, name = match.groups()
        hub = self.hub
        if repo not in hub.commits or (repo in hub.private and not self._knows_token()):
            return self._json(401, {"error": "no such repository"}, "RepoNotFound")
        if repo in hub.gated:
            return self._json(403, {"error": "ask its owner"}, "GatedRepo")
        found = hub.files(repo, revision)
        if found is None:
            return self._json(404, {"error": "no such revision"}, "RevisionNotFound")
        commit, files = found
        if name not in files:
            return self._json(404, {"error": "no such file"}, "EntryNotFound")
        content = files[name]
        etag = hashlib.sha256(content).hexdigest()
        start = 0
        if ranges := re.match(r"bytes=(\d+)-", self.headers.get("range", "")):
            start = int(ranges[1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not with_body:
            return None
        hub.downloads.append(f"{repo}/{name}")
        if hub.falsified:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if hub.truncated:
            self.wfile.write(content[start : start + 1000])
            self.close_connection = True
            return None
        self.wfile.write(content[start:])
        return None
