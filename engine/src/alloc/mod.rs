//! The allocator: the one owner of free space.
//!
//! # The life of a block
//!
//! ```text
//!            reserve / refill          try_take, answer of reserve
//!    free ───────────────────▶ waiting ───────────────────────────▶ handed out
//!     ▲ ▲                                                            │      │
//!     │ │             give_back (never named by log or superblock)   │      │
//!     │ └──(discard)◀────────────────────────────────────────────────┘      │
//!     │                                                    freeze: `used`   │
//!     │                                                                     ▼
//!     │              release of that generation           freeze: `freed`
//!     └──(discard)◀──────────────────────────── pending ◀───────────────── used
//!            ▲              │ named in `keep`
//!            │ give_back    ▼
//!            └──────────── kept
//! ```
//!
//! - *free*: allocatable. Its bit is 0 in the map and in memory.
//! - *waiting*, *handed out*: known in memory only. After a crash it is free,
//!   except extents that the log names ([`Allocator::mark_used`]).
//! - *used*: the newest frozen generation uses it. Its bit is 1 in the map.
//! - *pending*: the newest frozen generation no longer uses it, but the older
//!   one does, whose superblock may be the only durable one. Its bit is 0 in the
//!   map; nobody gets it before [`Allocator::release`].
//! - *kept*: released, but a reader still needs it, says the caller.
//! - *being discarded*: not allocatable before the discard has completed, or was
//!   given up before it was sent. A trim makes free blocks of this state.
//!
//! # What must hold
//!
//! 1. Only the allocator thread changes the map; everybody else sends messages.
//! 2. On the device, the map of generation n says exactly what generation n
//!    uses, plus what the geometry fixes and the bits behind a short last group.
//! 3. Free + used + fixed = all, in every group. A block is in one state only.
//! 4. A block is handed out once until it is given back or freed. Giving back
//!    what was not handed out is our own bug and panics.
//! 5. The slot of a map or index block that the newest durable superblock
//!    reaches is never written: generation n + 1 freezes only after n is released.
//! 6. A block of the map that does not verify is never replaced by its older
//!    slot, and nothing is allocated from it before [`Allocator::rebuild`].
//! 7. The thread waits for nothing but "any completion or any message".
//!
//! # The files
//!
//! `space` is the bookkeeping without threads and without I/O (`pick` decides
//! what to hand out, `change` what a generation changes), on `bits` and `runs`;
//! `index` holds the index blocks, `load` reads them at the start; `handle` is
//! what callers hold, `thread` the event loop, `freeze` its way through a
//! checkpoint, `grow` what a larger store changes, `discard` what it tells the device (`unit`s at a `pace`), `trim` the
//! same for what is free already. `view` reads the map of a store that is only
//! looked at.

mod bits;
#[cfg(feature = "experiment-cow")]
mod callers;
mod change;
mod config;
mod counters;
mod discard;
mod freeze;
mod grow;
mod handle;
mod index;
mod load;
mod pace;
mod pick;
mod runs;
#[cfg(feature = "experiment-cow")]
mod scarce;
mod serve;
mod space;
mod thread;
mod trim;
mod unit;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use bits::Bits;
pub use config::{AllocConfig, Changes, MapRoot, Request, Shape, SpaceError, Urgency};
pub use counters::{Counts, Stats};
pub use handle::{Allocator, Ticket};
pub use pace::DiscardRate;
pub use trim::{Rest, Trimmed};
pub(crate) use unit::Unit;
pub(crate) use view::MapView;
