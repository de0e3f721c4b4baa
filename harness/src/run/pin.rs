//! Threads that stay on their processors.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::knobs::Pin;
use crate::failure::Failure;

/// The processors that threads take in turn; empty: wherever the kernel puts them.
pub(crate) fn processors(pin: &Pin) -> Result<Vec<usize>, Failure> {
    let wanted = match pin {
        Pin::All(false) => return Ok(Vec::new()),
        Pin::All(true) => None,
        Pin::Cpus(cpus) => Some(cpus),
    };
    let all = sched_getaffinity(Pid::from_raw(0)).map_err(|e| {
        Failure::refused(format!(
            "cannot tell which processors this process may use: {e}; leave out run.pin"
        ))
    })?;
    let usable: Vec<usize> = (0..CpuSet::count())
        .filter(|&cpu| all.is_set(cpu).unwrap_or(false))
        .collect();
    let Some(wanted) = wanted else {
        return Ok(usable);
    };
    match wanted.iter().find(|cpu| !usable.contains(cpu)) {
        None => Ok(wanted.clone()),
        Some(cpu) => Err(Failure::refused(format!(
            "run.pin names processor {cpu}; this process may use {}",
            usable
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// Puts this thread, number `index` of its team, on its processor.
pub(crate) fn pin(processors: &[usize], index: usize) -> Result<(), Failure> {
    if processors.is_empty() {
        return Ok(());
    }
    let cpu = processors[index % processors.len()];
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|e| {
            Failure::refused(format!(
                "cannot keep a thread on processor {cpu}: {e}; leave out run.pin"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_the_processors_in_turn() {
        let all = processors(&Pin::All(true)).unwrap();
        assert!(!all.is_empty());
        assert!(processors(&Pin::All(false)).unwrap().is_empty());
        let e = processors(&Pin::Cpus(vec![all[0], 100_000])).unwrap_err();
        assert!(e.to_string().contains("100000"), "{e}");
        std::thread::spawn(move || {
            for index in 0..2 * all.len() {
                pin(&all, index).unwrap();
                let now = sched_getaffinity(Pid::from_raw(0)).unwrap();
                let on: Vec<usize> = (0..CpuSet::count())
                    .filter(|&c| now.is_set(c).unwrap())
                    .collect();
                assert_eq!(on, [all[index % all.len()]]);
            }
        })
        .join()
        .unwrap();
    }
}
