//! The status page and the events it shows.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::browser::Browser;
use crate::http::{get, start};
use crate::scratch::{DEADLINE, Scratch, VIP, within};

#[test]
fn it_needs_nothing_from_elsewhere() {
    let scratch = Scratch::with_one();
    let (_daemon, address) = start(&scratch, &[]);
    let page = get(address, "/").is(200);
    assert!(page.head.contains("content-type: text/html; charset=utf-8"), "{}", page.head);
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    for elsewhere in ["src=", "href=", "@import", "url("] {
        assert!(!page.body.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn events_are_there_and_come() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    stream
        .write_all(format!("GET /v1/events/stream HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line.contains("text/event-stream")));
    assert!(lines.by_ref().any(|line| line.is_empty()), "the head ends");
    backends[0].answer(503);
    let verdict = lines.find(|line| line.contains(r#""event":"verdict""#)).unwrap();
    assert!(verdict.starts_with("data: {") && verdict.contains(r#""to":"down""#), "{verdict}");

    let events = get(address, "/v1/events").is(200).json();
    let kinds: Vec<&str> =
        events.as_array().unwrap().iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["started", "reload"]);
    assert!(kinds.contains(&"verdict") && kinds.contains(&"change"), "{kinds:?}");
}

/// The row of a destination, as an expression of JavaScript.
fn row(of: &Backend) -> String {
    format!(
        "[...document.querySelectorAll('tr.server')].find(it => it.innerText.includes('{}'))",
        of.address
    )
}

#[test]
fn people_see_what_is_wrong_as_it_happens() {
    let Some(browser) = Browser::start() else { return };
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(3);
    let is_known = |server: &Value| server["attempts"].as_array().unwrap().len() == 5;
    let latencies = || get(address, "/v1/latencies").is(200).json().as_array().unwrap().clone();
    assert!(within(DEADLINE, || latencies().iter().all(is_known)), "{:#?}", latencies());
    browser.open(&format!("http://{address}/"));
    browser.wait("document.querySelectorAll('tr.server').length === 3");
    browser.wait("document.getElementById('state').textContent === 'OK'");
    // The curves begin with what the daemon remembers.
    let points = "+document.querySelector('svg.spark').getAttribute('aria-label').match(/of (.*) probes/)[1]";
    browser.wait(&format!("{points} >= 5"));
    browser.wait("document.querySelectorAll('#events li').length > 5");
    browser.keys("j");
    browser.run(
        "window.held = document.activeElement;
         getSelection().selectAllChildren(document.querySelector('section h2'));",
    );

    // Without a reload: in words, not by colour alone.
    backends[0].answer(503);
    let down = row(&backends[0]);
    browser.wait(&format!("{down}.innerText.match(/down[^]*status 503/)"));
    browser.wait("document.getElementById('state').textContent === 'DEGRADED'");
    browser
        .wait("document.getElementById('degraded').innerText.includes('1 of 3 real servers down')");
    browser.wait("document.getElementById('events').innerText.includes('up → down')");
    // Nobody loses what they have selected, or where they are.
    assert_eq!(browser.run("return String(getSelection()).trim()"), VIP);
    assert_eq!(browser.run("return document.activeElement === window.held"), true);
    // What has been told is shown once, also after the stream was lost.
    browser.run("getSelection().removeAllRanges(); load_events(); listen();");
    let all = || get(address, "/v1/events").json().as_array().unwrap().len();
    let shown = || browser.run("return document.querySelectorAll('#events li').length");
    assert!(within(DEADLINE, || shown() == all()), "{} of {}", shown(), all());
    browser.wait(&format!("{down}.querySelector('svg.spark circle')"));
    browser.picture("light");
    // A name is told beside the address.
    let told = "return event_text({ event: 'transition', policies: ['www'], address: '192.0.2.1:80', \
                name: 'web-1', from: 'up', to: 'down', reason: 'refused' })";
    let text = "transition: www 192.0.2.1:80 (web-1): up → down: refused";
    assert_eq!(browser.run(told), text);

    // By keyboard alone: only problems, a filter, who is explained, and away again.
    browser.keys("p");
    browser.wait("document.querySelectorAll('tr.server').length === 1");
    browser.keys("p/");
    browser.wait("document.activeElement.id === 'filter'");
    browser.keys(&backends[1].address.port().to_string());
    browser.wait("document.querySelectorAll('tr.server').length === 1");
    browser.wait(&row(&backends[1]));
    browser.keys("\u{e00c}");
    browser.wait("document.querySelectorAll('tr.server').length === 3");
    browser.keys("j\u{e007}");
    browser.wait("document.getElementById('detail').open");
    browser.wait(
        "document.getElementById('detail').innerText.includes('passes in a row bring it up')",
    );
    browser.wait("document.getElementById('detail').innerText.includes('status 503')");
    browser.picture("explained");
    browser.keys("\u{e00c}");
    browser.wait("!document.getElementById('detail').open");

    // A real server that leaves the policy leaves the page.
    scratch.write("www.yaml", &crate::scratch::policy(crate::scratch::VIP, &backends[1..], 80));
    browser.wait("document.querySelectorAll('tr.server').length === 2");
    assert_eq!(browser.complaints(), [""; 0]);
    daemon.stop();
    browser
        .wait("document.getElementById('lost').innerText.startsWith('No answer from pointsman')");
}

/// A table in memory has no traffic, so the page is told of some: the first two destinations and
/// their service have rates, and of the second no answers pass the director.
const BUSY: &str = r"
const ask = window.fetch;
window.fetch = async (...args) => {
  const answer = await ask(...args);
  if (!String(args[0]).startsWith('v1/status')) return answer;
  const status = await answer.json(), [service] = status.services, [one, two] = service.destinations;
  service.rates = { connections: 1234, bytes_in: 3400000, bytes_out: 40999999 };
  one.rates = { connections: 1229, bytes_in: 999500, bytes_out: 40900000 };
  two.rates = { connections: 5, bytes_in: 999 };
  return new Response(JSON.stringify(status));
};
soon(0);
";

#[test]
fn traffic_shows_where_it_is_measured() {
    let Some(browser) = Browser::start() else { return };
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(3);
    browser.open(&format!("http://{address}/"));
    browser.wait("document.querySelectorAll('tr.server').length === 3");
    assert_eq!(browser.run("return document.querySelectorAll('.traffic').length"), 0);
    browser.run(BUSY);
    browser.wait("document.querySelectorAll('td.traffic').length === 3");
    let texts = "return [...document.querySelectorAll('.traffic')].map(it => it.innerText.replace('\\n', ' '))";
    assert_eq!(
        browser.run(texts),
        json!([
            "1234 conn/s, 3.4 MB/s in, 41 MB/s out",
            "1229 conn/s 1.0 MB/s in, 41 MB/s out",
            "5 conn/s 999 B/s in",
            "",
        ])
    );
    browser.picture("traffic");
    let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.devtools("Emulation.setEmulatedMedia", &features);
    browser.picture("traffic-dark");
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true });
    browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
    let wide = browser.run("return document.documentElement.scrollWidth - innerWidth");
    assert!(wide.as_i64().unwrap() <= 0, "it is {wide} pixels wider than the phone");
    browser.picture("traffic-phone");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A table in memory has no connections that a service could keep when it leaves, so the page is told
/// of one that has.
const LEAVES: &str = r"
const ask = window.fetch;
window.fetch = async (...args) => {
  const answer = await ask(...args);
  if (!String(args[0]).startsWith('v1/status')) return answer;
  const status = await answer.json(), [service] = status.services;
  service.policy = null;
  for (const one of service.destinations) Object.assign(one, {
    real_server: null, health: 'unknown', since: null, weight_wanted: 0, weight_kernel: 0, drain_left: 42,
    why: 'no policy declares it; drains 42s at most, 3 connections left',
  });
  return new Response(JSON.stringify(status));
};
soon(0);
";

#[test]
fn a_service_that_leaves_says_so() {
    let Some(browser) = Browser::start() else { return };
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    browser.open(&format!("http://{address}/"));
    browser.wait("document.querySelector('#services .badge').innerText === '2 of 2 in'");
    browser.run(LEAVES);
    browser.wait("document.querySelector('#services .badge').innerText === 'leaves'");
    let head = browser.run("return document.querySelector('#services .head').innerText");
    assert!(head.as_str().unwrap().contains("wlc, in no policy any more"), "{head}");
    let told = browser.run(&format!("return {}.innerText", row(&backends[0])));
    for words in ["draining", "42s left", "no policy declares it; drains 42s at most"] {
        assert!(told.as_str().unwrap().contains(words), "no `{words}` in {told}");
    }
    browser.picture("leaves");
    // There is nothing to explain, and nothing wrong.
    browser.keys("j\u{e007}");
    assert_eq!(browser.run("return document.getElementById('detail').open"), false);
    browser.keys("p");
    browser.wait("document.querySelectorAll('tr.server').length === 0");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn it_fits_a_phone_and_the_night() {
    let Some(browser) = Browser::start() else { return };
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    backends[1].answer(500);
    daemon.wait_up(1);
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true });
    browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
    browser.open(&format!("http://{address}/"));
    browser.wait("document.querySelectorAll('tr.server').length === 2");
    let wide = browser.run("return document.documentElement.scrollWidth - innerWidth");
    assert!(wide.as_i64().unwrap() <= 0, "it is {wide} pixels wider than the phone");
    browser.picture("phone");

    for scheme in ["light", "dark"] {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.devtools("Emulation.setEmulatedMedia", &features);
        // WCAG 2.1, 1.4.3: 4.5 to 1.
        let weak = browser.run(CONTRAST);
        assert_eq!(weak, json!([]), "hard to read in the {scheme}");
    }
    browser.picture("dark");
    browser.keys("t");
    browser.wait("document.documentElement.dataset.theme === 'light'");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Texts whose contrast to what is behind them is too weak.
const CONTRAST: &str = r"
const channels = colour => colour.match(/[\d.]+/g).map(Number);
const light = colour => {
  const [r, g, b] = channels(colour).map(it => it / 255)
    .map(it => it <= 0.03928 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
  for (let it = element; it; it = it.parentElement) {
    const colour = getComputedStyle(it).backgroundColor;
    const parts = channels(colour);
    if (parts.length < 4 || parts[3] === 1) return colour;
  }
  return 'rgb(255, 255, 255)';
};
return [...document.querySelectorAll('body *')]
  .filter(it => it.offsetParent && [...it.childNodes].some(child => child.nodeType === 3 && child.data.trim()))
  .map(it => {
    const [a, b] = [light(getComputedStyle(it).color), light(behind(it))].sort((a, b) => b - a);
    return [it.textContent.slice(0, 40), (a + 0.05) / (b + 0.05)];
  })
  .filter(([, contrast]) => contrast < 4.5);
";
