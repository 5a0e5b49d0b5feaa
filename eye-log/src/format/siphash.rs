//! SipHash-1-3 (Aumasson and Bernstein, 2012; one round a word, three at the end): a keyed hash in a few nanoseconds. Who
//! does not have the key cannot make ids that look the same.

/// Returns the hash of some bytes under a key of two words.
pub fn siphash(key: [u64; 2], bytes: &[u8]) -> u64 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The length, modulo 256, stands above the bytes that are left.
    last[7] = bytes.len().to_le_bytes()[0];
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        state[3] ^= word;
        round(&mut state);
        state[0] ^= word;
    }
    state[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut state));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hasher as _;

    #[test]
    fn it_is_the_one_of_the_standard_library() {
        // `DefaultHasher::new` is SipHash-1-3 under a key of zeros.
        for length in 0..40u8 {
            let bytes: Vec<u8> = (0..length).collect();
            let mut hasher = std::hash::DefaultHasher::new();
            hasher.write(&bytes);
            assert_eq!(siphash([0, 0], &bytes), hasher.finish(), "{length} bytes");
        }
        // The first of the vectors of the reference implementation: the key 00 01 … 0f, no bytes.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(siphash(key, &[]), 0xabac_0158_050f_c4dc);
        assert_ne!(siphash(key, &[0]), siphash([0, 0], &[0]));
    }
}
