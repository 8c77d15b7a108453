"""A witness between an agent and the API server: what the API handed out, connection by connection."""

import json
import re
import socket
import threading

CHUNK_FRAME = re.compile(rb"\r\n[0-9a-fA-F]+\r\n")


class Witness:
    """A TCP forwarder to `kubectl proxy`, which keeps all that comes back; `kubeconfig` leads an agent through it."""

    def __init__(self, scene):
        proxy = scene.program(["kubectl", "proxy", "--port=0"], scene.directory / "kubectl-proxy.log")
        self.upstream = ("127.0.0.1", int(proxy.printed(r"Starting to serve on 127\.0\.0\.1:(\d+)").group(1)))
        self.answers = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        scene.cleanups.append(self.listener.close)
        threading.Thread(target=self.serve, daemon=True).start()
        self.kubeconfig = scene.directory / "witnessed.kubeconfig"
        self.kubeconfig.write_text(json.dumps(kubeconfig(f"http://127.0.0.1:{self.listener.getsockname()[1]}")))

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.upstream)
            except OSError:  # the scenario is over
                return
            answer = bytearray()
            self.answers.append(answer)
            threading.Thread(target=forward, args=(client, server, bytearray()), daemon=True).start()
            threading.Thread(target=forward, args=(server, client, answer), daemon=True).start()

    def sequences(self):
        """The numbers of a `counting` writer's whole lines that each connection handed out, in order."""
        texts = (CHUNK_FRAME.sub(b"", bytes(answer)) for answer in list(self.answers))
        return [[int(number) for number in re.findall(rb"seq (\d+) x+\n", text)] for text in texts]


def forward(source, sink, kept):
    """Passes bytes on until either side is done; both sockets are closed then."""
    try:
        while piece := source.recv(1 << 16):
            kept += piece  # before it is passed on: what arrived was witnessed
            sink.sendall(piece)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()


def kubeconfig(server):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "witnessed",
        "clusters": [{"name": "witnessed", "cluster": {"server": server}}],
        "contexts": [{"name": "witnessed", "context": {"cluster": "witnessed", "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {}}],
    }
