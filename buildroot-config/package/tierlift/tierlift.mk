################################################################################
#
# tierlift
#
################################################################################

TIERLIFT_VERSION = 0.1.0
TIERLIFT_SITE = $(BR2_EXTERNAL_TIERLIFT_PATH)/..
TIERLIFT_SITE_METHOD = local
TIERLIFT_SUBDIR = agent
TIERLIFT_LICENSE = MIT or Apache-2.0
TIERLIFT_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT
TIERLIFT_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = \
	--exclude=target/ --exclude=/buildroot-config/

# A local source is not downloaded, so Buildroot does not collect its crates.
# Cargo does here, once, into the folder it is told to look in when building;
# Cargo.lock has the SHA-256 of each.
define TIERLIFT_FETCH_CRATES
	cd $(TIERLIFT_SRCDIR) && \
	$(TARGET_MAKE_ENV) $(PKG_CARGO_ENV) cargo fetch --locked
endef
TIERLIFT_PRE_BUILD_HOOKS += TIERLIFT_FETCH_CRATES

$(eval $(cargo-package))
