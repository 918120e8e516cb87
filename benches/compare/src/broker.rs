//! The brokers that are compared: how each is started, asked for its version, restarted and stopped.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::cli::Cli;
use crate::clock;
use crate::failure::{Failure, Result, Trying};
use crate::packet::{self, Packet, Read};
use crate::process;

const READY_SECONDS: u64 = 300;
const TRY_AGAIN: Duration = Duration::from_millis(2);

/// A broker that takes part.
#[derive(Debug)]
pub(crate) struct Contender {
    name: String,
    kind: Kind,
    core: Option<u32>,
}

#[derive(Debug)]
enum Kind {
    Outlive { binary: PathBuf, sets: Vec<String> },
    Mosquitto { binary: PathBuf },
    Running { address: SocketAddr, pid: u32 },
}

/// What a workload asks of the broker's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Sessions in memory are enough (outlive has only one way and keeps them on disk).
    Memory,
    /// Sessions must be found again after an orderly restart.
    Disk,
}

impl Contender {
    /// Those named on the command line, mosquitto last.
    pub(crate) fn from_cli(cli: &Cli) -> Result<Vec<Self>> {
        let core = (!cli.no_pin).then_some(cli.broker_core);
        let mut contenders = Vec::new();
        let mut add = |name: &str, kind| {
            contenders.push(Self {
                name: name.to_owned(),
                kind,
                core,
            });
        };
        if let Some(binary) = &cli.outlive {
            let sets = cli.outlive_set.clone();
            let binary = binary.clone();
            add("outlive", Kind::Outlive { binary, sets });
        }
        for text in &cli.brokers {
            let (name, kind) = parse_running(text)?;
            add(name, kind);
        }
        if let Some(binary) = &cli.mosquitto {
            let binary = binary.clone();
            add("mosquitto", Kind::Mosquitto { binary });
        }
        if contenders.is_empty() {
            return Err(Failure::Usage(
                "no broker: give --outlive, --mosquitto or --broker".to_owned(),
            ));
        }
        Ok(contenders)
    }

    /// Its name in the report.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it says of its version.
    pub(crate) fn version(&self) -> String {
        let (binary, argument) = match &self.kind {
            Kind::Outlive { binary, .. } => (binary, "--version"),
            Kind::Mosquitto { binary } => (binary, "-h"),
            Kind::Running { address, pid } => return format!("{address}, process {pid}"),
        };
        let said = Command::new(binary).arg(argument).output();
        let line = said.ok().and_then(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().next().map(str::to_owned)
        });
        line.unwrap_or_else(|| "version not known".to_owned())
    }

    /// Starts it with nothing stored.
    pub(crate) fn start(&self, keep: Keep) -> Result<Broker<'_>> {
        let dir = TempDir::new().trying("temporary directory")?;
        let (address, pid) = match self.kind {
            Kind::Running { address, pid } => (address, pid),
            Kind::Outlive { .. } | Kind::Mosquitto { .. } => (free_address()?, 0),
        };
        let mut broker = Broker {
            contender: self,
            keep,
            dir,
            child: None,
            address,
            pid,
        };
        broker.launch()?;
        Ok(broker)
    }

    fn command(&self, address: SocketAddr, keep: Keep, dir: &Path) -> Result<Option<Command>> {
        let (binary, arguments) = match &self.kind {
            Kind::Running { .. } => return Ok(None),
            Kind::Outlive { binary, sets } => {
                let mut arguments = vec![
                    "run".to_owned(),
                    "--data-dir".to_owned(),
                    dir.join("data").display().to_string(),
                    "--listen".to_owned(),
                    address.to_string(),
                    "--set".to_owned(),
                    format!("admin.listen={}", free_address()?),
                ];
                // mosquitto has no such limit, and some workloads make more sessions than the default.
                arguments.extend(["--set".to_owned(), "quota.sessions_max=0".to_owned()]);
                for set in sets {
                    arguments.extend(["--set".to_owned(), set.clone()]);
                }
                (binary, arguments)
            }
            Kind::Mosquitto { binary } => {
                let path = dir.join("mosquitto.conf");
                fs::write(&path, mosquitto_conf(address, keep, dir)).trying("mosquitto.conf")?;
                let path = path.display().to_string();
                (binary, vec!["-c".to_owned(), path])
            }
        };
        // Both tools only exec what follows, so the process id is the broker's; none outlives this program.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(core) = self.core {
            command.args(["taskset", "-c", &core.to_string()]);
        }
        command.arg(binary).args(arguments);
        Ok(Some(command))
    }
}

fn mosquitto_conf(address: SocketAddr, keep: Keep, dir: &Path) -> String {
    let persistence = match keep {
        Keep::Memory => "persistence false".to_owned(),
        Keep::Disk => format!(
            "persistence true\npersistence_location {}/\nautosave_interval 0",
            dir.display()
        ),
    };
    let (port, host) = (address.port(), address.ip());
    let user = "user root"; // else it gives up the rights to its own directory
    format!(
        "listener {port} {host}\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\n\
         log_dest stderr\nlog_type error\n{user}\n{persistence}\n"
    )
}

fn parse_running(text: &str) -> Result<(&str, Kind)> {
    let wrong = || Failure::Usage(format!("--broker {text}: expected NAME=HOST:PORT,pid=N"));
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (address, pid) = rest.split_once(",pid=").ok_or_else(wrong)?;
    let address = address
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(wrong)?;
    let pid = pid.parse().map_err(|_| wrong())?;
    Ok((name, Kind::Running { address, pid }))
}

fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .trying("a free port")
}

/// A broker that runs; stopped when dropped, if this program started it.
#[derive(Debug)]
pub(crate) struct Broker<'a> {
    contender: &'a Contender,
    keep: Keep,
    dir: TempDir,
    child: Option<Child>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its process.
    pub(crate) pid: u32,
}

impl Broker<'_> {
    /// Stops it (SIGKILL, or SIGTERM if `orderly`) and starts it on the same data; seconds from start to the first CONNACK.
    pub(crate) fn restart(&mut self, orderly: bool) -> Result<f64> {
        let Some(mut child) = self.child.take() else {
            return Err(Failure::NotOurs);
        };
        if orderly {
            let pid = child.id().to_string();
            Command::new("kill").arg(&pid).status().trying("kill")?;
        } else {
            child.kill().trying("kill -9")?;
        }
        child.wait().trying("wait")?;
        self.launch()
    }

    /// Bytes in its data directory.
    pub(crate) fn disk_bytes(&self) -> u64 {
        process::disk_bytes(self.dir.path())
    }

    /// Resident bytes.
    pub(crate) fn rss_bytes(&self) -> Result<u64> {
        process::rss_bytes(self.pid)
    }

    /// CPU seconds used so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.pid)
    }

    fn launch(&mut self) -> Result<f64> {
        let started = clock::nanos();
        let command = self
            .contender
            .command(self.address, self.keep, self.dir.path())?;
        if let Some(mut command) = command {
            let log = File::create(self.dir.path().join("log")).trying("log file")?;
            let child = command
                .stdin(Stdio::null())
                .stdout(log.try_clone().trying("log file")?)
                .stderr(log)
                .spawn()
                .trying(self.contender.name.clone())?;
            self.pid = child.id();
            self.child = Some(child);
        }
        while !answers(self.address) {
            let exited = match &mut self.child {
                Some(child) => child.try_wait().trying("wait")?.is_some(),
                None => false,
            };
            let seconds = (clock::nanos() - started) / 1_000_000_000;
            if exited || seconds > READY_SECONDS {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                return Err(Failure::NotReady {
                    name: self.contender.name.clone(),
                    seconds,
                    log,
                });
            }
            thread::sleep(TRY_AGAIN);
        }
        Ok(clock::seconds(clock::nanos() - started))
    }
}

impl Drop for Broker<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have gone by itself; either way nothing is left running.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Whether a CONNECT is answered.
fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let mut bytes = Vec::new();
    packet::connect(&mut bytes, "outlive-compare-ready", true);
    bytes.extend_from_slice(&packet::DISCONNECT);
    let mut answer = [0; 4];
    let waited = stream.set_read_timeout(Some(Duration::from_secs(10)));
    waited.is_ok()
        && stream.write_all(&bytes).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && matches!(
            packet::read(&answer),
            Read::Packet(Packet::Connack { code: 0, .. }, _)
        )
}
