//! Every ioctl of the agent, and with them every `unsafe` of the workspace.
//!
//! Each wrapper takes an open file and plain values or a byte buffer, checks what the kernel relies on, and answers with
//! plain values. What the bytes mean is not decided here: see [`super::wire`] for device-mapper's messages.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of `struct dm_ioctl`, the fixed head of every device-mapper message; part of the ioctl numbers.
pub const DM_HEAD: usize = 312;

/// Bytes of the kernel's `lo_file_name` field.
const LOOP_NAME: usize = 64;

mod raw {
    use super::{DM_HEAD, LoopConfig};
    use nix::libc::c_int;

    /// Device-mapper's ioctl type (`DM_IOCTL`).
    const DM: u8 = 0xfd;

    nix::ioctl_readwrite_bad!(dm_version, nix::request_code_readwrite!(DM, 0, DM_HEAD), u8);
    nix::ioctl_readwrite_bad!(dm_list, nix::request_code_readwrite!(DM, 2, DM_HEAD), u8);
    nix::ioctl_readwrite_bad!(dm_create, nix::request_code_readwrite!(DM, 3, DM_HEAD), u8);
    nix::ioctl_readwrite_bad!(dm_remove, nix::request_code_readwrite!(DM, 4, DM_HEAD), u8);
    nix::ioctl_readwrite_bad!(dm_suspend, nix::request_code_readwrite!(DM, 6, DM_HEAD), u8);
    nix::ioctl_readwrite_bad!(dm_dev_status, nix::request_code_readwrite!(DM, 7, DM_HEAD), u8);
    nix::ioctl_readwrite_bad!(dm_load, nix::request_code_readwrite!(DM, 9, DM_HEAD), u8);
    nix::ioctl_readwrite_bad!(dm_status, nix::request_code_readwrite!(DM, 12, DM_HEAD), u8);

    // BLKROSET is _IO(0x12, 93), although it takes a pointer to an int.
    nix::ioctl_write_ptr_bad!(blk_ro_set, nix::request_code_none!(0x12, 93), c_int);
    nix::ioctl_read_bad!(blk_ro_get, nix::request_code_none!(0x12, 94), c_int);
    // The loop driver's numbers predate the coding scheme.
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4c82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4c0a, LoopConfig);
}

/// The device-mapper commands the agent uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmCommand {
    /// Version handshake.
    Version,
    /// Names of all devices.
    List,
    /// Makes an empty device.
    Create,
    /// Removes a device.
    Remove,
    /// Suspends, or without the suspend flag resumes, a device.
    Suspend,
    /// Number, open count and flags of one device.
    DeviceStatus,
    /// Loads a table.
    Load,
    /// Status or table lines of a device.
    Status,
}

/// Sends one message to `/dev/mapper/control`; the kernel writes its answer into the same buffer.
///
/// # Errors
/// `EINVAL` without asking the kernel when the buffer is shorter than the head or does not tell its own length; otherwise
/// what the kernel answers.
pub fn device_mapper(control: &File, command: DmCommand, message: &mut [u8]) -> Result<(), Errno> {
    let told = message.get(12..16).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let honest = told.and_then(|size| usize::try_from(size).ok()) == Some(message.len());
    if message.len() < DM_HEAD || !honest {
        return Err(Errno::EINVAL);
    }
    let (fd, data) = (control.as_raw_fd(), message.as_mut_ptr());
    // SAFETY: `fd` is open for the whole call. The kernel reads and writes at most `data_size` bytes from `data`, which was
    // just checked to be the exact length of the exclusively borrowed buffer; any bytes are valid for `u8`.
    let answer = unsafe {
        match command {
            DmCommand::Version => raw::dm_version(fd, data),
            DmCommand::List => raw::dm_list(fd, data),
            DmCommand::Create => raw::dm_create(fd, data),
            DmCommand::Remove => raw::dm_remove(fd, data),
            DmCommand::Suspend => raw::dm_suspend(fd, data),
            DmCommand::DeviceStatus => raw::dm_dev_status(fd, data),
            DmCommand::Load => raw::dm_load(fd, data),
            DmCommand::Status => raw::dm_status(fd, data),
        }
    };
    answer.map(drop)
}

/// Sets a block device read-only for everyone, or writable (`BLKROSET`). Partitions of a disk follow the disk.
///
/// # Errors
/// What the kernel answers: `EACCES` without the right, `ENOTTY` when it is no block device.
pub fn set_read_only(device: &File, read_only: bool) -> Result<(), Errno> {
    let wanted = i32::from(read_only);
    // SAFETY: the descriptor is open for the whole call and the pointer is to a live int that the kernel only reads.
    unsafe { raw::blk_ro_set(device.as_raw_fd(), &wanted) }.map(drop)
}

/// Whether a block device is set read-only.
///
/// # Errors
/// What the kernel answers: `ENOTTY` when it is no block device.
pub fn is_read_only(device: &File) -> Result<bool, Errno> {
    let mut answer = 0;
    // SAFETY: the descriptor is open for the whole call and the pointer is to a live int that the kernel fills.
    unsafe { raw::blk_ro_get(device.as_raw_fd(), &mut answer) }?;
    Ok(answer != 0)
}

/// Number of a free loop device, made when there was none.
///
/// # Errors
/// What the kernel answers.
pub fn free_loop_number(loop_control: &File) -> Result<u32, Errno> {
    // SAFETY: the descriptor is open for the whole call; this ioctl takes no argument.
    let number = unsafe { raw::loop_ctl_get_free(loop_control.as_raw_fd()) }?;
    u32::try_from(number).map_err(|_| Errno::EINVAL)
}

/// Binds `backing` to the loop device opened as `device`. It frees itself when its last user closes it.
///
/// # Errors
/// What the kernel answers: `EBUSY` when somebody else took this loop device meanwhile.
pub fn bind_loop(device: &File, backing: BorrowedFd<'_>, name: &Path, read_only: bool) -> Result<(), Errno> {
    let mut config = LoopConfig { fd: backing.as_raw_fd(), ..LoopConfig::default() };
    config.info.flags = LOOP_AUTOCLEAR | if read_only { LOOP_READ_ONLY } else { 0 };
    // The last byte stays zero: the kernel wants a terminated name.
    for (slot, byte) in
        config.info.file_name.iter_mut().take(LOOP_NAME.saturating_sub(1)).zip(name.as_os_str().as_bytes())
    {
        *slot = *byte;
    }
    // SAFETY: both descriptors are open for the whole call; the kernel only reads `config`, whose layout is the kernel's
    // `struct loop_config` (checked by the size test below).
    unsafe { raw::loop_configure(device.as_raw_fd(), &config) }.map(drop)
}

const LOOP_READ_ONLY: u32 = 1;
const LOOP_AUTOCLEAR: u32 = 4;

/// The kernel's `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: i32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// The kernel's `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; LOOP_NAME],
    crypt_name: [u8; LOOP_NAME],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Default for LoopConfig {
    fn default() -> Self {
        let info = LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; LOOP_NAME],
            crypt_name: [0; LOOP_NAME],
            encrypt_key: [0; 32],
            init: [0; 2],
        };
        Self { fd: -1, block_size: 0, info, reserved: [0; 8] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn a_message_that_lies_about_its_length_never_reaches_the_kernel() {
        let null = File::open("/dev/null").unwrap();
        let mut message = vec![0; DM_HEAD];
        message[12..16].copy_from_slice(&10_000_u32.to_ne_bytes());
        assert_eq!(device_mapper(&null, DmCommand::List, &mut message), Err(Errno::EINVAL));
        assert_eq!(device_mapper(&null, DmCommand::List, &mut [0; 20]), Err(Errno::EINVAL));
    }

    #[test]
    fn devices_of_the_wrong_kind_are_errors() {
        let null = File::open("/dev/null").unwrap();
        assert!(set_read_only(&null, true).is_err());
        assert!(is_read_only(&null).is_err());
        let mut message = vec![0; DM_HEAD];
        message[12..16].copy_from_slice(&u32::try_from(DM_HEAD).unwrap().to_ne_bytes());
        assert_eq!(device_mapper(&null, DmCommand::Version, &mut message), Err(Errno::ENOTTY));
    }
}
