"""Runs the tests: first each by itself, for its time and for what it reaches; then each
mutant with the tests that reach it, until one notices."""

import collections
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

# A hang: this long asleep in all threads, or this many times the processor time.
ASLEEP = 4
SLOWER = 5
MOST_MEMORY = 4 << 30  # of addresses

TICK = os.sysconf("SC_CLK_TCK")


class Ended:
    """How a run of a test program ended: "passed", "failed" or "hang"."""

    def __init__(self, how, failed, seconds, cpu):
        self.how, self.failed, self.seconds, self.cpu = how, failed, seconds, cpu


class Programs:
    """The test programs of the build."""

    def __init__(self, programs, scratch, tree):
        self.programs, self.scratch, self.tree = programs, scratch, tree

    def tests(self, program):
        """Names of its tests; one without a name where it has no harness."""
        command = [self.programs[program], "--list"]
        run = subprocess.run(command, cwd=self.tree / "engine", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return [l.removesuffix(": test") for l in run.stdout.splitlines() if l.endswith(": test")] or [""]

    def run(self, program, names, number=0, reached=None, seconds=120.0, cpu=120.0, asleep=600.0):
        """Runs these tests with a mutant, within these limits."""
        command = [self.programs[program]] + (["--exact", *names] if names != [""] else [])
        temporary = pathlib.Path(tempfile.mkdtemp(dir=self.scratch))
        env = dict(os.environ, GAUR_MUTANT=str(number), TMPDIR=str(temporary), RUST_BACKTRACE="0", CARGO_TARGET_TMPDIR=str(temporary))
        if reached:
            env["GAUR_MUTANT_REACHED"] = str(reached)
        begun = time.monotonic()
        with open(temporary / "out", "w+b") as out:
            process = subprocess.Popen(
                command, cwd=self.tree / "engine", env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=limit,
            )  # fmt: skip
            how = watch(process.pid, temporary / "out", begun, seconds, cpu, asleep)
            if how:
                os.killpg(process.pid, signal.SIGKILL)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = status
            out.seek(0)
            text = out.read().decode(errors="replace")
        shutil.rmtree(temporary, ignore_errors=True)
        failed = re.findall(r"^test (\S+) .*\.\.\. FAILED", text, re.M)
        how = how or ("failed" if status else "passed")
        return Ended(how, failed, time.monotonic() - begun, used.ru_utime + used.ru_stime)


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def watch(pid, out, begun, seconds, cpu, asleep):
    """Waits for the process to end. If it need not: "failed" as soon as one test has, "hang"
    over a limit."""
    last, since = None, time.monotonic()
    pause = 0.005
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        now = time.monotonic()
        used, runs = state(pid)
        if used != last or runs:
            last, since = used, now
        if now - since > asleep or now - begun > seconds or used > cpu:
            return "hang"
        if b"FAILED" in out.read_bytes():
            return "failed"
        time.sleep(pause)
        pause = min(0.1, pause * 1.3)
    return None


def state(pid):
    """Processor seconds of a process, and whether one of its threads runs."""
    used, runs = 0, False
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            runs |= fields[0] in "RD"
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        used = int(fields[11]) + int(fields[12])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return used / TICK, runs


def reach(programs, chosen, mutants, say):
    """Each test of these programs by itself: a list of (program, name, seconds, cpu, numbers
    of the first mutants of the functions that it enters). One that fails without a mutant is left out."""
    tests = []
    reached = programs.scratch / "reached"
    for program in chosen:
        names = programs.tests(program)
        say(f"{program}: {len(names)} tests")
        for name in names:
            reached.write_bytes(bytes(len(mutants) + 1))
            ended = programs.run(program, [name], reached=reached)
            if ended.how != "passed":
                say(f"left out, {ended.how} without a mutant: {program} {name}")
                continue
            entered = [n for n, b in enumerate(reached.read_bytes()) if b]
            tests.append([program, name, ended.seconds, ended.cpu, entered])
    return tests


class Campaign:
    """Runs mutants; learns which tests notice most in a file, and runs those first."""

    def __init__(self, programs, tests, first):
        self.programs = programs
        self.first = first  # number of a mutant -> the first of its function
        self.reaching = collections.defaultdict(list)
        for test in tests:
            for n in test[4]:
                self.reaching[n].append(test)
        self.noticed = collections.Counter()

    def run(self, mutant):
        """(outcome, by which test or how many ran)"""
        file = mutant["file"]
        tests = self.reaching[self.first[mutant["number"]]]
        if not tests:
            return "survives", "no test reaches it"
        order = sorted(tests, key=lambda t: -(self.noticed[file, t[0], t[1]] + 0.05) / (t[2] + 0.05))
        size = 0.25
        left = collections.deque(order)
        while left:
            program, names, seconds, cpu, longest = left[0][0], [], 0.0, 0.0, 0.0
            while left and left[0][0] == program and (not names or (seconds + left[0][2] <= size and len(names) < 200)):
                t = left.popleft()
                names.append(t[1])
                seconds, cpu, longest = seconds + t[2], cpu + t[3], max(longest, t[2])
            ended = self.programs.run(
                program, names, mutant["number"], seconds=2 * ASLEEP + SLOWER * seconds, cpu=2 + SLOWER * cpu, asleep=ASLEEP + longest
            )
            if ended.how != "passed":
                by = ended.failed or names
                for name in ended.failed or names[:1]:
                    self.noticed[file, program, name] += 1
                return ended.how, f"{program}: {by[0]}" + (f" and {len(by) - 1} more" if len(by) > 1 else "")
            size *= 3
        return "survives", f"{len(tests)} tests"
