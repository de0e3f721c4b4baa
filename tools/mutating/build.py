"""All mutants of cargo-mutants in one build.

Each function that has mutants becomes a `match` on the number chosen at run time, with
the body as it is and, for each mutant, the body with exactly the edit that cargo-mutants
makes. What does not compile is found by building: an error inside a copy takes that
mutant out ("does not compile"); an error elsewhere in the function means that it cannot
choose (a `const fn`, a return type that has no name): its mutants are left to
cargo-mutants itself ("direct"), as are those outside of functions.
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCRATCH = ROOT / "target" / "mutants"
TREE = SCRATCH / "tree"
# Deny-by-default lints are no reason not to compile: what is wrong shall run.
ENV = dict(os.environ, CARGO_TARGET_DIR=str(SCRATCH / "build"), RUSTFLAGS="--cap-lints allow", CARGO_INCREMENTAL="1")


def listed(files):
    """The mutants of these files, numbered from 1, those of one function in a row."""
    command = ["cargo", "mutants", "--list", "--json"]
    for f in files:
        command += ["-f", f]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    for m in found:
        m["at"] = position(m["span"]["start"])
        m["fn_at"] = position(m["function"]["span"]["start"]) if m["function"] else (0, 0)
    found.sort(key=lambda m: (m["file"], m["fn_at"], m["at"], m["replacement"]))
    for number, m in enumerate(found, 1):
        m["number"] = number
        m["state"] = "chosen" if m["function"] else "direct"
    return found


def position(p):
    return p["line"], p["column"]


class Source:
    """A file's text, with places as offsets."""

    def __init__(self, path):
        self.text = path.read_text()
        self.starts = [0]
        for i, c in enumerate(self.text):
            if c == "\n":
                self.starts.append(i + 1)

    def offset(self, p):
        return self.starts[p["line"] - 1] + p["column"] - 1

    def span(self, s):
        return self.offset(s["start"]), self.offset(s["end"])

    def body(self, begin, end):
        """Inside of the last braces of the function in this span."""
        stack, last, i, t = [], None, begin, self.text
        while i < end:
            c = t[i]
            if t.startswith("//", i):
                i = t.index("\n", i)
            elif t.startswith("/*", i):
                i = t.index("*/", i) + 1
            elif c == "r" and t[i + 1] in '"#' and not (t[i - 1].isalnum() or t[i - 1] == "_"):
                hashes = len(t[i + 1 :]) - len(t[i + 1 :].lstrip("#"))
                if t[i + 1 + hashes] == '"':
                    i = t.index('"' + "#" * hashes, i + 2 + hashes) + hashes
            elif c == '"':
                i += 1
                while t[i] != '"':
                    i += 2 if t[i] == "\\" else 1
            elif c == "'" and t[i + 1] == "\\":
                i = t.index("'", i + 3)
            elif c == "'" and t[i + 2] == "'":
                i += 2
            elif c == "{":
                stack.append(i)
            elif c == "}":
                last = stack.pop(), i
            i += 1
        return last[0] + 1, last[1]


class Writer:
    """Writes one file with its choices; remembers which lines are whose."""

    def __init__(self, source, mutants):
        self.source = source
        self.owners = {}  # line in the new file -> a mutant's number, or minus that of its function's first
        self.out, self.line = [], 1
        functions = collections.defaultdict(list)
        for m in mutants:
            if m["state"] != "direct":
                functions[source.span(m["function"]["span"])].append(m)
        self.functions = sorted((source.body(*f), ms) for f, ms in functions.items())
        self.plain(0, len(source.text), self.functions)

    def put(self, text, owner=None):
        for n in range(text.count("\n") + 1):
            if owner is not None:
                self.owners[self.line + n] = owner
        self.line += text.count("\n")
        self.out.append(text)

    def plain(self, begin, end, functions):
        """The text from here to there, functions in it with their choices."""
        while functions:
            (start, stop), mutants = functions[0]
            inner = [f for f in functions[1:] if f[0][1] <= stop]
            self.put(self.source.text[begin:start])
            self.choice(start, stop, mutants, inner)
            begin, functions = stop, functions[1 + len(inner) :]
        self.put(self.source.text[begin:end])

    def choice(self, start, stop, mutants, inner):
        first, last = mutants[0]["number"], mutants[-1]["number"]
        # The bodies' types must be one, so that a type without a name is put in a box.
        unnamed = re.match(r"-> impl (.*?>)(\s*\+ ?use<.*>)?$", mutants[0]["function"]["return_type"])
        begin, end = (f"let it: Box<dyn {unnamed[1]}> = Box::new({{", "}); it") if unnamed else ("", "")
        self.put(f"\nmatch crate::chosen::pick({first}, {last}) {{\n0 => {{{begin}", -first)
        self.plain(start, stop, inner)
        self.put(f"{end}}}\n", -first)
        for m in mutants:
            if m["state"] == "chosen":
                a, b = self.source.span(m["span"])
                text = self.source.text
                self.put(f"{m['number']} => {{{begin}\n{text[start:a]}{m['replacement']}{text[b:stop]}\n{end}}}\n", m["number"])
        self.put("_ => unreachable!()\n}\n", -first)


def copy(but):
    """The tree as it is, but for these files, below the scratch folder; what is unchanged
    keeps its time and is not built again."""
    TREE.mkdir(parents=True, exist_ok=True)
    names = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    for name in names.decode().split("\0"):
        if name and name not in but and (ROOT / name).is_file():
            update(TREE / name, (ROOT / name).read_bytes())
            shutil.copymode(ROOT / name, TREE / name)


def update(path, data):
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def written(mutants):
    """Writes all mutants that can be chosen into the copy; whose each line is, by file."""
    owners = {}
    by_file = collections.defaultdict(list)
    for m in mutants:
        by_file[m["file"]].append(m)
    for name, ms in by_file.items():
        w = Writer(Source(ROOT / name), ms)
        update(TREE / name, "".join(w.out).encode())
        owners[name] = w.owners
    lib = TREE / "engine/src/lib.rs"
    update(lib, (ROOT / "engine/src/lib.rs").read_bytes() + b"\n#[allow(missing_docs)]\nmod chosen;\n")
    update(TREE / "engine/src/chosen.rs", (HERE / "chosen.rs").read_bytes())
    return owners


def errors(arguments):
    """The spans of each error of a cargo command, and how it reads."""
    run = subprocess.run(
        ["cargo", *arguments, "--message-format", "json"], cwd=TREE, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    found = []
    for line in run.stdout.splitlines():
        message = json.loads(line).get("message")
        if message and message["level"] == "error" and message["spans"]:
            spans = sorted(message["spans"], key=lambda s: not s["is_primary"])
            found.append(([places(s) for s in spans], message["rendered"]))
    if run.returncode and not found:
        sys.exit(run.stderr)
    return found


def places(span):
    """A span, and where the macros are used that it comes from."""
    all = []
    while span:
        all.append((span["file_name"], span["line_start"]))
        span = span["expansion"] and span["expansion"]["span"]
    return all


def build(mutants, say):
    """Takes out what does not compile until the rest does; the test programs by name."""
    copy({m["file"] for m in mutants} | {"engine/src/lib.rs"})
    by_number = {m["number"]: m for m in mutants}
    while True:
        owners = written(mutants)
        found = []
        # The checks first: they stop before the slow part of building.
        for arguments in (["check", "-p", "gaur", "--lib", "--profile", "test"], ["test", "-p", "gaur", "--lib", "--tests", "--no-run"]):
            found = errors(arguments)
            if found:
                break
        if not found:
            break
        changed = 0
        for spans, rendered in found:
            owner = next((owners[f][n] for places in spans for f, n in places if n in owners.get(f, {})), None)
            if owner is None:
                sys.exit("not by a mutant:\n" + rendered)
            if owner > 0 and by_number[owner]["state"] == "chosen":
                by_number[owner]["state"] = "does not compile"
                changed += 1
            elif owner < 0:
                f = by_number[-owner]
                for m in mutants:
                    if (m["file"], m["fn_at"]) == (f["file"], f["fn_at"]) and m["state"] != "direct":
                        m["state"] = "direct"
                        changed += 1
        say(f"{changed} more cannot be chosen or do not compile")
        if not changed:
            sys.exit("no way on:\n" + found[0][1])
    programs = {}
    run = subprocess.run(
        ["cargo", "test", "-p", "gaur", "--lib", "--tests", "--no-run", "--message-format", "json"],
        cwd=TREE, env=ENV, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    for line in run.stdout.splitlines():
        artifact = json.loads(line)
        if artifact.get("executable"):
            programs[artifact["target"]["name"]] = artifact["executable"]
    return programs
