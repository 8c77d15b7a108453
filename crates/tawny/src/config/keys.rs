//! Every setting there is, once: its key, type, default, flag and meaning. All else is derived from here.
//!
//! The environment variable of `section.key` is `TAWNY_SECTION_KEY`. No key may end in `port`: Kubernetes sets such
//! variables for a Service named `tawny`.

use std::{path::PathBuf, time::Duration};

use tawny_collect::{SourceKind, detect::Runtime};
use tawny_model::{ByteSize, Secret};
use tawny_runtime::telemetry;

use super::{
    Error,
    layers::Layers,
    value::{Auto, Engine, Listen, NamespaceAge, Raw, Setting, Switch},
};

/// What is known about a setting without its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// As the file writes it, with its section: `store.path`.
    pub(crate) path: &'static str,
    /// Meaning and cost, in lines as the source has them.
    pub(crate) docs: &'static [&'static str],
    /// Long name without dashes.
    pub(crate) flag: Option<&'static str>,
    pub(crate) short: Option<char>,
    pub(crate) value_name: &'static str,
    pub(crate) is_list: bool,
    pub(crate) choices: fn() -> Vec<&'static str>,
    pub(crate) default: fn() -> String,
    /// Checks a value and writes it in the one form in which equal values are equal.
    pub(crate) canonical: fn(&Raw) -> Result<String, String>,
}

impl Key {
    pub(crate) fn env(&self) -> String {
        format!("TAWNY_{}", self.path.to_ascii_uppercase().replace('.', "_"))
    }

    pub(crate) fn doc(&self) -> String {
        let lines: Vec<&str> = self.docs.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    }

    /// The section's name, empty for the keys that have none.
    pub(crate) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }
}

/// The key of that path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident in $prefix:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $([$flag:literal $(, $short:literal)?])?: $Type:ty = $default:expr;
            )*
        }
    )*) => {
        /// What the user wrote, each key with its type; not yet checked against the others.
        #[derive(Debug, Clone)]
        pub(crate) struct Config {
            $( $(#[doc = $section_doc])+ pub(crate) $section: $Section, )*
        }

        impl Config {
            /// Reads every key from its highest layer; on error tells about all keys that are wrong.
            pub(crate) fn read(layers: &Layers) -> Result<Self, Vec<Error>> {
                let mut errors = Vec::new();
                $(
                    let mut $section = $Section::default();
                    $(
                        match layers.value::<$Type>(concat!($prefix, stringify!($field))) {
                            Ok(Some(value)) => $section.$field = value,
                            Ok(None) => {}
                            Err(error) => errors.push(error),
                        }
                    )*
                )*
                if errors.is_empty() { Ok(Self { $($section),* }) } else { Err(errors) }
            }
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone)]
            pub(crate) struct $Section {
                $( $(#[doc = $doc])+ pub(crate) $field: $Type, )*
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $field: $default, )* }
                }
            }
        )*

        /// Every setting, in the order of the reference.
        pub(crate) const KEYS: &[Key] = &[$($(
            Key {
                path: concat!($prefix, stringify!($field)),
                docs: &[$($doc),+],
                flag: first(&[$($flag)?]),
                short: first(&[$($($short)?)?]),
                value_name: <$Type as Setting>::VALUE_NAME,
                is_list: <$Type as Setting>::IS_LIST,
                choices: <$Type as Setting>::choices,
                default: || Setting::to_text(&$Section::default().$field),
                canonical: |raw| <$Type as Setting>::from_raw(raw).map(|value| value.to_text()),
            },
        )*)*];

        /// Name and meaning of each section, in the order of the reference.
        pub(crate) const SECTIONS: &[(&str, &[&str])] =
            &[$(($prefix, &[$($section_doc),+])),*];
    };
}

const fn first<T: Copy>(items: &[T]) -> Option<T> {
    if items.is_empty() {
        None
    } else {
        Some(items[0])
    }
}

settings! {
    /// What holds for every command.
    general: GeneralConfig in "" {
        /// What runs the containers. `auto` takes the first that is found: a service-account token, a kubeconfig,
        /// Docker's socket, Podman's socket.
        runtime["runtime"]: Auto<Runtime> = Auto::Auto;
        /// Name of this cluster or host, kept with every stream; needed once one store holds several.
        cluster["cluster"]: String = String::new();
        /// Where `search`, `tail` and `doctor` find a server's HTTP listener.
        server["server"]: String = "http://127.0.0.1:8080".to_owned();
        /// Longest time an orderly stop may take, all stages together. What has not ended by then is cut off and named.
        shutdown_timeout["shutdown-timeout"]: Duration = Duration::from_secs(30);
    }

    /// The process's own log, on stderr.
    log: LogConfig in "log." {
        /// Least severe level that is logged, or directives such as `info,tawny_kube=debug`.
        level["log-level"]: telemetry::Filter = "info".parse().expect("a level");
        /// How a log line looks: `text` for people, `json` for collectors.
        format["log-format"]: telemetry::Format = telemetry::Format::Text;
    }

    /// The HTTP listener: search, live tail, metrics, probes.
    http: HttpConfig in "http." {
        /// Address of the HTTP listener. A port alone means loopback for `up` (all addresses inside a pod) and all addresses for
        /// `server`; `:8080` means all, port 0 any free port. An `agent` answers probes and metrics here, if it is given.
        listen["http"]: Listen = Listen::port(8080);
        /// Whether there is an HTTP listener at all. Without it there are no probes and no metrics.
        enabled: bool = true;
    }

    /// The gRPC listener: agents and clients of kubelogs.storage.v1.
    grpc: GrpcConfig in "grpc." {
        /// Address of the gRPC listener, written like that of HTTP.
        listen["grpc"]: Listen = Listen::port(50051);
    }

    /// The local store.
    store: StoreConfig in "store." {
        /// Where entries are kept: a directory, or SQLite's file; made when it is not there. Or the URL of a bucket
        /// (`s3://bucket/prefix`, `gs://…`, `az://…`), for the lake. One process at a time may write it.
        path["db"]: PathBuf = "tawny-data".into();
        /// How entries are kept: `lake` is columns in Parquet files under a directory, `sqlite` one file. `auto` takes
        /// what is there already; where nothing is, `lake`, unless the path ends in `.db`.
        engine["engine"]: Auto<Engine> = Auto::Auto;
        /// Directory for the write-ahead log where `store.path` is a bucket: what is acknowledged lies there until the
        /// bucket has it. Keep it on a disk that outlives the process.
        wal["wal"]: PathBuf = "tawny-wal".into();
        /// Memory for rows of the lake that are in no file yet, and as much again for what is read most.
        memory: ByteSize = ByteSize::mib(96);
        /// Entries older than this are deleted, at start and every hour; `0` keeps them whatever their age.
        retention_age["retention-age"]: Duration = Duration::ZERO;
        /// Namespaces with an age of their own, longer or shorter, as `NAME=AGE`; an age of `0` keeps their entries.
        retention_namespaces["retention-namespace"]: Vec<NamespaceAge> = Vec::new();
        /// The oldest entries are deleted once the store is larger than this, at start and every hour; `0` for no limit.
        retention_size["retention-size"]: ByteSize = ByteSize(0);
    }

    /// How to reach a bucket of `s3://`. Other variables of AWS (roles, web identity) and those of Google (`GOOGLE_*`) and
    /// Azure (`AZURE_*`) for their buckets are taken as their own tools take them.
    s3: S3Config in "s3." {
        /// URL of the service; unset means that of AWS. `http://` is not encrypted.
        endpoint: Option<String> = None;
        /// Region of the bucket.
        region: Option<String> = None;
        /// Name of the access key; unset takes the role of the machine or pod.
        access_key_id: Option<String> = None;
        /// The access key itself. Better given as a variable than in a file.
        secret_access_key: Option<Secret> = None;
        /// Token of a temporary access key.
        session_token: Option<Secret> = None;
    }

    /// What one client may ask, and how long an answer may take.
    limits: LimitsConfig in "limits." {
        /// Largest gRPC message taken, decompressed; each connection may hold two of this size.
        max_message: ByteSize = ByteSize::mib(16);
        /// Longest path and query string of an HTTP request.
        max_uri: ByteSize = ByteSize::kib(16);
        /// Longest a search, histogram or count may run before it is given up.
        query_timeout: Duration = Duration::from_secs(30);
        /// Most queries that run at once; one more waits a second and is then refused.
        max_queries: u32 = 32;
        /// Memory that all SQL statements together may take for grouping, sorting and joining.
        sql_memory: ByteSize = ByteSize::mib(128);
        /// Rows of an answer to SQL unless the request says how many.
        sql_rows: u32 = 10_000;
        /// Most rows an answer to SQL may have.
        sql_max_rows: u32 = 1_000_000;
        /// Most live tails at once; each holds up to 2 MiB for a slow client.
        max_tails: u32 = 128;
        /// Most open connections per listener; more wait in the kernel's queue.
        max_connections: u32 = 1_024;
    }

    /// How to reach Kubernetes.
    kubernetes: KubernetesConfig in "kubernetes." {
        /// Kubeconfig files, by colon as in KUBECONFIG. Unset: the pod's own token, else `~/.kube/config`.
        kubeconfig["kubeconfig"]: Option<String> = None;
        /// Context of the kubeconfig; unset takes its current one.
        context["context"]: Option<String> = None;
    }

    /// How to reach a container engine.
    engine: EngineConfig in "engine." {
        /// Docker's socket; must be a socket to count.
        docker_socket["docker-socket"]: PathBuf = tawny_collect::detect::DOCKER_SOCKET.into();
        /// Podman's socket. A rootless one in XDG_RUNTIME_DIR is looked for first.
        podman_socket["podman-socket"]: PathBuf = tawny_collect::detect::PODMAN_SOCKET.into();
    }

    /// Which logs are collected, and how.
    collect: CollectConfig in "collect." {
        /// Where lines are read: `files` below `collect.pod_logs_root`, the Kubernetes `api`, or `docker` for either
        /// engine. `auto` takes the files where they can be listed, else the API.
        source["source"]: Auto<SourceKind> = Auto::Auto;
        /// Directory in which the kubelet keeps pod logs.
        pod_logs_root["pod-logs-root"]: PathBuf = "/var/log/pods".into();
        /// Name of this node. Needed to read files inside a cluster; with it only pods of this node are watched.
        node_name["node-name"]: Option<String> = None;
        /// Only these namespaces; empty means all.
        namespaces["namespace", 'n']: Vec<String> = Vec::new();
        /// Not these namespaces; wins over `collect.namespaces`.
        exclude_namespaces["exclude-namespace"]: Vec<String> = Vec::new();
        /// Only containers whose name this regular expression matches somewhere.
        include_container["include-container"]: Option<String> = None;
        /// Not containers whose name this regular expression matches somewhere.
        exclude_container["exclude-container"]: Option<String> = None;
        /// Only pods with these labels, as kubectl writes it: `app=web,tier in (a,b)`.
        selector["selector", 'l']: String = String::new();
        /// Only pods with these fields, as kubectl writes it: `status.phase=Running`.
        field_selector["field-selector"]: String = String::new();
        /// Only pods that ask for it by the label or annotation `tawny.dev/collect: "true"`.
        opt_in["opt-in"]: bool = false;
        /// Longest line kept; a longer one keeps its head and says how much is missing.
        max_line["max-line"]: ByteSize = ByteSize::mib(1);
        /// Most streams read from the API or an engine at once; more wait.
        max_streams["max-streams"]: u32 = 100;
        /// A delivery is closed at this many lines at the latest.
        batch_entries: u32 = 50_000;
        /// A delivery waits this long for more lines. Shorter costs more commits, longer delays what is found.
        batch_timeout: Duration = Duration::from_millis(10);
        /// Most memory for lines that are read and not yet stored; reading waits beyond.
        max_in_flight: ByteSize = ByteSize::mib(64);
        /// An API stream that is quiet for so long is opened anew, in case the connection died unseen.
        idle_timeout: Duration = Duration::from_secs(300);
        /// Name of the pod (or id of the container) this process runs in, so that it does not collect itself.
        self_pod: Option<String> = None;
        /// Namespace of that pod.
        self_namespace: Option<String> = None;
        /// UID of that pod.
        self_uid: Option<String> = None;
    }

    /// The cluster's events and incidents.
    watch: WatchConfig in "watch." {
        /// Whether the cluster is watched: its events are kept as records, and what dies in it as incidents. `auto` does so
        /// in `up` where containers are run by Kubernetes, and in a `server` that runs in a cluster. Costs some 4 KiB of
        /// memory for each pod.
        cluster["watch"]: Auto<Switch> = Auto::Auto;
        /// Only these namespaces; empty watches all, and nodes and namespaces themselves, which takes cluster-wide rights.
        namespaces: Vec<String> = Vec::new();
    }

    /// What is kept of incidents.
    incidents: IncidentsConfig in "incidents." {
        /// Directory for them; unset is `incidents` beside the store, or beside its write-ahead log.
        path: Option<PathBuf> = None;
        /// What is frozen of an occurrence is deleted after this time, whatever the store's retention.
        retention_age: Duration = tawny_watch::KeepLimits::default().max_age;
        /// The oldest are deleted once all together are larger than this.
        retention_size: ByteSize = tawny_watch::KeepLimits::default().max_bytes;
    }

    /// What is measured of the node and its containers, for the minute before a death.
    vitals: VitalsConfig in "vitals." {
        /// Whether it is. `auto` does so where the node's log files are read. Costs some 4 ms of a core for each 100 idle
        /// containers each time, and at most 16 MiB of memory.
        measure: Auto<Switch> = Auto::Auto;
        /// How often.
        interval: Duration = Duration::from_secs(1);
        /// How long measurements are held, 10 s to 10 min: what is known of the time before a death.
        window: Duration = Duration::from_secs(60);
        /// Where the node's `/proc` is.
        proc: PathBuf = "/proc".into();
        /// Where the node's cgroups are.
        cgroups: PathBuf = "/sys/fs/cgroup".into();
    }

    /// Who is told of incidents and alerts.
    notify: NotifyConfig in "notify." {
        /// YAML file of receivers and routes; unset tells nobody. Its format is in docs/notify.md.
        path["notify"]: Option<PathBuf> = None;
    }

    /// Alert rules on log content.
    alerts: AlertsConfig in "alerts." {
        /// YAML files of rules, or directories of them. Their format is in docs/alerts.md.
        paths["alerts"]: Vec<String> = Vec::new();
    }

    /// Startup logs of Coder workspaces, for `tawny coder`.
    coder: CoderConfig in "coder." {
        /// URL of the Coder deployment, with `http://` or `https://`.
        url["coder-url", 'u']: String = String::new();
        /// Namespaces to watch; empty watches all, which takes cluster-wide rights.
        namespaces["namespaces", 'n']: Vec<String> = Vec::new();
        /// Only pods and ReplicaSets with these fields, as kubectl writes it.
        field_selector["field-selector", 'f']: String = String::new();
        /// Only pods and ReplicaSets with these labels, as kubectl writes it.
        label_selector["label-selector", 'l']: String = String::new();
        /// Address for `GET /metrics`; unset for none.
        metrics["metrics-addr"]: Option<Listen> = None;
        /// PEM file of the certificates that Coder's is signed by, in place of the system's.
        ca_file["ca-file"]: String = String::new();
        /// Directories of such files, by colon, in place of the system's.
        ca_dirs: String = String::new();
        /// Look for tokens in `envFrom` too. Costs a request for each secret and config map that a watched pod takes all
        /// its variables from.
        env_from: bool = true;
        /// Say in words why a container died, cannot start or cannot pull its image; else only what events say is told.
        reasons["reasons"]: bool = false;
        /// Lines of a dead container's log to add, at most 100. Needs `coder.reasons`, and the right to get `pods/log`.
        last_lines["last-lines"]: u32 = 0;
        /// File that remembers what has been told, so that a restart repeats nothing. Unset tells only what happens after
        /// the start.
        state_file["state-file"]: String = String::new();
    }

    /// Where an agent sends what it collects.
    agent: AgentConfig in "agent." {
        /// The server's gRPC address, such as `tawny-server:50051`; empty keeps the lines in the local store.
        server["server"]: Option<String> = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_key_has_its_own_variable_and_a_meaning() {
        let variables: BTreeSet<String> = KEYS.iter().map(Key::env).collect();
        assert_eq!(variables.len(), KEYS.len());
        for key in KEYS {
            assert!(!key.doc().is_empty(), "{}", key.path);
            let env = key.env();
            assert!(!super::super::env::is_service_link(&env), "{env}");
        }
    }

    #[test]
    fn defaults_read_back_as_themselves() {
        for key in KEYS {
            let default = (key.default)();
            assert_eq!(
                (key.canonical)(&Raw::Text(default.clone())),
                Ok(default),
                "{}",
                key.path
            );
        }
    }
}
