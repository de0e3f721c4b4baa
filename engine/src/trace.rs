//! Spans for the crate `tracing`, with the feature of that name; without it nothing.
//! Events come from [`Hub::tell`](crate::events::Hub::tell), in the same way.

/// A span that lasts as long as what this gives.
#[cfg(feature = "tracing")]
macro_rules! span {
    ($name:literal, $store:expr) => {
        tracing::info_span!(target: "gaur", $name, store = $crate::trace::store($store)).entered()
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! span {
    ($name:literal, $store:expr) => {
        $crate::trace::Off
    };
}

pub(crate) use span;

/// In the place of a span.
#[cfg(not(feature = "tracing"))]
pub(crate) struct Off;

/// A store's identity as spans and events have it: its last 16 digits.
#[cfg(feature = "tracing")]
pub(crate) fn store(id: u64) -> tracing::field::DisplayValue<String> {
    tracing::field::display(format!("{id:016x}"))
}
