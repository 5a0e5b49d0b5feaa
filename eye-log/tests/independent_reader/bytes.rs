//! Taking numbers out of bytes, and checksums.

pub(crate) type Read<T> = Result<T, String>;

/// Takes fields off the front of bytes; fewer bytes than a field has are an error.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Read<&'a [u8]> {
        let (front, rest) = self
            .0
            .split_at_checked(bytes)
            .ok_or("damage: a field beyond the end")?;
        self.0 = rest;
        Ok(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        Ok(self.take(N)?.try_into().unwrap())
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Read<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A boolean, or the first byte of an optional.
    pub(crate) fn is_there(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("{other} is no boolean")),
        }
    }

    /// An optional T.
    pub(crate) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<Option<T>> {
        self.is_there()?.then(|| read(self)).transpose()
    }

    /// A list of T.
    pub(crate) fn list<T>(&mut self, read: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.u64()?;
        (0..count).map(|_| read(self)).collect()
    }

    pub(crate) fn string(&mut self) -> Read<String> {
        let length = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned).map_err(|error| error.to_string())
    }
}

pub(crate) fn crc32(seed: u32, data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let checksum = data.iter().fold(!seed, |c, byte| {
        let [low, ..] = c.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ c >> 8
    });
    !checksum
}

/// What eight steps make of each byte.
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0u32;
    while byte < 256 {
        let (mut c, mut step) = (byte, 0);
        while step < 8 {
            c = if c & 1 == 1 {
                c >> 1 ^ 0xedb8_8320
            } else {
                c >> 1
            };
            step += 1;
        }
        table[byte as usize] = c;
        byte += 1;
    }
    table
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn uuid(bytes: &[u8; 16]) -> String {
    let digits = hex(bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &digits[range]);
    parts.join("-")
}

pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
