"""Kubernetes objects as the scenarios need them: small, quick to stop, images already on the node."""

BUSYBOX = "busybox:1.35"
TAWNY = "localhost/tawny:e2e"

# One JSON line per second, as the randomlog generator of SX-31 writes them.
RANDOMLOG = r"""
n=0
while :; do
  case $((RANDOM % 4)) in 0) l=INFO ;; 1) l=WARN ;; 2) l=ERROR ;; *) l=DEBUG ;; esac
  case $((n % 8)) in
    0) m='user login successful' ;; 1) m='database query executed' ;; 2) m='cache miss' ;; 3) m='request timeout' ;;
    4) m='connection established' ;; 5) m='file not found' ;; 6) m='rate limit exceeded' ;; *) m='service restarted' ;;
  esac
  printf '{"timestamp":"%s","level":"%s","message":"%s","source":"randomlog"}\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" $l "$m"
  n=$((n + 1)); sleep 1
done
"""


def counting(last, per_burst=50, pause=0.1, padding=40, then="sleep 100000"):
    """A writer of `seq 1` … `seq LAST`, in bursts; how to read back: `sequence` of the scenario."""
    return f"""
pad=$(head -c {padding} /dev/zero | tr '\\0' x)
i=0
while [ $i -lt {last} ]; do
  stop=$((i + {per_burst})); [ $stop -gt {last} ] && stop={last}
  while [ $i -lt $stop ]; do i=$((i + 1)); echo "seq $i $pad"; done
  sleep {pause}
done
{then}
"""


def container(name, script, image=BUSYBOX, **more):
    return {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], **more}


def pod_spec(containers, **more):
    return {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": containers,
        **more,
    }


def pod(name, script_or_containers, labels=None, annotations=None, **spec):
    containers = script_or_containers
    if isinstance(containers, str):
        containers = [container("main", containers)]
    metadata = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(containers, **spec)}


def deployment(name, script, replicas=1, labels=None, annotations=None):
    labels = {"app": name, **(labels or {})}
    template = {
        "metadata": {"labels": labels, "annotations": annotations or {}},
        "spec": pod_spec([container("main", script)]),
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": spec}


def job(name, script):
    template = {"spec": pod_spec([container("main", script)], restartPolicy="Never")}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, "backoffLimit": 0},
    }


def reader(name, rules):
    """A service account with a Role of `rules` (group "", resource → verbs), in the namespace it is applied to."""
    rules = [{"apiGroups": [""], "resources": [resource], "verbs": verbs} for resource, verbs in rules.items()]
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        },
    ]


def field(name, path):
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def tawny_pod(name, service_account, *args, env=None):
    """Tawny as a pod that sees the cluster only through its service account (SX-32)."""
    main = {
        "name": "tawny",
        "image": TAWNY,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/tawny", *args],
        # On the host's network HOSTNAME is the host's: the downward API says which pod this is.
        "env": [
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("NODE_NAME", "spec.nodeName"),
            *({"name": name, "value": value} for name, value in (env or {}).items()),
        ],
    }
    return pod(name, [main], automountServiceAccountToken=True, serviceAccountName=service_account)
