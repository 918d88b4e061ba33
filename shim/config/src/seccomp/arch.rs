//! The architectures for which a seccomp filter can be compiled.

/// A system call ABI, with its own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, also called i386.
    X86,
    /// 32-bit pointers in 64-bit mode on x86.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM with the EABI.
    Arm,
}

/// The bit that marks the x32 ABI in a system call number. The kernel reports the same
/// `AUDIT_ARCH_X86_64` for both ABIs of 64-bit mode.
pub const X32_SYSCALL_BIT: u32 = 0x4000_0000;

/// The first of ARM's private system calls (`__ARM_NR_BASE`), far above the numbers that grow with
/// the kernel.
pub const ARM_PRIVATE: u32 = 0xf_0000;

impl Arch {
    /// All architectures that have a table of system calls.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// The architecture that this program was compiled for.
    pub const NATIVE: Self = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
        Self::X86_64
    } else if cfg!(target_arch = "x86_64") {
        Self::X32
    } else if cfg!(target_arch = "x86") {
        Self::X86
    } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
        Self::Aarch64
    } else if cfg!(all(target_arch = "arm", target_endian = "little")) {
        Self::Arm
    } else {
        panic!("seccomp has no table of system calls for this architecture")
    };

    /// Returns the kernel's `AUDIT_ARCH_*` constant, from `linux/audit.h`.
    #[must_use]
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Returns whether arguments are compared in all 64 bits.
    ///
    /// On the other architectures the low 32 bits of the argument are compared with the low 32 bits
    /// of the value, as in libseccomp, so that a sign-extended value still matches.
    pub const fn wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// Returns whether a number can belong to this ABI.
    pub const fn has(self, number: u32) -> bool {
        match self {
            Self::X86_64 => number < X32_SYSCALL_BIT,
            Self::X32 => number >= X32_SYSCALL_BIT,
            Self::X86 | Self::Aarch64 | Self::Arm => true,
        }
    }
}
