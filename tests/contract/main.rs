//! The contract of [`Ipvs`]: one suite, run on the memory table always and on a real kernel in a
//! guest. What both must agree on is in `services`, `destinations` and `batches`; what only a
//! kernel can show is in `kernel`.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;

mod batches;
mod destinations;
mod kernel;
mod random;
mod services;
mod words;

use pointsman::ipvs::Ipvs;
use pointsman::ipvs::memory::Memory;
use pointsman::ipvs::model::Table;
use pointsman::ipvs::rehearsal::Rehearsal;

/// A case starts with an empty table and may leave anything in it.
type Case = (&'static str, fn(&mut dyn Ipvs));

fn cases() -> impl Iterator<Item = &'static Case> {
    services::CASES.iter().chain(destinations::CASES).chain(batches::CASES)
}

#[test]
fn memory() {
    for (name, case) in cases() {
        println!("{name}");
        case(&mut Memory::default());
    }
}

#[test]
fn rehearsal() {
    for (name, case) in cases() {
        println!("{name}");
        let mut inner = Memory::default();
        case(&mut Rehearsal::new(Borrowed(&mut inner)));
        assert_eq!(inner.table(), Ok(Table::new()), "{name} wrote");
    }
}

/// Lets a test look at the inner table afterwards.
struct Borrowed<'a>(&'a mut Memory);

impl Ipvs for Borrowed<'_> {
    fn table(&mut self) -> Result<Table, pointsman::ipvs::IpvsError> {
        self.0.table()
    }

    fn execute(
        &mut self,
        changes: &[pointsman::ipvs::model::Change],
    ) -> Vec<Result<(), pointsman::ipvs::IpvsError>> {
        self.0.execute(changes)
    }
}
