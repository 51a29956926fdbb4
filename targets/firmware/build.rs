//! Makes of a board's file what the firmware needs of it: the linker's memory map, which transport and counter are built in,
//! constants, and the plan.
//!
//! It reads `FURLONG_BOARD` (a file of targets/boards, required), `FURLONG_PLAN` (the plan to link in) and `FURLONG_PROMPT` (a
//! prompt to answer at start, for boards whose transport can't be reached from a script).

use anyhow::{Context, Result, bail};
use furlong_board_file::{BareMetal, BoardFile, Boot, Counter, Region, Run, Transport};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// What a stack gets: twice what `furlong plan` counts with, or only that where RAM is short.
const STACK_BYTES: u64 = 16 * 1024;
const SHORT_STACK_BYTES: u64 = 8 * 1024;
/// RAM is short below this.
const SHORT_RAM_BYTES: u64 = 64 * 1024;

fn main() -> Result<()> {
    for variable in ["FURLONG_BOARD", "FURLONG_PLAN", "FURLONG_PROMPT"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let folder = Path::new("../boards");
    println!("cargo:rerun-if-changed={}", folder.display());
    let id = env::var("FURLONG_BOARD").with_context(|| {
        format!(
            "set FURLONG_BOARD to one of {}; `cargo xtask flash --board …` does that",
            BoardFile::ids(folder).unwrap_or_default().join(", ")
        )
    })?;
    let board = BoardFile::load(folder, &id)?;
    let Some(bare_metal) = &board.bare_metal else {
        bail!(
            "board {id} has an operating system: `cargo xtask build --board {id}` is what builds for it"
        );
    };
    let triple = env::var("TARGET")?;
    if triple != board.triple {
        bail!(
            "board {id} wants --target {}, not {triple}; `cargo xtask flash --board {id}` does all that",
            board.triple
        );
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("board.rs"), constants(&board, bare_metal)?)?;
    choose(&board, bare_metal);
    link(bare_metal, &out)
}

/// The `cfg`s that choose code.
fn choose(board: &BoardFile, bare_metal: &BareMetal) {
    let transport = match bare_metal.transport {
        Transport::Semihosting => "semihosting",
        Transport::Rtt => "rtt",
        Transport::Pl011 { .. } => "pl011",
    };
    let counter = match bare_metal.counter {
        Counter::Dwt => "dwt",
        Counter::Pmu => "pmu",
        Counter::SysTick { .. } => "sys-tick",
        Counter::Nrf51Timer => "nrf51-timer",
    };
    let end = match board.run {
        Run::EmulatedMachine { .. } => "semihosting",
        Run::Probe { .. } | Run::Uf2 { .. } => "debugger",
        _ => "halt",
    };
    println!("cargo:rustc-cfg=transport=\"{transport}\"");
    println!("cargo:rustc-cfg=counter=\"{counter}\"");
    println!("cargo:rustc-cfg=end=\"{end}\"");
    if bare_metal.boot == Some(Boot::Rp2350) {
        println!("cargo:rustc-cfg=boot=\"rp2350\"");
    }
}

/// `board.rs`: what the code must know in numbers, and the plan.
fn constants(board: &BoardFile, bare_metal: &BareMetal) -> Result<String> {
    let mut text = String::new();
    let mut constant = |about: &str, name: &str, kind: &str, value: String| {
        writeln!(text, "/// {about}\npub const {name}: {kind} = {value};")
    };
    constant(
        "What the board is, in words.",
        "NAME",
        "&str",
        format!("{:?}", board.name),
    )?;
    let prompt = env::var("FURLONG_PROMPT").ok();
    constant(
        "What to answer at start, without being asked over the transport.",
        "PROMPT",
        "Option<&str>",
        format!("{prompt:?}"),
    )?;
    if let Transport::Pl011 {
        base,
        gpio,
        clock_hz,
        baud,
    } = bare_metal.transport
    {
        constant(
            "Address of the serial port's registers.",
            "PL011_BASE",
            "usize",
            base.to_string(),
        )?;
        constant(
            "Address of the pins' registers.",
            "GPIO_BASE",
            "usize",
            gpio.to_string(),
        )?;
        // The divider has six bits of fraction (PL011 manual, section 3.3.6).
        let divider = (u64::from(clock_hz) * 4 + u64::from(baud) / 2) / u64::from(baud);
        constant(
            "Clock over 16 times the speed of the line, in 64ths.",
            "PL011_DIVIDER",
            "u32",
            divider.to_string(),
        )?;
    }
    if let Counter::SysTick { hz } = bare_metal.counter {
        constant(
            "Frequency of the processor clock.",
            "CLOCK_HZ",
            "u32",
            hz.to_string(),
        )?;
    }
    if board.triple.starts_with("aarch64") {
        let memory = bare_metal.memory;
        let ranges: Vec<String> = [memory.flash, memory.ram, memory.plan()]
            .iter()
            .map(|region| format!("{:#x}..{:#x}", region.origin, region.origin + region.length))
            .collect();
        constant(
            "What is memory; everything else is devices.",
            "MEMORY",
            "[core::ops::Range<u64>; 3]",
            format!("[{}]", ranges.join(", ")),
        )?;
    }
    match env::var_os("FURLONG_PLAN").filter(|path| !path.is_empty()) {
        None => text.push_str(
            "/// The plan: none is linked in.\npub fn plan() -> Option<&'static [u8]> {\n    None\n}\n",
        ),
        Some(path) => {
            let path = fs::canonicalize(&path)
                .with_context(|| format!("FURLONG_PLAN: {}", path.display()))?;
            println!("cargo:rerun-if-changed={}", path.display());
            let length = fs::metadata(&path)?.len();
            let room = bare_metal.memory.plan();
            if length > room.length {
                bail!(
                    "{}: {length} bytes are more than the {} of {}",
                    path.display(),
                    room.length,
                    board.name
                );
            }
            // By the assembler: the compiler would carry a hundred megabytes through all its stages.
            writeln!(
                text,
                "core::arch::global_asm!(\n\
                 \".pushsection .plan, \\\"a\\\"\",\n\
                 \".balign 64\",\n\
                 \".global furlong_plan\",\n\
                 \"furlong_plan:\",\n\
                 concat!(\".incbin \\\"\", {path:?}, \"\\\"\"),\n\
                 \".popsection\",\n\
                 options(raw)\n\
                 );\n\
                 unsafe extern \"C\" {{\n    static furlong_plan: [u8; {length}];\n}}\n\
                 /// The plan, where it lies in flash.\n\
                 pub fn plan() -> Option<&'static [u8]> {{\n\
                 \x20   // SAFETY: so many bytes are there, put there by the lines above, and nothing writes them.\n\
                 \x20   Some(unsafe {{ &furlong_plan }})\n}}"
            )?;
        }
    }
    Ok(text)
}

/// Linker script and arguments.
fn link(bare_metal: &BareMetal, out: &Path) -> Result<()> {
    let memory = bare_metal.memory;
    let stack = if memory.ram.length < SHORT_RAM_BYTES {
        SHORT_STACK_BYTES
    } else {
        STACK_BYTES
    };
    if memory.ram.length <= stack {
        bail!("the board's RAM is too short for a stack of {stack} bytes");
    }
    let region = |Region { origin, length }| format!("ORIGIN = {origin:#x}, LENGTH = {length:#x}");
    // The stack grows down from the statics to the start of RAM: one that is too deep runs into nothing and faults, instead of
    // writing over what lies there.
    let rest = Region {
        origin: memory.ram.origin + stack,
        length: memory.ram.length - stack,
    };
    let plan = match memory.plan {
        Some(plan) => format!("  PLAN : {}\n}}\n", region(plan)),
        None => "}\nREGION_ALIAS(\"PLAN\", FLASH);\n".to_string(),
    };
    let script = format!(
        "MEMORY\n{{\n  FLASH : {}\n  RAM : {}\n{plan}\
         _stack_end = {:#x};\n_stack_start = ORIGIN(RAM);\n\
         SECTIONS {{ .plan : ALIGN(64) {{ KEEP(*(.plan)) }} > PLAN }} INSERT AFTER .rodata;\n",
        region(memory.flash),
        region(rest),
        memory.ram.origin,
    );
    let boot = match bare_metal.boot {
        // Within the first 4 KiB, so before the code.
        Some(Boot::Rp2350) => {
            "SECTIONS { .start_block : ALIGN(4) { KEEP(*(.start_block)) } > FLASH } INSERT AFTER .vector_table;\n\
             _stext = ADDR(.start_block) + SIZEOF(.start_block);\n"
        }
        None => "",
    };
    fs::write(out.join("memory.x"), format!("{script}{boot}"))?;
    println!("cargo:rustc-link-search={}", out.display());
    if env::var("CARGO_CFG_TARGET_ARCH")? == "aarch64" {
        println!("cargo:rerun-if-changed=link/aarch64.x");
        println!(
            "cargo:rustc-link-arg=-T{}/link/aarch64.x",
            env::var("CARGO_MANIFEST_DIR")?
        );
    } else {
        println!("cargo:rustc-link-arg=-Tlink.x");
    }
    println!("cargo:rustc-link-arg=-Tdefmt.x");
    // Sections needn't start at the same place in a page of the file as in memory: nothing pages here.
    println!("cargo:rustc-link-arg=--nmagic");
    Ok(())
}
