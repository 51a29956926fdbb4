//! Which cores the program runs on: boards with two kinds of cores are often faster without the slow ones.

use std::io;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::cpu::{self, Cluster};

/// Cores to run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cores {
    /// The fastest ones of the machine.
    Big,
    /// These.
    Listed(Vec<usize>),
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Cores, String> {
        if text == "big" {
            return Ok(Cores::Big);
        }
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        let wrong = || format!("{text:?} is no list of cores, such as `big`, `2` or `0,4-7`");
        Ok(Cores::Listed(
            ranges.ok_or_else(wrong)?.into_iter().flatten().collect(),
        ))
    }
}

/// `4` or `4-7`.
fn range(text: &str) -> Option<RangeInclusive<usize>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last < libc::CPU_SETSIZE as usize).then_some(first..=last)
}

impl Cores {
    /// Keeps this thread, and all threads that it starts from now on, to these cores.
    ///
    /// # Errors
    /// What Linux says, where none of them is there or allowed.
    pub fn keep_to(&self) -> io::Result<()> {
        let numbers = match self {
            Cores::Big => fastest(&cpu::processors().clusters),
            Cores::Listed(numbers) => numbers.clone(),
        };
        // SAFETY: a set of cores is plain bits, and zeros are the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for number in numbers {
            // SAFETY: the numbers are below the size of the set: lists were checked, and Linux counts no further.
            unsafe { libc::CPU_SET(number.min(libc::CPU_SETSIZE as usize - 1), &mut set) };
        }
        // SAFETY: the set lives, and its size is its own; 0 is the calling thread.
        let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The cores as fast as the fastest, by what Linux says of their speed; their names don't matter.
fn fastest(clusters: &[Cluster]) -> Vec<usize> {
    let speed = |cluster: &Cluster| (cluster.capacity, cluster.max_mhz);
    let most = clusters.iter().map(speed).max();
    let fast = clusters.iter().filter(|c| Some(speed(c)) == most);
    fast.flat_map(|c| c.cores.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_big_cores_found() {
        let listed = |text: &str| match text.parse() {
            Ok(Cores::Listed(numbers)) => Some(numbers),
            _ => None,
        };
        assert_eq!(listed("0,4-6"), Some(vec![0, 4, 5, 6]));
        assert_eq!("big".parse(), Ok(Cores::Big));
        for wrong in ["", "a", "3-1", "1,,2", "0-99999999"] {
            assert!(wrong.parse::<Cores>().is_err(), "{wrong}");
        }
        let cluster = |cores: &[usize], capacity| Cluster {
            name: String::new(),
            cores: cores.to_vec(),
            max_mhz: Some(1800),
            capacity,
            governor: None,
        };
        let clusters = [cluster(&[0, 1], Some(414)), cluster(&[2, 3], Some(1024))];
        assert_eq!(fastest(&clusters), [2, 3]);
        assert_eq!(fastest(&[cluster(&[0, 1], None)]), [0, 1]);
    }

    #[test]
    fn threads_stay_on_the_cores_they_were_given() {
        let kept = std::thread::spawn(|| {
            Cores::Listed(vec![0]).keep_to().unwrap();
            std::thread::spawn(std::thread::available_parallelism)
                .join()
                .unwrap()
        });
        assert_eq!(kept.join().unwrap().unwrap().get(), 1);
        assert!(Cores::Listed(vec![1023]).keep_to().is_err());
    }
}
