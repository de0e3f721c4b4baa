//! Starting a child, listening to it, and ending it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::SILENCE;
use super::child::VERB;
use super::limit::Limiter;
use super::wire::{Event, Job};
use crate::failure::Failure;
use crate::interrupt;

/// How long a child may take to end after Ctrl-C.
const GRACE: Duration = Duration::from_secs(60);
/// How often somebody looks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);
/// The exit code that a second Ctrl-C gives, or a shell that was asked to kill.
const KILLED: i32 = nix::sys::signal::Signal::SIGKILL as i32;

/// Ends the child when dropped, if it has not ended.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has a child do the job; gives what it tells to `hear`.
pub(super) fn run(
    job: &Job,
    limiter: &Limiter,
    mut hear: impl FnMut(Event),
) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::refused(format!("cannot run the child: {e}"));
    let program = std::env::current_exe().map_err(failed)?;
    let child = Command::new(program)
        .arg(VERB)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut child = Guard(child);
    // Before it is told what to do, so that all its memory is counted.
    let group = match job.limit {
        Some(bytes) => limiter.limit(child.0.id(), bytes)?,
        None => None,
    };
    let mut orders = serde_json::to_vec(job)
        .map_err(|e| Failure::refused(format!("cannot write this as JSON: {e}")))?;
    orders.push(b'\n');
    let mut stdin = child.0.stdin.take();
    if let Some(stdin) = &mut stdin {
        stdin
            .write_all(&orders)
            .and_then(|()| stdin.flush())
            .map_err(failed)?;
    }
    let (tell, heard) = mpsc::channel();
    let listener = child.0.stdout.take().map(|out| {
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line)
                    && tell.send(event).is_err()
                {
                    break;
                }
            }
        })
    });
    let complaints = child.0.stderr.take().map(|mut err| {
        thread::spawn(move || {
            let mut text = Vec::new();
            // What could be read is told.
            let _ = err.read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        })
    });
    let (mut last, mut asked) = (Instant::now(), None);
    let silent = loop {
        match heard.recv_timeout(LOOK) {
            Ok(event) => {
                last = Instant::now();
                hear(event);
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupt::requested() && asked.is_none() {
            asked = Some(Instant::now());
            ask_to_end(&child.0);
        }
        if asked.is_some_and(|at| at.elapsed() > GRACE) || last.elapsed() > SILENCE {
            break true;
        }
    };
    if silent {
        drop(child);
        return Err(Failure::refused("it did not end, and was killed"));
    }
    let status = child.0.wait().map_err(failed)?;
    drop(stdin);
    drop(listener.map(thread::JoinHandle::join));
    let said = complaints.and_then(|t| t.join().ok()).unwrap_or_default();
    drop(group);
    if status.success() {
        return Ok(());
    }
    use std::os::unix::process::ExitStatusExt as _;
    let why = match (status.signal(), job.limit) {
        (Some(KILLED), Some(limit)) => format!(
            "killed, most likely by its memory limit of {}",
            crate::units::bytes(limit)
        ),
        _ => status.to_string(),
    };
    let said = said.lines().last().unwrap_or_default();
    Err(Failure::refused(match said.is_empty() {
        true => why,
        false => format!("{why}: {said}"),
    }))
}

/// By the signal that it takes as Ctrl-C; a terminal has sent that to it already.
fn ask_to_end(child: &Child) {
    use std::io::IsTerminal as _;
    if std::io::stdin().is_terminal() {
        return;
    }
    if let Ok(pid) = i32::try_from(child.id()) {
        // It fails only if it has ended.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGTERM,
        );
    }
}
