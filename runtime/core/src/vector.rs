//! One body, compiled once for each instruction set.
//!
//! Steps that touch each value a few times (norms, activations, softmax) are written as plain loops over
//! sixteen running sums; the compiler turns them into vectors of whatever width the set has. Plain
//! multiplications and additions are never fused or reordered, so every copy gives the same bits.

/// Defines a function that takes an [`Isa`](crate::Isa) first and runs the copy of its body that was
/// compiled for it.
macro_rules! for_each_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$(const $generic:ident: $kind:ty),+>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "buffers and shapes come from the caller; it holds for the copies within, too")]
        $vis fn $name $(<$(const $generic: $kind),+>)? (isa: $crate::Isa, $($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn body $(<$(const $generic: $kind),+>)? ($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2 $(<$(const $generic: $kind),+>)? ($($arg: $type),*) $(-> $ret)? {
                body $(::<$($generic),+>)? ($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512 $(<$(const $generic: $kind),+>)? ($($arg: $type),*) $(-> $ret)? {
                body $(::<$($generic),+>)? ($($arg),*)
            }

            match isa.kind() {
                // SAFETY: the `Isa` proves that the CPU has these features.
                #[cfg(target_arch = "x86_64")]
                $crate::IsaKind::Avx2 => unsafe { avx2 $(::<$($generic),+>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::IsaKind::Avx512Vnni => unsafe { avx512 $(::<$($generic),+>)? ($($arg),*) },
                // AArch64 compiles the body with Advanced SIMD as it is.
                _ => body $(::<$($generic),+>)? ($($arg),*),
            }
        }
    };
}

/// Repeats a block for `$i` = 0, 1, … below a constant of at most 8 (or 4 or 2, if said so), written out: the
/// compiler leaves longer loops over an array of sums alone, and keeps the sums in memory.
macro_rules! unrolled {
    ($i:ident < $count:expr, $body:block) => {
        $crate::vector::unrolled!(@ $i, $count, $body, 0 1 2 3 4 5 6 7)
    };
    ($i:ident < $count:expr, at most 4, $body:block) => {
        $crate::vector::unrolled!(@ $i, $count, $body, 0 1 2 3)
    };
    ($i:ident < $count:expr, at most 2, $body:block) => {
        $crate::vector::unrolled!(@ $i, $count, $body, 0 1)
    };
    (@ $i:ident, $count:expr, $body:block, $($n:literal)+) => {
        $(if $n < $count {
            let $i = $n;
            $body
        })+
    };
}

pub(crate) use for_each_isa;
pub(crate) use unrolled;
