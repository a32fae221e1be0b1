#!/bin/sh
# Says which options of the fragment $1 the finished kernel configuration $2
# does not have, and fails when there is one.
set -eu

lost=0
while IFS= read -r line; do
	case $line in
	CONFIG_*=n) name=${line%=n}; off=yes ;;
	CONFIG_*=*) name=${line%%=*}; off= ;;
	"# CONFIG_"*" is not set") name=${line#"# "}; name=${name%" is not set"}; off=yes ;;
	*) continue ;;
	esac
	if [ -n "$off" ]; then
		grep -q "^$name=" "$2" || continue
	else
		grep -qxF -- "$line" "$2" && continue
	fi
	echo "lost kernel option: $line" >&2
	lost=1
done < "$1"
exit $lost
