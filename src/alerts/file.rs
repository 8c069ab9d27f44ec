//! The file that says who is told of what: YAML, with the same diagnostics as policies.
//!
//! Passwords and signing keys are in files of their own, named here.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{Alerts, Glob, Mail, MailTls, Receiver, Route, Secret, Way, Webhook};
use super::deliver::{check_address, check_template};
use super::problem::Kind;
use crate::policy::decode::{self, Field, Fields};
use crate::policy::load;
use crate::policy::node::{self, Node, Value};
use crate::policy::problem::Problem;
use crate::policy::source::{At, Report};

/// What is collected for so long before it is told.
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
/// Messages an hour.
const PER_HOUR: RangeInclusive<u32> = 1..=3600;
/// How soon the end of a certificate may be told.
const CERTIFICATE_DAYS: RangeInclusive<u32> = 0..=3650;
/// The largest file with a password or a key, in bytes.
const LARGEST_SECRET: u64 = 4096;

/// Loads the file.
///
/// # Errors
/// Every problem with it, each with its place.
pub fn load(path: &Path) -> Result<Alerts, Vec<Problem>> {
    let source = load::source(path).map_err(|problem| vec![*problem])?;
    let mut report = Report::new(&source);
    let documents = node::parse(&mut report);
    if let Some(second) = documents.get(1) {
        report.error(second.place, "a second document", "one file has one document: join them");
    }
    let alerts = documents.first().and_then(|document| read(document, path, &mut report));
    let problems = report.finish();
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    Ok(alerts.unwrap_or_default())
}

fn read(node: &Node, path: &Path, report: &mut Report<'_>) -> Option<Alerts> {
    let mut fields = Fields::of(node, "the alerts file", report)?;
    let mut receivers = fields.field("receivers", report, |node, report| {
        decode::entries(node, "receivers", report, |node, report| receiver(node, path, report))
    });
    let routes = fields
        .field("routes", report, |node, report| decode::entries(node, "routes", report, route));
    let certificate_days = fields
        .field("certificate_days", report, |node, report| {
            decode::number(node, CERTIFICATE_DAYS, report)
        })
        .unwrap_or(14);
    let elsewhere: &[(&[&str], &str)] =
        &[(&["mail", "webhook", "command"], "in an entry of `receivers`")];
    fields.finish(elsewhere, report).spoil("receivers", &mut receivers);
    if receivers.is_absent() {
        let help = "add `receivers:` with entries such as `- { name: ops, command: [/bin/page] }`";
        report.error(node.place, "nobody to tell", help);
    }
    let receivers = receivers.unwrap_or(Vec::new());
    for (index, At { value, place }) in receivers.iter().enumerate() {
        if receivers[..index].iter().any(|other| other.value.name == value.name) {
            report.error(
                *place,
                format!("a second receiver `{}`", value.name),
                "name it otherwise",
            );
        }
    }
    let names: Vec<&str> = receivers.iter().map(|it| it.value.name.as_str()).collect();
    let routes = routes.unwrap_or(Vec::new());
    for to in routes.iter().flat_map(|route| &route.value.to) {
        if !names.contains(&to.value.as_str()) {
            let help = match decode::closest(&to.value, names.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("receivers here: {}", names.join(", ")),
            };
            report.error(to.place, format!("no receiver `{}`", decode::cut(&to.value)), help);
        }
    }
    let route = |RouteEntry { policies, kinds, to }: RouteEntry| Route {
        policies,
        kinds,
        to: to.into_iter().map(|name| name.value).collect(),
    };
    Some(Alerts {
        receivers: receivers.into_iter().map(|it| it.value).collect(),
        routes: routes.into_iter().map(|it| route(it.value)).collect(),
        certificate_days,
    })
}

fn receiver(node: &Node, path: &Path, report: &mut Report<'_>) -> Option<Receiver> {
    let mut fields = Fields::of(node, "a receiver", report)?;
    let name = fields.field("name", report, |node, report| plain(node, "a name", report));
    let time = |node: &Node, report: &mut Report<'_>| decode::duration(node, WAITS, report);
    let wait = fields.field("wait", report, time).unwrap_or(Duration::from_secs(10));
    let interval = fields.field("interval", report, time).unwrap_or(Duration::from_secs(60));
    let per_hour = fields
        .field("per_hour", report, |node, report| decode::number(node, PER_HOUR, report))
        .unwrap_or(20);
    let mail = fields.field("mail", report, |node, report| mail(node, path, report));
    let webhook = fields.field("webhook", report, |node, report| webhook(node, path, report));
    let command = fields.field("command", report, command);
    fields.finish(&[], report);
    if name.is_absent() {
        report.error(node.place, "a receiver without `name`", "add a name, such as `name: ops`");
    }
    let mut ways = Vec::new();
    ways.extend(mail.get().map(|it| (it.place, Way::Mail(it.value.clone()))));
    ways.extend(webhook.get().map(|it| (it.place, Way::Webhook(it.value.clone()))));
    ways.extend(command.get().map(|it| (it.place, Way::Command(it.value.clone()))));
    if mail.is_absent() && webhook.is_absent() && command.is_absent() {
        let help = "add `mail`, `webhook` or `command`";
        report.error(node.place, "a receiver without a way to it", help);
    }
    if let Some((place, _)) = ways.get(1) {
        report.error(*place, "a second way to one receiver", "make it a receiver of its own");
    }
    let (_, way) = ways.into_iter().next()?;
    Some(Receiver { name: name.get()?.value.clone(), way, wait, interval, per_hour })
}

fn mail(node: &Node, path: &Path, report: &mut Report<'_>) -> Option<Mail> {
    let mut fields = Fields::of(node, "`mail`", report)?;
    let words = [("none", MailTls::None), ("starttls", MailTls::StartTls), ("tls", MailTls::Tls)];
    let server = fields.field("server", report, |node, report| plain(node, "a host", report));
    let tls = fields.field("tls", report, |node, report| decode::word(node, &words, report));
    let port = fields.field("port", report, decode::port);
    let from = fields.field("from", report, mail_address);
    let to = fields.field("to", report, |node, report| {
        decode::entries(node, "mail addresses", report, mail_address)
    });
    let user = fields.field("user", report, decode::text);
    let password = fields.field("password_file", report, |node, report| secret(node, path, report));
    fields.finish(&[(&["password"], "in a file of its own: `password_file`")], report);
    for (missing, key, help) in [
        (from.is_absent(), "from", "from: pointsman@example.net"),
        (to.is_absent(), "to", "to: [ops@example.net]"),
    ] {
        if missing {
            report.error(node.place, format!("`mail` without `{key}`"), format!("add `{help}`"));
        }
    }
    if user.is_absent() != password.is_absent() {
        let help = "write both, or neither";
        report.error(node.place, "`user` and `password_file` belong together", help);
    }
    let server = server.unwrap_or("localhost".to_owned());
    let is_local = matches!(server.as_str(), "localhost" | "127.0.0.1" | "::1");
    let tls = tls.unwrap_or(if is_local { MailTls::None } else { MailTls::StartTls });
    let usual = match tls {
        MailTls::None => 25,
        MailTls::StartTls => 587,
        MailTls::Tls => 465,
    };
    let login = user.get().zip(password.get());
    if tls == MailTls::None
        && !is_local
        && let Some((user, _)) = &login
    {
        let help = "leave out `tls: none`, or `user` and `password_file`";
        report.error(user.place, "a password would cross the network for everybody to read", help);
    }
    Some(Mail {
        server,
        port: port.unwrap_or(usual),
        tls,
        login: login.map(|(user, password)| (user.value.clone(), password.value.clone())),
        from: from.get()?.value.clone(),
        to: to.get()?.value.iter().map(|it| it.value.clone()).collect(),
    })
}

fn webhook(node: &Node, path: &Path, report: &mut Report<'_>) -> Option<Webhook> {
    let mut fields = Fields::of(node, "`webhook`", report)?;
    let url = fields.field("url", report, url);
    let headers = fields.field("headers", report, headers);
    let body = fields.field("body", report, |node, report| {
        let template = decode::text(node, report)?;
        match check_template(&template) {
            Ok(()) => Some(template),
            Err(why) => {
                let help =
                    "quote what it inserts with `|tojson`, as in `{\"text\": {{ text|tojson }}}`";
                report.error(node.place, format!("this template cannot be used: {why}"), help);
                None
            }
        }
    });
    let key = fields.field("secret_file", report, |node, report| secret(node, path, report));
    fields.finish(&[(&["secret"], "in a file of its own: `secret_file`")], report);
    if url.is_absent() {
        report.error(node.place, "`webhook` without `url`", "add `url: https://…`");
    }
    Some(Webhook {
        url: url.get()?.value.clone(),
        headers: headers.unwrap_or(Vec::new()),
        body: body.get().map(|it| it.value.clone()),
        secret: key.get().map(|it| it.value.clone()),
    })
}

fn command(node: &Node, report: &mut Report<'_>) -> Option<Vec<String>> {
    let words = decode::entries(node, "words", report, decode::text)?;
    let program = words.first()?;
    if !Path::new(&program.value).is_absolute() {
        let message = format!("`{}` is not an absolute path", decode::cut(&program.value));
        report.error(program.place, message, "write the path of the program; no shell is involved");
        return None;
    }
    Some(words.into_iter().map(|word| word.value).collect())
}

/// A route as written.
#[derive(Debug, Clone)]
struct RouteEntry {
    policies: Vec<Glob>,
    kinds: Vec<Kind>,
    to: Vec<At<String>>,
}

fn route(node: &Node, report: &mut Report<'_>) -> Option<RouteEntry> {
    let words = Kind::ALL.map(|kind| (kind.name(), kind));
    let mut fields = Fields::of(node, "a route", report)?;
    let policies = fields.field("policies", report, |node, report| {
        decode::entries(node, "names of policies", report, decode::text)
    });
    let kinds = fields.field("kinds", report, |node, report| {
        decode::entries(node, "kinds", report, |node, report| decode::word(node, &words, report))
    });
    let to: Field<Vec<At<String>>> = fields.field("to", report, |node, report| {
        decode::entries(node, "names of receivers", report, decode::text)
    });
    fields.finish(&[], report);
    if to.is_absent() {
        report.error(node.place, "a route to nobody", "add `to: […]` with names of receivers");
    }
    Some(RouteEntry {
        policies: policies.unwrap_or(Vec::new()).iter().map(|it| Glob::new(&it.value)).collect(),
        kinds: kinds.unwrap_or(Vec::new()).iter().map(|it| it.value).collect(),
        to: to.get()?.value.clone(),
    })
}

fn plain(node: &Node, what: &str, report: &mut Report<'_>) -> Option<String> {
    let text = decode::text(node, report)?;
    if text.is_empty() || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        let message = format!("`{}` is not {what}", decode::cut(&text));
        report.error(node.place, message, "write it without spaces");
        return None;
    }
    Some(text)
}

fn mail_address(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = decode::text(node, report)?;
    match check_address(&text) {
        Ok(()) => Some(text),
        Err(why) => {
            let message = format!("`{}` is not a mail address: {why}", decode::cut(&text));
            report.error(node.place, message, "write `ops@example.net`");
            None
        }
    }
}

fn url(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = decode::text(node, report)?;
    let is_http = |url: &reqwest::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    match reqwest::Url::parse(&text) {
        Ok(url) if is_http(&url) => Some(text),
        _ => {
            let message = format!("`{}` is not the URL of a web server", decode::cut(&text));
            report.error(node.place, message, "write `https://host/path`");
            None
        }
    }
}

fn headers(node: &Node, report: &mut Report<'_>) -> Option<Vec<(String, String)>> {
    use reqwest::header::{HeaderName, HeaderValue};
    let Value::Map(entries) = &node.value else {
        let message = format!("expected a mapping of headers, found {}", decode::describe(node));
        report.error(node.place, message, "write `Name: value`");
        return None;
    };
    let mut headers = Vec::new();
    for (name, value) in entries {
        let text = decode::text(value, report)?;
        if HeaderName::from_bytes(name.value.as_bytes()).is_err()
            || HeaderValue::from_str(&text).is_err()
        {
            let message = format!("`{}` cannot be sent as a header", decode::cut(&name.value));
            report.error(name.place, message, "use letters, digits and `-`, and one line of text");
            return None;
        }
        headers.push((name.value.clone(), text));
    }
    Some(headers)
}

/// The first line of a file, which is relative to the one that names it.
fn secret(node: &Node, alerts: &Path, report: &mut Report<'_>) -> Option<Secret> {
    let text = decode::text(node, report)?;
    let path: PathBuf = alerts.parent().unwrap_or(Path::new("")).join(&text);
    match read_secret(&path) {
        Ok(secret) => Some(Secret(secret)),
        Err(why) => {
            let message = format!("`{}` {why}", path.display());
            report.error(
                node.place,
                message,
                "name a file with the secret in its first line that the daemon's user can read and not everybody can; docs/ALERTS.md says how with the shipped unit",
            );
            None
        }
    }
}

fn read_secret(path: &Path) -> Result<String, String> {
    use std::os::unix::fs::PermissionsExt;
    let read = |error: io::Error| format!("cannot be read: {error}");
    let metadata = fs::metadata(path).map_err(read)?;
    if !metadata.is_file() || metadata.len() > LARGEST_SECRET {
        return Err("is not a small file".to_owned());
    }
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err("can be read by everybody; run `chmod o= ` on it".to_owned());
    }
    let text = fs::read_to_string(path).map_err(read)?;
    let secret = text.lines().next().unwrap_or_default().trim_end();
    match secret.is_empty() {
        true => Err("is empty".to_owned()),
        false => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Alerts, Vec<String>> {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, "hunter2\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let path = directory.path().join("alerts.yaml");
        fs::write(&path, text).unwrap();
        let place = directory.path().display().to_string() + "/";
        load(&path).map_err(|problems| {
            problems.iter().map(|it| it.to_string().replace(&place, "")).collect()
        })
    }

    #[test]
    fn all_of_it() {
        let alerts = load_text(
            "receivers:
  - name: ops
    mail:
      to: [ops@example.net, 'Night <night@example.net>']
      from: pointsman@lvs1.example.net
      server: mail.example.net
      user: lvs
      password_file: secret
  - name: chat
    webhook:
      url: https://chat.example.net/hook
      headers: { X-Channel: lvs }
      body: '{\"text\": {{ text|tojson }}}'
      secret_file: secret
    wait: 30s
    per_hour: 5
  - { name: pager, command: [/usr/local/bin/page, --now], wait: 0s }
routes:
  - { policies: [shop-*], kinds: [down, floor], to: [ops, pager] }
  - { to: [chat] }
",
        )
        .unwrap();
        let Way::Mail(mail) = &alerts.receivers[0].way else { panic!("{alerts:?}") };
        assert_eq!((mail.port, mail.tls), (587, MailTls::StartTls));
        assert_eq!(mail.login.as_ref().unwrap().1, Secret("hunter2".to_owned()));
        assert_eq!(alerts.receivers[1].per_hour, 5);
        assert_eq!(alerts.receivers_of(Kind::Down, Some("shop-1")), [0, 1, 2]);
        assert_eq!(alerts.receivers_of(Kind::Reload, None), [1]);
        assert!(!format!("{alerts:?}").contains("hunter2"));
    }

    #[test]
    fn the_example_is_valid_with_and_without_its_comments() {
        let example = include_str!("../../contrib/alerts.yaml");
        assert_eq!(load_text(example).unwrap().receivers.len(), 1);
        let all = example.replace("\n#", "\n").replace("mail.password", "secret");
        let all = all.split_once("receivers:").unwrap().1;
        let alerts = load_text(&format!("receivers:{all}")).unwrap();
        assert_eq!((alerts.receivers.len(), alerts.routes.len()), (3, 2));
    }

    #[test]
    fn what_is_wrong_is_named_at_once() {
        let problems = load_text(
            "receivers:
  - name: ops
    mail: { to: [nobody], from: a@b.example, server: mx.example.net, tls: none, user: a, password_file: secret }
  - { name: ops, webhook: { url: ftp://x, body: '{{ txt }}', secret_file: none } }
  - { name: pager, comand: [page], command: [page] }
  - { wait: 1s }
routes: [{ to: [pagr], kinds: [dawn] }]
",
        )
        .unwrap_err();
        let all = problems.join("\n");
        for (line, expected) in [
            (3, "`nobody` is not a mail address"),
            (3, "a password would cross the network"),
            (4, "`ftp://x` is not the URL of a web server"),
            (4, "this template cannot be used"),
            (4, "`none` cannot be read"),
            (5, "unknown key `comand`"),
            (5, "`page` is not an absolute path"),
            (6, "a receiver without `name`"),
            (6, "a receiver without a way to it"),
            (7, "expected one of"),
        ] {
            let is_it =
                |it: &String| it.contains(expected) && it.contains(&format!("alerts.yaml:{line}:"));
            assert!(problems.iter().any(is_it), "{line}: {expected}\n{all}");
        }
        let route = "receivers: [{ name: pager, command: [/bin/true] }]\nroutes: [{ to: [pagr] }]";
        let problems = load_text(route).unwrap_err().join("\n");
        assert!(
            problems.contains("no receiver `pagr`") && problems.contains("`pager`?"),
            "{problems}"
        );
    }
}
