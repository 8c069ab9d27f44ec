//! `pointsman doctor`: what makes Linux Virtual Server quietly not work, and how to mend it.
//!
//! [`files`] and [`machine`] gather [`facts`] and change nothing, not even which modules are
//! loaded; [`judge`] makes [`finding`]s of them and of the policies, [`text`] makes lines of those.
//! The last three are pure.

mod arp;
mod clock;
pub mod facts;
pub mod files;
pub mod finding;
pub mod judge;
pub mod machine;
pub mod text;
