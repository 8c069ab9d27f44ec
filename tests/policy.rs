//! Policies from the outside: files in, a validated set or problems out.

use std::path::Path;

use pointsman::policy::load::load;

#[test]
fn the_shell_script_in_one_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/www.yaml");
    let loaded = load(&root).unwrap();
    let [policy] = loaded.set.policies.as_slice() else { panic!("{:?}", loaded.set) };
    assert_eq!(policy.name, "www");
    assert_eq!(policy.services.len(), 4);
    let last = &policy.services[3];
    assert_eq!(last.key.to_string(), "tcp://221.5.88.88:443");
    assert_eq!(last.config.to_string(), "wlc");
    assert_eq!(last.destinations[3].key.to_string(), "192.168.16.235:443");
    assert_eq!(last.destinations[3].config.to_string(), "weight 40 direct");
    assert_eq!(last.destinations[0].config.to_string(), "weight 80 direct");
    // One probe per real server, shared by four services.
    let targets: Vec<_> = loaded.set.targets.iter().map(|t| t.address.to_string()).collect();
    let expected = [232, 233, 234, 235].map(|host| format!("192.168.16.{host}:80"));
    assert_eq!(targets, expected);
    for (index, server) in policy.real_servers.iter().enumerate() {
        assert_eq!(server.targets.len(), 1);
        assert_eq!(server.targets[0].0 as usize, index);
    }
    assert!(loaded.lints.is_empty(), "{:?}", loaded.lints);
}
