//! Every instruction set of this CPU against the scalar twin, bit for bit, and the twin against the formula.

mod samples;

use super::*;
use crate::{BlockWeights, DenseWeights, Floats, IsaKind, ZeroPoints, f16, gather::gather_row};
use proptest::prelude::*;
use std::vec::Vec;

/// Weights in a file's layout, with what they borrow.
struct Sample {
    rows: usize,
    columns: usize,
    bits: u8,
    block_size: usize,
    codes: Vec<u8>,
    scales: Vec<f32>,
    zero_points: Vec<u8>,
    offset: bool,
    dense: Vec<f32>,
    halves: Vec<f16>,
}

fn bytes(count: usize, seed: u64) -> Vec<u8> {
    samples::bytes(seed).take(count).collect()
}

fn floats(count: usize, seed: u64) -> Vec<f32> {
    samples::floats(seed).take(count).collect()
}

impl Sample {
    fn new(
        rows: usize,
        columns: usize,
        bits: u8,
        block_size: usize,
        offset: bool,
        seed: u64,
    ) -> Sample {
        let blocks = columns.div_ceil(block_size);
        Sample {
            rows,
            columns,
            bits,
            block_size,
            codes: bytes(rows * blocks * block_size * usize::from(bits) / 8, seed),
            scales: floats(rows * blocks, seed + 1)
                .into_iter()
                .map(|s| s * 1e-3)
                .collect(),
            zero_points: bytes(rows * (blocks * usize::from(bits)).div_ceil(8), seed + 2),
            offset,
            dense: floats(rows * columns, seed + 3),
            halves: floats(rows * columns, seed + 4)
                .into_iter()
                .map(f16::from_f32)
                .collect(),
        }
    }

    fn blocks(&self) -> Weights<'_> {
        let zero_points = if self.offset {
            ZeroPoints::Packed(&self.zero_points)
        } else {
            ZeroPoints::Middle
        };
        let scales = Floats::F32(&self.scales);
        BlockWeights::new(
            self.bits,
            self.block_size,
            self.rows,
            self.columns,
            &self.codes,
            scales,
            zero_points,
        )
        .unwrap()
        .into()
    }

    fn all(&self) -> [Weights<'_>; 3] {
        [
            self.blocks(),
            DenseWeights::new(self.rows, self.columns, Floats::F32(&self.dense))
                .unwrap()
                .into(),
            DenseWeights::new(self.rows, self.columns, Floats::F16(&self.halves))
                .unwrap()
                .into(),
        ]
    }
}

fn pack(kernel: &LinearKernel, weights: &Weights<'_>) -> Vec<u8> {
    let (rows, columns) = (weights.rows(), weights.columns());
    let mut packed = std::vec![0xAA; kernel.packed_bytes(rows, columns).unwrap()];
    // In two parts, as two threads would.
    let middle = (rows / 2).next_multiple_of(kernel.row_tile()).min(rows);
    for range in [0..middle, middle..rows] {
        let place = kernel
            .layout()
            .packed_range(rows, columns, range.clone())
            .unwrap();
        kernel.pack(weights, range, &mut packed[place]).unwrap();
    }
    packed
}

/// The product, with the output's columns split in two.
fn product(kernel: &LinearKernel, weights: &Weights<'_>, x: &[f32], tokens: usize) -> Vec<f32> {
    let (rows, columns) = (weights.rows(), weights.columns());
    let packed = pack(kernel, weights);
    let mut activations = std::vec![0xAA; kernel.activation_bytes(tokens, columns).unwrap()];
    kernel
        .prepare(x, tokens, columns, &mut activations)
        .unwrap();
    let mut out = std::vec![f32::NAN; tokens * rows];
    let middle = (rows / 3).next_multiple_of(kernel.row_tile()).min(rows);
    let (left, right) = MatrixMut::new(&mut out, tokens, rows)
        .unwrap()
        .split_at_column(middle);
    kernel
        .multiply(
            &packed,
            rows,
            columns,
            &activations,
            tokens,
            0..middle,
            left,
        )
        .unwrap();
    kernel
        .multiply(
            &packed,
            rows,
            columns,
            &activations,
            tokens,
            middle..rows,
            right,
        )
        .unwrap();
    out
}

/// `W x` in f64 from the file's weights.
fn reference(weights: &Weights<'_>, x: &[f32], tokens: usize) -> Vec<f64> {
    let (rows, columns) = (weights.rows(), weights.columns());
    let mut out = std::vec![0.0; tokens * rows];
    let mut row_values = std::vec![0.0; columns];
    for row in 0..rows {
        gather_row(weights, row, &mut row_values).unwrap();
        for token in 0..tokens {
            let x = &x[token * columns..][..columns];
            out[token * rows + row] = row_values
                .iter()
                .zip(x)
                .map(|(&w, &x)| f64::from(w) * f64::from(x))
                .sum();
        }
    }
    out
}

#[test]
fn the_scalar_twin_follows_the_formula() {
    for (bits, block_size, offset) in [
        (4, 32, false),
        (4, 64, true),
        (8, 16, false),
        (8, 128, true),
    ] {
        let (rows, columns, tokens) = (19, 130, 3);
        let sample = Sample::new(rows, columns, bits, block_size, offset, 5);
        let x = floats(tokens * columns, 9);
        for weights in sample.all() {
            let kernel = LinearKernel::select(weights.format(), Isa::SCALAR).unwrap();
            let got = product(&kernel, &weights, &x, tokens);
            let want = reference(&weights, &x, tokens);
            let size = want.iter().map(|w| w.abs()).fold(0.0, f64::max);
            // Activations lose up to half of 1/127 of the largest of a block, at random.
            let bound = size
                * if matches!(weights, Weights::Block(_)) {
                    0.02
                } else {
                    1e-5
                };
            for (got, want) in got.iter().zip(&want) {
                assert!(
                    (f64::from(*got) - want).abs() <= bound,
                    "{kernel:?}: {got} {want}"
                );
            }
            // The packed bytes still hold the file's weights, to the precision of f16 parameters.
            let packed = pack(&kernel, &weights);
            let (mut row, mut file_row) = (std::vec![0.0; columns], std::vec![0.0; columns]);
            for index in [0, rows - 1] {
                kernel
                    .layout()
                    .unpack_row(&packed, rows, columns, index, &mut row)
                    .unwrap();
                gather_row(&weights, index, &mut file_row).unwrap();
                let largest = file_row.iter().fold(0f32, |m, v| m.max(v.abs()));
                for (a, b) in row.iter().zip(&file_row) {
                    assert!((a - b).abs() <= largest * 1e-3, "{a} {b}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_isa_gives_the_scalar_bits(
        rows in 1usize..50,
        columns in 1usize..300,
        tokens in 1usize..40,
        block_size in prop_oneof![Just(16usize), Just(32), Just(64), Just(128), Just(256)],
        offset: bool,
        bits in prop_oneof![Just(4u8), Just(8)],
        seed: u64,
    ) {
        let sample = Sample::new(rows, columns, bits, block_size, offset, seed >> 8);
        let x = floats(tokens * columns, seed >> 9);
        for weights in sample.all() {
            let scalar = LinearKernel::select(weights.format(), Isa::SCALAR).unwrap();
            let want = product(&scalar, &weights, &x, tokens);
            for isa in Isa::available() {
                let kernel = LinearKernel::select(weights.format(), isa).unwrap();
                let got = product(&kernel, &weights, &x, tokens);
                let same = got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
                prop_assert!(same, "{} {tokens} tokens:\n{got:?}\n{want:?}", kernel.name());
            }
        }
    }
}

/// More blocks than a kernel unpacks at a time, by all sizes of groups of tokens.
#[test]
fn wide_rows_give_the_scalar_bits() {
    for (bits, block_size, offset, columns) in [
        (4, 32, true, 3111),
        (4, 16, false, 801),
        (8, 32, false, 1600),
    ] {
        let (rows, tokens) = (20, 27);
        let sample = Sample::new(rows, columns, bits, block_size, offset, 21);
        let (weights, x) = (sample.blocks(), floats(tokens * columns, 22));
        let scalar = LinearKernel::select(weights.format(), Isa::SCALAR).unwrap();
        let want = product(&scalar, &weights, &x, tokens);
        for isa in Isa::available() {
            let kernel = LinearKernel::select(weights.format(), isa).unwrap();
            let got = product(&kernel, &weights, &x, tokens);
            let same = got
                .iter()
                .zip(&want)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(
                same,
                "{} {bits} bits, blocks of {block_size}",
                kernel.name()
            );
        }
    }
}

/// The largest codes and activations, where 16-bit sums inside a kernel come closest to overflow.
#[test]
fn extremes_do_not_overflow() {
    for (bits, byte, middle) in [(4, 0xFF, 7), (4, 0x00, -8), (8, 0xFF, 127), (8, 0x00, -128)] {
        for (sign, block) in [1.0, -1.0].into_iter().flat_map(|s| [(s, 32), (s, 128)]) {
            let (rows, columns, tokens) = (16, 128, 9);
            let codes = std::vec![byte; rows * columns * usize::from(bits) / 8];
            let scales = std::vec![1.0; rows * columns / block];
            let weights = BlockWeights::new(
                bits,
                block,
                rows,
                columns,
                &codes,
                Floats::F32(&scales),
                ZeroPoints::Middle,
            )
            .unwrap()
            .into();
            let x = std::vec![127.0 * sign; tokens * columns];
            for isa in Isa::available() {
                let kernel = LinearKernel::select(Weights::format(&weights), isa).unwrap();
                let want = middle as f32 * 127.0 * sign * columns as f32;
                for got in product(&kernel, &weights, &x, tokens) {
                    assert_eq!(got, want, "{}", kernel.name());
                }
            }
        }
    }
}

#[test]
fn odd_activations_stay_contained() {
    let sample = Sample::new(16, 64, 4, 32, true, 3);
    let weights = sample.blocks();
    for isa in Isa::available() {
        let kernel = LinearKernel::select(weights.format(), isa).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = floats(3 * 64, 1);
            x[64] = bad;
            let out = product(&kernel, &weights, &x, 3);
            assert!(
                out[..16].iter().all(|v| v.is_finite()) && out[32..].iter().all(|v| v.is_finite())
            );
            assert!(out[16..32].iter().all(|v| v.is_nan()));
        }
        assert!(
            product(&kernel, &weights, &[1e-38; 64], 1)
                .iter()
                .all(|&v| v == 0.0)
        );
    }
}

#[test]
fn tiny_and_huge_scales_keep_their_precision() {
    for factor in [1e-30f32, 1e-6, 1e6, 1e30] {
        let codes = bytes(16 * 32, 4);
        let scales: Vec<f32> = (0..16).map(|i| factor * (1.0 + i as f32 / 16.0)).collect();
        let weights: Weights<'_> = BlockWeights::new(
            8,
            32,
            16,
            32,
            &codes,
            Floats::F32(&scales),
            ZeroPoints::Middle,
        )
        .unwrap()
        .into();
        let kernel = LinearKernel::select(weights.format(), Isa::detect()).unwrap();
        let x = floats(32, 2);
        let want = reference(&weights, &x, 1);
        let size = want.iter().map(|w| w.abs()).fold(0.0, f64::max);
        for (got, want) in product(&kernel, &weights, &x, 1).iter().zip(&want) {
            assert!((f64::from(*got) - want).abs() < size * 0.02, "{got} {want}");
        }
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let sample = Sample::new(20, 40, 4, 32, false, 1);
    let weights = sample.blocks();
    let kernel = LinearKernel::select(weights.format(), Isa::SCALAR).unwrap();
    let packed = pack(&kernel, &weights);
    let mut activations = std::vec![0; kernel.activation_bytes(2, 40).unwrap()];
    assert!(kernel.prepare(&[0.0; 79], 2, 40, &mut activations).is_err());
    assert!(
        kernel
            .prepare(&[0.0; 80], 2, 40, &mut activations[1..])
            .is_err()
    );
    kernel.prepare(&[0.0; 80], 2, 40, &mut activations).unwrap();
    let mut out = [0.0; 40];
    let mut run =
        |packed: &[u8], rows, range: core::ops::Range<usize>, activations: &[u8], out_columns| {
            let view = MatrixMut::with_stride(&mut out, 2, out_columns, 20).unwrap();
            kernel.multiply(packed, rows, 40, activations, 2, range, view)
        };
    assert_eq!(run(&packed, 20, 0..20, &activations, 20), Ok(()));
    assert_eq!(run(&packed, 20, 16..20, &activations, 4), Ok(()));
    assert_eq!(
        run(&packed, 20, 0..16, &activations, 20),
        Err(Error::Length(Operand::Output))
    );
    assert_eq!(
        run(&packed, 20, 4..20, &activations, 16),
        Err(Error::RowRange)
    );
    assert_eq!(
        run(&packed, 20, 0..12, &activations, 12),
        Err(Error::RowRange)
    );
    assert_eq!(
        run(&packed, 40, 0..20, &activations, 20),
        Err(Error::Length(Operand::Packed))
    );
    assert_eq!(
        run(&packed[1..], 20, 0..20, &activations, 20),
        Err(Error::Length(Operand::Packed))
    );
    assert_eq!(
        run(&packed, 20, 0..20, &activations[1..], 20),
        Err(Error::Length(Operand::Activations))
    );
    assert_eq!(kernel.packed_bytes(usize::MAX, 4), Err(Error::Overflow));
    assert_eq!(kernel.activation_bytes(usize::MAX, 4), Err(Error::Overflow));
    let odd = WeightFormat::Block {
        bits: 5,
        block: 32,
        offset: false,
    };
    assert_eq!(
        LinearKernel::select(odd, Isa::SCALAR).err(),
        Some(Error::Bits(5))
    );
}

#[test]
fn each_format_and_isa_has_its_own_kernel() {
    for isa in Isa::available() {
        let (quantised, dense) = match isa.kind() {
            IsaKind::Scalar => ("scalar", "scalar"),
            IsaKind::ArmDsp => ("arm-dsp", "scalar"),
            IsaKind::Helium => ("helium", "scalar"),
            IsaKind::Neon => ("neon", "neon"),
            IsaKind::NeonDotprod => ("neon-dotprod", "neon"),
            IsaKind::NeonI8mm => ("neon-i8mm", "neon"),
            IsaKind::Avx2 => ("avx2", "avx2"),
            IsaKind::Avx512Vnni => ("avx512-vnni", "avx512"),
        };
        for format in WeightFormat::ALL {
            let want = match format {
                WeightFormat::Block {
                    bits, block: 33.., ..
                } if isa.kind() == IsaKind::NeonI8mm => std::format!("q{bits}-neon-dotprod"),
                WeightFormat::Block { bits, .. } => std::format!("q{bits}-{quantised}"),
                WeightFormat::F16 => std::format!("f16-{dense}"),
                WeightFormat::F32 => std::format!("f32-{dense}"),
            };
            assert_eq!(LinearKernel::select(format, isa).unwrap().name(), want);
        }
    }
}

/// One number for the results of all formats: machines with different instruction sets must print the same.
#[test]
fn results_are_the_same_on_every_machine() {
    let mut hash = 0xCBF2_9CE4_8422_2325u64;
    for (bits, block_size, offset) in [
        (4, 32, true),
        (4, 16, false),
        (8, 32, false),
        (8, 64, true),
        (4, 128, false),
    ] {
        let sample = Sample::new(37, 150, bits, block_size, offset, 11);
        let x = floats(7 * 150, 12);
        for weights in sample.all() {
            let kernel = LinearKernel::select(weights.format(), Isa::detect()).unwrap();
            for value in product(&kernel, &weights, &x, 7) {
                hash = (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01B3);
            }
        }
    }
    assert_eq!(hash, 7_187_196_906_796_751_290);
}

/// What boards without an operating system compute too.
#[test]
fn small_products_have_the_digest_of_every_machine() {
    let mut memory = std::vec![0.0; 12 * 1024 / 4];
    for isa in Isa::available() {
        let digest = samples::digest(isa, &mut memory);
        assert_eq!(digest, Some(samples::DIGEST), "{}", isa.name());
    }
}

#[test]
fn any_machine_packs_for_any_instruction_set() {
    for format in WeightFormat::ALL {
        for isa in Isa::available() {
            let kernel = LinearKernel::select(format, isa).unwrap();
            assert_eq!(
                PackedLayout::of(format, isa.kind()).unwrap(),
                kernel.layout()
            );
        }
    }
}

#[test]
fn memory_for_activations_can_be_planned_for_any_instruction_set() {
    for isa in Isa::available() {
        for format in WeightFormat::ALL {
            let kernel = LinearKernel::select(format, isa).unwrap();
            for (tokens, columns) in [(1, 1), (3, 40), (8, 256), (17, 130)] {
                assert_eq!(
                    activation_bytes(format, isa.kind(), tokens, columns),
                    kernel.activation_bytes(tokens, columns),
                    "{} {format:?}",
                    isa.name()
                );
            }
        }
    }
}
