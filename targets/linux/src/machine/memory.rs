//! Handing memory back that loading a model used and running it does not.

use std::fs;

use super::clock;

/// Returns freed memory, and the pages of this program's code, to the system.
///
/// The C library of most distributions keeps freed memory for later, and reading a vocabulary takes several times what
/// a session of the model does. And most of the code that ran so far (readers of files, analysis of graphs) won't run
/// again; what does is mapped again when it is called.
pub fn release_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no preconditions; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
    release_code();
}

/// Hands the pages of this program's file back, as far as they are as in the file.
pub fn release_code() {
    // A debugger writes its breakpoints into the code: these pages are not what the file has.
    if clock::tracer() != Some(0) {
        return;
    }
    let program = fs::read_link("/proc/self/exe");
    let maps = fs::read_to_string("/proc/self/maps");
    let (Ok(program), Ok(maps)) = (program, maps) else {
        return;
    };
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let [range, access, offset, _, _, path] =
            [(); 6].map(|()| words.next().unwrap_or_default());
        // Code; and at the start of the file tables for the linker, constants, and what unwinding needs. Other parts
        // that can only be read hold addresses that were filled in when the program started.
        let is_as_in_file = access == "r-xp" || (access == "r--p" && offset == "00000000");
        if !is_as_in_file || program.as_os_str() != path {
            continue;
        }
        let number = |text| usize::from_str_radix(text, 16).ok();
        let range = range.split_once('-');
        let range = range.and_then(|(start, end)| Some((number(start)?, number(end)?)));
        let Some((start, end)) = range else {
            continue;
        };
        // SAFETY: the system says that these pages are of this program's file, mapped privately and not writable, and
        // the linker changes none of them, so that nothing is lost: the next use of one brings the same bytes back.
        unsafe {
            libc::madvise(
                start as *mut libc::c_void,
                end.saturating_sub(start),
                libc::MADV_DONTNEED,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_without_its_pages() {
        release_unused();
        assert!(clock::peak_rss_bytes().is_some());
    }
}
