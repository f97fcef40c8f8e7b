// SPDX-License-Identifier: AGPL-3.0-only
//! Bytes that look random, cannot be compressed, and are the same for the same seed. They are made faster
//! than a disk reads, also in a debug build, so that blobs of gigabytes need no fixture.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

const BLOCK: usize = 1 << 20;

/// A reader of a given number of bytes of noise. All blocks of 1 MiB are alike but for their number in
/// front, which is enough to notice one that is missing, repeated or out of place.
#[derive(Clone, Debug)]
pub struct Noise {
    block: Vec<u8>,
    at: u64,
    len: u64,
}

impl Noise {
    /// `len` bytes that depend on `seed`.
    pub fn new(seed: u64, len: u64) -> Self {
        // xorshift64*, whose state must not be 0.
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
        };
        // The first words of neighbouring seeds still look alike.
        for _ in 0..16 {
            next();
        }
        let wanted = usize::try_from(len).unwrap_or(BLOCK).min(BLOCK);
        let block = (0..wanted.div_ceil(8)).flat_map(|_| next()).collect();
        Self { block, at: 0, len }
    }

    /// The digest of all of it.
    pub fn digest(&self) -> String {
        let mut all = Self { at: 0, ..self.clone() };
        digest_of(&mut all).unwrap().0
    }
}

impl Read for Noise {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let offset = usize::try_from(self.at % BLOCK as u64).unwrap();
        if offset == 0 && self.at > 0 {
            let number = self.at / BLOCK as u64;
            self.block[..8].copy_from_slice(&number.to_le_bytes());
        }
        let left = usize::try_from(self.len - self.at).unwrap_or(usize::MAX);
        let count = left.min(buf.len()).min(self.block.len().saturating_sub(offset));
        buf[..count].copy_from_slice(&self.block[offset..offset + count]);
        self.at += count as u64;
        Ok(count)
    }
}

/// `len` bytes that depend on `seed`.
pub fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Noise::new(seed, len).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The sha256 digest of `bytes`, as registries write it.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The digest and the length of what `reader` gives until its end.
pub fn digest_of(reader: &mut impl Read) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut len = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok((format!("sha256:{}", hex::encode(hash.finalize())), len)),
            count => {
                hash.update(&buffer[..count]);
                len += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_asked_length_and_depends_on_the_seed_alone() {
        for len in [0, 1, 7, 8, 9, BLOCK as u64, BLOCK as u64 + 1, 3 * BLOCK as u64 + 5] {
            let bytes = noise(1, len);
            assert_eq!(bytes.len() as u64, len);
            assert_eq!(digest(&bytes), Noise::new(1, len).digest());
            assert_eq!(bytes, noise(1, len));
        }
        assert_ne!(noise(1, 64), noise(2, 64));
    }

    #[test]
    fn no_two_blocks_are_alike() {
        let bytes = noise(1, 3 * BLOCK as u64);
        assert_ne!(bytes[..BLOCK], bytes[BLOCK..2 * BLOCK]);
        assert_ne!(bytes[BLOCK..2 * BLOCK], bytes[2 * BLOCK..]);
    }

    #[test]
    fn the_digest_is_sha256() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
        assert_eq!(Noise::new(9, 0).digest(), empty);
    }
}
