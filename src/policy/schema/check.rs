//! The schema of `checks`.

use serde_json::{Value, json};

use super::{
    Keys, address, any, boolean, doc, map, number, object, one_or_some, port, scalar, some, text,
    time, word,
};

/// A check: one protocol, and when and how often.
pub(super) fn check() -> Value {
    let protocols = [protocols(), advisers()].concat();
    let one_of: Vec<Value> =
        protocols.iter().map(|(name, _)| json!({ "required": [name] })).collect();
    let damping = object(
        vec![
            ("changes", number("So many between up and down are too many; else 5", 2..=50)),
            ("window", time("Within this time; else 5m")),
            ("hold", time("How long it is held down; else 30s")),
            ("max_hold", time("The longest a hold gets; else 10m")),
        ],
        &[],
    );
    let mut keys = protocols;
    keys.extend([
        ("interval", time("From one probe to the next; else 5s")),
        ("timeout", time("For the whole probe, at most the interval; else 2s")),
        ("fast_interval", time("The interval while results contradict the verdict")),
        ("rise", number("Passes in a row that bring it up; else 2", 1..=1000)),
        ("fall", number("Failures in a row that take it down; else 3", 1..=1000)),
        ("damping", doc(damping, "Holds down who flaps")),
        ("source", address("Local address of the probe")),
        ("interface", text("Interface the probe is bound to")),
        ("expires", time("How long advice counts that is not said again")),
        ("via", doc(word(&["vip"]), "Goes through the virtual addresses")),
        ("proxy_protocol", doc(word(&["v1", "v2"]), "A PROXY header goes before the check")),
    ]);
    let mut check = object(keys, &[]);
    check["oneOf"] = one_of.into();
    check
}

fn protocols() -> Keys {
    let probed = || ("port", port("Port to probe"));
    let tls_or_not = || ("tls", doc(boolean(), "false: in cleartext"));
    let conversation = || vec![probed(), ("send", payload()), ("expect", one_match())];
    vec![
        ("http", protocol("An HTTP/1.1 request is answered as expected", http(vec![]))),
        ("https", protocol("The same over TLS", http(tls()))),
        (
            "http2",
            protocol(
                "An HTTP/2 request is answered as expected",
                http([vec![tls_or_not()], tls()].concat()),
            ),
        ),
        (
            "grpc",
            protocol(
                "The gRPC health service says SERVING",
                [
                    vec![
                        probed(),
                        ("service", text("package.Service; else the server as a whole")),
                        ("host", text(":authority of the call")),
                        tls_or_not(),
                    ],
                    tls(),
                ]
                .concat(),
            ),
        ),
        ("tls", protocol("A TLS session is made", [vec![probed()], tls()].concat())),
        (
            "smtp",
            protocol(
                "A mail server greets and answers EHLO",
                [
                    vec![
                        probed(),
                        ("ehlo", text("The name given with EHLO")),
                        ("starttls", doc(boolean(), "true: go on over TLS")),
                    ],
                    tls(),
                ]
                .concat(),
            ),
        ),
        ("tcp", protocol("A connection is made", conversation())),
        ("udp", protocol("A datagram is answered, or not refused", conversation())),
        ("dns", dns()),
        ("icmp", protocol("An echo request is answered", vec![])),
        ("redis", protocol("Redis answers PING", vec![probed()])),
        ("mysql", protocol("MySQL greets", vec![probed(), ("user", text("User to log in as"))])),
        (
            "postgresql",
            protocol(
                "PostgreSQL answers",
                vec![
                    probed(),
                    ("user", text("User to log in as")),
                    ("database", text("Database to ask for")),
                ],
            ),
        ),
    ]
}

fn http(more: Keys) -> Keys {
    let status = any(vec![
        number("A status", 100..=999),
        json!({ "type": "string", "pattern": r"^\s*[1-9]\d\d\s*(-\s*[1-9]\d\d\s*)?$" }),
    ]);
    let expect = object(
        vec![
            ("status", doc(one_or_some(status), "Else 200-399")),
            ("body", matches("Text it must contain")),
            ("headers", map(matches("Text it must contain"))),
        ],
        &[],
    );
    let keys = vec![
        ("port", port("Port to probe")),
        ("method", text("Else GET")),
        ("path", text("Path and query, percent-encoded; else /")),
        ("host", text("The Host header")),
        ("headers", doc(map(scalar()), "Further request headers")),
        ("expect", expect),
        ("weight_from", weight_from()),
    ];
    [keys, more].concat()
}

/// Where an answer over HTTP says its weight.
fn weight_from() -> Value {
    let header = object(vec![("header", text("A header, as X-Weight"))], &["header"]);
    doc(any(vec![json!({ "const": "body" }), header]), "Where the answer says its weight")
}

/// The checks that ask a program or a file for more than a verdict.
fn advisers() -> Keys {
    let command = doc(some(scalar()), "The program, with its whole path, and its arguments");
    let exec = vec![
        ("port", port("The port it is told")),
        ("command", command),
        ("user", text("User it runs as; else nobody")),
        ("environment", doc(map(scalar()), "Further variables")),
        ("weight_from", word(&["exit_status"])),
    ];
    let file = vec![
        ("path", text("Whole path; {address} stands for that of the real server")),
        ("missing", doc(word(&["pass", "fail"]), "What it means that there is none; else pass")),
    ];
    let agent = vec![("port", port("Port that the agent listens on")), ("send", payload())];
    vec![
        ("exec", doc(object(exec, &["command"]), "A program on the director ends with status 0")),
        ("file", doc(object(file, &["path"]), "A file on the director does not say down")),
        ("agent", doc(object(agent, &["port"]), "Advises and has no verdict")),
    ]
}

fn tls() -> Keys {
    vec![
        ("server_name", text("SNI, and the name the certificate must carry")),
        ("verify", doc(boolean(), "false: any certificate passes")),
        ("ca_file", text("PEM file with the authorities to trust")),
        ("min_days", number("Fail when the certificate expires sooner", 1..=3650)),
    ]
}

fn dns() -> Value {
    let types = [
        "A", "AAAA", "ANY", "CAA", "CNAME", "DNSKEY", "HTTPS", "MX", "NAPTR", "NS", "PTR", "SOA",
        "SRV", "SVCB", "TXT",
    ];
    let rcodes = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "NOTAUTH"];
    let answer = any(vec![one_or_some(scalar()), conditions()]);
    let expect = object(
        vec![
            ("rcode", one_or_some(word(&rcodes))),
            ("answer", doc(answer, "Records the answer must have, or conditions on its text")),
        ],
        &[],
    );
    let keys = vec![
        ("port", port("Port to probe")),
        ("name", text("The name to ask for")),
        ("type", word(&types)),
        ("transport", word(&["udp", "tcp"])),
        ("expect", expect),
    ];
    doc(object(keys, &["name"]), "A DNS question is answered as expected")
}

/// What to send: text, or bytes.
fn payload() -> Value {
    any(vec![
        doc(scalar(), "Text to send, in double quotes for \\r\\n"),
        object(vec![("hex", text("Bytes, as `00 ff 1b`"))], &["hex"]),
    ])
}

fn matches(words: &str) -> Value {
    doc(any(vec![scalar(), conditions()]), words)
}

fn one_match() -> Value {
    matches("Text that must come back")
}

fn conditions() -> Value {
    let keys = vec![
        ("contains", text("Text that must appear")),
        ("regex", text("A regular expression that must match; single quotes keep `\\`")),
    ];
    let mut conditions = object(keys, &[]);
    conditions["minProperties"] = 1.into();
    conditions
}

/// A protocol that may be empty.
fn protocol(words: &str, keys: Keys) -> Value {
    let mut protocol = object(keys, &[]);
    protocol["type"] = json!(["object", "null"]);
    doc(protocol, words)
}
