//! `gaur`, the command-line tool.

fn main() {}
