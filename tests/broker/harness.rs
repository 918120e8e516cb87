//! Starts the real program on free ports with its own data directory, and stops it in every way.
//!
//! `OUTLIVE_TEST_KEEP=1` keeps the data of a broker whose test failed.
//!
//! Invariants: nothing sleeps for a fixed time and hopes; whatever is waited for has a deadline and says what it was. A broker never outlives its test.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running broker.
#[derive(Debug)]
pub(crate) struct Broker {
    dir: TempDir,
    listen: Vec<Port>,
    admin: Port,
    settings: Vec<String>,
    /// Whether it reads `config.toml` in `dir`.
    has_file: bool,
    child: Option<Child>,
}

impl Broker {
    /// Starts one with the default configuration.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with some settings, each `KEY=VALUE`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        Self::start_on(1, settings)
    }

    /// Starts one with so many listeners.
    pub(crate) fn start_on(listeners: usize, settings: &[&str]) -> Self {
        let mut broker = Self {
            dir: TempDir::new().unwrap(),
            listen: (0..listeners).map(|_| Port::reserve()).collect(),
            admin: Port::reserve(),
            settings: settings.iter().map(|one| (*one).to_owned()).collect(),
            has_file: false,
            child: None,
        };
        broker.launch();
        broker
    }

    /// Starts one with a configuration file.
    pub(crate) fn start_with_file(text: &str) -> Self {
        Self::start_on_with_file(1, text)
    }

    /// Starts one with so many listeners and a configuration file.
    pub(crate) fn start_on_with_file(listeners: usize, text: &str) -> Self {
        let mut broker = Self {
            dir: TempDir::new().unwrap(),
            listen: (0..listeners).map(|_| Port::reserve()).collect(),
            admin: Port::reserve(),
            settings: Vec::new(),
            has_file: true,
            child: None,
        };
        broker.write_file(text);
        broker.launch();
        broker
    }

    /// Writes the configuration file anew.
    pub(crate) fn write_file(&self, text: &str) {
        fs::write(self.file_path(), text).unwrap();
    }

    fn file_path(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// Where MQTT is spoken.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of(0)
    }

    /// Where MQTT is spoken, by the number of the listener.
    pub(crate) fn address_of(&self, listener: usize) -> SocketAddr {
        self.listen[listener].address
    }

    /// Where the state is.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// SIGKILL: the process is gone when this returns.
    pub(crate) fn kill9(&mut self) {
        let mut child = self.child.take().expect("runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again on the same data and ports.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "still runs");
        self.launch();
    }

    /// Starts it again on the same data and ports, though a part of the journal is missing.
    pub(crate) fn restart_accepting_loss(&mut self) {
        assert!(self.child.is_none(), "still runs");
        self.launch_with(&["--accept-loss"]);
    }

    /// SIGKILL and a new start.
    pub(crate) fn crash(&mut self) {
        self.kill9();
        self.restart();
    }

    /// SIGTERM, without waiting for the end.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// SIGHUP: read the configuration again.
    pub(crate) fn hang_up(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("runs").id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end of the process.
    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("runs");
        let mut status = None;
        eventually("the broker exits", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("exited")
    }

    /// SIGTERM; the exit code must be 0.
    pub(crate) fn stop(&mut self) {
        self.terminate();
        let status = self.exit_status();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Everything that all processes of this broker have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Asserts that the log says something.
    pub(crate) fn assert_logged(&self, text: &str) {
        assert!(self.log().contains(text), "no {text:?} in:\n{}", self.log());
    }

    /// Resident bytes of the process.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let pid = self.child.as_ref().expect("runs").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|rest| rest.split_whitespace().next());
        kilobytes.unwrap().parse::<u64>().unwrap() * 1024
    }

    /// How many files and sockets the process has open.
    pub(crate) fn open_files(&self) -> usize {
        let pid = self.child.as_ref().expect("runs").id();
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }

    /// The sum of all samples of a metric whose line begins so.
    pub(crate) fn metric(&self, prefix: &str) -> f64 {
        let (code, body) = self.admin_get("/metrics").expect("metrics are served");
        assert_eq!(code, 200);
        body.lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// A further process with the same data directory and other ports; its exit status and what it wrote.
    pub(crate) fn second_process(&self) -> (ExitStatus, String) {
        let (listen, admin) = ([Port::reserve()], Port::reserve());
        let mut child = command(&self.data_dir(), &listen, &admin, &[])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut status = None;
        eventually("the second process exits", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let mut said = String::new();
        child.stderr.unwrap().read_to_string(&mut said).unwrap();
        (status.expect("exited"), said)
    }

    fn launch(&mut self) {
        self.launch_with(&[]);
    }

    fn launch_with(&mut self, flags: &[&str]) {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = command(&self.data_dir(), &self.listen, &self.admin, &self.settings);
        if self.has_file {
            command.arg("--config").arg(self.file_path());
        }
        let child = command
            .args(flags)
            .stdout(File::try_clone(&log).unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let mut exited = None;
        eventually("the broker is ready", || {
            exited = self.child.as_mut().expect("started").try_wait().unwrap();
            exited.is_some() || matches!(self.admin_get("/readyz"), Some((200, _)))
        });
        assert!(exited.is_none(), "{exited:?}:\n{}", self.log());
    }

    /// Status and body of an admin page, if it answers.
    pub(crate) fn admin_get(&self, path: &str) -> Option<(u16, String)> {
        self.admin_ask("GET", path, &["Host: localhost"], "")
    }

    /// Status and body of the answer to a request with these headers, if there is one.
    pub(crate) fn admin_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let (headers, length) = (headers.join("\r\n"), body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already; nothing is to outlive the test either way.
            drop(child.kill());
            drop(child.wait());
        }
        if thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(8000);
            println!(
                "--- log of the broker, its end:\n{}",
                log.get(from..).unwrap_or(&log)
            );
            if std::env::var_os("OUTLIVE_TEST_KEEP").is_some() {
                self.dir.disable_cleanup(true);
                println!("--- its data: {}", self.data_dir().display());
            }
        }
    }
}

fn command(data_dir: &Path, listen: &[Port], admin: &Port, settings: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outlive"));
    command
        .arg("run")
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--set", &format!("admin.listen={}", admin.address)])
        .stdin(Stdio::null());
    for port in listen {
        command.args(["--listen", &port.address.to_string()]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

/// A port that no other test uses: outside the range from which the system takes ports for clients, and held by a UDP
/// socket of the same number until this process ends. Clients that come back by themselves may outlive their broker; they
/// must not find that of another test, or they take its sessions over.
#[derive(Debug)]
struct Port {
    address: SocketAddr,
}

static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

impl Port {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;

    fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Tests run in many processes: each begins somewhere else.
        let start = u16::try_from(std::process::id().wrapping_mul(7919) % u32::from(Self::COUNT));
        let start = start.expect("below 20,000");
        for _ in 0..Self::COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = Self::FIRST + start.wrapping_add(step) % Self::COUNT;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            if let Ok(reservation) = UdpSocket::bind(address)
                && TcpListener::bind(address).is_ok()
            {
                RESERVED.lock().unwrap().push(reservation);
                return Self { address };
            }
        }
        panic!("no free port");
    }
}

/// Asks until it is so; fails loudly when it is not within [`PATIENCE`].
#[expect(
    clippy::disallowed_methods,
    reason = "a deadline of a test with a real process is real time"
)]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}
