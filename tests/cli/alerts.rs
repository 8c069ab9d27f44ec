//! Alerts by mail, webhook and command, from a daemon and from `alert-test`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{DEADLINE, Scratch, finish, pointsman, policy, within};
use crate::tls_backend::{TlsBackend, tls_policy};

/// A server that takes what it is told, until the test ends.
struct Post {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Post {
    fn start(listener: TcpListener, take: fn(TcpStream) -> std::io::Result<String>) -> Self {
        let address = listener.local_addr().unwrap();
        let taken = Arc::<Mutex<Vec<String>>>::default();
        let into = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(text) = take(stream) {
                    into.lock().unwrap().push(text);
                }
            }
        });
        Self { address, taken }
    }

    fn mail() -> Self {
        Self::start(TcpListener::bind("127.0.0.1:0").unwrap(), take_mail)
    }

    fn web() -> Self {
        Self::start(TcpListener::bind("127.0.0.1:0").unwrap(), take_request)
    }

    #[track_caller]
    fn wait(&self, number: usize) -> String {
        let found = within(DEADLINE, || self.taken.lock().unwrap().len() >= number);
        let taken = self.taken.lock().unwrap();
        assert!(found, "{} of {number}: {taken:?}", taken.len());
        taken[number - 1].clone()
    }
}

/// Speaks as much SMTP as a client needs; what is taken is the envelope and the mail.
fn take_mail(mut stream: TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut taken = String::new();
    stream.write_all(b"220 test ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        taken += &line;
        let answer = match line.get(..4).unwrap_or_default() {
            "EHLO" => "250-test\r\n250 SMTPUTF8\r\n",
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                while !taken.ends_with("\r\n.\r\n") {
                    let mut line = String::new();
                    if reader.read_line(&mut line)? == 0 {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                    taken += &line;
                }
                stream.write_all(b"250 taken\r\n")?;
                return Ok(taken);
            }
            "" => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => "250 well\r\n",
        };
        stream.write_all(answer.as_bytes())?;
    }
}

fn take_request(mut stream: TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    reader.read_exact(&mut body)?;
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")?;
    Ok(head + &String::from_utf8(body).unwrap())
}

struct Office {
    scratch: Scratch,
    file: PathBuf,
}

impl Office {
    fn new(backends: &[Backend], receivers: &str) -> Self {
        let scratch = Scratch::with(backends);
        let file = scratch.path("alerts.yaml");
        fs::write(&file, format!("receivers:\n{receivers}")).unwrap();
        let key = scratch.path("key");
        fs::write(&key, "secret\n").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        Self { scratch, file }
    }

    /// After a daemon that told a dead mail server, whose address it is, that the first one is down.
    fn with_a_mail_that_waits(backends: &[Backend]) -> (Self, SocketAddr) {
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let office = Self::new(backends, &mail(dead));
        let daemon = office.daemon();
        daemon.wait_up(backends.len());
        backends[0].answer(503);
        daemon.wait_log("cannot deliver an alert; it waits and is tried again");
        let record = office.scratch.state().join("alerts-memory.json");
        let waits = || fs::read_to_string(&record).is_ok_and(|it| it.contains("subject"));
        assert!(within(DEADLINE, waits), "{}", daemon.log());
        let status = daemon.wait("alerts that do not arrive", is_undelivered);
        let undelivered = &status["alerts_undelivered"][0];
        assert_eq!(undelivered["receiver"], "admin", "{status:#}");
        assert_eq!(undelivered["waiting"], 1, "{status:#}");
        let reason = undelivered["reason"].as_str().unwrap();
        assert!(reason.contains("Connection refused"), "{reason}");
        let text = office.scratch.status(&[]).exit(3).stdout;
        assert!(text.contains("; alerts do not reach admin"), "{text}");
        assert!(text.contains("alerts     NOT DELIVERED to admin since 20"), "{text}");
        daemon.kill();
        (office, dead)
    }

    fn daemon(&self) -> Daemon<'_> {
        Daemon::start_with(&self.scratch, |command| _ = command.arg("--alerts").arg(&self.file))
    }
}

fn is_undelivered(status: &Value) -> bool {
    status["alerts_undelivered"][0].is_object()
}

fn mail(address: SocketAddr) -> String {
    format!(
        "  - name: admin
    mail: {{ to: [admin@example.net], from: lvs@example.net, server: 127.0.0.1, port: {} }}
    wait: 2s
    interval: 0s
",
        address.port()
    )
}

#[test]
fn a_rack_is_one_mail_and_its_return_another() {
    let backends: Vec<Backend> = (0..4).map(|_| Backend::start()).collect();
    let (post, web) = (Post::mail(), Post::web());
    let chat = format!(
        "  - name: chat
    webhook:
      url: http://{}/hook?a=b
      headers: {{ X-Channel: lvs }}
      secret_file: key
    wait: 2s
    interval: 0s
",
        web.address
    );
    let office = Office::new(&backends, &(mail(post.address) + &chat));
    let daemon = office.daemon();
    daemon.wait_up(4);
    backends[..2].iter().for_each(|backend| backend.answer(503));
    let text = post.wait(1);
    assert!(text.contains("RCPT TO:<admin@example.net>"), "{text}");
    assert!(text.contains("Auto-Submitted: auto-generated"), "{text}");
    assert!(text.contains("2 problems"), "{text}");
    for backend in &backends[..2] {
        let line = format!("{} of www is down: status 503", backend.address);
        assert!(text.contains(&line), "{text}");
    }
    let request = web.wait(1);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-channel: lvs\r\n"), "{head}");
    let header = |name: &str| {
        let prefix = format!("{name}: ");
        head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
    };
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    let signed = format!("{}.{body}", header("x-pointsman-timestamp"));
    let signature = header("x-pointsman-signature");
    let signature = signature.strip_prefix("sha256=").unwrap();
    let bytes: Vec<u8> = (0..signature.len() / 2)
        .map(|at| u8::from_str_radix(&signature[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    ring::hmac::verify(&key, signed.as_bytes(), &bytes).unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["status"], "firing");
    assert_eq!(body["problems"].as_array().unwrap().len(), 2);
    assert_eq!(body["problems"][0]["policy"], "www");

    backends[..2].iter().for_each(|backend| backend.answer(200));
    daemon.wait_up(4);
    let text = post.wait(2);
    assert!(text.contains("2 resolved") && text.contains("Over:"), "{text}");
    daemon.stop();
}

#[test]
fn a_dead_mail_server_delays_a_mail_and_loses_none() {
    let backends = [Backend::start(), Backend::start()];
    let (office, address) = Office::with_a_mail_that_waits(&backends);

    let post = Post::start(TcpListener::bind(address).unwrap(), take_mail);
    let daemon = office.daemon();
    let text = post.wait(1);
    assert!(text.contains(&format!("{} of www is down", backends[0].address)), "{text}");
    daemon
        .wait("alerts that arrive", |status| status["alerts_undelivered"] == Value::Array(vec![]));
    // It goes on where it was: what was told is not told again, and what is over is.
    backends[0].answer(200);
    daemon.wait_up(2);
    let text = post.wait(2);
    assert!(text.contains("resolved: "), "{text}");
    assert_eq!(post.taken.lock().unwrap().len(), 2);
    daemon.stop();
}

#[test]
fn a_test_tells_each_receiver_and_what_came_of_it() {
    let post = Post::mail();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let office = Office::new(
        &[Backend::start()],
        &format!(
            "{}  - {{ name: script, command: [/bin/sh, -c, 'exit 7'] }}\n  - {{ name: chat, \
             webhook: {{ url: 'http://{dead}/' }} }}\n",
            mail(post.address)
        ),
    );
    let test = |names: &[&str]| {
        let mut command = pointsman(&["alert-test", "--alerts"]);
        command.arg(&office.file).args(names);
        finish(command)
    };
    let finished = test(&["admin"]).exit(0);
    assert_eq!(finished.stdout, "admin: delivered\n");
    assert!(post.wait(1).contains("nothing is wrong"));
    let finished = test(&[]).exit(1);
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(lines[..2], ["admin: delivered", "script: FAILED: ended with exit status 7"]);
    assert!(lines[2].contains("Connection refused"), "{lines:?}");
    let finished = test(&["nobody"]).exit(2);
    assert!(finished.stderr.contains("there are: admin, script, chat"), "{finished:?}");
    fs::write(&office.file, "receivers: [{ name: a }]").unwrap();
    let finished = test(&[]).exit(2);
    assert!(finished.stderr.contains("alerts.yaml:1:13"), "{finished:?}");
}

/// The daemon has given up its privileges by the time it runs a program.
#[test]
fn a_daemon_runs_a_command_without_privileges() {
    let backends = [Backend::start(), Backend::start()];
    let place = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let told = place.path().join("told");
    let script = format!(
        "{{ id -u; grep Cap /proc/self/status; cat; }} > {0}.new; mv {0}.new {0}",
        told.display()
    );
    let receiver =
        format!("  - {{ name: script, wait: 0s, command: [/bin/sh, -c, '{script}'] }}\n");
    let office = Office::new(&backends, &receiver);
    let daemon = office.daemon();
    daemon.wait_up(2);
    backends[0].answer(503);
    assert!(within(DEADLINE, || told.exists()), "{}", daemon.log());
    let told = fs::read_to_string(told).unwrap();
    assert!(told.contains("is down: status 503"), "{told}");
    let user = told.lines().next().unwrap();
    assert!(user == "65534" || !rustix::process::geteuid().is_root(), "{told}");
    for line in told.lines().filter(|line| !line.starts_with("CapBnd")) {
        if let Some((_, set)) = line.split_once(":\t").filter(|_| line.starts_with("Cap")) {
            assert_eq!(set, "0000000000000000", "{told}");
        }
    }
    daemon.stop();
}

#[test]
fn a_certificate_that_ends_soon_is_told_and_so_is_its_renewal() {
    let backends = [TlsBackend::lasting(10), TlsBackend::lasting(90)];
    let web = Post::web();
    let chat = format!(
        "  - {{ name: chat, webhook: {{ url: 'http://{}/' }}, wait: 0s, interval: 0s }}\n",
        web.address
    );
    let office = Office::new(&[], &chat);
    office.scratch.write("www.yaml", &tls_policy(&backends));
    let daemon = office.daemon();
    daemon.wait_up(2);
    let body = |request: String| -> Value {
        serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let told = body(web.wait(1));
    let [problem] = &told["problems"].as_array().unwrap()[..] else { panic!("{told:#}") };
    let soon = backends[0].address.to_string();
    assert_eq!((&problem["kind"], &problem["status"]), (&"certificate".into(), &"firing".into()));
    assert_eq!(problem["real_server"], soon);
    let text = problem["text"].as_str().unwrap();
    assert!(text.starts_with(&format!("the certificate of {soon} of www ends at 20")), "{text}");
    let explained = office.scratch.order(&["explain", "www", &soon]).exit(0).stdout;
    let end = text.rsplit(' ').next().unwrap();
    assert!(
        explained.contains(&format!("the certificate ends at {end}, in 9days 23h")),
        "{explained}"
    );

    backends[0].renew(90);
    let told = body(web.wait(2));
    assert_eq!(
        (&told["status"], &told["problems"][0]["real_server"]),
        (&"resolved".into(), &soon.into())
    );
    daemon.stop();
}

/// Real servers are looked after also when nobody can be told of it, and what waited still waits.
#[test]
fn a_wrong_alerts_file_stops_nothing() {
    let backends = [Backend::start(), Backend::start()];
    let (office, address) = Office::with_a_mail_that_waits(&backends);
    let right = fs::read_to_string(&office.file).unwrap();

    fs::write(&office.file, right.replace("    wait:", "    wiat:")).unwrap();
    let daemon = office.daemon();
    let status = daemon.wait_up(1);
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("the alerts file is refused"), "{degraded}");
    assert!(
        status["alerts_refused"][0].as_str().unwrap().contains("unknown key `wiat`"),
        "{status:#}"
    );
    daemon.wait_log("nobody is told of anything: the alerts file is wrong");

    let post = Post::start(TcpListener::bind(address).unwrap(), take_mail);
    fs::write(&office.file, right).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    let text = post.wait(1);
    assert!(text.contains(&format!("{} of www is down", backends[0].address)), "{text}");
    daemon.wait("the file in force", |status| status["alerts_refused"] == Value::Array(Vec::new()));
    daemon.stop();
}

/// One mailbox that is gone keeps nobody else from hearing, and a message that is refused for good does
/// not stand in the way of the next one.
#[test]
fn what_is_refused_for_good_is_given_up() {
    let backends = [Backend::start(), Backend::start()];
    let web = Post::start(TcpListener::bind("127.0.0.1:0").unwrap(), |mut stream| {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        stream.write_all(
            b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        )?;
        Ok("refused".to_owned())
    });
    let office = Office::new(
        &backends,
        &format!(
            "  - {{ name: chat, webhook: {{ url: 'http://{}/' }}, wait: 0s, interval: 0s }}\n",
            web.address
        ),
    );
    let daemon = office.daemon();
    daemon.wait_up(2);
    backends[0].answer(503);
    daemon.wait_log("an alert is refused for good, and given up");
    web.wait(1);
    let status = daemon.wait("an alert that was given up", is_undelivered);
    let undelivered = &status["alerts_undelivered"][0];
    assert_eq!(undelivered["reason"], "answered 400 Bad Request");
    assert_eq!(undelivered["waiting"], 0);
    backends[0].answer(200);
    daemon.wait_up(2);
    web.wait(2);
    daemon.stop();
}

/// Nobody is down, and nobody serves: that is told too.
#[test]
fn a_service_that_an_operator_emptied_is_told() {
    let backends = [Backend::start()];
    let web = Post::web();
    let office = Office::new(
        &backends,
        &format!(
            "  - {{ name: chat, webhook: {{ url: 'http://{}/' }}, wait: 0s, interval: 0s }}\n",
            web.address
        ),
    );
    let daemon = office.daemon();
    daemon.wait_up(1);
    let name = backends[0].address.to_string();
    for (index, order) in
        [vec!["disable", "www", &name], vec!["weight", "www", &name, "0"]].iter().enumerate()
    {
        office.scratch.order(order).exit(0);
        let request = web.wait(2 * index + 1);
        let is_it = request.contains("takes connections") && request.contains(r#""kind":"empty""#);
        assert!(is_it, "{order:?}: {request}");
        let status = office.scratch.status(&["--output", "json"]).exit(3).json();
        let degraded = &status["degraded"][0];
        assert_eq!(degraded, "1 virtual service takes no connections", "{order:?}: {status:#}");
        office.scratch.order(&["enable", "www", &name]).exit(0);
        assert!(web.wait(2 * index + 2).contains(r#""status":"resolved""#), "{order:?}");
    }
    daemon.stop();
}

/// A receiver of everything at once, with settings more.
fn chat(name: &str, web: &Post, more: &str) -> String {
    format!(
        "  - {{ name: {name}, webhook: {{ url: 'http://{}/' }}, wait: 0s, interval: 0s{more} }}\n",
        web.address
    )
}

/// What a webhook was told so far, one line a problem: `status kind policy`.
fn told(web: &Post) -> Vec<String> {
    let requests = web.taken.lock().unwrap().clone();
    let problems = requests.iter().flat_map(|request| {
        let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        body["problems"].as_array().unwrap().clone()
    });
    let word = |of: &Value| of.as_str().unwrap_or("-").to_owned();
    let line = |it: Value| [&it["status"], &it["kind"], &it["policy"]].map(word).join(" ");
    problems.map(line).collect()
}

#[test]
fn routes_tell_each_receiver_what_is_its_own() {
    let (www, shop) = ([Backend::start(), Backend::start()], [Backend::start(), Backend::start()]);
    let (all, shops, reloads) = (Post::web(), Post::web(), Post::web());
    let routes = "routes:
  - { to: [all] }
  - { policies: [shop-*], kinds: [down], to: [shops] }
  - { kinds: [reload], to: [reloads] }
";
    let receivers =
        chat("all", &all, "") + &chat("shops", &shops, "") + &chat("reloads", &reloads, "");
    let office = Office::new(&www, &(receivers + routes));
    office.scratch.write("shop-1.yaml", &policy("tcp://192.0.2.11:80", &shop, 80));
    let daemon = office.daemon();
    daemon.wait_up(4);
    www[0].answer(503);
    all.wait(1);
    shop[0].answer(503);
    shops.wait(1);
    all.wait(2);
    office.scratch.write("bad.yaml", "nonsense");
    reloads.wait(1);
    all.wait(3);
    // The last thing that all are told of, so that nothing is on its way to the others.
    shop[0].answer(200);
    shops.wait(2);
    all.wait(4);
    let down = ["firing down www", "firing down shop-1", "firing reload -", "resolved down shop-1"];
    assert_eq!(told(&all), down);
    assert_eq!(told(&shops), ["firing down shop-1", "resolved down shop-1"]);
    assert_eq!(told(&reloads), ["firing reload -"]);
    daemon.stop();
}

#[test]
fn a_receiver_is_told_no_more_often_than_it_takes() {
    let backends = [Backend::start(), Backend::start()];
    let (all, few) = (Post::web(), Post::web());
    let receivers = chat("all", &all, "") + &chat("few", &few, ", per_hour: 2");
    let office = Office::new(&backends, &receivers);
    let daemon = office.daemon();
    daemon.wait_up(2);
    for round in 0..2 {
        backends[0].answer(503);
        all.wait(2 * round + 1);
        backends[0].answer(200);
        all.wait(2 * round + 2);
    }
    few.wait(2);
    assert_eq!(told(&few), ["firing down www", "resolved down www"]);
    assert_eq!(told(&all).len(), 4);
    // It is held back, which is no failure.
    let status = daemon.status().unwrap();
    assert_eq!(status["alerts_undelivered"], Value::Array(Vec::new()), "{status:#}");
    daemon.stop();
}
