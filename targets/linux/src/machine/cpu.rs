//! Which processors this machine has, as Linux tells in /proc and /sys.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// The instruction sets that matter to the kernels, as Linux names them.
const FEATURES: [&str; 20] = [
    "neon",
    "asimd",
    "asimdhp",
    "asimddp",
    "fphp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "sme",
    "ssse3",
    "sse4_1",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "amx_int8",
];

/// ARM's part numbers (implementer 0x41) of cores seen on boards.
const ARM_PARTS: [(u32, &str); 22] = [
    (0xc05, "Cortex-A5"),
    (0xc07, "Cortex-A7"),
    (0xc08, "Cortex-A8"),
    (0xc09, "Cortex-A9"),
    (0xc0f, "Cortex-A15"),
    (0xd01, "Cortex-A32"),
    (0xd03, "Cortex-A53"),
    (0xd04, "Cortex-A35"),
    (0xd05, "Cortex-A55"),
    (0xd07, "Cortex-A57"),
    (0xd08, "Cortex-A72"),
    (0xd09, "Cortex-A73"),
    (0xd0a, "Cortex-A75"),
    (0xd0b, "Cortex-A76"),
    (0xd0c, "Neoverse-N1"),
    (0xd0d, "Cortex-A77"),
    (0xd40, "Neoverse-V1"),
    (0xd41, "Cortex-A78"),
    (0xd42, "Cortex-A78AE"),
    (0xd44, "Cortex-X1"),
    (0xd46, "Cortex-A510"),
    (0xd49, "Neoverse-N2"),
];

/// The processors of a machine.
#[derive(Debug, Clone, Serialize)]
pub struct Processors {
    /// The architecture this program is built for.
    pub architecture: &'static str,
    /// Cores this process may run on.
    pub available: usize,
    /// Instruction sets that matter to the kernels.
    pub features: Vec<String>,
    /// Groups of equal cores, the fastest first.
    pub clusters: Vec<Cluster>,
}

/// Cores that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// What the cores are, `Cortex-A76` say.
    pub name: String,
    /// Their numbers.
    pub cores: Vec<usize>,
    /// Their highest clock, where Linux says.
    pub max_mhz: Option<u64>,
    /// Their speed relative to the fastest core's 1024, where Linux says.
    pub capacity: Option<u64>,
    /// What sets their clock, `ondemand` say.
    pub governor: Option<String>,
}

/// Looks at this machine.
pub fn processors() -> Processors {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Processors {
        architecture: std::env::consts::ARCH,
        available: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        features: features(&cpuinfo),
        clusters: clusters(&cpuinfo, Path::new("/sys/devices/system/cpu")),
    }
}

/// The value of a `name : value` line.
fn value<'a>(line: &'a str, names: &[&str]) -> Option<&'a str> {
    let (name, value) = line.split_once(':')?;
    names.contains(&name.trim()).then(|| value.trim())
}

fn features(cpuinfo: &str) -> Vec<String> {
    let all = cpuinfo
        .lines()
        .find_map(|line| value(line, &["flags", "Features"]))
        .unwrap_or_default();
    FEATURES
        .iter()
        .filter(|feature| all.split_whitespace().any(|known| known == **feature))
        .map(|feature| (*feature).to_owned())
        .collect()
}

/// What each core is called, by its number.
fn names(cpuinfo: &str) -> BTreeMap<usize, String> {
    let mut names = BTreeMap::new();
    let mut core = None;
    for line in cpuinfo.lines() {
        if let Some(number) = value(line, &["processor"]) {
            core = number.parse().ok();
        }
        let Some(core) = core else { continue };
        if let Some(name) = value(line, &["model name"]) {
            names.insert(core, name.to_owned());
        } else if let Some(part) = value(line, &["CPU part"]) {
            let number = u32::from_str_radix(part.trim_start_matches("0x"), 16).ok();
            let known = ARM_PARTS.iter().find(|(known, _)| Some(*known) == number);
            let name = known.map_or_else(|| format!("part {part}"), |(_, name)| (*name).to_owned());
            names.insert(core, name);
        }
    }
    names
}

/// Groups the cores that have the same name, clock, capacity and governor.
fn clusters(cpuinfo: &str, sys: &Path) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    for (core, name) in names(cpuinfo) {
        let folder = sys.join(format!("cpu{core}"));
        let text = |file: &str| -> Option<String> {
            Some(
                fs::read_to_string(folder.join(file))
                    .ok()?
                    .trim()
                    .to_owned(),
            )
        };
        let number = |file: &str| text(file)?.parse::<u64>().ok();
        let max_mhz = number("cpufreq/cpuinfo_max_freq").map(|khz| khz / 1000);
        let capacity = number("cpu_capacity");
        let governor = text("cpufreq/scaling_governor");
        let alike = clusters.iter_mut().find(|known| {
            (&known.name, known.max_mhz, known.capacity, &known.governor)
                == (&name, max_mhz, capacity, &governor)
        });
        match alike {
            Some(cluster) => cluster.cores.push(core),
            None => clusters.push(Cluster {
                name,
                cores: vec![core],
                max_mhz,
                capacity,
                governor,
            }),
        }
    }
    clusters.sort_by_key(|cluster| std::cmp::Reverse((cluster.capacity, cluster.max_mhz)));
    clusters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_and_little_cores_are_told_apart() {
        let core = |number, part| {
            format!(
                "processor\t: {number}\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
            )
        };
        let cpuinfo = [
            core(0, "0xd05"),
            core(1, "0xd05"),
            core(2, "0xd0b"),
            core(3, "0xd0b"),
        ]
        .concat();
        let sys = tempfile::tempdir().unwrap();
        for (number, capacity) in [(0, "414"), (1, "414"), (2, "1024"), (3, "1024")] {
            let folder = sys.path().join(format!("cpu{number}"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("cpu_capacity"), format!("{capacity}\n")).unwrap();
        }
        let clusters = clusters(&cpuinfo, sys.path());
        let seen: Vec<_> = clusters
            .iter()
            .map(|c| (c.name.as_str(), c.cores.as_slice()))
            .collect();
        assert_eq!(seen, [("Cortex-A76", &[2, 3][..]), ("Cortex-A55", &[0, 1])]);
        assert_eq!(features(&cpuinfo), ["asimd", "asimddp"]);
    }
}
