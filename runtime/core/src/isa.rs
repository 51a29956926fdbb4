//! Instruction sets: which ones there are, and which one this CPU has.
//!
//! An [`Isa`] is a proof: one exists only for an instruction set that the CPU running this has. So
//! a kernel that holds an `Isa` may call that set's code without asking again. Microcontrollers can't be asked: what the code is
//! built for decides (`build.rs`).

/// The names of the instruction sets that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum IsaKind {
    /// Plain Rust: the definition of every kernel's result.
    Scalar,
    /// Cortex-M with the DSP extension and an FPU (M4, M7, M33).
    ArmDsp,
    /// Cortex-M with Helium for integers and floats (M55, M85).
    Helium,
    /// AArch64 Advanced SIMD as every ARMv8.0 has it (Cortex-A53, A72).
    Neon,
    /// AArch64 with the `sdot` instruction (Cortex-A55, A76).
    NeonDotprod,
    /// AArch64 with `sdot` and `smmla` (Cortex-A510, A710, Neoverse V1).
    NeonI8mm,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
}

impl IsaKind {
    /// All of them, the plainest first.
    pub const ALL: [IsaKind; 8] = [
        IsaKind::Scalar,
        IsaKind::ArmDsp,
        IsaKind::Helium,
        IsaKind::Neon,
        IsaKind::NeonDotprod,
        IsaKind::NeonI8mm,
        IsaKind::Avx2,
        IsaKind::Avx512Vnni,
    ];

    /// A short name for reports and options, such as `neon-dotprod`.
    pub const fn name(self) -> &'static str {
        match self {
            IsaKind::Scalar => "scalar",
            IsaKind::ArmDsp => "arm-dsp",
            IsaKind::Helium => "helium",
            IsaKind::Neon => "neon",
            IsaKind::NeonDotprod => "neon-dotprod",
            IsaKind::NeonI8mm => "neon-i8mm",
            IsaKind::Avx2 => "avx2",
            IsaKind::Avx512Vnni => "avx512-vnni",
        }
    }

    /// Whether only microcontrollers have it.
    pub(crate) const fn is_microcontroller(self) -> bool {
        matches!(self, IsaKind::ArmDsp | IsaKind::Helium)
    }

    /// The instruction set of that name, or `None`.
    pub fn from_name(name: &str) -> Option<IsaKind> {
        IsaKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Isa(IsaKind);

impl Isa {
    /// Plain Rust, available everywhere.
    pub const SCALAR: Isa = Isa(IsaKind::Scalar);

    /// The proof that this CPU has `kind`, or `None` if it has not.
    ///
    /// With the feature `std` the CPU is asked; without, only what the program was compiled for counts.
    pub fn new(kind: IsaKind) -> Option<Isa> {
        available(kind).then_some(Isa(kind))
    }

    /// The fastest instruction set of this CPU.
    pub fn detect() -> Isa {
        IsaKind::ALL
            .into_iter()
            .rev()
            .find_map(Isa::new)
            .unwrap_or(Isa::SCALAR)
    }

    /// Every instruction set of this CPU, [`Isa::SCALAR`] first.
    pub fn available() -> impl Iterator<Item = Isa> {
        IsaKind::ALL.into_iter().filter_map(Isa::new)
    }

    /// Which instruction set this is.
    pub const fn kind(self) -> IsaKind {
        self.0
    }

    /// The short name of [`IsaKind::name`].
    pub const fn name(self) -> &'static str {
        self.0.name()
    }
}

/// Asks the CPU with `std`, else the compiler's target features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! has {
    ($detect:ident: $($feature:tt),+) => {{
        #[cfg(any(feature = "std", test))]
        let found = $(std::arch::$detect!($feature))&&+;
        #[cfg(not(any(feature = "std", test)))]
        let found = $(cfg!(target_feature = $feature))&&+;
        found
    }};
}

fn available(kind: IsaKind) -> bool {
    match kind {
        IsaKind::Scalar => true,
        #[cfg(arm_dsp)]
        IsaKind::ArmDsp => true,
        #[cfg(arm_helium)]
        IsaKind::Helium => true,
        #[cfg(target_arch = "x86_64")]
        IsaKind::Avx2 => has!(is_x86_feature_detected: "avx2", "fma", "f16c"),
        #[cfg(target_arch = "x86_64")]
        IsaKind::Avx512Vnni => {
            has!(is_x86_feature_detected: "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")
        }
        #[cfg(target_arch = "aarch64")]
        IsaKind::Neon => has!(is_aarch64_feature_detected: "neon"),
        #[cfg(target_arch = "aarch64")]
        IsaKind::NeonDotprod => has!(is_aarch64_feature_detected: "neon", "dotprod"),
        #[cfg(target_arch = "aarch64")]
        IsaKind::NeonI8mm => has!(is_aarch64_feature_detected: "neon", "dotprod", "i8mm"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in IsaKind::ALL {
            assert_eq!(IsaKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(IsaKind::from_name("sse"), None);
    }

    #[test]
    fn detection_is_available() {
        let best = Isa::detect();
        assert!(Isa::available().any(|isa| isa == best));
        assert_eq!(Isa::available().next(), Some(Isa::SCALAR));
    }
}
