//! Guests: a real Linux kernel with IPVS as an ordinary process (User-Mode Linux).
//!
//! A guest sees the host's files read-only and has nothing else in common with it: whatever a
//! test does to IPVS, addresses or namespaces in there is gone when it halts. Its end is certain:
//! the command has a deadline inside, the guest one outside, and dropping it kills it.
//!
//! [`in_guest`] runs the body of a test inside; [`Guest`] runs any command.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Set inside a guest.
const INSIDE: &str = "POINTSMAN_GUEST";

/// Set where kernel tests must run, besides `CI`.
const REQUIRED: &str = "POINTSMAN_REQUIRE_KERNEL";

/// What a guest is given to boot and halt besides the time of its command.
const BOOT: Duration = Duration::from_secs(60);

/// Runs the body of the test `name` inside a guest: on the host this starts a guest that runs the
/// same test of the same binary, and there it runs `body`.
///
/// # Panics
/// If the test fails inside, does not run there, or if there is no guest where there must be one.
pub fn in_guest(name: &str, deadline: Duration, body: impl FnOnce()) {
    let done = format!("[the body of {name} has run in the guest]");
    if is_guest() {
        body();
        println!("{done}");
        return;
    }
    if !available(name) {
        return;
    }
    let myself = std::env::current_exe().expect("path of this test");
    let output = Guest::new(myself)
        .args([name, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"])
        .deadline(deadline)
        .run();
    assert_eq!(output.status, Some(0), "{name} failed in the guest, see above");
    assert!(output.text.contains(&done), "there is no test {name} in the guest");
}

/// Whether this process runs inside a guest.
pub fn is_guest() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Whether guests can be had; says so loudly if not.
///
/// # Panics
/// If they cannot but must, because `CI` or `POINTSMAN_REQUIRE_KERNEL` is set.
pub fn available(what: &str) -> bool {
    if find("linux.uml").is_some() {
        return true;
    }
    let how = "no `linux.uml` in PATH: install it with `apt-get install user-mode-linux`";
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    assert!(!set("CI") && !set(REQUIRED), "{what} needs a kernel with IPVS: {how}");
    // Past the test harness, which keeps the output of what passes to itself.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("\n*** NOT RUN: {what} needs a kernel with IPVS: {how} ***\n\n").as_bytes(),
    );
    false
}

/// What a command in a guest left.
#[derive(Debug)]
pub struct Output {
    /// Its exit status, 128 + N after signal N; `None` if the guest died or had to be killed.
    pub status: Option<i32>,
    /// All it wrote to standard output and standard error.
    pub text: String,
}

/// A guest to be: a command and the machine it is to have.
#[derive(Debug)]
pub struct Guest {
    command: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    memory: String,
    deadline: Duration,
    processor: Option<usize>,
}

impl Guest {
    /// A guest that runs a program, by the path it has on the host.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            command: vec![program.into()],
            variables: Vec::new(),
            memory: "512M".to_owned(),
            deadline: Duration::from_secs(60),
            processor: None,
        }
    }

    /// Arguments of the command.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// An environment variable of the command.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// How long the command may take, without the boot.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Memory of the machine, as in `512M`.
    pub fn memory(mut self, memory: &str) -> Self {
        memory.clone_into(&mut self.memory);
        self
    }

    /// Pins the machine to one processor, for steadier times.
    pub fn processor(mut self, number: usize) -> Self {
        self.processor = Some(number);
        self
    }

    /// Boots, runs the command, prints its output as it comes, halts.
    ///
    /// # Panics
    /// If no guest can be started at all.
    pub fn run(self) -> Output {
        let directory = tempfile::Builder::new()
            .prefix("guest-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("directory for a guest");
        let script = directory.path().join("init");
        std::fs::write(&script, self.script(directory.path())).expect("script of a guest");
        make_executable(&script);
        let running = Running::start(self.boot(directory.path(), &script));
        running.follow(self.deadline + BOOT)
    }

    fn boot(&self, directory: &Path, script: &Path) -> Command {
        let linux = find("linux.uml").expect("linux.uml in PATH");
        let mut boot = match self.processor {
            None => Command::new(linux),
            Some(number) => {
                let mut taskset = Command::new("taskset");
                taskset.args(["-c", &number.to_string()]).arg(linux);
                taskset
            }
        };
        let directory = directory.to_str().expect("path in UTF-8");
        let script = script.to_str().expect("path in UTF-8");
        assert!(!script.contains([' ', '"']), "a kernel command line cannot hold {script}");
        boot.args(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"])
            .args(["con=null", "con0=fd:0,fd:1", "umid=guest"])
            .arg(format!("mem={}", self.memory))
            .arg(format!("uml_dir={directory}/"))
            .arg(format!("init={script}"))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(library) = xstate(directory) {
            boot.env("LD_PRELOAD", library);
        }
        boot
    }

    fn script(&self, directory: &Path) -> String {
        let mut script = include_str!("guest-init.sh").to_owned();
        let mut line = |text: String| writeln!(script, "{text}").expect("write to memory");
        // What the memory file systems hide shows again, read-only.
        let built = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for shown in [
            built.parent().unwrap_or(built),
            directory,
            Path::new(&self.command[0]),
            Path::new(env!("CARGO_MANIFEST_DIR")),
        ] {
            let shown = if shown.is_dir() { shown } else { shown.parent().unwrap_or(shown) };
            if shown.starts_with("/tmp") || shown.starts_with("/run") {
                let path = quote(shown.as_os_str());
                line(format!("mkdir -p {path} && mount -t hostfs -o ro,{path} none {path}"));
            }
        }
        line(format!("export {INSIDE}=1 RUST_BACKTRACE=1"));
        for (name, value) in &self.variables {
            line(format!("export {}={}", name.to_string_lossy(), quote(value)));
        }
        let command: Vec<String> = self.command.iter().map(|arg| quote(arg)).collect();
        line("cd /tmp".to_owned());
        line(format!("echo '{BEGIN}'"));
        let seconds = self.deadline.as_secs();
        line(format!("timeout -s KILL {seconds} {} 2>&1 </dev/null", command.join(" ")));
        line(format!("status=$?; echo; echo '{END}'$status; end"));
        script
    }
}

/// Stands before the output of the command.
const BEGIN: &str = "[guest: command starts]";
/// Stands after it, with the exit status.
const END: &str = "[guest: command ended with status] ";

/// A guest that runs; killed when dropped.
struct Running {
    child: Child,
    output: Receiver<Vec<u8>>,
}

impl Running {
    fn start(mut boot: Command) -> Self {
        let mut child = boot.spawn().expect("start linux.uml");
        let mut stdout = child.stdout.take().expect("piped");
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, output }
    }

    #[expect(clippy::disallowed_methods, reason = "a deadline of the real world")]
    fn follow(self, limit: Duration) -> Output {
        let end = Instant::now() + limit;
        let mut console = Console::default();
        while !console.is_complete() {
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => console.take(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    println!("the guest did not end within {limit:?}: killed");
                    break;
                }
            }
        }
        console.output()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A guest is several processes of the host, all in one group.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// What a guest says: its kernel's words, then the command's between [`BEGIN`] and [`END`].
#[derive(Default)]
struct Console {
    text: String,
    /// How much of it has been printed, once the command has begun.
    printed: Option<usize>,
}

impl Console {
    fn take(&mut self, bytes: &[u8]) {
        self.text.push_str(&String::from_utf8_lossy(bytes).replace('\r', ""));
        if self.printed.is_none() {
            self.printed = self.text.find(BEGIN).map(|at| at + BEGIN.len());
        }
        if let Some(printed) = &mut self.printed {
            print!("{}", &self.text[*printed..]);
            *printed = self.text.len();
        }
    }

    /// What comes after is the halt, which is no concern of the test.
    fn is_complete(&self) -> bool {
        self.text.rfind(END).is_some_and(|at| self.text[at..].contains('\n'))
    }

    fn output(self) -> Output {
        let Some((_, text)) = self.text.split_once(BEGIN) else {
            println!("the guest did not come up:\n{}", self.text);
            return Output { status: None, text: self.text };
        };
        let (text, status) = text.rsplit_once(END).unwrap_or((text, ""));
        let status = status.lines().next().and_then(|status| status.parse().ok());
        Output { status, text: text.trim_start().to_owned() }
    }
}

/// Builds `xstate.c`, with the compiler that linked this test. Says so if it cannot, and goes on:
/// many processors do without.
fn xstate(directory: &str) -> Option<String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/xstate.c");
    let library = format!("{directory}/xstate.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O2", "-o", &library, source]);
    match compile.output() {
        Ok(output) if output.status.success() => Some(library),
        failure => {
            println!("cannot build {source}, booting without it: {failure:?}");
            None
        }
    }
}

fn quote(text: &OsStr) -> String {
    format!("'{}'", text.to_str().expect("text in UTF-8").replace('\'', r"'\''"))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|place| place.join(program)).find(|file| file.is_file())
}

fn make_executable(script: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(script, mode).expect("script of a guest");
}
