//! The first instructions of a Cortex-A: down to exception level 1, stack, statics, page table, caches.
//!
//! Without the memory management unit every address counts as a device's: no caches, and unaligned reads fault. So a table maps
//! each address to itself, in blocks of 2 MiB: what the board's file calls memory is cached, the rest is devices.

use crate::board::MEMORY;
use crate::single::Single;
use core::arch::{asm, global_asm};

global_asm!(
    r#"
.section .text.start, "ax"
.global _start
_start:
    // Only the first core goes on; a boot loader may have let all of them in.
    mrs x0, mpidr_el1
    and x0, x0, #0xff
    cbz x0, 1f
0:  wfe
    b 0b
1:  mrs x0, CurrentEL
    lsr x0, x0, #2
    cmp x0, #2
    b.lo 4f
    b.eq 3f
    // Level 3: level 2 is next, not secure, 64 bits wide.
    mov x0, #0x531
    msr scr_el3, x0
    msr cptr_el3, xzr
    mov x0, #0x3c9
    msr spsr_el3, x0
    adr x0, 3f
    msr elr_el3, x0
    eret
    // Level 2: level 1 is next; it may use floats, timers and the performance monitor.
3:  mov x0, #0x33ff
    msr cptr_el2, x0
    mov x0, #0x80000000
    msr hcr_el2, x0
    mrs x0, mdcr_el2
    and x0, x0, #0x1f
    msr mdcr_el2, x0
    mov x0, #0x3c5
    msr spsr_el2, x0
    adr x0, 4f
    msr elr_el2, x0
    eret
4:  mov x0, #(3 << 20)
    msr cpacr_el1, x0
    adrp x0, vectors
    add x0, x0, :lo12:vectors
    msr vbar_el1, x0
    isb
    ldr x0, =_stack_start
    mov sp, x0
    ldr x0, =__sdata
    ldr x1, =__edata
    ldr x2, =__sidata
5:  cmp x0, x1
    b.hs 6f
    ldr x3, [x2], #8
    str x3, [x0], #8
    b 5b
6:  ldr x0, =__sbss
    ldr x1, =__ebss
7:  cmp x0, x1
    b.hs 8f
    str xzr, [x0], #8
    b 7b
8:  bl furlong_map_memory
    bl main
.ltorg

// Sixteen entries of 128 bytes: whatever it is, it is reported and ends the program.
.balign 2048
vectors:
.rept 16
    mrs x0, esr_el1
    mrs x1, far_el1
    mrs x2, elr_el1
    b furlong_exception
    .balign 128
.endr
"#
);

/// Blocks of 2 MiB in a gibibyte, gibibytes in the table.
const BLOCKS: usize = 512;
const GIBIBYTES: usize = 4;
const BLOCK_BYTES: u64 = 2 << 20;

/// Descriptor bits (Arm ARM, D8.3): what a block is.
const BLOCK: u64 = 0b01;
const TABLE: u64 = 0b11;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const NEVER_EXECUTE: u64 = 0b11 << 53;
/// Which of the two bytes of `mair_el1` applies.
const CACHED: u64 = 1 << 2;
const DEVICE: u64 = 0 << 2;

#[repr(C, align(4096))]
struct Tables {
    blocks: [[u64; BLOCKS]; GIBIBYTES],
    gibibytes: [u64; GIBIBYTES],
}

static TABLES: Single<Tables> = Single::new(Tables {
    blocks: [[0; BLOCKS]; GIBIBYTES],
    gibibytes: [0; GIBIBYTES],
});

#[unsafe(no_mangle)]
extern "C" fn furlong_map_memory() {
    TABLES.with(|tables| {
        let mut address = 0;
        for (blocks, gibibyte) in tables.blocks.iter_mut().zip(&mut tables.gibibytes) {
            for block in blocks.iter_mut() {
                let end = address + BLOCK_BYTES;
                let memory = MEMORY
                    .iter()
                    .any(|range| range.start < end && address < range.end);
                *block = address | BLOCK | ACCESSED;
                *block |= if memory {
                    CACHED | INNER_SHAREABLE
                } else {
                    DEVICE | NEVER_EXECUTE
                };
                address = end;
            }
            *gibibyte = blocks.as_ptr() as u64 | TABLE;
        }
        switch_on(&tables.gibibytes);
    });
}

fn switch_on(table: &[u64; GIBIBYTES]) {
    // 0: device; 1: normal memory, write-back.
    let attributes: u64 = 0xff00;
    // Addresses of 32 bits, pages of 4 KiB, table walks cached; no second table.
    let control: u64 = 32 | 0b01 << 8 | 0b01 << 10 | 0b11 << 12 | 1 << 23;
    // SAFETY: the table maps every address that is used to itself, so nothing moves under the program.
    unsafe {
        asm!(
            "msr mair_el1, {attributes}",
            "msr tcr_el1, {control}",
            "msr ttbr0_el1, {table}",
            "dsb sy",
            "ic iallu",
            "tlbi vmalle1",
            "dsb sy",
            "isb",
            "mrs {scratch}, sctlr_el1",
            "orr {scratch}, {scratch}, #(1 << 0)",  // M: translation
            "orr {scratch}, {scratch}, #(1 << 2)",  // C: data cache
            "orr {scratch}, {scratch}, #(1 << 12)", // I: instruction cache
            "bic {scratch}, {scratch}, #(1 << 1)",  // A: unaligned reads are fine
            "msr sctlr_el1, {scratch}",
            "isb",
            attributes = in(reg) attributes,
            control = in(reg) control,
            table = in(reg) table.as_ptr(),
            scratch = out(reg) _,
            options(nostack)
        );
    }
}
