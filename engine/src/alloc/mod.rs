//! The allocator: the one owner of free space.
