#!/usr/bin/env python3
"""Reads the lcov file given first and prints the share of lines that ran, by crate and
file, lowest first; writes the lines that did not into the file given second. Leaves out
the code of tests: folders and files named so, and modules at the end of a file."""

import collections
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent.parent


def end_of_code(text):
    """The first line of the tests in a file, or one behind its end."""
    lines = text.split("\n")
    for i, line in enumerate(lines[:-1]):
        if line == "#[cfg(test)]" and lines[i + 1].startswith("mod ") and lines[i + 1].endswith("{"):
            return i + 1
    return len(lines) + 1


files = collections.defaultdict(dict)
name = None
for line in open(sys.argv[1]):
    if line.startswith("SF:"):
        name = pathlib.Path(line[3:].strip())
    elif line.startswith("DA:"):
        number, count = line[3:].split(",")[:2]
        lines = files[name]
        lines[int(number)] = max(lines.get(int(number), 0), int(count))

crates = collections.defaultdict(lambda: [0, 0])
table = []
with open(sys.argv[2], "w") as uncovered:
    for path, lines in sorted(files.items()):
        short = path.relative_to(root)
        parts = short.parts
        if parts[1] != "src" or "tests" in parts or short.name in ("tests.rs", "golden.rs", "fuzzing.rs"):
            continue
        text = path.read_text()
        source = text.split("\n")
        lines = {n: c for n, c in lines.items() if n < end_of_code(text)}
        missed = sorted(n for n, c in lines.items() if c == 0)
        crates[parts[0]][0] += len(lines) - len(missed)
        crates[parts[0]][1] += len(lines)
        table.append((len(lines) - len(missed), len(lines), short))
        for n in missed:
            print(f"{short}:{n}: {source[n - 1].strip()}", file=uncovered)
for ran, of, short in sorted(table, key=lambda t: t[0] / max(t[1], 1)):
    if ran < of:
        print(f"{100 * ran / of:6.1f} %  {of - ran:4} of {of:4} lines not run  {short}")
for crate, (ran, of) in sorted(crates.items()):
    print(f"{crate}: {100 * ran / of:.2f} % of {of} lines")
