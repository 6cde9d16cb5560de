//! memcpy(3), memmove(3), memset(3), memcmp(3) and bcmp(3), which compiled code calls wherever it likes: glibc's are
//! chosen by processor, and go by the size of its caches, which a light start (`start.rs`) does not ask for. These suit
//! every x86-64 processor. Most pieces here are a few dozen bytes long; large ones are left to the processor's own way
//! (`rep movsb`, `rep stosb`).
//!
//! Written down as instructions, because a compiler makes calls of these functions out of their own loops.

use std::arch::global_asm;

// Fits in 32 bytes: head and tail, which may overlap, both read before anything is written. More: what lies between
// goes in pieces of 16, upwards, or downwards where the end of the source would be written before it is read.
global_asm!(
    ".pushsection .text.rcon_memory, \"ax\", @progbits",
    ".globl memcpy, memmove, memset, memcmp, bcmp",
    ".type memcpy, @function",
    ".type memmove, @function",
    ".type memset, @function",
    ".type memcmp, @function",
    ".type bcmp, @function",
    ".p2align 4",
    "memcpy:",
    "memmove:",
    "mov rax, rdi",
    "cmp rdx, 16",
    "jb 3f",
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + rdx - 16]",
    "cmp rdx, 32",
    "ja 6f",
    "movups [rdi], xmm0",
    "movups [rdi + rdx - 16], xmm1",
    "ret",
    // Less than 16.
    "3:",
    "cmp edx, 8",
    "jb 4f",
    "mov rcx, [rsi]",
    "mov r8, [rsi + rdx - 8]",
    "mov [rdi], rcx",
    "mov [rdi + rdx - 8], r8",
    "ret",
    "4:",
    "cmp edx, 4",
    "jb 5f",
    "mov ecx, [rsi]",
    "mov r8d, [rsi + rdx - 4]",
    "mov [rdi], ecx",
    "mov [rdi + rdx - 4], r8d",
    "ret",
    // First, middle and last of three, two or one.
    "5:",
    "test edx, edx",
    "jz 2f",
    "mov r10, rdx",
    "shr r10",
    "movzx ecx, byte ptr [rsi]",
    "movzx r8d, byte ptr [rsi + r10]",
    "movzx r9d, byte ptr [rsi + rdx - 1]",
    "mov [rdi], cl",
    "mov [rdi + r10], r8b",
    "mov [rdi + rdx - 1], r9b",
    "2:",
    "ret",
    // More than 32: xmm0 has the head, xmm1 the tail.
    "6:",
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, rdx",
    "jb 8f",
    "neg rcx",
    "cmp rcx, 64",
    "jb 7f",
    "cmp rdx, 512",
    "ja 9f",
    "7:",
    "movups [rdi], xmm0",
    "lea r8, [rdi + rdx - 16]",
    "add rdi, 16",
    "add rsi, 16",
    "71:",
    "movups xmm2, [rsi]",
    "movups [rdi], xmm2",
    "add rdi, 16",
    "add rsi, 16",
    "cmp rdi, r8",
    "jb 71b",
    "movups [r8], xmm1",
    "ret",
    // Downwards.
    "8:",
    "movups xmm2, [rsi + rdx - 16]",
    "movups [rdi + rdx - 16], xmm2",
    "sub rdx, 16",
    "cmp rdx, 16",
    "ja 8b",
    "movups [rdi], xmm0",
    "ret",
    "9:",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".size memcpy, . - memcpy",
    ".size memmove, . - memmove",
    ".p2align 4",
    "memset:",
    "mov rax, rdi",
    "movzx ecx, sil",
    "mov r8, 0x0101010101010101",
    "imul rcx, r8",
    "cmp rdx, 16",
    "jb 3f",
    "cmp rdx, 512",
    "ja 6f",
    "movq xmm0, rcx",
    "punpcklqdq xmm0, xmm0",
    "lea r8, [rdi + rdx - 16]",
    "2:",
    "movups [rdi], xmm0",
    "add rdi, 16",
    "cmp rdi, r8",
    "jb 2b",
    "movups [r8], xmm0",
    "ret",
    "3:",
    "cmp edx, 8",
    "jb 4f",
    "mov [rdi], rcx",
    "mov [rdi + rdx - 8], rcx",
    "ret",
    "4:",
    "cmp edx, 4",
    "jb 5f",
    "mov [rdi], ecx",
    "mov [rdi + rdx - 4], ecx",
    "ret",
    "5:",
    "test edx, edx",
    "jz 7f",
    "mov r10, rdx",
    "shr r10",
    "mov [rdi], cl",
    "mov [rdi + r10], cl",
    "mov [rdi + rdx - 1], cl",
    "ret",
    "6:",
    "mov r9, rdi",
    "mov eax, ecx",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r9",
    "7:",
    "ret",
    ".size memset, . - memset",
    ".p2align 4",
    "memcmp:",
    "bcmp:",
    "cmp rdx, 8",
    "jb 2f",
    "mov rax, [rdi]",
    "mov rcx, [rsi]",
    "cmp rax, rcx",
    "jne 5f",
    "add rdi, 8",
    "add rsi, 8",
    "sub rdx, 8",
    "jmp memcmp",
    "2:",
    "test edx, edx",
    "jz 4f",
    "3:",
    "movzx eax, byte ptr [rdi]",
    "movzx ecx, byte ptr [rsi]",
    "sub eax, ecx",
    "jne 6f",
    "inc rdi",
    "inc rsi",
    "dec edx",
    "jnz 3b",
    "4:",
    "xor eax, eax",
    "ret",
    // The first byte that differs decides, and it is the lowest.
    "5:",
    "bswap rax",
    "bswap rcx",
    "cmp rax, rcx",
    "sbb eax, eax",
    "or eax, 1",
    "6:",
    "ret",
    ".size memcmp, . - memcmp",
    ".size bcmp, . - bcmp",
    ".popsection",
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    unsafe extern "C" {
        fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
        fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
        fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8;
        fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32;
        fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32;
    }

    const ROOM: usize = 3000;

    fn numbered() -> Vec<u8> {
        (0..ROOM).map(|at| (at * 7 + at / 256) as u8).collect()
    }

    /// Byte by byte, by no function of these.
    fn copied(bytes: &[u8], to: usize, from: usize, length: usize) -> Vec<u8> {
        let source: Vec<u8> = (0..length).map(|at| bytes[from + at]).collect();
        let at = |at: usize| if (to..to + length).contains(&at) { source[at - to] } else { bytes[at] };
        (0..bytes.len()).map(at).collect()
    }

    fn is_equal(one: &[u8], other: &[u8]) -> bool {
        one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one == other)
    }

    fn move_and_check(to: usize, from: usize, length: usize) {
        let mut bytes = numbered();
        let expected = copied(&bytes, to, from, length);
        let start = bytes.as_mut_ptr();
        // SAFETY: both lie within the bytes; memmove's may overlap.
        let result = unsafe { memmove(start.wrapping_add(to), start.wrapping_add(from), length) };
        assert!(
            result == start.wrapping_add(to) && is_equal(&bytes, &expected),
            "{length} from {from} to {to}"
        );
        if to.abs_diff(from) >= length {
            let mut bytes = numbered();
            let start = bytes.as_mut_ptr();
            // SAFETY: both lie within the bytes, apart.
            let result = unsafe { memcpy(start.wrapping_add(to), start.wrapping_add(from), length) };
            assert!(
                result == start.wrapping_add(to) && is_equal(&bytes, &expected),
                "{length} from {from} to {to}"
            );
        }
    }

    #[test]
    fn all_short_lengths_and_overlaps() {
        for length in 0..140 {
            for distance in (0..150).chain([600]) {
                move_and_check(100, 100 + distance, length);
                move_and_check(100 + distance, 100, length);
            }
        }
    }

    #[test]
    fn filled_and_compared() {
        for length in (0..140).chain([511, 512, 513, 2000]) {
            for at in [0, 1, 7, 8, 15, 16] {
                let mut bytes = numbered();
                let start = bytes.as_mut_ptr();
                // SAFETY: within the bytes.
                let result = unsafe { memset(start.wrapping_add(at), 0x1_a5, length) };
                assert!(result == start.wrapping_add(at));
                let want = |one: usize| {
                    if (at..at + length).contains(&one) { 0xa5 } else { (one * 7 + one / 256) as u8 }
                };
                assert!(bytes.iter().enumerate().all(|(one, byte)| *byte == want(one)), "{length} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_move(to in 0..ROOM, from in 0..ROOM, length in 0..ROOM) {
            move_and_check(to, from, length.min(ROOM - to.max(from)));
        }

        #[test]
        fn any_comparison(one in prop::collection::vec(0..3_u8, 0..40), more in 0..40_usize, change in 0..80_usize, by in 0..=255_u8) {
            let mut other: Vec<u8> = one.iter().copied().chain((0..more).map(|_| 1)).collect();
            if let Some(byte) = other.get_mut(change) {
                *byte = byte.wrapping_add(by);
            }
            let length = one.len().min(other.len());
            let difference = one.iter().zip(&other).find(|(one, other)| one != other);
            let expected = difference.map_or(0, |(one, other)| if one < other { -1 } else { 1 });
            // SAFETY: both are at least that long.
            let result = unsafe { memcmp(one.as_ptr(), other.as_ptr(), length) };
            prop_assert_eq!(result.signum(), expected);
            // SAFETY: as above.
            let result = unsafe { bcmp(one.as_ptr(), other.as_ptr(), length) };
            prop_assert_eq!(result != 0, expected != 0);
        }
    }
}
