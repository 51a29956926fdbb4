//! Debian packages: what we need from the system, installed only when it is missing.

use crate::shell::{self, say};
use anyhow::{Result, bail};
use std::process::Command;

/// A Debian package, and how to see that it needn't be installed.
pub struct Package {
    name: &'static str,
    probe: Probe,
}

enum Probe {
    /// A program in `PATH`, or the path of any file.
    File(&'static str),
    /// A Python statement that must succeed.
    Python(&'static str),
}

const fn file(name: &'static str, path: &'static str) -> Package {
    Package {
        name,
        probe: Probe::File(path),
    }
}

const fn python(name: &'static str, statement: &'static str) -> Package {
    Package {
        name,
        probe: Probe::Python(statement),
    }
}

/// Python with virtual environments: what fetching models needs.
pub const PYTHON: &[Package] = &[
    file("python3", "python3"),
    python("python3-venv", "import ensurepip, venv"),
];

/// A cross compiler: tract has assembler files, and Rust needs a linker.
pub const CROSS: &[Package] = &[
    file("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
    file(
        "libc6-dev-arm64-cross",
        "/usr/aarch64-linux-gnu/include/stdio.h",
    ),
];

/// The same for C++: llama.cpp for boards.
pub const CROSS_CPP: &[Package] = &[file("g++-aarch64-linux-gnu", "aarch64-linux-gnu-g++")];

/// The emulators, and a C compiler for the plugin that counts instructions.
pub const EMULATORS: &[Package] = &[
    file("qemu-user", "qemu-aarch64"),
    file("qemu-system-arm", "qemu-system-aarch64"),
    file("gcc", "cc"),
];

/// A C compiler for Cortex-M, without a C library: the C interface's example.
pub const CORTEX_M_C: &[Package] = &[file("gcc-arm-none-eabi", "arm-none-eabi-gcc")];

/// A Vulkan device that is a program: training on a GPU is tested on it.
pub const VULKAN: &[Package] = &[
    file(
        "mesa-vulkan-drivers",
        "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json",
    ),
    file("libvulkan1", "/usr/lib/x86_64-linux-gnu/libvulkan.so.1"),
];

/// What builds llama.cpp.
pub const NATIVE_BUILD: &[Package] = &[
    file("cmake", "cmake"),
    file("g++", "c++"),
    file("make", "make"),
];

impl Package {
    fn present(&self) -> bool {
        match self.probe {
            Probe::File(path) => shell::find(path).is_some(),
            Probe::Python(statement) => {
                shell::succeeds(Command::new("python3").args(["-c", statement]))
            }
        }
    }
}

/// Installs those of `groups` that are missing.
///
/// # Errors
/// Names the missing packages and how to install them when that can't be done from here.
pub fn ensure(groups: &[&[Package]]) -> Result<()> {
    let missing: Vec<&str> = groups
        .iter()
        .copied()
        .flatten()
        .filter(|package| !package.present())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let by_hand = format!(
        "install them by hand (Debian, Ubuntu: sudo apt-get install {list}) and run this again"
    );
    if shell::find("apt-get").is_none() {
        bail!("missing: {list}; there is no apt-get here, {by_hand}");
    }
    say(format!("packages: installing {list}"));
    let install = || {
        shell::quiet(
            apt_get()?
                .args(["install", "-y", "--no-install-recommends"])
                .args(&missing),
        )
    };
    if install().is_err() {
        // The package lists of a fresh machine are empty or old.
        shell::quiet(apt_get()?.arg("update")).or_else(|error| {
            say(format!(
                "packages: apt-get update had trouble, going on: {error:#}"
            ));
            anyhow::Ok(())
        })?;
        install().map_err(|error| error.context(format!("missing: {list}; {by_hand}")))?;
    }
    Ok(())
}

/// `apt-get`, as root: through `sudo` for everybody else.
fn apt_get() -> Result<Command> {
    let root = shell::capture(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = match (root, shell::find("sudo")) {
        (true, _) => Command::new("env"),
        (false, Some(sudo)) => shell::command(sudo, ["env"]),
        (false, None) => bail!("installing packages needs root, and there is no sudo here"),
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    Ok(command)
}
