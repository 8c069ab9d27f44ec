//! Scripted servers on loopback, checks to ask them, and what must come of it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pointsman::health::Hysteresis;
use pointsman::probe::Prober;
use pointsman::probe::network::NetworkProber;
use pointsman::probe::outcome::{Outcome, Reason};
use pointsman::probe::target::{
    Check, CheckKind, HttpCheck, Pattern, Target, TcpCheck, TextMatch, Timing,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// The deadline of a probe that must run into it.
pub(crate) const SHORT: Duration = Duration::from_millis(400);
/// The deadline of a probe that must not.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// How much later than its deadline a probe may end on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// What a scripted server does on each connection.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Reads until the end of a request head.
    Request,
    /// Reads what comes first.
    Read,
    /// Writes.
    Say(Vec<u8>),
    /// Writes one byte after another, with this pause before each.
    Drip(Vec<u8>, Duration),
    /// Writes the same again and again until nobody reads.
    Repeat(Vec<u8>),
    /// Does nothing, not even read.
    Sleep(Duration),
    /// Waits until the peer is gone.
    Hang,
    /// Closes with a reset.
    Reset,
}

pub(crate) fn say(text: impl AsRef<[u8]>) -> Step {
    Step::Say(text.as_ref().to_vec())
}

/// A server that plays `script` on every connection, then closes it, until the test ends.
pub(crate) async fn serve(script: Vec<Step>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(stream, script.clone()));
        }
    });
    address
}

async fn play(mut stream: TcpStream, script: Vec<Step>) -> std::io::Result<()> {
    for step in script {
        match step {
            Step::Request => read_request(&mut stream).await?,
            Step::Read => drop(stream.read(&mut [0; 4096]).await?),
            Step::Say(text) => stream.write_all(&text).await?,
            Step::Drip(text, pause) => {
                for byte in text {
                    sleep(pause).await;
                    stream.write_all(&[byte]).await?;
                }
            }
            Step::Repeat(text) => loop {
                stream.write_all(&text).await?;
            },
            Step::Hang => {
                let mut sink = [0; 1024];
                while stream.read(&mut sink).await? > 0 {}
            }
            Step::Sleep(time) => sleep(time).await,
            Step::Reset => {
                stream.set_zero_linger()?;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// `GET /` that expects 200-399.
pub(crate) fn get() -> HttpCheck {
    HttpCheck {
        tls: None,
        method: "GET".to_owned(),
        path: "/".to_owned(),
        host: None,
        headers: Vec::new(),
        status: vec![(200, 399)],
        body: Vec::new(),
        response_headers: Vec::new(),
        weight_from: None,
    }
}

pub(crate) fn contains(text: &str) -> TextMatch {
    TextMatch::Contains(text.to_owned())
}

pub(crate) fn regex(source: &str) -> TextMatch {
    TextMatch::Regex(Pattern::new(source).unwrap())
}

pub(crate) fn http(address: SocketAddr, check: HttpCheck, timeout: Duration) -> Target {
    target(address, CheckKind::Http(check), timeout)
}

pub(crate) fn tcp(address: SocketAddr, check: TcpCheck, timeout: Duration) -> Target {
    target(address, CheckKind::Tcp(check), timeout)
}

pub(crate) fn target(address: SocketAddr, kind: CheckKind, timeout: Duration) -> Target {
    Target {
        address,
        check: Arc::new(Check::new(kind)),
        timing: Timing {
            interval: Duration::from_secs(5),
            fast_interval: None,
            timeout,
            hysteresis: Hysteresis { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN },
            damping: None,
            expires: None,
        },
    }
}

/// Probes once and holds the prober to its deadline.
pub(crate) async fn probe(target: &Target) -> Outcome {
    probe_with(&NetworkProber::new(), target).await
}

/// The same with this prober; again where this machine was too busy to look, or where a child that
/// another test forked still holds a script open for writing: that is no answer.
pub(crate) async fn probe_with(prober: &NetworkProber, target: &Target) -> Outcome {
    let limit = target.timing.timeout + SLACK;
    for _ in 0..20 {
        let start = Instant::now();
        let outcome = timeout(limit, prober.probe(target)).await.expect("the probe hangs");
        assert!(outcome.phases.ended <= start.elapsed(), "{outcome:?}");
        let no_answers = ["the director was too busy to look", "text file busy"];
        if !no_answers.iter().any(|text| outcome.detail.contains(text)) {
            return outcome;
        }
    }
    panic!("this machine is too busy to probe anything");
}

/// The reason, and a piece of the detail.
#[track_caller]
pub(crate) fn expect(case: &str, outcome: &Outcome, reason: Reason, piece: &str) {
    assert_eq!(outcome.reason, reason, "{case}: {outcome:?}");
    assert_eq!(outcome.kind, reason.kind(), "{case}: {outcome:?}");
    assert!(outcome.detail.contains(piece), "{case}: `{}` lacks `{piece}`", outcome.detail);
}

/// Serves `script`, probes it with `check`, expects `reason` and `piece`.
pub(crate) async fn case(
    name: &str,
    script: Vec<Step>,
    check: HttpCheck,
    timeout: Duration,
    reason: Reason,
    piece: &str,
) {
    let address = serve(script).await;
    let outcome = probe(&http(address, check, timeout)).await;
    expect(name, &outcome, reason, piece);
}

const CHILD: &str = "PROBE_TEST_CHILD";
const CHILD_RAN: &str = "the child ran to its end";

/// Runs `body` in a process of its own with these variables in its environment: the test `name`
/// calls itself again.
pub(crate) fn in_child<F: Future<Output = ()>>(
    name: &str,
    environment: &[(&str, &OsStr)],
    body: impl FnOnce() -> F,
) {
    if std::env::var_os(CHILD).is_some() {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(body());
        println!("{CHILD_RAN}");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains(CHILD_RAN),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
