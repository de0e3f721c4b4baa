"""What is mutated: a name, the files, and whether the integration tests are run too."""

import fnmatch

GROUPS = [
    ("latch", ["engine/src/cache/latch.rs"], False),
    ("log", ["engine/src/log/*.rs"], False),
    ("recovery", ["engine/src/recovery.rs"], True),
    (
        "checkpoint, superblock, tree of trees",
        [f"engine/src/writeback/{name}.rs" for name in ("checkpoint", "superblock", "catalog")],
        True,
    ),
    ("allocator", ["engine/src/alloc/*.rs"], False),
]


def group_of(file):
    return next(i for i, (_, files, _) in enumerate(GROUPS) if any(fnmatch.fnmatch(file, f) for f in files))
