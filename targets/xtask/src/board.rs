//! Boards: one TOML file each in `targets/boards/`, and how to run a program on one.

use crate::shell;
use crate::toolchain::{self, CrossToolchain};
use crate::{packages, plugin, workspace};
use anyhow::{Context, Result, bail};
use furlong_board_file::BoardFile;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a board runs a program.
pub use furlong_board_file::Run as Runner;

/// One board: what its file says, and what can be done with it.
#[derive(Debug, Clone)]
pub struct Board(BoardFile);

impl Deref for Board {
    type Target = BoardFile;

    fn deref(&self) -> &BoardFile {
        &self.0
    }
}

impl Board {
    /// Reads one board's file.
    ///
    /// # Errors
    /// Lists the boards there are when it isn't one of them.
    pub fn load(id: &str) -> Result<Self> {
        Ok(Self(BoardFile::load(&Self::folder()?, id)?))
    }

    /// All boards' names, sorted.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn ids() -> Result<Vec<String>> {
        Ok(BoardFile::ids(&Self::folder()?)?)
    }

    fn folder() -> Result<PathBuf> {
        Ok(workspace::root()?.join("targets/boards"))
    }

    /// What builds for it.
    ///
    /// # Errors
    /// When a toolchain, compiler or emulator is missing and can't be installed.
    pub fn builder(&self) -> Result<Builder> {
        match (self.triple.as_str(), &self.run) {
            ("host", _) => Ok(Builder::Host),
            (toolchain::AARCH64, run) => {
                packages::ensure(&[packages::CROSS])?;
                if let Runner::Emulated { .. } = run {
                    packages::ensure(&[packages::EMULATORS])?;
                }
                Ok(Builder::Aarch64(toolchain::ensure()?))
            }
            _ if self.bare_metal.is_some() => bail!(
                "{}: there is no operating system; `cargo xtask flash --board {}` builds and runs the firmware",
                self.id,
                self.id
            ),
            (other, _) => bail!("{}: there is no toolchain for {other} yet", self.id),
        }
    }

    /// What a test that starts programs itself must put before them here.
    pub fn runner(&self) -> Option<String> {
        match &self.run {
            Runner::Emulated { cpu } => Some(format!("qemu-aarch64 -cpu {cpu}")),
            _ => None,
        }
    }

    /// The command that runs `program` there, with variables set; arguments may be added.
    ///
    /// # Errors
    /// When the program can't be brought to the board.
    pub fn command(&self, program: &Path, environment: &[(&str, &str)]) -> Result<Command> {
        let mut command = match &self.run {
            Runner::Host => Command::new(program),
            Runner::Emulated { cpu } => shell::command(
                "qemu-aarch64",
                ["-cpu", cpu, &program.display().to_string()],
            ),
            Runner::EmulatedMachine { .. }
            | Runner::Probe { .. }
            | Runner::Uf2 { .. }
            | Runner::SdCard { .. } => {
                bail!("{}: programs there need no operating system", self.id)
            }
            Runner::Ssh {
                address_variable,
                folder,
            } => {
                let name = self.deliver(program)?;
                let set: String = environment
                    .iter()
                    .map(|(name, value)| format!("{name}={value} "))
                    .collect();
                let address = self.address(address_variable)?;
                return Ok(shell::command(
                    "ssh",
                    [&address, &format!("cd {folder} && {set}./{name}")],
                ));
            }
        };
        command.envs(environment.iter().copied());
        Ok(command)
    }

    /// The command that runs `program` there and counts its instructions into `counter`, a file of eight bytes.
    ///
    /// # Errors
    /// When the board isn't an emulated one, or the plugin can't be built.
    pub fn counting_command(
        &self,
        program: &Path,
        counter: &Path,
        environment: &[(&str, &str)],
    ) -> Result<Command> {
        let Runner::Emulated { cpu } = &self.run else {
            bail!("{}: only emulated boards count instructions", self.id);
        };
        let plugin = plugin::build()?;
        fs::write(counter, [0; 8]).with_context(|| format!("writing {}", counter.display()))?;
        let argument = format!("{},counter={}", plugin.display(), counter.display());
        let mut command = shell::command(
            "qemu-aarch64",
            ["-cpu", cpu, "-seed", "1", "-plugin", &argument],
        );
        command
            .arg(program)
            .env("FURLONG_COUNTER", counter)
            .envs(environment.iter().copied());
        Ok(command)
    }

    /// Copies a file or folder to where the board's programs run; gives its path there.
    ///
    /// # Errors
    /// When the board isn't reached.
    pub fn deliver(&self, path: &Path) -> Result<String> {
        let Runner::Ssh {
            address_variable,
            folder,
        } = &self.run
        else {
            return Ok(path.display().to_string());
        };
        let address = self.address(address_variable)?;
        let name = path
            .file_name()
            .context("what is copied has a name")?
            .to_string_lossy();
        shell::quiet(&mut shell::command(
            "ssh",
            [&address, &format!("mkdir -p {folder}")],
        ))?;
        shell::quiet(
            Command::new("scp")
                .args(["-q", "-r"])
                .arg(path)
                .arg(format!("{address}:{folder}/")),
        )?;
        Ok(name.into_owned())
    }

    /// Copies what programs left in the folder `there` on the board into the folder `here`; nothing to do for boards that share our
    /// files.
    ///
    /// # Errors
    /// When the board isn't reached.
    pub fn fetch(&self, there: &str, here: &Path) -> Result<()> {
        let Runner::Ssh {
            address_variable,
            folder,
        } = &self.run
        else {
            return Ok(());
        };
        let address = self.address(address_variable)?;
        shell::quiet(
            Command::new("scp")
                .args(["-q", "-r"])
                .arg(format!("{address}:{folder}/{there}"))
                .arg(here),
        )
    }

    fn address(&self, variable: &str) -> Result<String> {
        std::env::var(variable).with_context(|| {
            format!(
                "{}: set {variable} to the board's ssh address, such as pi@raspberrypi.local",
                self.id
            )
        })
    }
}

/// What cargo is told to unite the features of. Always all packages: that way a dependency is built once, not once for each
/// choice; what is built is chosen by `--bin`, `--test` and so on. Without the default features, because nothing but training
/// needs the training stack, and it takes as long to build as all the rest.
pub const WORKSPACE: [&str; 4] = [
    "--workspace",
    "--no-default-features",
    "--features",
    "furlong-benches/models",
];

/// Training on the processor; on a graphics card takes another ten minutes to build.
pub const TRAINING: &str = "--features=furlong-fine-tune/train";

/// What builds for a board.
#[derive(Debug, Clone)]
pub enum Builder {
    /// This machine's cargo.
    Host,
    /// The same, and `fine-tune` can train: what the tests build, who run the programs that come out, too.
    HostWithTraining,
    /// The cross toolchain.
    Aarch64(CrossToolchain),
}

impl Builder {
    /// `cargo SUBCOMMAND --release` for the whole workspace.
    ///
    /// # Errors
    /// When run outside the repository.
    pub fn cargo(&self, subcommand: &str) -> Result<Command> {
        self.cargo_of(subcommand, &WORKSPACE)
    }

    /// `cargo SUBCOMMAND --release` for the packages that `scope` names, in the repository's root.
    fn cargo_of(&self, subcommand: &str, scope: &[&str]) -> Result<Command> {
        let mut command = match self {
            Self::Host | Self::HostWithTraining => {
                let mut command = Command::new("cargo");
                command.arg(subcommand).current_dir(workspace::root()?);
                command
            }
            Self::Aarch64(cross) => cross.cargo(subcommand)?,
        };
        // `cargo bench` knows no --release; one profile for everything means nothing is built twice.
        let profile: &[&str] = if subcommand == "bench" {
            &["--profile", "release"]
        } else {
            &["--release"]
        };
        command.args(profile).arg("--locked").args(scope);
        if let Self::HostWithTraining = self {
            command.arg(TRAINING);
        }
        Ok(command)
    }

    /// Builds what `args` say and gives the programs that came out, by the name of their target.
    ///
    /// # Errors
    /// When the build fails: its output has been shown by then.
    pub fn programs(&self, subcommand: &str, args: &[&str]) -> Result<Vec<Program>> {
        self.programs_of(subcommand, &WORKSPACE, args)
    }

    /// [`Builder::programs`] of the packages that `scope` names, with the features that it names: for what needs little of the
    /// workspace.
    ///
    /// # Errors
    /// As there.
    pub fn programs_of(
        &self,
        subcommand: &str,
        scope: &[&str],
        args: &[&str],
    ) -> Result<Vec<Program>> {
        let mut command = self.cargo_of(subcommand, scope)?;
        command
            .args(args)
            .args(["--quiet", "--message-format=json-render-diagnostics"]);
        let text = shell::show(&command);
        let output = command
            .stderr(std::process::Stdio::inherit())
            .output()
            .with_context(|| format!("starting: {text}"))?;
        if !output.status.success() {
            bail!("failed ({}): {text}", output.status);
        }
        let mut programs = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            if let (Some(path), Some(name)) = (
                message["executable"].as_str(),
                message["target"]["name"].as_str(),
            ) {
                let package = message["manifest_path"]
                    .as_str()
                    .and_then(|manifest| Path::new(manifest).parent());
                programs.push(Program {
                    name: name.to_string(),
                    path: PathBuf::from(path),
                    is_test: message["profile"]["test"] == true,
                    is_unit_test: message["profile"]["test"] == true
                        && matches!(message["target"]["kind"][0].as_str(), Some("lib" | "bin")),
                    is_bench: message["target"]["kind"][0] == "bench",
                    package: package.unwrap_or(Path::new(".")).to_path_buf(),
                });
            }
        }
        Ok(programs)
    }
}

/// A built program.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its target's name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Whether it runs tests (or benches) rather than being a program of ours.
    pub is_test: bool,
    /// Whether it runs the tests that are beside what they test.
    pub is_unit_test: bool,
    /// Whether it is one of the files in a `benches/`.
    pub is_bench: bool,
    /// The folder of the package it belongs to, where tests expect to run.
    pub package: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::Board;

    #[test]
    fn every_board_file_is_read() {
        let ids = Board::ids().expect("the boards' folder");
        assert!(ids.len() >= 18, "{ids:?}");
        for id in ids {
            Board::load(&id).unwrap_or_else(|error| panic!("{id}: {error:#}"));
        }
    }
}
