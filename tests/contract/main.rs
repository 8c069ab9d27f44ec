//! contract
#[path = "../common/mod.rs"]
mod common;
use pointsman::ipvs::Ipvs;
use std::time::Duration;

#[test]
fn kernel() {
    common::uml::in_guest("kernel", Duration::from_secs(60), || {
        let mut k = pointsman::ipvs::netlink::Netlink::open().unwrap();
        println!("{:?}", k.table());
    });
}

#[test]
fn hang() {
    let o = common::uml::Guest::new("/bin/sh")
        .args(["-c", "id; ls /proc/self; sleep 30 & sleep 100"])
        .deadline(Duration::from_secs(5))
        .run();
    println!("{o:?}");
}
