//! A Rust toolchain that builds for aarch64 Linux.
//!
//! The ordinary way is `rustup target add`. Where rustup's servers are out of reach but Debian's are not, Debian's `rustc-web`
//! and its arm64 standard library are unpacked into the cache folder (nothing is installed) and linked into rustup.

use crate::shell::{self, say};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What we cross-build for.
pub const AARCH64: &str = "aarch64-unknown-linux-gnu";
/// The name rustup knows the fallback by.
const LINKED: &str = "furlong-cross";

/// How to call cargo for aarch64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrossToolchain {
    /// `Some` when cargo needs `+furlong-cross`.
    linked: bool,
    /// Where it builds: another compiler must not share `target/`, it would rebuild everything in turns.
    pub target: PathBuf,
}

impl CrossToolchain {
    /// `cargo SUBCOMMAND` in the repository's root, building static programs for aarch64.
    ///
    /// # Errors
    /// When run outside the repository.
    pub fn cargo(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new("cargo");
        command.current_dir(workspace::root()?);
        if self.linked {
            // `cargo xtask` runs inside rustup's proxy, which pins the toolchain by these.
            command
                .env_remove("CARGO")
                .env_remove("RUSTUP_TOOLCHAIN")
                .env_remove("RUSTC");
            command.arg(format!("+{LINKED}"));
        }
        command.arg(subcommand).args(["--target", AARCH64]);
        command.env("CARGO_TARGET_DIR", &self.target);
        Ok(command)
    }
}

/// Finds or makes the cross toolchain. `FURLONG_CROSS=debian` takes the fallback even where rustup would do.
///
/// # Errors
/// When neither rustup nor Debian's packages give one.
pub fn ensure() -> Result<CrossToolchain> {
    let forced = std::env::var_os("FURLONG_CROSS").is_some_and(|value| value == "debian");
    let ordinary = CrossToolchain {
        linked: false,
        target: workspace::target()?,
    };
    let fallback = CrossToolchain {
        linked: true,
        target: workspace::target()?.join("cross"),
    };
    if !forced && has_std(Command::new("rustc").arg("--print")) {
        return Ok(ordinary);
    }
    if has_std(linked_rustc().arg("--print")) && (!forced || linked_to_cache()?) {
        return Ok(fallback);
    }
    let mut why = String::from("not tried (FURLONG_CROSS=debian)");
    if !forced {
        say(format!("toolchain: rustup target add {AARCH64}"));
        match shell::quiet(&mut shell::command("rustup", ["target", "add", AARCH64])) {
            Ok(()) => return Ok(ordinary),
            Err(error) => why = format!("{error:#}"),
        }
    }
    say("toolchain: rustup can't give aarch64 here, unpacking Debian's rustc-web into the cache");
    let root =
        from_debian().with_context(|| format!("no aarch64 toolchain; rustup said: {why}"))?;
    shell::quiet(shell::command("rustup", ["toolchain", "link", LINKED]).arg(root.join("usr")))?;
    if !has_std(linked_rustc().arg("--print")) {
        bail!(
            "{}: the unpacked toolchain has no {AARCH64} library; remove the folder and run this again",
            root.display()
        );
    }
    Ok(fallback)
}

/// Whether the current toolchain has a bare-metal target's library.
pub fn has_library(triple: &str) -> bool {
    let print = ["--print", "target-libdir", "--target", triple];
    shell::capture(&mut shell::command("rustc", print))
        .is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

/// `cargo SUBCOMMAND --release` for a bare-metal target: with the target's library from rustup, or building it with the fallback.
///
/// # Errors
/// When neither is possible.
pub fn bare_metal(subcommand: &str, triple: &str) -> Result<Command> {
    let mut command = Command::new("cargo");
    command.current_dir(workspace::root()?);
    if has_library(triple)
        || shell::succeeds(&mut shell::command("rustup", ["target", "add", triple]))
    {
        command
            .arg(subcommand)
            .env("CARGO_TARGET_DIR", workspace::bare_metal_target()?);
    } else {
        ensure()?;
        command
            .env_remove("CARGO")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC");
        command.args([&format!("+{LINKED}"), subcommand, "-Zbuild-std=core,alloc"]);
        // The fallback is a stable compiler that carries its library's source: building that library is an unstable option.
        command.env("RUSTC_BOOTSTRAP", "1").env(
            "CARGO_TARGET_DIR",
            workspace::bare_metal_target()?.join("cross"),
        );
    }
    command.args(["--release", "--locked", "--target", triple]);
    Ok(command)
}

/// Copies a program that [`bare_metal`] has built (an example is called `examples/NAME`) to a place that the next board's build
/// leaves alone; gives that.
///
/// # Errors
/// When there is no such program.
pub fn keep(board: &str, triple: &str, name: &str) -> Result<PathBuf> {
    let target = workspace::bare_metal_target()?;
    let folders = [target.clone(), target.join("cross")];
    let built = folders
        .iter()
        .map(|folder| folder.join(triple).join("release").join(name))
        .filter_map(|file| Some((fs::metadata(&file).ok()?.modified().ok()?, file)))
        .max();
    let (_, built) = built.with_context(|| format!("the build left no program called {name}"))?;
    let folder = workspace::target()?.join("firmware");
    fs::create_dir_all(&folder)?;
    let name = name.trim_start_matches("examples/");
    let kept = folder.join(format!("{board}-{name}.elf"));
    fs::copy(&built, &kept).with_context(|| format!("copying {}", built.display()))?;
    Ok(kept)
}

fn linked_rustc() -> Command {
    let mut rustc = Command::new("rustc");
    rustc
        .env_remove("RUSTUP_TOOLCHAIN")
        .arg(format!("+{LINKED}"));
    rustc
}

fn linked_to_cache() -> Result<bool> {
    let sysroot = shell::capture(linked_rustc().args(["--print", "sysroot"]))?;
    Ok(Path::new(sysroot.trim()).starts_with(workspace::cache()?.canonicalize()?))
}

/// Whether this `rustc --print` has a standard library for aarch64.
fn has_std(rustc: &mut Command) -> bool {
    let Ok(folder) = shell::capture(rustc.args(["target-libdir", "--target", AARCH64])) else {
        return false;
    };
    let Ok(files) = fs::read_dir(folder.trim()) else {
        return false;
    };
    files
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

/// Unpacks Debian's compiler with the host's and arm64's standard libraries; gives the folder that holds `usr/`.
fn from_debian() -> Result<PathBuf> {
    if std::env::consts::ARCH != "x86_64" || shell::find("apt-get").is_none() {
        bail!(
            "the fallback needs Debian on x86-64; install the target by hand: rustup target add {AARCH64}"
        );
    }
    let cache = workspace::cache()?;
    let apt = Apt::new(&cache.join("apt"))?;
    apt.update()?;
    let version = apt.candidate("rustc-web")?;
    let folder = cache.join("toolchain").join(format!("rustc-web-{version}"));
    workspace::create_whole(&folder, |partial| {
        let wanted = apt.wanted()?;
        say(format!("toolchain: downloading {}", wanted.join(" ")));
        let debs = partial.join("debs");
        fs::create_dir(&debs)?;
        shell::quiet(
            apt.command("apt-get")
                .args(["-q", "download"])
                .args(&wanted)
                .current_dir(&debs),
        )?;
        say("toolchain: unpacking (about 1 GB)");
        for deb in fs::read_dir(&debs)? {
            shell::quiet(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(partial))?;
        }
        fs::remove_dir_all(&debs)?;
        complete(&partial.join("usr"))
    })?;
    Ok(folder)
}

/// What the unpacked packages lack: libraries where rustc looks for them, rust-lld, a cargo.
fn complete(usr: &Path) -> Result<()> {
    let libraries = usr.join("lib/x86_64-linux-gnu");
    for library in
        fs::read_dir(&libraries).with_context(|| format!("reading {}", libraries.display()))?
    {
        let name = library?.file_name();
        if name.to_string_lossy().contains(".so") && !usr.join("lib").join(&name).exists() {
            symlink(
                Path::new("x86_64-linux-gnu").join(&name),
                usr.join("lib").join(&name),
            )?;
        }
    }
    let sysroot = shell::capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let sysroot = Path::new(sysroot.trim());
    let tools = Path::new("lib/rustlib/x86_64-unknown-linux-gnu/bin");
    fs::create_dir_all(usr.join(tools))?;
    shell::quiet(
        Command::new("cp")
            .arg("-a")
            .arg(sysroot.join(tools).join("."))
            .arg(usr.join(tools)),
    )?;
    for library in fs::read_dir(sysroot.join("lib"))? {
        let library = library?;
        if library.file_name().to_string_lossy().starts_with("libLLVM")
            && !usr.join("lib").join(library.file_name()).exists()
        {
            fs::copy(library.path(), usr.join("lib").join(library.file_name()))?;
        }
    }
    // Debian's own cargo wants a libgit2 that isn't among these packages.
    fs::copy(sysroot.join("bin/cargo"), usr.join("bin/cargo"))
        .context("copying cargo from the current toolchain")?;
    Ok(())
}

/// apt with package lists of its own in the cache, so that arm64 packages can be had without root and without
/// changing the system's architectures.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self> {
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(part))
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        for option in [
            "APT::Architectures::=amd64".to_string(),
            "APT::Architectures::=arm64".into(),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::Cache={folder}"),
            "Debug::NoLocking=true".into(),
            "APT::Sandbox::User=".into(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    fn update(&self) -> Result<()> {
        // One unreachable source among several is no reason to stop: what matters is whether rustc-web is found.
        if let Err(error) = shell::quiet(self.command("apt-get").args(["-q", "update"])) {
            say(format!(
                "toolchain: apt-get update had trouble, going on: {error:#}"
            ));
        }
        Ok(())
    }

    /// The newest version of a package that the lists offer.
    fn candidate(&self, package: &str) -> Result<String> {
        self.field(package, "Version")
            .with_context(|| format!("{package}: not among this system's packages"))
    }

    fn field(&self, package: &str, name: &str) -> Result<String> {
        let text =
            shell::capture(
                self.command("apt-cache")
                    .args(["show", "--no-all-versions", package]),
            )?;
        let prefix = format!("{name}: ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(line
            .with_context(|| format!("{package}: no {name}"))?
            .to_string())
    }

    /// The packages to unpack. Which standard library and LLVM belong to the newest compiler is read from what it depends on.
    fn wanted(&self) -> Result<Vec<String>> {
        let mut wanted: Vec<String> = [
            "rustc-web",
            "libstd-rust-web-dev",
            "libstd-rust-web-dev:arm64",
            "rust-web-src",
        ]
        .map(String::from)
        .to_vec();
        let library = find_dependency(
            &self.field("libstd-rust-web-dev", "Depends")?,
            "libstd-rust-web-1.",
        )
        .context("libstd-rust-web-dev: depends on no libstd-rust-web-1.NN")?;
        let llvm = find_dependency(&self.field(&library, "Depends")?, "libllvm")
            .with_context(|| format!("{library}: depends on no libllvm"))?;
        wanted.extend([library, llvm]);
        Ok(wanted)
    }
}

/// The first package of a Depends line whose name starts with `prefix`.
fn find_dependency(depends: &str, prefix: &str) -> Option<String> {
    depends
        .split([',', '|'])
        .filter_map(|item| item.split_whitespace().next())
        .find(|name| name.starts_with(prefix))
        .map(String::from)
}

#[cfg(test)]
mod tests {
    use super::find_dependency;

    #[test]
    fn the_version_is_read_from_what_a_package_depends_on() {
        let depends =
            "libc6 (>= 2.34), libstd-rust-web-1.96 (= 1.96.0+dfsg1-1~deb12u2) | other, libllvm22";
        assert_eq!(
            find_dependency(depends, "libstd-rust-web-1.").as_deref(),
            Some("libstd-rust-web-1.96")
        );
        assert_eq!(
            find_dependency(depends, "libllvm").as_deref(),
            Some("libllvm22")
        );
        assert_eq!(find_dependency(depends, "rustc"), None);
    }
}
