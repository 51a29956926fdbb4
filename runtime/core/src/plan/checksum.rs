//! CRC-32 as in IEEE 802.3 (reflected, polynomial 0x04C11DB7): a damaged image is noticed before it runs.
//!
//! It finds every burst of up to 32 bits, and other damage but for one case in 2³². It is no protection against
//! someone who makes a plan with ill intent: against that stand the checks of every number.

/// For each half byte, what four steps of the polynomial make of it: sixteen words instead of 256.
const TABLE: [u32; 16] = {
    let mut table = [0u32; 16];
    let mut index = 0;
    while index < 16 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 4 {
            value = (value >> 1) ^ (0xEDB8_8320 * (value & 1));
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// The checksum of `bytes`.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, half: u32| (crc >> 4) ^ TABLE[((crc ^ half) & 15) as usize];
    let sum = bytes.iter().fold(u32::MAX, |crc, &byte| {
        let byte = u32::from(byte);
        step(step(crc, byte), byte >> 4)
    });
    !sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn gives_the_check_value_of_the_catalogue() {
        // G. Cook, «Catalogue of parametrised CRC algorithms», CRC-32/ISO-HDLC.
        assert_eq!(super::crc32(b"123456789"), 0xCBF4_3926);
    }
}
