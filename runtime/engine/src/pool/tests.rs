//! Every part is done once, whatever the threads do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
}

/// Adds its number to every column, and checks where the part starts.
fn count_columns(pool: &Pool, columns: usize) {
    let mut values = vec![0.0; 2 * columns];
    let out = MatrixMut::new(&mut values, 2, columns).unwrap();
    let work = |range: Range<usize>, mut part: MatrixMut<'_>| {
        assert!(range.start.is_multiple_of(8));
        for row in 0..2 {
            let row = part.row_mut(row).ok_or(())?;
            assert_eq!(row.len(), range.len());
            row.iter_mut()
                .zip(range.clone())
                .for_each(|(v, c)| *v += 1.0 + c as f32);
        }
        Ok::<(), ()>(())
    };
    pool.for_columns(out, 8, &work).unwrap();
    for row in values.chunks(columns) {
        assert!(row.iter().enumerate().all(|(c, &v)| v == 1.0 + c as f32));
    }
}

#[test]
fn every_part_is_done_once() {
    for threads in [1, 2, 3, 5] {
        let pool = pool(threads);
        for columns in [1, 7, 16, 50, 3000] {
            count_columns(&pool, columns);
        }
        let mut rows = vec![0usize; 7 * 3];
        let work = |first: usize, part: &mut [usize]| {
            for (row, values) in part.chunks_mut(3).enumerate() {
                values.iter_mut().for_each(|v| *v += first + row);
            }
            Ok::<(), ()>(())
        };
        pool.for_rows(&mut rows, 3, 2, work).unwrap();
        assert!(rows.chunks(3).enumerate().all(|(i, row)| row == [i; 3]));
        let sum = AtomicUsize::new(0);
        let add = |job| {
            sum.fetch_add(job, Ordering::Relaxed);
            Ok::<(), ()>(())
        };
        pool.for_each((0..100).collect(), add).unwrap();
        assert_eq!(sum.into_inner(), 4950);
    }
}

#[test]
fn several_callers_and_jobs_inside_jobs_get_through() {
    let pool = pool(3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2000).for_each(|_| count_columns(&pool, 40)));
        }
    });
    let nested = |_| {
        count_columns(&pool, 40);
        Ok::<(), ()>(())
    };
    pool.for_each(vec![(); 20], nested).unwrap();
}

#[test]
fn errors_and_panics_come_to_the_caller_and_leave_the_pool_whole() {
    let pool = pool(3);
    for bad in [0, 1, 57, 99] {
        let fail = |job| if job == bad { Err(job) } else { Ok(()) };
        assert_eq!(pool.for_each((0..100).collect(), fail), Err(bad));
        let panic = |job: usize| {
            assert!(job != bad, "a job that panics");
            std::thread::yield_now();
            Ok::<(), ()>(())
        };
        let run = || pool.for_each((0..100).collect(), panic);
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        count_columns(&pool, 3000);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_helper_on_the_callers_core_leaves_the_work_to_the_caller() {
    /// Keeps this thread, and those that it starts, to one core.
    fn keep_to_one_core() {
        // SAFETY: plain numbers, for which zeros are a value; the calls read and write this set only.
        unsafe {
            let mut cores: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(libc::sched_getcpu().try_into().unwrap(), &mut cores);
            let size = size_of_val(&cores);
            assert_eq!(libc::sched_setaffinity(0, size, &cores), 0);
        }
    }
    // A thread of its own: other tests keep their cores.
    let alone = std::thread::spawn(|| {
        keep_to_one_core();
        let pool = pool(3);
        let caller = std::thread::current().id();
        (0..40).for_each(|_| {
            let work = |()| {
                assert_eq!(std::thread::current().id(), caller);
                std::thread::yield_now();
                Ok::<(), ()>(())
            };
            pool.for_each(vec![(); 20], work).unwrap();
        });
    });
    alone.join().unwrap();
}
