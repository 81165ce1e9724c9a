//! Packs made by hand, honest and hostile.

use std::io::Write;

use cooperage_sdk::ErrorKind;
use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::super::{MEMORY, WORK};
use super::*;

const COMMIT: u8 = 1;
const TREE: u8 = 2;
const BLOB: u8 = 3;
const OFFSET: u8 = 6;
const REFERENCE: u8 = 7;

/// Writes packs.
struct Packer {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Packer {
    fn new() -> Self {
        Self { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), starts: Vec::new() }
    }

    fn object(self, kind: u8, content: &[u8]) -> Self {
        self.lying(kind, content.len() as u64, b"", &compressed(content))
    }

    /// A delta on the object with that number.
    fn on_number(self, base: usize, delta: &[u8]) -> Self {
        let mut back = self.bytes.len() - self.starts[base];
        let mut digits = vec![(back & 0x7f) as u8];
        while back > 0x7f {
            back = (back >> 7) - 1;
            digits.insert(0, 0x80 | (back & 0x7f) as u8);
        }
        self.lying(OFFSET, delta.len() as u64, &digits, &compressed(delta))
    }

    fn on_id(self, base: &Id, delta: &[u8]) -> Self {
        let id = base.to_string();
        let id: Vec<u8> = (0..20).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()).collect();
        self.lying(REFERENCE, delta.len() as u64, &id, &compressed(delta))
    }

    /// With any size, whatever is true.
    fn lying(mut self, kind: u8, size: u64, base: &[u8], stream: &[u8]) -> Self {
        self.starts.push(self.bytes.len());
        let (mut rest, mut byte) = (size >> 4, kind << 4 | (size & 15) as u8);
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(byte);
        self.bytes.extend_from_slice(base);
        self.bytes.extend_from_slice(stream);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let count = u32::try_from(self.starts.len()).unwrap();
        self.bytes[8..12].copy_from_slice(&count.to_be_bytes());
        let checksum = Sha1::digest(&self.bytes);
        self.bytes.extend_from_slice(&checksum);
        self.bytes
    }
}

fn compressed(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

struct Pieces<'p>(std::slice::Chunks<'p, u8>);

impl Source for Pieces<'_> {
    fn next(&mut self) -> Result<Option<&[u8]>> {
        Ok(self.0.next())
    }
}

/// The pack, and the contents in the order in which they were told.
fn check(bytes: &[u8], piece: usize) -> Result<Vec<(Kind, Vec<u8>)>> {
    check_within(MEMORY, bytes, piece)
}

/// The same with other memory.
fn check_within(memory: u64, bytes: &[u8], piece: usize) -> Result<Vec<(Kind, Vec<u8>)>> {
    let mut pack = Pack { memory, ..Pack::new() };
    let mut told = Vec::new();
    let mut arrived = |pack: &mut Pack, number: Number| {
        let content = pack.content(number)?;
        let id = id::of(pack.kind(number), &content)?;
        assert!(pack.find(&id).is_some());
        assert_eq!(pack.size(number), content.len() as u64);
        told.push((pack.kind(number), content.to_vec()));
        Ok(())
    };
    receive(&mut pack, &mut Pieces(bytes.chunks(piece)), &mut arrived)?;
    assert_eq!(pack.held, 0, "what was counted is released");
    Ok(told)
}

fn blob(content: &[u8]) -> (Kind, Vec<u8>) {
    (Kind::Blob, content.to_vec())
}

/// A delta from "hello" to "hello" and a letter.
fn and(letter: u8) -> [u8; 6] {
    [5, 6, 0x90, 5, 1, letter]
}

#[test]
fn objects_and_deltas_however_they_come() {
    let hello = id::of(Kind::Blob, b"hello").unwrap();
    let pack = Packer::new()
        .object(COMMIT, b"a commit")
        .object(TREE, b"")
        .on_id(&hello, &and(b'1'))
        .on_number(2, &[6, 2, 0x91, 4, 2])
        .object(BLOB, b"hello")
        .on_number(4, &and(b'2'))
        .on_id(&hello, &and(b'3'))
        .finish();
    let expected = [
        (Kind::Commit, b"a commit".to_vec()),
        (Kind::Tree, Vec::new()),
        blob(b"hello"),
        blob(b"hello1"),
        blob(b"o1"),
        blob(b"hello2"),
        blob(b"hello3"),
    ];
    for piece in [1, 7, 64, pack.len()] {
        assert_eq!(check(&pack, piece).unwrap(), expected);
    }
    assert_eq!(check(&Packer::new().finish(), 5).unwrap(), []);
}

#[test]
fn packs_that_break_off() {
    let pack = Packer::new().object(BLOB, b"hello").on_number(0, &and(b'1')).finish();
    for length in 0..pack.len() {
        assert_eq!(check(&pack[..length], 3).unwrap_err().kind, ErrorKind::Unavailable, "{length}");
    }
}

#[test]
fn no_damage_goes_unnoticed() {
    let pack = Packer::new().object(BLOB, b"hello").on_number(0, &and(b'1')).object(TREE, b"").finish();
    for at in 0..pack.len() {
        for bit in 0..8 {
            let mut damaged = pack.clone();
            damaged[at] ^= 1 << bit;
            assert!(check(&damaged, 50).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn hostile_packs() {
    let nobody = id::of(Kind::Blob, b"nobody").unwrap();
    let bomb = compressed(&vec![0; 20 << 20]);
    let own_offset = Packer::new().lying(OFFSET, 6, &[0], &compressed(&and(b'1')));
    let before_pack = Packer::new().lying(OFFSET, 6, &[0xff, 0xff, 0x7f], &compressed(&and(b'1')));
    let without_end = Packer::new().lying(OFFSET, 6, &[0xff; 12], &compressed(&and(b'1')));
    let huge_result = [5, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0x90, 5];
    for (what, pack, kind) in [
        ("an unknown kind", Packer::new().object(5, b"x"), ErrorKind::InvalidInput),
        ("kind 0", Packer::new().object(0, b"x"), ErrorKind::InvalidInput),
        ("more than announced", Packer::new().lying(BLOB, 10, b"", &bomb), ErrorKind::InvalidInput),
        ("less than announced", Packer::new().lying(BLOB, 10, b"", &compressed(b"x")), ErrorKind::InvalidInput),
        ("a huge file", Packer::new().lying(BLOB, 3 << 30, b"", &bomb), ErrorKind::Limit),
        ("a huge commit", Packer::new().lying(COMMIT, 1 << 30, b"", &bomb), ErrorKind::Limit),
        ("a size of 64 bits", Packer::new().lying(BLOB, u64::MAX, b"", &bomb), ErrorKind::InvalidInput),
        ("a base that is nowhere", Packer::new().on_id(&nobody, &and(b'1')), ErrorKind::InvalidInput),
        ("itself as base", own_offset, ErrorKind::InvalidInput),
        ("a base before the pack", before_pack, ErrorKind::InvalidInput),
        ("a distance without end", without_end, ErrorKind::InvalidInput),
        ("a huge result", Packer::new().object(BLOB, b"hello").on_number(0, &huge_result), ErrorKind::Limit),
        ("a huge delta", Packer::new().lying(REFERENCE, 1 << 30, &[0; 20], &bomb), ErrorKind::Limit),
    ] {
        assert_eq!(check(&pack.finish(), 1000).unwrap_err().kind, kind, "{what}");
    }
}

#[test]
fn chains_of_deltas_have_an_end() {
    // Each object makes the same of the one before, so that the whole chain is gone through wherever it is not kept.
    let mut packer = Packer::new().object(BLOB, b"hello");
    for number in 0..5000 {
        packer = packer.on_number(number, &[5, 5, 0x90, 5]);
    }
    let mut pack = Pack::new();
    receive(&mut pack, &mut Pieces(packer.finish().chunks(1 << 16)), &mut |_, _| Ok(())).unwrap();
    pack.cache.shrink(0);
    assert_eq!(*pack.content(4000).unwrap(), b"hello");
    pack.cache.shrink(0);
    assert_eq!(pack.content(5000).unwrap_err().kind, ErrorKind::Limit);
}

#[test]
fn work_has_an_end() {
    let mut pack = Pack::new();
    pack.spend(WORK - 1).unwrap();
    assert_eq!(pack.spend(2).unwrap_err().kind, ErrorKind::Limit);
    assert_eq!(pack.room_for(MEMORY + 1).unwrap_err().kind, ErrorKind::Limit);
}

#[test]
fn a_pack_that_is_too_large_is_not_kept() {
    struct Endless {
        next: Vec<u8>,
        block: Vec<u8>,
        sent: u64,
    }
    impl Source for Endless {
        fn next(&mut self) -> Result<Option<&[u8]>> {
            if self.sent > 0 {
                self.next.clone_from(&self.block);
            }
            self.sent += self.next.len() as u64;
            assert!(self.sent < 10 << 20, "read on after the end of memory");
            Ok(Some(&self.next))
        }
    }
    // A file of blocks that are stored as they are: 65,535 bytes each, never the last.
    let mut block = vec![0, 0xff, 0xff, 0, 0];
    block.resize(5 + 0xffff, b'x');
    let head = Packer::new().lying(BLOB, 2 << 30, b"", b"\x78\x01").finish();
    let head = head[..head.len() - id::LENGTH].to_vec();
    let mut source = Endless { next: head, block, sent: 0 };
    let mut pack = Pack { memory: 9 << 20, ..Pack::new() };
    let error = receive(&mut pack, &mut source, &mut |_, _| Ok(())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Limit, "{error:?}");
}

#[test]
fn what_is_in_hand_counts() {
    const MIB: usize = 1 << 20;
    // The same again, in one copy.
    let same = [0x80, 0x80, 0x80, 0x02, 0x80, 0x80, 0x80, 0x02, 0xf0, 0, 0, 0x40];
    // A long delta of copies of one byte.
    let count = 3 * MIB / 8;
    let mut long = vec![0x80, 0x80, 0x80, 0x02, 0x80, 0x80, 0x18];
    long.extend([0xff, 0, 0, 0, 0, 1, 0, 0].repeat(count));
    let packed = || Packer::new().object(TREE, &noise(3 * MIB));
    // When the long delta comes, what it applies to was driven out by the file, and must be made again beside it.
    let delta = || {
        let file =
            Packer::new().object(BLOB, &vec![0; 4 * MIB]).on_number(0, &same).object(BLOB, &vec![1; 7 * MIB / 2]);
        file.on_number(1, &long)
    };
    for (what, pack, memory, fits) in [
        ("an object beside what it is made of", packed(), 7, true),
        ("an object beside what it is made of", packed(), 5, false),
        ("a delta beside the making of its base", delta(), 12, true),
        ("a delta beside the making of its base", delta(), 10, false),
    ] {
        let got = check_within(memory << 20, &pack.finish(), 65_515).map(drop);
        let expected = if fits { Ok(()) } else { Err(ErrorKind::Limit) };
        assert_eq!(got.map_err(|error| error.kind), expected, "{what} in {memory} MiB");
    }
    let mut pack = Pack::new();
    pack.hold(MEMORY).unwrap();
    assert_eq!(pack.hold(1).unwrap_err().kind, ErrorKind::Limit);
}

/// Bytes that no compression makes fewer.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn large_files_are_read_in_pieces() {
    let large = noise(9 << 20);
    let bytes = Packer::new().object(BLOB, &large).finish();
    let mut pack = Pack::new();
    receive(&mut pack, &mut Pieces(bytes.chunks(65_515)), &mut |_, _| Ok(())).unwrap();
    assert!(pack.cache.get(0).is_none());
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut pack.open(0).unwrap(), &mut read).unwrap();
    assert!(read == large);
}
