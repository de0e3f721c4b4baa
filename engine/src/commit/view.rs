//! Views: reading at a commit.
//!
//! A view is announced in its worker *before* the last drawn CSN is read, and it
//! looks at that CSN once all commits up to it are visible. So each commit it must
//! not see draws its CSN after the announcement, finds the view, and leaves a
//! before-image (a writer looks for views after it drew its CSN; both sides use
//! sequentially consistent accesses).

use std::sync::Arc;

use super::visible::Visible;
use crate::format::Csn;
use crate::worker::Worker;

/// An open view at [`View::csn`]. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct View {
    worker: Arc<Worker>,
    announced: Csn,
    csn: Csn,
}

impl View {
    /// Opens a view of all commits drawn until now. `last_drawn` is read after the
    /// announcement.
    pub(crate) fn open(
        worker: Arc<Worker>,
        visible: &Visible,
        last_drawn: impl FnOnce() -> Csn,
    ) -> Self {
        let announced = visible.upto();
        worker.add_view(announced);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let csn = last_drawn();
        visible.wait(csn);
        Self {
            worker,
            announced,
            csn,
        }
    }

    /// The commit it looks at.
    pub(crate) fn csn(&self) -> Csn {
        self.csn
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.worker.remove_view(self.announced);
    }
}
