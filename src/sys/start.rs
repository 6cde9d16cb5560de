//! Starting without the C library's start-up.
//!
//! What a program that is linked statically with glibc does before `main` asks the processor some forty times what it
//! is (CPUID, for functions that are chosen by processor). In a virtual machine each of these goes to the hypervisor
//! and back: all of them together take as long as `/bin/true`. A run needs nothing that comes of it.
//!
//! So the kernel enters here (`build.rs` says so to the linker). What is left out of the start is what is not needed
//! for system calls, memory and strings: there is thread-local storage (errno), the environment, and each function
//! that is chosen by processor is the one for any. The functions on memory are our own (`memory.rs`), as glibc's would go
//! by the size of caches.
//!
//! Whoever leaves the course of a plain run calls [`finish_start`], and goes on in a C library that has started as always:
//! at its own entry, on a copy of what the kernel gave us, which it cannot tell from a new process. So does whoever asks it
//! for memory, as newer ones prepare that at their start.

use std::arch::{asm, global_asm, naked_asm};
use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// elf(5), auxiliary vector and program header.
const AT_NULL: usize = 0;
const AT_PHDR: usize = 3;
const AT_PHNUM: usize = 5;
const AT_SECURE: usize = 23;
const AT_RANDOM: usize = 25;
const PT_TLS: u32 = 7;

#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: usize,
    address: usize,
    physical: usize,
    in_file: usize,
    in_memory: usize,
    align: usize,
}

/// elf(5), Elf64_Rela, of R_X86_64_IRELATIVE alone.
#[repr(C)]
struct Choice {
    slot: *mut usize,
    _kind: usize,
    chooser: extern "C" fn() -> usize,
}

unsafe extern "C" {
    static __rela_iplt_start: Choice;
    static __rela_iplt_end: Choice;
    static mut environ: *const *const c_char;
    fn gnu_get_libc_version() -> *const c_char;
    fn main(argc: c_int, argv: *const *const c_char) -> c_int;
}

/// Of glibc 2.x: those that every test has been run with, or between two of them. Another one starts as always.
const KNOWN: std::ops::RangeInclusive<u8> = 36..=43;

/// Where thread-local storage goes: variables end, and the thread's own record begins, in the middle (the x86-64
/// supplement of the ELF ABI, variant II). glibc's record has about 2,400 bytes, of which few are used before it has
/// started as a whole. No larger than both need: all that a start writes has one page (build.rs).
#[repr(C, align(64))]
struct Room {
    variables: UnsafeCell<[usize; 32]>,
    record: UnsafeCell<[usize; 320]>,
}

// SAFETY: written once, before there is anything else.
unsafe impl Sync for Room {}

static ROOM: Room = Room { variables: UnsafeCell::new([0; 32]), record: UnsafeCell::new([0; 320]) };

/// What the kernel laid down for us: argument count, arguments, environment, auxiliary vector.
static STACK: AtomicUsize = AtomicUsize::new(0);
static LIGHT: AtomicBool = AtomicBool::new(false);
/// Where to go back to from a start of the C library.
static BACK: AtomicUsize = AtomicUsize::new(0);

/// Where the kernel enters.
///
/// # Safety
/// Nobody calls it.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn rcon_start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "mov rbx, rsp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {begin}",
        // It comes back where the C library is to start as always. rdx: nobody to call at exit.
        "mov rsp, rbx",
        "xor edx, edx",
        "jmp _start",
        begin = sym begin,
    )
}

/// Runs the program; comes back where that has to be done in another way.
extern "C" fn begin(stack: *const usize) {
    // SAFETY: the kernel's layout (execve(2)): the count, that many arguments and a null, the environment and a null,
    // pairs of numbers and AT_NULL.
    let (argc, argv, environment, auxiliary) = unsafe { parts(stack) };
    let (mut headers, mut count, mut raised) = (std::ptr::null::<ProgramHeader>(), 0, true);
    let mut random = std::ptr::null::<usize>();
    let mut pair = auxiliary;
    // SAFETY: within the vector, whose end is looked for.
    while let [kind, value] = unsafe { *pair }
        && kind != AT_NULL
    {
        match kind {
            AT_PHDR => headers = std::ptr::with_exposed_provenance(value),
            AT_PHNUM => count = value,
            AT_SECURE => raised = value != 0,
            AT_RANDOM => random = std::ptr::with_exposed_provenance(value),
            _ => {}
        }
        pair = pair.wrapping_add(1);
    }
    // With rights that the caller has not: what the C library does about that is its own matter.
    if raised || headers.is_null() || random.is_null() || !is_known() {
        return;
    }
    // SAFETY: the kernel says where the program's headers are mapped, and how many.
    let headers = unsafe { std::slice::from_raw_parts(headers, count) };
    // SAFETY: 16 bytes, says the kernel, anywhere.
    let random = unsafe { random.read_unaligned() };
    if !make_thread(headers.iter().find(|header| header.kind == PT_TLS), random) {
        return;
    }
    // SAFETY: the linker's table. Its functions look at no more than what they find about the processor, which is
    // nothing yet, and name functions that suit each.
    unsafe { choose(&raw const __rela_iplt_start, &raw const __rela_iplt_end) };
    // SAFETY: nobody reads it meanwhile.
    unsafe { environ = environment };
    STACK.store(stack.expose_provenance(), Relaxed);
    LIGHT.store(true, Relaxed);
    // SAFETY: what the C library would call it with.
    super::leave(unsafe { main(argc, argv) });
}

/// Is this C library one of those that this has been tried with?
fn is_known() -> bool {
    // SAFETY: it takes nothing, gives a constant string, and needs nothing of the start.
    let mut at = unsafe { gnu_get_libc_version() };
    let mut version = [0_u8; 5];
    for byte in &mut version {
        // SAFETY: the end of the string has not been seen yet.
        *byte = unsafe { *at } as u8;
        if *byte == 0 {
            break;
        }
        at = at.wrapping_add(1);
    }
    match version {
        [b'2', b'.', tens @ b'0'..=b'9', ones @ b'0'..=b'9', 0] => {
            KNOWN.contains(&((tens - b'0') * 10 + (ones - b'0')))
        }
        _ => false,
    }
}

/// # Safety
/// `stack` is what the kernel made of it for a new program.
unsafe fn parts(
    stack: *const usize,
) -> (c_int, *const *const c_char, *const *const c_char, *const [usize; 2]) {
    // SAFETY: the count comes first.
    let count = unsafe { *stack };
    let argv = stack.wrapping_add(1).cast::<*const c_char>();
    let environment = argv.wrapping_add(count + 1);
    let mut end = environment;
    // SAFETY: within the environment, whose end is looked for.
    while !unsafe { *end }.is_null() {
        end = end.wrapping_add(1);
    }
    (count as c_int, argv, environment, end.wrapping_add(1).cast())
}

/// Where in the thread's record that number is (the x86-64 supplement of the ELF ABI, %fs:0x28).
const GUARD: usize = 5;

/// Thread-local storage as the program's header has it. `false`: it has more than there is room for, or the kernel
/// refuses.
fn make_thread(header: Option<&ProgramHeader>, random: usize) -> bool {
    let record = ROOM.record.get().cast::<usize>();
    if let Some(header) = header {
        let size = header.in_memory.next_multiple_of(header.align.max(1));
        if size > size_of_val(&ROOM.variables) || header.align > align_of::<Room>() {
            return false;
        }
        let image = std::ptr::with_exposed_provenance::<u8>(header.address);
        let variables = record.cast::<u8>().wrapping_sub(size);
        // SAFETY: the image is the linker's, of this size, and is mapped; the variables have room, as seen above. What
        // is not in the image is zero, as all of the room is.
        unsafe { std::ptr::copy_nonoverlapping(image, variables, header.in_file) };
    }
    // Its own address comes first, for whoever wants a pointer, and in glibc's in the third place. The number in the
    // sixth is what compilers put between variables and return addresses, to see when it is overwritten; a string
    // cannot hold its zero byte.
    for (place, value) in
        [(0, record.expose_provenance()), (2, record.expose_provenance()), (GUARD, random & !0xff)]
    {
        // SAFETY: the record is larger than that.
        unsafe { *record.wrapping_add(place) = value };
    }
    const ARCH_SET_FS: usize = 0x1002;
    let answer: isize;
    // SAFETY: arch_prctl(2) takes two numbers. Nothing of the C library can be used yet, errno least.
    unsafe {
        asm!("syscall", inlateout("rax") libc::SYS_arch_prctl as isize => answer, in("rdi") ARCH_SET_FS, in("rsi") record,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer == 0
}

/// # Safety
/// The linker's table of functions that choose a function.
unsafe fn choose(start: *const Choice, end: *const Choice) {
    let mut at = start;
    while at < end {
        // SAFETY: within the table.
        let Choice { slot, chooser, .. } = unsafe { &*at };
        // SAFETY: the slot is for the chosen function's address, and can be written until the C library has started.
        unsafe { **slot = chooser() };
        at = at.wrapping_add(1);
    }
}

// What needs a whole C library: memory, and abort, which goes by what the C library knows of this thread. The linker has
// all that call these call ours, and ours the C library's (ld(1), --wrap; build.rs). Weak, because where it is not told
// so, in programs of ours that do not start here, nobody calls them.
macro_rules! needs_whole {
    ($($name:literal)*) => {
        global_asm!(
            ".pushsection .text.rcon_needs_whole, \"ax\", @progbits",
            $(
                concat!(".globl __wrap_", $name),
                concat!(".type __wrap_", $name, ", @function"),
                concat!(".weak __real_", $name),
                concat!("__wrap_", $name, ":"),
                "cmp byte ptr [rip + {light}], 0",
                concat!("je __real_", $name),
                "push rdi",
                "push rsi",
                "push rdx",
                "call {finish}",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                concat!("jmp __real_", $name),
            )*
            ".popsection",
            light = sym LIGHT,
            finish = sym start_the_rest,
        );
    };
}
needs_whole!("malloc" "calloc" "realloc" "memalign" "aligned_alloc" "posix_memalign" "abort");

/// Is the C library only half there?
pub(super) fn is_light() -> bool {
    LIGHT.load(Relaxed)
}

/// From here on the C library is there as a whole.
#[inline]
pub fn finish_start() {
    if is_light() {
        start_the_rest();
    }
}

/// For the C library's start and what it calls, which does not come back to here: it stays.
const REST: usize = 256 * 1024;

#[cold]
#[inline(never)]
extern "C" fn start_the_rest() {
    let stack = std::ptr::with_exposed_provenance::<usize>(STACK.load(Relaxed));
    // SAFETY: it is as the kernel made it: nobody writes there.
    let (.., auxiliary) = unsafe { parts(stack) };
    let mut end = auxiliary;
    // SAFETY: within the vector, whose end is looked for.
    while unsafe { *end }[0] != AT_NULL {
        end = end.wrapping_add(1);
    }
    let length = end.wrapping_add(1).addr() - stack.addr();
    let size = REST + length;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory at a place of the kernel's choice.
    let room = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, kind, -1, 0) };
    if room == libc::MAP_FAILED {
        // Whoever called needs memory, and its library has none to give before it has started. The other of front and
        // keeper ends what there is, as at any death by this signal.
        let text = b"rcon: there is no memory to go on with (ulimit -v, or an enclosing limit)\n";
        // Where nobody can be told, the signal tells it.
        super::write_number(2, text).ok();
        // Nobody is refused a signal to himself. An init does not die of it, but of the write below, to nowhere.
        super::signals::send(nix::unistd::Pid::this(), libc::SIGKILL).ok();
    }
    let copy = room.cast::<u8>().wrapping_add(REST).cast::<usize>();
    // SAFETY: both are that long, and apart.
    unsafe { std::ptr::copy_nonoverlapping(stack.cast::<u8>(), copy.cast(), length) };
    LIGHT.store(false, Relaxed);
    // SAFETY: as written above. Calls of the C library that are under way have it on the stack, and look for it at their
    // end in the new record.
    let guard = unsafe { *ROOM.record.get().cast::<usize>().wrapping_add(GUARD) };
    // SAFETY: a stack as the kernel makes it; `main` comes back to here (`come_back`).
    unsafe { enter(copy) };
    // SAFETY: within the record that the C library has just made.
    unsafe { asm!("mov qword ptr fs:[0x28], {}", in(reg) guard, options(nostack)) };
}

/// Starts the C library on another stack. Returns when its `main` calls [`come_back`].
///
/// # Safety
/// The stack is as the kernel makes it for a new program, aligned to 16, and has room below.
#[unsafe(naked)]
unsafe extern "C" fn enter(stack: *const usize) {
    naked_asm!(
        // What the caller may expect to find again.
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rip + {back}], rsp",
        "mov rsp, rdi",
        "xor ebp, ebp",
        "xor edx, edx",
        "jmp _start",
        back = sym BACK,
    )
}

/// # Safety
/// The number is what [`enter`] left, and is used once.
#[unsafe(naked)]
unsafe extern "C" fn go_back(stack: usize) -> ! {
    naked_asm!("mov rsp, rdi", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx", "ret",)
}

/// What `main` does first: where the C library was started late, that is all it does.
pub(super) fn come_back() {
    match BACK.swap(0, Relaxed) {
        0 => {}
        // SAFETY: its stack is left alone until then. This one is left for ever: nobody returns to the C library's start.
        back => unsafe { go_back(back) },
    }
}
