"""Writes docs/mutants.md, and the table in docs/testing.md, from the outcomes and the reasons."""

import collections
import re

from build import ROOT
from groups import GROUPS, group_of

REASONS = ROOT / "docs/mutants-reasons.tsv"
HEAD = """\
# Mutants

What was left when a program made one small mistake at a time in the log, the allocator, checkpoint, recovery and latch:
the mistakes that no test noticed, each with the reason. [testing.md](testing.md#mutants) says how it was run and how many
there are; [mutants.tsv](mutants.tsv) has all, with what noticed. `tools/mutants report` writes this page from there and from
[mutants-reasons.tsv](mutants-reasons.tsv).
"""


def reasons():
    """(category, why) by file, mutation and code; one row is for all that have the same."""
    rows = [l.split("\t") for l in REASONS.read_text().splitlines()[1:]]
    return {(file, mutation, code): (category, why) for category, why, file, mutation, code in rows}


def row(cells):
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |\n"


def write(mutants, results):
    known, used = reasons(), set()
    survivors, open_, counts = [], [], [collections.Counter() for _ in GROUPS]
    for m in mutants:
        outcome = results.get(m["key"], ("not run",))[0]
        count = counts[group_of(m["file"])]
        count[outcome] += 1
        if outcome == "survives":
            survivors.append((m, known.get(m["key"][:3])))
            used.add(m["key"][:3])
            count["explained"] += m["key"][:3] in known
    kinds = collections.Counter(reason[0] if reason else "not judged yet" for _, reason in survivors)
    text = HEAD + f"\n{len(survivors)} survive: " + ", ".join(f"{n} {k}" for k, n in kinds.most_common()) + ".\n"
    text += "\n| where | mutation | | why |\n|---|---|---|---|\n"
    for m, reason in survivors:
        where = m["file"].removeprefix("engine/src/")
        text += row([f"`{where}:{m['line']}`", m["mutation"], *(reason or ("not judged yet", ""))])
    (ROOT / "docs/mutants.md").write_text(text)

    columns = ["does not compile", "failed", "hang", "survives", "explained", "not run"]
    table = "| | mutants | do not compile | a test fails | hang | survive | of these explained | not run |\n" + "|---" * 8 + "|\n"
    named = [(name, c) for (name, _, _), c in zip(GROUPS, counts)] + [("all", sum(counts, collections.Counter()))]
    for name, c in named:
        table += row([name, *(f"{n:,}" for n in [sum(c.values()) - c["explained"]] + [c[k] for k in columns])])
    page = ROOT / "docs/testing.md"
    text, times = re.subn(r"(?m)^\| \| mutants \|.*\n(\|.*\n)*", lambda _: table, page.read_text())
    assert times == 1, "docs/testing.md has one table of mutants"
    page.write_text(text)
    print(table)
    for key in known.keys() - used:
        print("no such survivor:", *key)
