//! Views: reading at a commit.
//!
//! A view is announced in its worker *before* the last drawn CSN is read, and it
//! looks at that CSN once all commits up to it are visible. So each commit it must
//! not see draws its CSN after the announcement, finds the view, and leaves a
//! before-image (a writer looks for views after it drew its CSN; both sides put a
//! sequentially consistent fence between their two steps).
//!
//! A view that is open at a freeze is *pinned*: from then on it reads the generation that
//! was frozen ([`Pin`]) and undoes only what was committed between it and the freeze.
//! So what is written later costs no before-images for its sake. Transactions are not
//! pinned: their validation needs the images of all commits since.

use std::sync::{Arc, OnceLock};

use gaur_iodriver::sync::atomic::{Ordering, fence};

use super::pin::{Pin, Pins};
use super::visible::Visible;
use crate::format::Csn;
use crate::worker::{ViewKey, Worker};

/// An open view at [`View::csn`]. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct View {
    worker: Arc<Worker>,
    key: ViewKey,
    csn: Csn,
    /// Found once; it is the same as long as the view is open.
    pin: OnceLock<Arc<Pin>>,
}

/// What a view reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reads<'a> {
    /// The running generation.
    Running,
    /// A frozen one.
    Frozen(&'a Pin),
    /// Nothing: it was given up.
    Nothing,
}

impl Reads<'_> {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self, Reads::Running)
    }

    /// Whether not all of it is on the device yet.
    pub(crate) fn is_unwritten(&self) -> bool {
        matches!(self, Reads::Frozen(pin) if !pin.is_written())
    }

    /// The last commit that is in what is read; images of later ones say nothing of it.
    pub(crate) fn upto(&self) -> Csn {
        match self {
            Reads::Frozen(pin) => pin.cut,
            _ => Csn::MAX,
        }
    }
}

impl View {
    /// Opens a view of all commits drawn until now. `last_drawn` is read after the
    /// announcement. `lasting`: it may be pinned.
    pub(crate) fn open(
        worker: Arc<Worker>,
        visible: &Visible,
        lasting: bool,
        last_drawn: impl FnOnce() -> Csn,
    ) -> Self {
        let key = worker.add_view(visible.upto(), lasting);
        fence("view.announced", Ordering::SeqCst);
        let csn = last_drawn();
        worker.view_opened();
        visible.wait(csn);
        Self {
            worker,
            key,
            csn,
            pin: OnceLock::new(),
        }
    }

    /// What it reads now. Ask again after reading the running generation: if it does
    /// so no more, what was read may lack images.
    pub(crate) fn reads<'a>(&'a self, pins: &Pins) -> Reads<'a> {
        if let Some(pin) = self.pin.get() {
            return Reads::Frozen(pin);
        }
        if !self.key.lasting || pins.none_since(self.csn) {
            return Reads::Running;
        }
        match self.worker.pinned_to(&self.key) {
            None => Reads::Running,
            Some(generation) => match pins.of(generation) {
                Some(pin) => Reads::Frozen(self.pin.get_or_init(|| pin)),
                None => Reads::Nothing,
            },
        }
    }

    /// The commit it looks at.
    pub(crate) fn csn(&self) -> Csn {
        self.csn
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.worker.remove_view(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::Workers;
    use std::sync::atomic::{AtomicBool, AtomicU64};
    use std::time::{Duration, Instant};

    #[test]
    fn each_later_commit_finds_the_view() {
        // Breaks if either side looks before it says: a view that reads the last CSN
        // before it is announced, or a commit that looks for views before its CSN is
        // seen; so too if the fence of either side is taken out.
        const RING: u64 = 1 << 16;
        let workers = Workers::new();
        let drawn = AtomicU64::new(0);
        let visible = Visible::new(0);
        // Per commit: its CSN, and the oldest view it saw, plus 1; 0: none.
        let saw: Vec<AtomicU64> = (0..RING).map(|_| AtomicU64::new(0)).collect();
        let over = AtomicBool::new(false);
        let views = std::thread::scope(|s| {
            let viewer = s.spawn(|| {
                let me = workers.mine().unwrap();
                let mut views = 0u64;
                while !over.load(Ordering::Relaxed) {
                    let last_drawn = || drawn.load(Ordering::Acquire);
                    let view = View::open(me.clone(), &visible, true, last_drawn);
                    let next = view.csn() + 1;
                    while visible.upto() < next && !over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                    let entry = saw[(next % RING) as usize].load(Ordering::SeqCst);
                    if entry >> 32 == next {
                        let seen = entry & 0xFFFF_FFFF;
                        assert!(
                            seen > 0 && seen - 1 <= view.csn(),
                            "commit {next} saw {seen} beside a view at {}",
                            view.csn()
                        );
                        views += 1;
                    }
                }
                views
            });
            let end = Instant::now() + Duration::from_secs(1);
            for csn in 1..u64::from(u32::MAX) {
                if csn % 64 == 0 && (Instant::now() > end || viewer.is_finished()) {
                    break;
                }
                // As the log publishes it.
                drawn.store(csn, Ordering::Release);
                let oldest = workers.oldest_view().map_or(0, |o| o + 1);
                saw[(csn % RING) as usize].store(csn << 32 | oldest, Ordering::SeqCst);
                visible.applied(csn);
            }
            over.store(true, Ordering::Relaxed);
            viewer.join().unwrap()
        });
        println!("{views} views beside {} commits", drawn.into_inner());
        assert!(views > 0);
        assert_eq!(workers.oldest_view(), None);
    }
}
