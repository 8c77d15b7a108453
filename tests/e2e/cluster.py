"""The clusters scenarios run on: one started here from the shared kit, or the reader's own through KUBECONFIG."""

import contextlib
import json
import os
import pathlib
import signal
import tarfile
import time

from harness import check, run, wait_until

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
KIT = pathlib.Path(os.environ.get("TAWNY_KUBE_KIT", REPOSITORY.parent / "shared" / "kube"))
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "tawny-e2e"


class OwnCluster:
    """A cluster somebody else runs: reachable through its API only, not touched beyond the scenarios' namespaces."""

    has_node = False

    def __init__(self, kubeconfig):
        self.kubeconfig = kubeconfig

    def kubectl(self, *args, stdin=None, ok=(0,), timeout=120):
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return run("kubectl", *args, stdin=stdin, env=env, ok=ok, timeout=timeout).stdout

    def get(self, *args):
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def apply(self, namespace, *objects):
        items = [each for item in objects for each in (item if isinstance(item, list) else [item])]
        document = {"apiVersion": "v1", "kind": "List", "items": items}
        self.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(document))

    def create_namespace(self, name):
        self.kubectl("create", "namespace", name)
        wait_until(
            lambda: self.kubectl("-n", name, "get", "serviceaccount", "default"), 30, f"service account in {name}"
        )

    def delete_namespace(self, name):
        self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found", ok=None)

    def token(self, namespace, service_account):
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        return json.loads(self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(request)))["status"][
            "token"
        ]

    def kubeconfig_of(self, namespace, service_account, path):
        """Writes a kubeconfig that may do only what the service account may."""
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        config["users"][0]["user"] = {"token": self.token(namespace, service_account)}
        config["contexts"][0]["context"]["namespace"] = namespace
        path.write_text(json.dumps(config))
        return path


class KitCluster(OwnCluster):
    """A single-node cluster on this machine, from the shared kit; its files lie below `directory`."""

    has_node = True
    node = "127.0.0.1"

    def __init__(self, directory):
        super().__init__(directory / "cluster" / "admin.kubeconfig")
        self.directory = directory / "cluster"

    def script(self, *args):
        env = {**os.environ, "KUBE_BIN": str(binaries())}
        return run("bash", KIT / "cluster.sh", *args, env=env, timeout=600)

    def up(self):
        self.script("up", "1.20", self.directory)

    def down(self):
        self.script("down", self.directory)

    def import_image(self, archive):
        socket = self.directory / "containerd" / "c.sock"
        run("ctr", "-a", socket, "-n", "k8s.io", "images", "import", archive)

    def restart_api_server(self, down_for):
        """Ends the API server as a crash would, leaves it down for so many seconds, and starts it again."""
        pid = int((self.directory / "run" / "kube-apiserver.pid").read_text())
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        check(b"kube-apiserver" in command, f"process {pid} is not the API server")
        os.kill(pid, signal.SIGKILL)
        time.sleep(down_for)
        self.up()  # starts only what does not run

    @contextlib.contextmanager
    def kubelet_paused(self):
        """The kubelet neither reports nor does anything meanwhile, as on a node that is cut off."""
        pid = int((self.directory / "run" / "kubelet.pid").read_text())
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        check(b"kubelet" in command, f"process {pid} is not the kubelet")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


def binaries():
    """The kit's Kubernetes binaries, unpacked once."""
    (archive,) = KIT.glob("kubernetes-*.tar.xz")
    unpacked = CACHE / archive.name.removesuffix(".tar.xz")
    if not unpacked.exists():
        partial = unpacked.with_suffix(f".{os.getpid()}")
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile():
                    member.name = pathlib.Path(member.name).name
                    tar.extract(member, partial)
        partial.rename(unpacked)
    return unpacked


def find(directory):
    """The cluster to use: the kit's, else the reader's own, else none."""
    if (KIT / "cluster.sh").exists():
        return KitCluster(directory)
    own = os.environ.get("KUBECONFIG") or pathlib.Path.home() / ".kube" / "config"
    if os.path.exists(own):
        return OwnCluster(own)
    return None


def busybox_root(directory):
    """A root with nothing but static busybox, as a tar file for `docker import`."""
    root = directory / "busybox"
    (root / "bin").mkdir(parents=True)
    (root / "tmp").mkdir()
    run("cp", "/bin/busybox", root / "bin")
    for applet in run("/bin/busybox", "--list").stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    run("tar", "-C", root, "-cf", directory / "busybox.tar", ".")
    return directory / "busybox.tar"
