//! Agents that say what they want, and servers that are none.

use pointsman::probe::advice::Heard;
use pointsman::probe::outcome::{Outcome, Reason};
use pointsman::probe::target::{AgentCheck, CheckKind, HttpCheck, WeightFrom};

use crate::support::{LONG, SHORT, Step, expect, get, http, probe, say, serve, target};

fn agent(send: &str) -> CheckKind {
    CheckKind::Agent(AgentCheck { send: send.as_bytes().to_vec() })
}

/// The weight and the state that were advised, in words.
pub(crate) fn advised(outcome: &Outcome) -> String {
    match outcome.advice.as_deref() {
        None => "-".to_owned(),
        Some(Heard::Nothing(why)) => format!("not understood: {why}"),
        Some(Heard::All(said)) => said.to_string(),
        Some(Heard::More(said)) => format!("more: {said}"),
    }
}

#[tokio::test]
async fn one_line_is_read_whatever_comes_after_it() {
    use Step::{Drip, Hang, Read};
    for (name, script, words) in [
        ("plain", vec![say("75%\n")], "more: 75%"),
        ("without an end of line", vec![say("drain")], "more: drain"),
        ("line and hang", vec![say("up 20%\r\n"), Hang], "more: 20% up"),
        ("two lines", vec![say("maint\nup\n"), Hang], "more: maint"),
        ("dripped", vec![Drip(b"ready\n".to_vec(), SHORT / 100), Hang], "more: ready"),
        ("asked", vec![Read, say("down # no disk\n"), Hang], "more: it says down: no disk"),
        ("a line and a flood", vec![say("5%\n"), Step::Repeat(vec![b'x'; 9999])], "more: 5%"),
    ] {
        let address = serve(script).await;
        let outcome = probe(&target(address, agent("state\n"), LONG)).await;
        expect(name, &outcome, Reason::Ok, "says \"");
        assert_eq!(advised(&outcome), words, "{name}");
    }
}

#[tokio::test]
async fn others_are_no_agents() {
    use Reason::{Closed, HeadTimeout, Ok, Protocol, Reset};
    for (name, script, reason, piece, words) in [
        ("SSH", vec![say("SSH-2.0-x\r\n")], Ok, "SSH-2.0-x", "not understood: no advice that is"),
        ("an empty line", vec![say("\n")], Ok, "says \"\"", "not understood: "),
        ("bytes", vec![say(b"\x1b[2J\0\xff\n")], Ok, "says \"[2J", "not understood: "),
        ("closes", vec![], Closed, "closed without saying anything", "-"),
        ("resets", vec![Step::Reset], Reset, "connection reset by peer after 0 bytes", "-"),
        ("a megabyte", vec![say(vec![b'a'; 1 << 20])], Protocol, "more than 4096 bytes", "-"),
        ("floods", vec![Step::Repeat(vec![b'9'; 999])], Protocol, "more than 4096 bytes", "-"),
        ("hangs", vec![Step::Hang], HeadTimeout, "no whole line from the agent within 400ms", "-"),
        ("half a line", vec![say("75"), Step::Hang], HeadTimeout, "no whole line from", "-"),
        ("drips", vec![Step::Drip(vec![b'9'; 99], SHORT / 4)], HeadTimeout, "within 400ms", "-"),
    ] {
        let address = serve(script).await;
        let timeout = if reason == HeadTimeout { SHORT } else { LONG };
        let outcome = probe(&target(address, agent(""), timeout)).await;
        expect(name, &outcome, reason, piece);
        assert!(advised(&outcome).starts_with(words), "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn http_answers_advise_and_are_judged_as_without() {
    let header = |name: &str| Some(WeightFrom::Header(name.to_owned()));
    let answer = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        vec![
            Step::Request,
            say(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")),
        ]
    };
    use Reason::{Ok, Status};
    for (name, script, weight_from, reason, words) in [
        ("header", answer("200 OK", "X-Weight: 50%\r\n", ""), header("x-weight"), Ok, "50%"),
        (
            "two",
            answer("200 OK", "X-Weight: 5\r\nX-Weight: 6\r\n", ""),
            header("x-weight"),
            Ok,
            "5",
        ),
        ("state", answer("200 OK", "X-Weight: drain\r\n", ""), header("x-weight"), Ok, "drain"),
        (
            "no header",
            answer("200 OK", "", "50%"),
            header("x-weight"),
            Ok,
            "not understood: no response header `x-weight`",
        ),
        (
            "garbage",
            answer("200 OK", "X-Weight: -1e9 \u{e4}NaN\r\n", ""),
            header("x-weight"),
            Ok,
            "not understood: no advice that is understood in",
        ),
        ("body", answer("200 OK", "", "\t30%  \nmore\n"), Some(WeightFrom::Body), Ok, "30%"),
        ("empty body", answer("204 No", "", ""), Some(WeightFrom::Body), Ok, "not understood: "),
        ("fails", answer("503 No", "X-Weight: 50%\r\n", ""), header("x-weight"), Status, "-"),
        ("unasked", answer("200 OK", "X-Weight: 50%\r\n", "9"), None, Ok, "-"),
    ] {
        let address = serve(script).await;
        let check = HttpCheck { weight_from, ..get() };
        let outcome = probe(&http(address, check, LONG)).await;
        expect(name, &outcome, reason, "status ");
        assert!(advised(&outcome).starts_with(words), "{name}: {outcome:?}");
    }
}
