//! What kind of file the image is: small, static, and nothing in it that could be written and run.

use pidone::launch::image::EMBEDDED;

const IMAGE: &[u8] = EMBEDDED.bytes();

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;
const PT_GNU_STACK: u32 = 0x6474_e551;

/// Segments can be executed, written, read.
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;

fn number<const N: usize>(at: usize) -> [u8; N] {
    *IMAGE[at..].first_chunk().unwrap()
}

fn u16_at(at: usize) -> u16 {
    u16::from_le_bytes(number(at))
}

fn u32_at(at: usize) -> u32 {
    u32::from_le_bytes(number(at))
}

fn u64_at(at: usize) -> u64 {
    u64::from_le_bytes(number(at))
}

/// An entry of the program header table: type, flags, address, length in memory.
fn segments() -> Vec<(u32, u32, u64, u64)> {
    let offset = usize::try_from(u64_at(32)).unwrap();
    let (size, count) = (usize::from(u16_at(54)), usize::from(u16_at(56)));
    assert_eq!(size, 56);
    let headers = (0..count).map(|index| offset + index * size);
    headers.map(|at| (u32_at(at), u32_at(at + 4), u64_at(at + 16), u64_at(at + 40))).collect()
}

#[test]
fn the_image_is_small() {
    assert!(IMAGE.len() <= 32 * 1024, "{} bytes", IMAGE.len());
}

#[test]
fn the_image_is_a_static_program() {
    assert_eq!(&IMAGE[..4], b"\x7fELF");
    assert_eq!(IMAGE[4..7], [2, 1, 1], "64 bits, little-endian, version 1");
    assert_eq!(u16_at(16), 2, "ET_EXEC: at a fixed address");
    let machine = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    assert_eq!(u16_at(18), machine);
    let types: Vec<_> = segments().iter().map(|(segment, ..)| *segment).collect();
    for unwanted in [PT_DYNAMIC, PT_INTERP, PT_TLS] {
        assert!(!types.contains(&unwanted), "a segment of type {unwanted}");
    }
}

#[test]
fn nothing_can_be_written_and_run() {
    let segments = segments();
    for (segment, flags, ..) in &segments {
        assert_ne!(flags & (WRITE | EXECUTE), WRITE | EXECUTE, "a segment of type {segment:#x}");
    }
    // Without this header the kernel makes the stack executable.
    assert!(segments.iter().any(|(segment, ..)| *segment == PT_GNU_STACK));
    let entry = u64_at(24);
    let holds = |(segment, flags, start, length): &(u32, u32, u64, u64)| {
        *segment == PT_LOAD && flags & EXECUTE != 0 && (*start..start + length).contains(&entry)
    };
    assert!(segments.iter().any(holds));
}

#[test]
fn the_image_has_no_words_for_a_panic() {
    for text in ["panicked", ".rs", "unwrap", "overflow", "index out of"] {
        let found = IMAGE.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "{text:?}");
    }
}
