"""Coder as `tawny coder` meets it: takes log sources and lines over HTTP, and keeps what each agent was told."""

import http.server
import json
import threading


class CoderServer:
    """Listens until the scenario ends; `told` holds by token what came, in order."""

    def __init__(self, scene):
        self.told, self.sources, self.unknown = {}, {}, {}
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        scene.cleanups.append(self.server.shutdown)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def lines(self, token):
        return [(log["level"], log["output"]) for log in self.told.get(token, [])]

    def take(self, method, path, token, body):
        """Status and answer, as the agent API of Coder gives them."""
        if path == "/api/v2/buildinfo":
            return 200, {"version": "v2.34.2"}
        if not token:
            return 401, {"message": "no token"}
        # As while the workspace is being provisioned: nobody knows the token yet.
        self.unknown[token] = self.unknown.get(token, 3) - 1
        if self.unknown[token] > 0:
            return 401, {"message": "The agent cannot authenticate until the workspace provision job has been completed."}
        if (method, path) == ("POST", "/api/v2/workspaceagents/me/log-source"):
            self.sources[token] = body
            return 201, {**body, "workspace_agent_id": token, "created_at": "2026-01-01T00:00:00Z"}
        if (method, path) == ("PATCH", "/api/v2/workspaceagents/me/logs"):
            self.told.setdefault(token, []).extend(body["logs"])
            return 200, {}
        return 404, {"message": "not found"}

    def handler(self):
        coder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or "{}")
                token = self.headers.get("Coder-Session-Token")
                status, answer = coder.take(self.command, self.path, token, body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *_):
                pass

        return Handler
