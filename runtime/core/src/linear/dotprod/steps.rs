//! What the `sdot` kernels' loops have in common. `{bits}`, `{high}`, `{part}` and so on are operands of whoever takes a step.

/// Sixteen columns of four rows by one register of activations.
macro_rules! sixteen_columns {
    ($sum:expr, $a:literal, $b:literal, $c:literal, $d:literal, $x:literal) => {
        concat!(
            "sdot v", $sum, ".4s, v", $a, ".16b, v", $x, ".4b[0]\n", "sdot v", $sum, ".4s, v", $b,
            ".16b, v", $x, ".4b[1]\n", "sdot v", $sum, ".4s, v", $c, ".16b, v", $x, ".4b[2]\n",
            "sdot v", $sum, ".4s, v", $d, ".16b, v", $x, ".4b[3]\n",
        )
    };
}

/// Loads the codes of one part of a group of rows, four columns of each row a register from v4 on; v14 is the mask.
macro_rules! codes_of_group {
    () => {
        concat!(
            ".if {part} == 32\n",
            "ld1 {{v4.16b-v7.16b}}, [{w}], #64\n",
            "ld1 {{v8.16b-v11.16b}}, [{w}], {step}\n",
            ".else\n",
            "ld1 {{v4.16b-v7.16b}}, [{w}], {step}\n",
            ".endif\n",
            ".if {bits} == 4\n",
            ".irp n, 4, 5, 6, 7, 8, 9, 10, 11\n",
            ".if \\n < 4 + {part} / 4\n",
            ".if {high}\n",
            "sri v\\n\\().16b, v14.16b, #4\n",
            ".else\n",
            "and v\\n\\().16b, v\\n\\().16b, v14.16b\n",
            ".endif\n",
            ".endif\n",
            ".endr\n",
            ".endif\n",
        )
    };
}

/// What [`codes_of_group`] unpacks 4-bit codes with.
macro_rules! mask_of_group {
    () => {
        concat!(
            ".if {high}\n",
            "movi v14.16b, #0x80\n",
            ".else\n",
            "movi v14.16b, #15\n",
            ".endif\n",
        )
    };
}

/// v12, v13: scales and offsets of a group of rows.
macro_rules! params_of_group {
    () => {
        concat!(
            ".if {offset}\n",
            "ldr q13, [{p}], #2 * {param_bytes}\n",
            "fcvtl v12.4s, v13.4h\n",
            "fcvtl2 v13.4s, v13.8h\n",
            ".else\n",
            "ldr d12, [{p}], #{param_bytes}\n",
            "fcvtl v12.4s, v12.4h\n",
            ".endif\n",
        )
    };
}

/// Adds a block's sum to the result; v3: d, d * Σq.
macro_rules! add_block {
    ($result:expr, $sum:expr) => {
        concat!(
            ".if {high}\n",
            "scvtf v",
            $sum,
            ".4s, v",
            $sum,
            ".4s, #4\n",
            ".else\n",
            "scvtf v",
            $sum,
            ".4s, v",
            $sum,
            ".4s\n",
            ".endif\n",
            "fmul v15.4s, v12.4s, v3.s[0]\n",
            "fmla v",
            $result,
            ".4s, v",
            $sum,
            ".4s, v15.4s\n",
            ".if {offset}\n",
            "fmla v",
            $result,
            ".4s, v13.4s, v3.s[1]\n",
            ".endif\n",
        )
    };
}

/// Writes out lines for the results of `{tokens}` tokens, v16 and on.
macro_rules! each_token {
    ($($line:expr),+) => {
        concat!(
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n",
            ".if \\n < 16 + {tokens}\n",
            $($line,)+
            ".endif\n",
            ".endr\n",
        )
    };
}

/// Zeros the results.
macro_rules! zero_results {
    () => {
        $crate::linear::dotprod::steps::each_token!("movi v\\n\\().2d, #0\n")
    };
}

/// Multiplies the results by the rows' multipliers and stores them.
macro_rules! store_results {
    () => {
        concat!(
            "ldr q0, [{multipliers}]\n",
            $crate::linear::dotprod::steps::each_token!(
                "fmul v\\n\\().4s, v\\n\\().4s, v0.4s\n",
                "st1 {{v\\n\\().4s}}, [{out}], {stride}\n"
            ),
        )
    };
}

pub(super) use {
    add_block, codes_of_group, each_token, mask_of_group, params_of_group, sixteen_columns,
    store_results, zero_results,
};
