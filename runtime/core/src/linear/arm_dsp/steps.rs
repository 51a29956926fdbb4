//! Steps that both products end with, with registers named alike: the stack holds the turn, room for the end of a block's activations,
//! results, parameters; above what was pushed come the records, their end, the bytes of a block's activations and of its parameters.

/// Adds a block's products to one result: registers of the result, the sum, the scale's half of a register, and `d`.
macro_rules! add_scaled {
    ($half:literal, $acc:literal, $sum:literal, $scale:literal, $d:literal) => {
        concat!(
            "vcvt",
            $half,
            ".f32.f16 s10, ",
            $scale,
            "\n",
            "vmul.f32 s10, s10, ",
            $d,
            "\n",
            "vfma.f32 ",
            $acc,
            ", ",
            $sum,
            ", s10\n",
        )
    };
}

/// Adds a block's offset to one result: registers of the result, the offset's half of a register, and `d * Σq`.
macro_rules! add_offset {
    ($half:literal, $acc:literal, $offset:literal, $d_sum:literal) => {
        concat!(
            "vcvt",
            $half,
            ".f32.f16 s11, ",
            $offset,
            "\n",
            "vfma.f32 ",
            $acc,
            ", s11, ",
            $d_sum,
            "\n",
        )
    };
}

/// The sums s0 to s3 as floats.
macro_rules! sums_to_floats {
    () => {
        concat!(
            ".irp n, 0, 1, 2, 3\n",
            ".if {bits} == 8\n",
            "vcvt.f32.s32 s\\n, s\\n, #8\n",
            ".else\n",
            "vcvt.f32.s32 s\\n, s\\n\n",
            ".endif\n",
            ".endr\n",
        )
    };
}

/// Adds a block's sums, s0 to s3, to the results in s12 to s15. Of the first and second two of them: registers of the scales, of `d`, of
/// the offsets, of `d * Σq`; r3: bytes of a block's parameters, more where there are offsets. Then back for the next block.
macro_rules! end_of_block {
    (
        scales: $scales:literal, $more_scales:literal;
        d: $d:literal, $other_d:literal;
        offsets: $offsets:literal, $more_offsets:literal;
        sums: $sum:literal, $other_sum:literal
    ) => {
        concat!(
            sums_to_floats!(),
            add_scaled!("b", "s12", "s0", $scales, $d),
            add_scaled!("t", "s13", "s1", $scales, $d),
            add_scaled!("b", "s14", "s2", $more_scales, $other_d),
            add_scaled!("t", "s15", "s3", $more_scales, $other_d),
            "cmp r3, #{param_bytes}\n",
            "beq 6f\n",
            add_offset!("b", "s12", $offsets, $sum),
            add_offset!("t", "s13", $offsets, $sum),
            add_offset!("b", "s14", $more_offsets, $other_sum),
            add_offset!("t", "s15", $more_offsets, $other_sum),
            "6:\n",
            "ldr r2, [sp, #56]\n",
            "cmp r0, r2\n",
            "bne.w 3b\n",
        )
    };
}

/// Loads the turn; then r5: results, r10: parameters' end.
macro_rules! load_turn {
    ($registers:literal) => {
        concat!(
            "ldr r12, [sp]\n",
            "ldm r12, {{",
            $registers,
            "}}\n",
            "ldrd r5, r10, [sp, #8]\n",
        )
    };
}

/// To the next group, or out of the function.
macro_rules! end_of_group {
    () => {
        concat!(
            "add r1, r1, r2\n",
            "add r10, r10, r3\n",
            "strd r5, r10, [sp, #8]\n",
            "str r7, [sp]\n",
            "cmp r5, r6\n",
            "bne.w 2b\n",
            "add sp, sp, #16\n",
            "pop {{r4-r11, pc}}\n",
        )
    };
}
