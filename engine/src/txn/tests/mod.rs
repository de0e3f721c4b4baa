//! Transactions, tested.
