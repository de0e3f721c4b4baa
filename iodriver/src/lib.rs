//! Block I/O for gaur: one contract ([`Device`], [`Queue`]) and the drivers that
//! keep it. This crate knows bytes and offsets, nothing of nodes.
//!
//! - [`open()`] opens a block device or a file, on the `uring` driver or, where
//!   that is not to be had, on `psync`.
//! - [`signatures`] tells what is on a device.
//! - [`SimDisk`] is a disk in memory that loses, tears and spoils what a real one
//!   may, when a test says so.

mod bell;
pub mod buf;
mod check;
pub mod contract;
pub mod counters;
pub mod delayed;
pub mod describe;
pub mod durable;
pub mod error;
pub mod faults;
pub mod latency;
pub mod look;
pub mod open;
mod probe;
mod psync;
pub mod signature;
pub mod sim;
pub mod sync;
mod sysfs;
mod target;
mod transfer;
mod uring;

pub use buf::IoBuf;
pub use contract::{Completion, Device, Geometry, Op, Queue, Request, Wake, Waker};
pub use counters::OpCounts;
pub use delayed::Delayed;
pub use describe::{Description, DeviceKind, describe};
pub use durable::{DurabilityReport, DurableMethod, MethodTimes, measure_durability, was_measured};
pub use error::{IoError, IoErrorKind};
pub use latency::{Latency, LatencyProfile};
pub use open::{DriverChoice, OpenOptions, Opened, check_create, open};
pub use signature::{Kind, Signature, signatures};
pub use sim::{CrashMode, DiscardFill, Fault, FaultKind, OpKind, SimDisk, SimOptions, SimStats};
