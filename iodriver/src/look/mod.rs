//! More than [`describe`](crate::describe()) tells: the hardware's queues, who uses
//! a device, what lies below a file, what the drivers can do here.
//!
//! Nothing is opened and nothing is changed, except that a ring is made and
//! dropped to see whether one can be. What the kernel or the permissions keep
//! back is `None`, or counted as not seen.

mod file;
mod hardware;
mod rings;
mod users;

pub use file::{FileFacts, file};
pub use hardware::{Hardware, Loop, Nvme, Partition, hardware};
pub use rings::{Rings, rings};
pub use users::{Mount, Process, Users, users};
