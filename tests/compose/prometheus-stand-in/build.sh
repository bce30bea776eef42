#!/usr/bin/env bash
# build.sh TAG: an image with the paths, the user and the entrypoint of
# prom/prometheus, made of Debian's packages prometheus and busybox-static and
# tagged as TAG. For an engine that reaches no image registry; it shows that our
# files work, not that the official image does.
set -euo pipefail
tag=$1
if docker image inspect "$tag" >/dev/null 2>&1; then exit 0; fi
for tool in prometheus promtool; do
	command -v $tool >/dev/null || { echo "$tool is missing: apt-get install -y --no-install-recommends prometheus" >&2; exit 1; }
done
[ -x /bin/busybox ] || { echo 'busybox is missing: apt-get install -y --no-install-recommends busybox-static' >&2; exit 1; }
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir -p "$context"/root/{bin,etc/prometheus,prometheus,lib,lib64,tmp}
cp /usr/bin/prometheus /usr/bin/promtool "$context/root/bin/"
# Debian links it to its C library.
ldd /usr/bin/prometheus | grep -o '/lib[^ ]*' | while read -r library; do
	mkdir -p "$context/root$(dirname "$library")"
	cp -L "$library" "$context/root$library"
done
cp /bin/busybox "$context/root/bin/busybox"
ln -s busybox "$context/root/bin/sh"
ln -s busybox "$context/root/bin/wget"
chmod 1777 "$context/root/tmp"
chown 65534:65534 "$context/root/prometheus"
tar -C "$context/root" -c . | docker import \
	-c 'USER 65534' -c 'WORKDIR /prometheus' -c 'VOLUME /prometheus' -c 'EXPOSE 9090' \
	-c 'ENTRYPOINT ["/bin/prometheus"]' \
	-c 'CMD ["--config.file=/etc/prometheus/prometheus.yml","--storage.tsdb.path=/prometheus"]' \
	- "$tag" >/dev/null
