#!/usr/bin/env python3
"""Reads the lcov file given first and prints the share of lines that ran, by crate and
file, lowest first; writes the lines that did not into the file given second. Fails if a
crate is below the bar. Why lines did not run says `uncovered.tsv` beside this script; how
many there are for each reason is printed, and the file's lines are in the order of these.

Left out is what is no code of the engine or the drivers:
- tests: folders and files named so, items under `#[cfg(test)]`, functions for fuzzing;
- what only a fault on purpose does: a block whose condition is a `fault!`, which is the
  constant `false` in this build.
Code that this build does not have (features, loom, faults) is not in the lcov file."""

import collections
import pathlib
import re
import sys

BAR = 95
root = pathlib.Path(__file__).resolve().parent.parent
# A condition that needs a fault: `fault!` in it, neither negated nor one of several ways.
FAULTY = re.compile(r"\bif (?:[^|]* && )?fault!\([^|]*\{$")


def end_of_block(lines, start):
    """The first line behind the block or item that begins at this one; rustfmt ends it
    at the indentation of its beginning."""
    indent = re.match(r" *", lines[start])[0]
    if lines[start].endswith((",", ";")):
        return start + 1
    for i in range(start + 1, len(lines)):
        if lines[i].startswith(indent + "}"):
            return i + 1
    return len(lines)


def left_out(lines):
    """The numbers of the lines of a file that do not count, from 1."""
    out = set()
    for i, line in enumerate(lines):
        if line.strip() == "#[cfg(test)]":
            out.update(range(i + 1, end_of_block(lines, i + 1) + 1))
        elif FAULTY.search(line):
            # Neither the condition nor the end, where an `else` may begin.
            out.update(range(i + 2, end_of_block(lines, i)))
        elif "match fault!(" in line:
            arms = range(i + 1, end_of_block(lines, i))
            out.update(n + 1 for n in arms if lines[n].strip().startswith("true =>"))
    return out


def reasons():
    """Pairs of a reason and its rules."""
    found = []
    for line in (root / "tools/uncovered.tsv").read_text().split("\n"):
        if line.startswith("= "):
            found.append((line[2:], []))
        elif line and not line.startswith("#"):
            path, text = line.split("\t")
            found[-1][1].append((re.compile(path), re.compile(text)))
    return found


def reason_of(short, text, known):
    for reason, rules in known:
        if any(path.search(short) and line.search(text) for path, line in rules):
            return reason
    return "without a reason"


files = collections.defaultdict(dict)
name = None
for line in open(sys.argv[1]):
    if line.startswith("SF:"):
        name = pathlib.Path(line[3:].strip())
    elif line.startswith("DA:"):
        number, count = line[3:].split(",")[:2]
        counts = files[name]
        counts[int(number)] = max(counts.get(int(number), 0), int(count))

crates = collections.defaultdict(lambda: [0, 0])
table = []
known = reasons()
by_reason = {reason: [] for reason, _ in known}
for path, counts in sorted(files.items()):
    short = path.relative_to(root)
    parts = short.parts
    if parts[1] != "src" or "tests" in parts or short.name in ("tests.rs", "golden.rs", "fuzzing.rs"):
        continue
    source = path.read_text().split("\n")
    out = left_out(source)
    counts = {n: c for n, c in counts.items() if n not in out}
    missed = sorted(n for n, c in counts.items() if c == 0)
    crates[parts[0]][0] += len(counts) - len(missed)
    crates[parts[0]][1] += len(counts)
    table.append((len(counts) - len(missed), len(counts), short))
    for n in missed:
        text = source[n - 1].strip()
        reason = reason_of(str(short), text, known)
        by_reason.setdefault(reason, []).append(f"{short}:{n}: {text}")
with open(sys.argv[2], "w") as uncovered:
    for reason, lines in by_reason.items():
        print(f"\n{reason}: {len(lines)}", file=uncovered)
        print("\n".join(lines), file=uncovered)
for ran, of, short in sorted(table, key=lambda t: t[0] / max(t[1], 1)):
    if ran < of:
        print(f"{100 * ran / of:6.1f} %  {of - ran:4} of {of:4} lines not run  {short}")
for reason, lines in by_reason.items():
    print(f"{len(lines):4}  {reason}")
for crate, (ran, of) in sorted(crates.items()):
    print(f"{crate}: {100 * ran / of:.2f} % of {of} lines")
sys.exit(any(100 * ran < BAR * of for ran, of in crates.values()))
