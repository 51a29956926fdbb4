//! What to do next when probe-rs doesn't get through, by what it says.

/// When there is no probe.
pub const NO_PROBE: &str = "Plug it in (the debugger on a Nordic or Nucleo board is a probe: use the USB port that is marked so). \
     On Linux a probe that `lsusb` shows and `probe-rs list` doesn't needs udev rules: https://probe.rs/docs/getting-started/probe-setup";

const LOCKED: &str = "The chip is locked against debuggers. `probe-rs erase --chip CHIP --allow-erase-all` unlocks it and erases ALL of \
     its flash; then run this again";
const WRONG_CHIP: &str = "That isn't the chip that the board's file names (CHIP), or its wires are loose. See which board it is, choose \
     it with --board, and check power and the SWD wires";
const BUSY: &str = "Another program holds the probe (an IDE, a debugger, another probe-rs): close it and run this again";
const OLD: &str = "This probe-rs doesn't know the chip CHIP: `cargo install probe-rs-tools --locked` gets a newer one";

/// What probe-rs and its libraries say, in lower case, and what it means; the first that fits.
const SYMPTOMS: &[(&str, &str)] = &[
    ("approtect", LOCKED),
    ("core is locked", LOCKED),
    ("chip is locked", LOCKED),
    ("--allow-erase-all", LOCKED),
    ("readout protection", LOCKED),
    ("no probe was found", NO_PROBE),
    ("no connected probes", NO_PROBE),
    ("chip not found", OLD),
    ("was not found in the registry", OLD),
    ("resource busy", BUSY),
    ("access denied", BUSY),
    ("permission denied", NO_PROBE),
    ("target device did not respond", WRONG_CHIP),
    ("no acknowledge", WRONG_CHIP),
    ("failed to attach", WRONG_CHIP),
    ("connecting to the chip was unsuccessful", WRONG_CHIP),
    ("unexpected", WRONG_CHIP),
];

/// What to do about what was said.
pub fn find(said: &str) -> Option<&'static str> {
    let said = said.to_lowercase();
    SYMPTOMS
        .iter()
        .find(|(symptom, _)| said.contains(symptom))
        .map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::{LOCKED, NO_PROBE, WRONG_CHIP, find};

    #[test]
    fn what_probe_rs_says_has_a_next_step() {
        let cases = [
            // probe-rs 0.24 to 0.31, as its users quote it.
            (
                "Error: Connecting to the chip was unsuccessful.\nCaused by: An ARM specific error occurred.\n\
              The core is locked. To unlock it, allow erasing with --allow-erase-all",
                LOCKED,
            ),
            ("Error: No probe was found.", NO_PROBE),
            (
                "Error: An ARM specific error occurred.\nCaused by: Target device did not respond to request.",
                WRONG_CHIP,
            ),
        ];
        for (said, hint) in cases {
            assert_eq!(find(said), Some(hint), "{said}");
        }
        assert_eq!(find("the firmware exited unsuccessfully"), None);
    }
}
