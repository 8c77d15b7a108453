//! Runs the binary in surroundings of its own: no environment of the caller's, a home directory that is gone afterwards.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use tempfile::TempDir;

/// Longest wait for anything a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A home directory and the command lines run in it.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path());
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().unwrap())
    }

    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        Ran::of(
            &self
                .command(args)
                .envs(env.iter().copied())
                .output()
                .unwrap(),
        )
    }

    /// Starts a process that runs until it is stopped.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(args))
    }

    pub(crate) fn start_with(&self, args: &[&str], env: &[(&str, &str)]) -> Running {
        let mut command = self.command(args);
        command.envs(env.iter().copied());
        Running::of(command)
    }

    /// Starts a server on free ports, with its store in `t.db`.
    pub(crate) fn server(&self) -> Server {
        self.server_with(&[])
    }

    pub(crate) fn server_with(&self, more: &[&str]) -> Server {
        self.server_on("t.db", more)
    }

    /// Starts a server on free ports, with its store at this path.
    pub(crate) fn server_on(&self, db: &str, more: &[&str]) -> Server {
        let mut args = vec!["server", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"];
        args.extend(["--db", db]);
        args.extend(more);
        let mut running = self.start(&args);
        let grpc = running.wait_for("grpc listening on ");
        let http = running.wait_for("http listening on ");
        Server {
            running,
            grpc,
            http,
        }
    }
}

/// A finished process.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Checks the exit code; answers stdout.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.out,
            self.err
        );
        self
    }

    #[track_caller]
    pub(crate) fn says(self, part: &str) -> Self {
        assert!(self.err.contains(part), "{part:?} is not in: {}", self.err);
        self
    }
}

/// A process that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    /// Lines of its stderr.
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn of(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (lines_tx, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if lines_tx.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line of stderr that holds `part`; answers what follows it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("{part:?} was never said: {}", self.seen.join("\n"));
            };
            let found = line.split_once(part).map(|(_, rest)| rest.to_owned());
            self.seen.push(line);
            if let Some(rest) = found {
                return rest;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; answers how, and all it said on stderr.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let rest: Vec<String> = self.lines.iter().collect();
        let said = self.seen.iter().chain(&rest).cloned().collect::<Vec<_>>();
        (status, said.join("\n"))
    }

    /// The next line of its stdout.
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A running `tawny server`.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) grpc: String,
    /// With `http://` in front.
    pub(crate) http: String,
}

impl Server {
    /// Puts `n` made-up lines into the store.
    pub(crate) fn load(&self, home: &Home, n: usize) {
        home.run(&[
            "loadgen",
            "--addr",
            &self.grpc,
            "--lines",
            &n.to_string(),
            "--rate",
            "0",
        ])
        .exits(0);
    }

    /// Status and body of a GET.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(&self.http, path)
    }
}

/// Status and body of a GET.
pub(crate) fn get(url: &str, path: &str) -> (u16, String) {
    let host = url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(host).unwrap();
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

/// Asks until the answer is yes; the asking itself takes its time.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let deadline = now() + PATIENCE;
    while !is_so() {
        assert!(now() < deadline, "{what}: not within {PATIENCE:?}");
    }
}

/// Writes a file in the home directory; answers its path.
pub(crate) fn write(home: &Home, name: &str, text: &str) -> String {
    let path = home.dir.path().join(name);
    if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
        std::fs::create_dir_all(parent).unwrap();
    }
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}
