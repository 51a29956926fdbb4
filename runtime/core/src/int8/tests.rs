//! Every kernel against the scalar twin, bit for bit, and the twin against the formula.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// A cheap sequence of bytes, the same on every machine.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..count).map(step).collect()
}

fn floats(count: usize, seed: u64) -> Vec<f32> {
    bytes(count, seed)
        .into_iter()
        .map(|b| (f32::from(b) - 99.5) / 50.0)
        .collect()
}

/// Every kernel that this CPU can run.
fn kernels() -> Vec<Int8Kernel> {
    Isa::available()
        .flat_map(|isa| [Int8Kernel::plain(isa), Int8Kernel::select(isa)])
        .collect()
}

struct Sample {
    rows: usize,
    columns: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
    bias: Vec<f32>,
}

impl Sample {
    fn new(rows: usize, columns: usize, seed: u64) -> Sample {
        Sample {
            rows,
            columns,
            codes: bytes(rows * columns, seed)
                .into_iter()
                .map(|b| b as i8)
                .collect(),
            scales: floats(rows, seed + 1),
            zeros: bytes(rows, seed + 2)
                .into_iter()
                .map(|b| i32::from(b as i8))
                .collect(),
            bias: floats(rows, seed + 3),
        }
    }

    fn product(&self, kernel: Int8Kernel, x: &[f32], tokens: usize, ranges: Ranges) -> Vec<f32> {
        let (rows, columns) = (self.rows, self.columns);
        let mut packed = std::vec![0; kernel.packed_bytes(rows, columns).unwrap()];
        for row in 0..rows {
            let codes = &self.codes[row * columns..][..columns];
            let (scale, zero) = (self.scales[row], self.zeros[row]);
            kernel
                .pack_row(row, rows, codes, scale, zero, &mut packed)
                .unwrap();
        }
        let mut activations = std::vec![0xAA; kernel.activation_bytes(tokens, columns).unwrap()];
        kernel
            .prepare(x, tokens, columns, ranges, &mut activations)
            .unwrap();
        let mut out = std::vec![f32::NAN; tokens * rows];
        let middle = (rows / 3).next_multiple_of(kernel.row_tile()).min(rows);
        let (left, right) = MatrixMut::new(&mut out, tokens, rows)
            .unwrap()
            .split_at_column(middle);
        for (range, part) in [(0..middle, left), (middle..rows, right)] {
            let bias = Some(&self.bias[..]);
            kernel
                .multiply(
                    &packed,
                    rows,
                    columns,
                    &activations,
                    tokens,
                    range,
                    bias,
                    part,
                )
                .unwrap();
        }
        out
    }
}

#[test]
fn the_scalar_twin_follows_the_formula() {
    let (rows, columns, tokens) = (19, 130, 18);
    let sample = Sample::new(rows, columns, 3);
    let x = floats(tokens * columns, 9);
    for ranges in [Ranges::Token, Ranges::Tensor] {
        let got = sample.product(Int8Kernel::plain(Isa::SCALAR), &x, tokens, ranges);
        for token in 0..tokens {
            for row in 0..rows {
                let weights = sample.codes[row * columns..][..columns]
                    .iter()
                    .map(|&code| {
                        f64::from(sample.scales[row])
                            * f64::from(i32::from(code) - sample.zeros[row])
                    });
                let x = x[token * columns..][..columns].iter();
                let want = weights.zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>()
                    + f64::from(sample.bias[row]);
                let error = f64::from(got[token * rows + row]) - want;
                // A step of the activations is 5 / 255; half of that, at random, times weights of up to 500.
                assert!(
                    error.abs() < 150.0,
                    "{ranges:?} {token} {row}: {error} of {want}"
                );
            }
        }
    }
}

#[test]
fn codes_are_those_of_the_standard() {
    // The example of ONNX's DynamicQuantizeLinear.
    let kernel = Int8Kernel::plain(Isa::detect());
    for (x, scale, zero, codes) in [
        (
            [0.0, 2.0, -3.0, -2.5, 1.34, 0.5],
            0.019_607_844f32,
            153,
            [153, 255, 0, 26, 221, 179],
        ),
        (
            [-1.0, -2.1, -1.3, -2.5, -3.34, -4.0],
            0.015_686_275,
            255,
            [191, 121, 172, 96, 42, 0],
        ),
        ([0.0; 6], 1.0, 0, [0; 6]),
    ] {
        let mut prepared = std::vec![0; kernel.activation_bytes(1, 6).unwrap()];
        kernel
            .prepare(&x, 1, 6, Ranges::Tensor, &mut prepared)
            .unwrap();
        assert_eq!(prepared[..6], codes);
        let numbers = &prepared[64 * TOKENS..];
        assert_eq!(numbers[..4], scale.to_ne_bytes());
        assert_eq!(numbers[4..8], i32::to_ne_bytes(zero));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_kernel_gives_the_scalar_bits(
        rows in 1usize..70,
        columns in 1usize..300,
        tokens in 1usize..40,
        by_token: bool,
        seed: u64,
    ) {
        let ranges = if by_token { Ranges::Token } else { Ranges::Tensor };
        let sample = Sample::new(rows, columns, seed >> 8);
        let x = floats(tokens * columns, seed >> 9);
        let want = sample.product(Int8Kernel::plain(Isa::SCALAR), &x, tokens, ranges);
        for kernel in kernels() {
            let got = sample.product(kernel, &x, tokens, ranges);
            let same = got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
            prop_assert!(same, "{} {tokens} tokens:\n{got:?}\n{want:?}", kernel.name());
        }
    }
}

#[test]
fn extremes_do_not_overflow_and_odd_activations_stay_contained() {
    let (rows, columns, tokens) = (16, MAX_COLUMNS, 6);
    for code in [-128i8, 127] {
        let mut sample = Sample::new(rows, columns, 1);
        sample.codes.fill(code);
        sample.scales.fill(1.0);
        sample.zeros.fill(if code < 0 { 127 } else { -128 });
        sample.bias.fill(0.0);
        for kernel in kernels() {
            let out = sample.product(
                kernel,
                &std::vec![255.0; tokens * columns],
                tokens,
                Ranges::Token,
            );
            let want = 255.0 * columns as f32 * (f32::from(code) - sample.zeros[0] as f32);
            assert!(
                out.iter().all(|&y| y == want),
                "{}: {} {want}",
                kernel.name(),
                out[0]
            );
        }
    }
    let sample = Sample::new(20, 40, 2);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = floats(3 * 40, 1);
        x[41] = bad;
        let out = sample.product(Int8Kernel::select(Isa::detect()), &x, 3, Ranges::Token);
        assert!(out[..20].iter().chain(&out[40..]).all(|y| y.is_finite()));
        assert!(out[20..40].iter().all(|y| y.is_nan()));
    }
}

#[test]
fn each_isa_has_its_kernel_and_wrong_sizes_are_refused() {
    for isa in Isa::available() {
        let want = match isa.kind() {
            crate::IsaKind::Scalar | crate::IsaKind::ArmDsp | crate::IsaKind::Helium => "i8-scalar",
            crate::IsaKind::Neon => "i8-neon",
            crate::IsaKind::NeonDotprod | crate::IsaKind::NeonI8mm => "i8-neon-dotprod",
            crate::IsaKind::Avx2 => "i8-avx2",
            crate::IsaKind::Avx512Vnni => "i8-avx512-vnni",
        };
        assert_eq!(Int8Kernel::plain(isa).name(), want);
        let chosen = Int8Kernel::select(isa).name();
        assert!(chosen == want || (want, chosen) == ("i8-avx512-vnni", "i8-avx512-amx"));
    }
    let kernel = Int8Kernel::select(Isa::detect());
    assert_eq!(
        kernel.packed_bytes(1, MAX_COLUMNS + 1),
        Err(Error::Overflow)
    );
    assert_eq!(kernel.packed_bytes(1, 0), Err(Error::Shape));
    assert_eq!(kernel.activation_bytes(usize::MAX, 4), Err(Error::Overflow));
    let mut packed = std::vec![0; kernel.packed_bytes(20, 40).unwrap()];
    assert_eq!(
        kernel.pack_row(20, 20, &[0; 40], 1.0, 0, &mut packed),
        Err(Error::RowRange)
    );
    assert_eq!(
        kernel.pack_row(0, 20, &[0; 40], 1.0, 128, &mut packed),
        Err(Error::Shape)
    );
    let mut activations = std::vec![0; kernel.activation_bytes(2, 40).unwrap()];
    let length = |operand| Err(Error::Length(operand));
    let refused = kernel.prepare(&[0.0; 79], 2, 40, Ranges::Token, &mut activations);
    assert_eq!(refused, length(Operand::Input));
    let mut out = [0.0; 40];
    let mut run = |packed: &[u8], range: Range<usize>, activations: &[u8], bias: &[f32]| {
        let view = MatrixMut::with_stride(&mut out, 2, range.len(), 20).unwrap();
        kernel.multiply(packed, 20, 40, activations, 2, range, Some(bias), view)
    };
    assert_eq!(run(&packed, 0..20, &activations, &[0.0; 20]), Ok(()));
    assert_eq!(
        run(&packed, 4..20, &activations, &[0.0; 20]),
        Err(Error::RowRange)
    );
    assert_eq!(
        run(&packed[1..], 0..20, &activations, &[0.0; 20]),
        length(Operand::Packed)
    );
    let short = &activations[1..];
    assert_eq!(
        run(&packed, 0..20, short, &[0.0; 20]),
        length(Operand::Activations)
    );
    assert_eq!(
        run(&packed, 0..20, &activations, &[0.0; 19]),
        length(Operand::Parameters)
    );
}
