//! What no file may do: panic, take long, take much memory. All without a disk.

use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;

use super::model::PolicySet;
use super::problem::{Problem, render_all};
use super::resolve::{Resolved, resolve};
use super::source::{MAX_FILE, Source};

/// Everything that happens to a file but its reading.
fn read(bytes: impl Into<Vec<u8>>) -> (PolicySet, Vec<Problem>) {
    let no_file = |_: &Path| Err("is not there".to_owned());
    match Source::new(Path::new("test.yaml"), bytes.into()) {
        Ok(source) => {
            let Resolved { set, problems, .. } = resolve(&[source], &no_file);
            (set, problems)
        }
        Err(problem) => (PolicySet::default(), vec![*problem]),
    }
}

/// The only problem, which must be an error with a place.
fn refused(bytes: impl Into<Vec<u8>>) -> String {
    let (_, problems) = read(bytes);
    let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
    assert!(!errors.is_empty() && errors.len() < 4, "{}", render_all(&problems, false));
    errors[0].to_string()
}

#[test]
fn a_hundred_megabytes_are_refused_unread() {
    let found = refused(vec![b'a'; 100 * 1024 * 1024]);
    assert!(found.starts_with("test.yaml: larger than 16 MiB"), "{found}");
}

/// None of these may cost more than its length; a part of the limit shows that soon enough.
#[test]
fn a_large_file_of_anything_is_refused_in_time() {
    const SIZE: usize = MAX_FILE / 16;
    let fill = |pattern: &str| pattern.repeat(SIZE / pattern.len());
    for (what, text) in [
        ("values", fill("- a\n")),
        ("empty values", format!("[{}]", fill(",a")[1..SIZE / 2].to_owned())),
        (
            "keys",
            (0..6_000).fold(String::new(), |mut text, key| {
                let _ = writeln!(text, "key{key}: 1");
                text
            }),
        ),
        ("one word", fill("a")),
        ("one line of words", fill("a b ")),
        ("comments", fill("# a\n")),
        ("documents", fill("---\n- a\n")),
        ("broken documents", fill("---\n[\n")),
        ("quotes", fill("\"a\\n\"")),
        ("an open quote", format!("\"{}", &fill("a\\n")[..SIZE - 2])),
        ("a block of text", format!("a: |\n{}", &fill(" a\n")[..SIZE - 8])),
        ("open brackets", fill("[")),
        ("brackets that close", fill("]")),
        ("empty lists", fill("[]")),
        ("brackets in documents", fill("---\n[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n")),
        ("commas", fill(",")),
        ("colons", fill(":")),
        ("question marks", fill("? ")),
        ("anchors", fill("- &a b\n")),
        ("tags", fill("- !a b\n")),
        ("undefined aliases", fill("- *a\n")),
        ("spaces", fill(" ")),
        ("line feeds", fill("\n")),
        ("tabs", fill("\t")),
        ("null bytes", fill("\0")),
        ("dashes", fill("-")),
        ("duplicates", fill("a: 1\n")),
    ] {
        let (set, problems) = read(text);
        assert!(set.policies.is_empty() && !problems.is_empty(), "{what}");
        assert!(problems.len() <= 201, "{what}: {} problems", problems.len());
        assert!(render_all(&problems, false).len() < 1 << 20, "{what}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(1_000_000),
        "{a: ".repeat(1_000_000),
        "- ".repeat(1_000_000),
        "? ".repeat(1_000_000),
        (0..2000).fold(String::new(), |mut text, depth| {
            let _ = writeln!(text, "{:depth$}a:", "");
            text
        }),
    ] {
        let found = refused(text);
        assert!(found.contains("nested deeper than 32 levels"), "{found}");
    }
    assert!(refused(format!("{}{}", "[".repeat(33), "]".repeat(33))).contains("nested deeper"));
}

#[test]
fn a_small_file_cannot_stand_for_a_huge_table() {
    let list = |prefix: &str, host: u32| {
        (0..2000u32).fold(String::new(), |mut text, index| {
            let _ = writeln!(text, "- {prefix}{}", std::net::Ipv4Addr::from(host + index));
            text
        })
    };
    let services = list("tcp://", 0x0a01_0000).replace('\n', ":80\n");
    let servers = list("", 0x0a02_0000);
    let found =
        refused(format!("virtual_services:\n{services}real_servers:\n{servers}checks: []\n"));
    assert!(found.contains("above 200000 destinations"), "{found}");
}

#[test]
fn an_anchor_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let before = format!("*a{}", level - 1);
        let _ = writeln!(text, "a{level}: &a{level} [{}]", vec![before; 10].join(", "));
    }
    let found = refused(text);
    assert!(found.contains("copies made by aliases included"), "{found}");
}

#[test]
fn anchors_in_anchors_are_charged() {
    // Without a charge for what an anchor keeps, each level would hold all below it again.
    let inner = vec!["a"; 100_000].join(",");
    let opening: String = (0..20).fold(String::new(), |mut text, level| {
        let _ = write!(text, "&a{level} [");
        text
    });
    let found = refused(format!("{opening}{inner}{}", "]".repeat(20)));
    assert!(found.contains("copies made by aliases included"), "{found}");
}

#[test]
fn anchors_share_checks_and_mappings_merge() {
    let (set, problems) = read(
        "defaults: &defaults { weight: 5 }\n\
         virtual_services: [tcp://192.0.2.1:80]\n\
         real_servers: [{ address: 198.51.100.1, <<: *defaults }, 198.51.100.2]\n\
         checks: []\n",
    );
    assert_eq!(problems.len(), 1, "the key `defaults` alone: {problems:?}");
    assert!(set.policies.is_empty());

    let (set, problems) = read(
        "virtual_services: [tcp://192.0.2.1:80]\n\
         real_servers:\n\
         - &first { address: 198.51.100.1, weight: 5, port: 80 }\n\
         - { <<: *first, address: 198.51.100.2 }\n\
         - { <<: [*first], address: 198.51.100.3, weight: 7 }\n\
         checks: []\n",
    );
    assert_eq!(problems, []);
    let weights: Vec<_> =
        set.policies[0].services[0].destinations.iter().map(|one| one.config.weight).collect();
    assert_eq!(weights, [5, 5, 7]);
    assert_eq!(set.policies[0].real_servers[1].name, "198.51.100.2:80");
}

#[test]
fn line_ends_of_every_kind_and_a_byte_order_mark() {
    for end in ["\n", "\r\n", "\r"] {
        let text =
            "\u{feff}virtual_services: [tcp://192.0.2.1:80]\nchecks: []\nreal_servers: [x]\n";
        let found = refused(text.replace('\n', end));
        assert!(found.starts_with("test.yaml:3:16: `x` is not an IP address"), "{end:?}: {found}");
    }
}

#[test]
fn a_large_policy_loads() {
    let mut text =
        "virtual_services: [tcp://192.0.2.1:80]\nchecks: [tcp: ]\nreal_servers:\n".to_owned();
    for host in 0..20_000u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0001 + host);
        let _ = writeln!(text, "- {{ address: {address}, weight: 3, port: 80 }}");
    }
    let (set, problems) = read(text);
    assert_eq!(problems, []);
    assert_eq!(set.targets.len(), 20_000);
}

const SAMPLE: &str = include_str!("../../policies/nat-https.yaml");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (_, problems) = read(bytes);
        render_all(&problems, true);
    }

    #[test]
    fn yaml_like_text_never_panics(text in "([a-z]{1,3}|[-:{}\\[\\],&*!|>'\"#%@ \t\n\r?<.0-9é]){0,80}") {
        let (_, problems) = read(text);
        render_all(&problems, false);
    }

    /// A policy with a piece cut out, doubled or replaced is refused with places inside the file,
    /// or is a policy whose every destination and target is complete.
    #[test]
    fn a_mutilated_policy_is_refused_or_sound(
        at in 0..SAMPLE.len(),
        length in 0usize..40,
        instead in "[-a-z0-9:{}\\[\\], \n&*.]{0,12}",
    ) {
        let end = (at + length).min(SAMPLE.len());
        let (Some(before), Some(after)) = (SAMPLE.get(..at), SAMPLE.get(end..)) else {
            return Ok(());
        };
        let text = format!("{before}{instead}{after}");
        let lines = u32::try_from(text.split(['\n', '\r']).count()).unwrap();
        let (set, problems) = read(text);
        for problem in &problems {
            prop_assert!(problem.location.line <= lines, "{problem}");
            prop_assert!(!problem.message.contains('\n'));
        }
        if problems.iter().any(Problem::is_error) {
            return Ok(());
        }
        for policy in &set.policies {
            prop_assert!(!policy.services.is_empty() && !policy.real_servers.is_empty());
            for service in &policy.services {
                prop_assert_eq!(service.destinations.len(), policy.real_servers.len());
            }
            for id in policy.real_servers.iter().flat_map(|server| &server.targets) {
                prop_assert!((id.0 as usize) < set.targets.len());
            }
        }
    }
}
