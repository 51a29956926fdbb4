//! Threads that help a caller with one job at a time, and sleep when there is none.
//!
//! A job is a function that all who come run at the same time, each until nothing is left to take. The caller
//! runs it too and never waits for a helper to come; when it finds nothing left, it closes the job and waits
//! for those only that are still inside.
//!
//! While a token is decoded the next job is some microseconds away, too near to sleep. So a helper watches
//! for it a while ([`Patience`]), and sleeps when none comes: a helper that watches in vain takes a core from
//! somebody who has work. Where another program holds a helper's core, the caller waits for that helper's part
//! up to a whole time slice; a caller that waits much goes on alone for a while ([`Stalls`]). And a helper that finds itself on the
//! caller's core, because the others are taken, doesn't help: it would only take turns with the caller.
//!
//! Crates were looked at first. With rayon two threads decode a fifth slower: its join waits for the slower of equal parts, and a
//! caller hands its work over to the pool to enter it. forte and chili share work at the beats of a clock, which can be as far
//! apart as a whole job is long here (read, not measured).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// What the threads run.
type Job<'a> = dyn Fn() + Sync + 'a;

/// Threads of our own besides the caller's.
#[derive(Debug)]
pub(super) struct Crew {
    shared: Arc<Shared>,
    helpers: Vec<Helper>,
    /// Whether a caller uses the crew.
    taken: AtomicBool,
}

#[derive(Debug)]
struct Helper {
    thread: Thread,
    asleep: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

/// What callers and helpers see.
#[derive(Debug, Default)]
struct Shared {
    board: Mutex<Board>,
    /// Jobs so far; a new number wakes the helpers.
    round: AtomicUsize,
    /// Helpers inside the job. It changes under the lock of the board only.
    inside: AtomicUsize,
    left: Condvar,
    quit: AtomicBool,
    /// The core that the caller of the job was on.
    core: AtomicUsize,
}

#[derive(Default)]
struct Board {
    /// The job that is open; helpers may enter it.
    job: Option<&'static Job<'static>>,
    /// What a helper panicked with.
    panic: Option<Box<dyn Any + Send>>,
    stalls: Stalls,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Board({})",
            if self.job.is_some() { "open" } else { "closed" }
        )
    }
}

impl Crew {
    /// Starts `helpers` threads.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn new(helpers: usize) -> std::io::Result<Crew> {
        let mut crew = Crew {
            shared: Arc::default(),
            helpers: Vec::with_capacity(helpers),
            taken: AtomicBool::new(false),
        };
        for index in 1..=helpers {
            let asleep = Arc::new(AtomicBool::new(false));
            let (shared, own) = (crew.shared.clone(), asleep.clone());
            let handle = std::thread::Builder::new()
                .name(format!("furlong-{index}"))
                .spawn(move || shared.help_until_quit(&own))?;
            crew.helpers.push(Helper {
                thread: handle.thread().clone(),
                asleep,
                handle: Some(handle),
            });
        }
        Ok(crew)
    }

    /// Whether helpers are worth calling now. If not, dividing the work is a waste, too.
    pub(super) fn helps(&self) -> bool {
        !self.shared.board().stalls.is_alone(Instant::now())
    }

    /// Runs `job` on this thread and on all others that come in time; returns when none is in it any more. Where
    /// the crew works for another caller, this thread does it alone.
    ///
    /// A panic in any of them goes on here, once all have left.
    pub(super) fn run(&self, job: &Job<'_>) {
        if self.taken.swap(true, Ordering::Acquire) {
            return job();
        }
        let begun = Instant::now();
        self.shared.core.store(current_core(), Ordering::Relaxed);
        // SAFETY: only the lifetime changes. A helper gets the job from the board, under its lock, and is counted inside
        // from then on. Below, whatever happens, the job is taken off the board, and this function goes on only
        // when nobody is inside: nobody holds the reference when what it borrows from ends.
        let lasting = unsafe { std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job) };
        self.shared.board().job = Some(lasting);
        self.shared.round.fetch_add(1, Ordering::SeqCst);
        for helper in &self.helpers {
            if helper.asleep.load(Ordering::SeqCst) {
                helper.thread.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(job));
        let panic = self.shared.close(begun);
        self.taken.store(false, Ordering::Release);
        match (own, panic) {
            (Err(panic), _) | (Ok(()), Some(panic)) => resume_unwind(panic),
            (Ok(()), None) => {}
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        self.shared.round.fetch_add(1, Ordering::SeqCst);
        for helper in &mut self.helpers {
            helper.thread.unpark();
            if let Some(handle) = helper.handle.take() {
                // Jobs' panics are caught, so there is nothing to hear from it.
                let _ = handle.join();
            }
        }
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets nobody in to the job of the time `begun` any more, and waits for those inside. Returns what one of them panicked with.
    fn close(&self, begun: Instant) -> Option<Box<dyn Any + Send>> {
        let done = Instant::now();
        let mut board = self.board();
        board.job = None;
        if self.inside.load(Ordering::Relaxed) > 0 {
            drop(board);
            watch(done, CLOSING, || self.inside.load(Ordering::Acquire) == 0);
            board = self.board();
            while self.inside.load(Ordering::Acquire) > 0 {
                let left = self.left.wait(board);
                board = left.unwrap_or_else(PoisonError::into_inner);
            }
        }
        let now = Instant::now();
        let (worked, waited) = (done.duration_since(begun), now.duration_since(done));
        board.stalls.learn(worked, waited, now);
        board.panic.take()
    }

    fn help_until_quit(&self, asleep: &AtomicBool) {
        let mut patience = Patience::default();
        let mut seen = 0;
        while !self.quit.load(Ordering::SeqCst) {
            self.help();
            seen = self.next_round(seen, &mut patience, asleep);
        }
    }

    /// Takes part in the job that is open, if one is.
    fn help(&self) {
        let job = {
            let mut board = self.board();
            let Some(job) = board.job else { return };
            let core = current_core();
            if core != UNKNOWN_CORE && core == self.core.load(Ordering::Relaxed) {
                board.stalls.pause(Instant::now());
                return;
            }
            self.inside.fetch_add(1, Ordering::Relaxed);
            job
        };
        let result = catch_unwind(AssertUnwindSafe(job));
        let mut board = self.board();
        if let Err(panic) = result {
            board.panic.get_or_insert(panic);
        }
        if self.inside.fetch_sub(1, Ordering::Release) == 1 {
            self.left.notify_one();
        }
    }

    /// Waits for a round other than `seen`, and returns it.
    fn next_round(&self, seen: usize, patience: &mut Patience, asleep: &AtomicBool) -> usize {
        let begun = Instant::now();
        let fresh = || self.round.load(Ordering::Acquire) != seen;
        if !watch(begun, patience.longest, fresh) {
            // The caller adds to the round before it looks who sleeps, and here it is the other way round: one of
            // the two sees the other.
            asleep.store(true, Ordering::SeqCst);
            while self.round.load(Ordering::SeqCst) == seen {
                std::thread::park();
            }
            asleep.store(false, Ordering::Relaxed);
        }
        patience.learn(begun.elapsed());
        self.round.load(Ordering::Acquire)
    }
}

/// Watches until `done` or `longest` after `begun`; whether it was done.
fn watch(begun: Instant, longest: Duration, done: impl Fn() -> bool) -> bool {
    loop {
        for _ in 0..LOOKS {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        if begun.elapsed() >= longest {
            return false;
        }
        // Whoever else wants this core, the caller perhaps, has something to do.
        std::thread::yield_now();
    }
}

/// Where the system doesn't tell.
const UNKNOWN_CORE: usize = usize::MAX;

/// The core that this thread is on just now.
fn current_core() -> usize {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: it takes nothing and changes nothing.
        let core = unsafe { libc::sched_getcpu() };
        usize::try_from(core).unwrap_or(UNKNOWN_CORE)
    }
    #[cfg(not(target_os = "linux"))]
    UNKNOWN_CORE
}

/// How often [`watch`] looks between two looks at the clock.
const LOOKS: usize = 16;

/// How long the caller watches for the last helper to leave before it sleeps, too.
const CLOSING: Duration = Duration::from_micros(50);

/// How long a helper watches for the next job: as long as pays off.
#[derive(Debug)]
struct Patience {
    longest: Duration,
}

impl Patience {
    /// More than there is between two jobs of one token, less than the wait for a person or a file.
    const MOST: Duration = Duration::from_micros(60);
    /// Shorter is not worth looking at the clock.
    const LEAST: Duration = Duration::from_micros(4);

    /// A job came after `waited`.
    fn learn(&mut self, waited: Duration) {
        self.longest = match waited <= Patience::MOST {
            true => Patience::MOST,
            false if self.longest > Patience::LEAST => self.longest / 2,
            false => Duration::ZERO,
        };
    }
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            longest: Patience::MOST,
        }
    }
}

/// Whether helpers are worth waiting for, and how long the caller does without them where they aren't.
#[derive(Debug, Default)]
struct Stalls {
    worked: Duration,
    waited: Duration,
    alone_until: Option<Instant>,
    penalty: Duration,
}

impl Stalls {
    /// Time that is judged as a whole: more than a time slice of another program.
    const WINDOW: Duration = Duration::from_millis(5);
    const LEAST: Duration = Duration::from_millis(20);
    /// After a helper was on the caller's core: soon enough to use another core when there is one.
    const PAUSE: Duration = Duration::from_millis(3);
    /// So little is lost while a program stays on a core, so soon it is noticed that it went.
    const MOST: Duration = Duration::from_millis(400);

    /// Whether the helpers are to be left alone now.
    fn is_alone(&self, now: Instant) -> bool {
        self.alone_until.is_some_and(|until| now < until)
    }

    /// A helper has no core of its own.
    fn pause(&mut self, now: Instant) {
        self.alone_until = self.alone_until.max(now.checked_add(Stalls::PAUSE));
    }

    /// The caller worked on a job and then waited for helpers until `now`. Parts are small: helpers that run meanwhile are
    /// waited for a small share of the time.
    fn learn(&mut self, worked: Duration, waited: Duration, now: Instant) {
        self.worked += worked;
        self.waited += waited;
        if self.worked + self.waited < Stalls::WINDOW {
            return;
        }
        let lost = self.waited * 3 > self.worked;
        (self.worked, self.waited) = (Duration::ZERO, Duration::ZERO);
        if !lost {
            return;
        }
        let again = self
            .alone_until
            .is_some_and(|until| now.saturating_duration_since(until) < 4 * self.penalty);
        let penalty = if again {
            2 * self.penalty
        } else {
            Stalls::LEAST
        };
        self.penalty = penalty.min(Stalls::MOST);
        self.alone_until = now.checked_add(self.penalty);
    }
}
