//! A board's memory map.

use serde::Deserialize;

/// Where flash and RAM lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Where the program lies, and the plan if it has no place of its own. RAM that a boot loader fills counts as flash.
    pub flash: Region,
    /// Working memory: arena, stack, buffers.
    pub ram: Region,
    /// Where the plan lies when not in `flash`: memory-mapped external flash, or RAM that the loader fills.
    pub plan: Option<Region>,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// The first address.
    pub origin: u64,
    /// Its length in bytes.
    pub length: u64,
}

impl Memory {
    /// Where the plan lies.
    pub fn plan(&self) -> Region {
        self.plan.unwrap_or(self.flash)
    }

    /// Says what contradicts itself, if anything does.
    pub(crate) fn check(&self) -> Result<(), String> {
        let named = [
            ("flash", Some(self.flash)),
            ("ram", Some(self.ram)),
            ("plan", self.plan),
        ];
        let regions: Vec<(&str, Region, u64)> = named
            .into_iter()
            .filter_map(|(name, region)| Some((name, region?)))
            .map(
                |(name, region)| match region.origin.checked_add(region.length) {
                    _ if region.length == 0 => Err(format!("{name} has no length")),
                    // Linker and vector table want words.
                    _ if region.origin % 4 != 0 || region.length % 4 != 0 => {
                        Err(format!("{name} isn't a whole number of words"))
                    }
                    Some(end) => Ok((name, region, end)),
                    None => Err(format!("{name} ends beyond the address space")),
                },
            )
            .collect::<Result<_, _>>()?;
        for (index, &(name, region, end)) in regions.iter().enumerate() {
            for &(other, theirs, their_end) in &regions[index + 1..] {
                if region.origin < their_end && theirs.origin < end {
                    return Err(format!("{name} and {other} overlap"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, Region};

    #[test]
    fn maps_that_contradict_themselves_are_refused() {
        let region = |origin, length| Region { origin, length };
        let map = |flash, ram, plan| Memory { flash, ram, plan }.check();
        let flash = region(0, 0x1000);
        assert_eq!(map(flash, region(0x1000, 0x100), None), Ok(()));
        assert!(map(flash, region(0xffc, 0x100), None).is_err());
        assert!(map(flash, region(0x2000, 0), None).is_err());
        assert!(map(flash, region(0x2000, 6), None).is_err());
        assert!(map(flash, region(u64::MAX - 3, 8), None).is_err());
        let ram = region(0x2000, 0x1000);
        assert!(map(flash, ram, Some(region(0x2ffc, 8))).is_err());
        assert_eq!(map(flash, ram, Some(region(0x3000, 8))), Ok(()));
    }
}
