//! Four rows of weights as `smmla` reads them, made of those that lie as `sdot` wants them.
//!
//! A panel has codes of four rows × 32 columns, then scales `[0, 1, 0, 1]`, `[2, 3, 2, 3]` and offsets likewise.

/// Loads and unpacks a block of a group of rows, and if `{fill}` keeps it in the panel: codes v16 to v23, scales v24, v25, offsets v26, v27.
macro_rules! unpack_block {
    () => {
        concat!(
            "ld1 {{v0.16b-v3.16b}}, [{w}], {step}\n",
            ".if {block} == 32\n",
            "ld1 {{v28.16b-v31.16b}}, [{w}], {rest}\n",
            ".endif\n",
            // Eight columns of the first two rows and of the last two; then the next eight columns.
            "zip1 v16.4s, v0.4s, v1.4s\n",
            "zip2 v17.4s, v0.4s, v1.4s\n",
            "zip1 v18.4s, v2.4s, v3.4s\n",
            "zip2 v19.4s, v2.4s, v3.4s\n",
            ".if {block} == 32\n",
            "zip1 v20.4s, v28.4s, v29.4s\n",
            "zip2 v21.4s, v28.4s, v29.4s\n",
            "zip1 v22.4s, v30.4s, v31.4s\n",
            "zip2 v23.4s, v30.4s, v31.4s\n",
            ".endif\n",
            ".if {bits} == 4\n",
            ".if {high}\n",
            "movi v24.16b, #0x80\n",
            ".else\n",
            "movi v24.16b, #15\n",
            ".endif\n",
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23\n",
            ".if \\n < 16 + {block} / 4\n",
            ".if {high}\n",
            "sri v\\n\\().16b, v24.16b, #4\n",
            ".else\n",
            "and v\\n\\().16b, v\\n\\().16b, v24.16b\n",
            ".endif\n",
            ".endif\n",
            ".endr\n",
            ".endif\n",
            ".if {fill}\n",
            "st1 {{v16.16b-v19.16b}}, [{panel}], #64\n",
            ".if {block} == 32\n",
            "st1 {{v20.16b-v23.16b}}, [{panel}], #64\n",
            ".endif\n",
            ".endif\n",
            // Parameters of two rows are one number here, and go to both halves of a register.
            ".if {offset}\n",
            "ld4r {{v24.2s-v27.2s}}, [{p}], {params}\n",
            ".irp n, 24, 25, 26, 27\n",
            "fcvtl v\\n\\().4s, v\\n\\().4h\n",
            ".endr\n",
            ".if {fill}\n",
            "st1 {{v24.4s-v27.4s}}, [{panel}], #64\n",
            ".endif\n",
            ".else\n",
            "ld2r {{v24.2s, v25.2s}}, [{p}], {params}\n",
            "fcvtl v24.4s, v24.4h\n",
            "fcvtl v25.4s, v25.4h\n",
            ".if {fill}\n",
            "st1 {{v24.4s, v25.4s}}, [{panel}], #32\n",
            ".endif\n",
            ".endif\n",
        )
    };
}

/// Loads an unpacked block, into the same registers.
macro_rules! load_block {
    () => {
        concat!(
            "ld1 {{v16.16b-v19.16b}}, [{panel}], #64\n",
            ".if {block} == 32\n",
            "ld1 {{v20.16b-v23.16b}}, [{panel}], #64\n",
            ".endif\n",
            ".if {offset}\n",
            "ld1 {{v24.4s-v27.4s}}, [{panel}], #64\n",
            ".else\n",
            "ld1 {{v24.4s, v25.4s}}, [{panel}], #32\n",
            ".endif\n",
        )
    };
}

pub(super) use {load_block, unpack_block};
