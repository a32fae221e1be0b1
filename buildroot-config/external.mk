include $(sort $(wildcard $(BR2_EXTERNAL_TIERLIFT_PATH)/package/*/*.mk))

TIERLIFT_BOARD = $(BR2_EXTERNAL_TIERLIFT_PATH)/board/tierlift

# Kconfig drops an option with an unmet dependency without a word: a kernel that
# lacks one that image/kernel.config asks for is not built.
define TIERLIFT_CHECK_KERNEL_OPTIONS
	$(TIERLIFT_BOARD)/check-kernel-options.sh \
		$(BR2_EXTERNAL_TIERLIFT_PATH)/../image/kernel.config $(@D)/.config
endef
LINUX_POST_CONFIGURE_HOOKS += TIERLIFT_CHECK_KERNEL_OPTIONS

# One target for each image. `make` alone builds all of them.
TIERLIFT_IMAGES = raw vhd vhdx vmdk ova qcow2 iso
TIERLIFT_IMAGE_TOOLS = linux rootfs-cpio grub2 host-dosfstools host-genimage \
	host-mtools host-qemu host-xorriso

.PHONY: tierlift-kernel tierlift-initramfs $(addprefix tierlift-,$(TIERLIFT_IMAGES))

tierlift-kernel: linux

tierlift-initramfs: rootfs-cpio

$(addprefix tierlift-,$(TIERLIFT_IMAGES)): tierlift-%: $(TIERLIFT_IMAGE_TOOLS)
	@$(call MESSAGE,"Writing tierlift.$*")
	$(EXTRA_ENV) $(TIERLIFT_BOARD)/post-image.sh $(BINARIES_DIR) $*
