//! LVM: from text metadata to logical volumes and their places on the disks.
