//! Deltas of a pack (gitformat-pack, "Deltified representation"): an object made of parts of another one and of bytes
//! of its own.

use cooperage_sdk::{Error, Result};

/// The sizes that a delta begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of the object it is applied to.
    pub base: u64,
    /// Of the object it makes.
    pub result: u64,
}

/// The sizes, and the instructions that follow them.
///
/// # Errors
/// `invalid-input` if there are none.
pub fn sizes(mut delta: &[u8]) -> Result<(Sizes, &[u8])> {
    let base = number(&mut delta)?;
    let result = number(&mut delta)?;
    Ok((Sizes { base, result }, delta))
}

/// Applies a delta. The caller has seen to it that there is room for the result.
///
/// # Errors
/// `invalid-input` if it does not fit the base, or does not make what it announces.
pub fn apply(base: &[u8], delta: &[u8]) -> Result<Vec<u8>> {
    let (sizes, mut rest) = sizes(delta)?;
    if sizes.base != base.len() as u64 {
        return Err(corrupt("its base has another size"));
    }
    let size = usize::try_from(sizes.result).map_err(|_| corrupt("its result is too large"))?;
    let mut out = Vec::with_capacity(size);
    while let Some((&instruction, after)) = rest.split_first() {
        let part = if instruction & 0x80 != 0 {
            let (from, length, after) = copy(instruction, after)?;
            rest = after;
            base.get(from..from + length).ok_or_else(|| corrupt("it copies from beyond its base"))?
        } else if instruction != 0 {
            let (part, after) =
                after.split_at_checked(instruction.into()).ok_or_else(|| corrupt("it ends in the middle"))?;
            rest = after;
            part
        } else {
            return Err(corrupt("it has an instruction that is reserved"));
        };
        if out.len() + part.len() > size {
            return Err(corrupt("it makes more than it announces"));
        }
        out.extend_from_slice(part);
    }
    if out.len() == size { Ok(out) } else { Err(corrupt("it makes less than it announces")) }
}

/// Offset and length of a copy, whose bytes are there only where the instruction has a bit for them.
fn copy(instruction: u8, mut rest: &[u8]) -> Result<(usize, usize, &[u8])> {
    let mut field = |first: u8, bytes: u8| {
        let mut value = 0;
        for at in 0..bytes {
            if instruction & (1 << (first + at)) != 0 {
                let (byte, after) = rest.split_first().ok_or_else(|| corrupt("it ends in the middle"))?;
                value |= u64::from(*byte) << (8 * at);
                rest = after;
            }
        }
        // At most 32 bits, so it fits wherever this runs.
        usize::try_from(value).map_err(|_| corrupt("it copies from beyond its base"))
    };
    let from = field(0, 4)?;
    let length = match field(4, 3)? {
        0 => 0x10000,
        length => length,
    };
    if from.checked_add(length).is_none() {
        return Err(corrupt("it copies from beyond its base"));
    }
    Ok((from, length, rest))
}

/// A number in groups of seven bits, the lowest first.
fn number(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(|| corrupt("it ends in the middle"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(corrupt("it announces a size without end"))
}

fn corrupt(why: &str) -> Error {
    Error::invalid_input("the server sends a corrupt pack: a delta cannot be applied").because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas() {
        let base = b"the quick brown fox";
        let long = vec![b'x'; 0x10000];
        for (base, delta, expected) in [
            // Copy 4 bytes from 0, insert "slow", copy 10 from 9.
            (&base[..], &b"\x13\x12\x90\x04\x04slow\x91\x09\x0a"[..], Some(&b"the slow brown fox"[..])),
            (base, b"\x13\x00", Some(b"")),
            (&long, b"\x80\x80\x04\x80\x80\x04\x80", Some(&long)),
            (base, b"\x12\x00", None),
            (base, b"\x13\x04\x90\x05", None),
            (base, b"\x13\x06\x90\x05", None),
            (base, b"\x13\x05\x91\x10\x05", None),
            (base, b"\x13\x05\x9f\xff\xff\xff\xff\x05", None),
            (base, b"\x13\x04\x04abc", None),
            (base, b"\x13\x04\x91\x00", None),
            (base, b"\x13\x04\x00\x04abcd", None),
            (base, b"\x13", None),
            (base, b"", None),
            (base, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01", None),
        ] {
            assert_eq!(apply(base, delta).ok().as_deref(), expected, "{delta:02x?}");
        }
    }
}
