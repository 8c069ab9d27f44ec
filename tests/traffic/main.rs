//! The whole of it: `pointsman run` on a real kernel, in a guest with a namespace for the client,
//! the director and each real server, with users asking by way of the virtual addresses the whole
//! time. Their requests are counted, and every state of the table is seen.
//!
//! Run with `--nocapture` to see what each scenario measured.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;

mod advice;
mod client;
mod clock;
mod cut;
mod daemon;
mod doctor;
mod edits;
mod failures;
mod families;
mod flapping;
mod hands;
mod held;
mod leaving;
mod limits;
mod observer;
mod overrides;
mod refusals;
mod rehearsal;
mod restart;
mod script;
mod server;
mod site;
mod tap;
mod tunnel;
mod turmoil;
mod via;

use std::time::Duration;

use common::uml::in_guest;

/// Each scenario ends by itself in much less.
const DEADLINE: Duration = Duration::from_secs(180);

macro_rules! in_guests {
    ($($name:ident: $body:path;)*) => {
        $(
            #[test]
            fn $name() {
                in_guest(stringify!($name), DEADLINE, $body);
            }
        )*
    };
}

in_guests! {
    the_script: script::one_check_decides_four_services;
    direct_failures: failures::under_direct;
    masq_failures: failures::under_masq;
    edits_under_load: edits::servers_and_weights;
    bad_edits_under_load: edits::refused;
    killed_under_load: restart::kill_and_restart;
    start_without_half_of_the_policies: restart::half_of_the_policies_lost;
    changed_by_hand: hands::drift_is_repaired;
    edited_without_a_pause: turmoil::edits_never_stop;
    dry_run: rehearsal::says_what_run_does;
    refusals: refusals::name_what_is_missing;
    other_families: families::udp_and_ipv6;
    drain_under_load: leaving::drains;
    drain_of_a_service: leaving::service_drains;
    key_of_a_service_changes: leaving::key_changes;
    slow_start_under_load: leaving::comes_back_slowly;
    cut_when_down: leaving::is_cut;
    health_floor_keeps: limits::floor_keeps;
    own_cable_pulled: held::own_cable_pulled;
    own_cable_of_a_small_farm: held::own_cable_of_a_small_farm;
    released_by_hand: held::released;
    known_down_over_a_restart: held::known_down;
    weights_from_the_servers: advice::weights_from_the_servers;
    advice_over_a_restart: advice::counts_after_a_restart;
    weights_from_header_file_and_program: advice::by_header_file_and_program;
    flapping_under_load: flapping::is_held_down;
    overrides_under_load: overrides::by_an_operator;
    half_a_file_under_load: cut::cut_in_half;
    sorry_server_answers: limits::sorry_answers;
    doctor_mends: doctor::its_commands_mend;
    through_the_vip: via::sees_a_missing_address;
    through_other_vips: via::goes_as_users_do;
    through_the_vip_by_a_tunnel: tunnel::loses_what_users_send;
    through_the_vip_from_few_ports: via::never_takes_another_ones_way;
    through_the_vip_as_a_backup: via::asks_as_a_backup;
}
