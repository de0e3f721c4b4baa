//! `gaur sim`: the whole engine in a deterministic simulation, crashed at every write
//! and flush.
//!
//! A *world* is what a seed makes of disk, store and workload (`swarm`, `script`). It is
//! lived through once under the seeded scheduler (`live`); at each write and flush on
//! the way the disk keeps what a power cut would find. Afterwards each of these *crash
//! points* is examined (`examine`): some part of what was not flushed is kept, what is
//! left is checked in full, recovered and compared with what was committed (`oracle`).
//! Then the world goes on from one of these images, for several rounds.

// A finding ends the campaign: how large it is does not matter.
#![allow(clippy::result_large_err)]

pub(crate) mod campaign;
pub(crate) mod every;
mod examine;
mod live;
mod looked;
mod oracle;
mod script;
mod shrink;
pub(crate) mod small;
mod swarm;
pub(crate) mod tally;
