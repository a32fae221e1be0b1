//! The two sizes of a metadata block and the two families of pools.

use serde::Serialize;

/// Size of a metadata block; constant for one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "u32")]
pub enum BlockSize {
    /// 4096 bytes: stock Linux, and pools made by QTS 4.0 to 4.2.
    K4,
    /// 8192 bytes: what QNAP's kernels format today.
    K8,
}

impl BlockSize {
    /// Both, in the order in which a pool is probed: as QNAP's kernel does.
    pub const PROBE_ORDER: [Self; 2] = [Self::K8, Self::K4];

    /// In bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::K4 => 4096,
            Self::K8 => 8192,
        }
    }

    /// The size of this many bytes, when it is one of the two.
    pub fn from_bytes(bytes: usize) -> Option<Self> {
        Self::PROBE_ORDER.into_iter().find(|size| size.bytes() == bytes)
    }

    /// Whole blocks in `bytes`.
    pub fn blocks_in(self, bytes: u64) -> u64 {
        bytes.checked_div(self.bytes() as u64).unwrap_or(0)
    }
}

impl From<BlockSize> for u32 {
    fn from(size: BlockSize) -> Self {
        size.bytes() as Self
    }
}

/// Who wrote the pool: the two families differ in device records and in the bits of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// QNAP's kernels and tools.
    Qnap,
    /// Stock Linux and thin-provisioning-tools.
    Mainline,
}

impl Family {
    /// The name shown to people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qnap => "QNAP",
            Self::Mainline => "stock Linux",
        }
    }
}
