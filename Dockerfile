# Everything that building and testing scx_ml and booting its VM takes, for a checkout that is mounted into it.
#
#   docker build -t scx_ml --build-arg UID=$(id -u) --build-arg GID=$(id -g) .
#   docker run --rm -it --device /dev/kvm -v "$PWD:/home/dev/scx_ml" scx_ml ./vng/test
#
# Without KVM leave --device out: the VM is then emulated. docs/container.md has more.
#
# Versions: Debian 13, Rust as in BASE (1.91 or later), clang 19, QEMU 10 (8.2 or later), virtme-ng 1.42, Linux 6.18.15. Those
# that matter are pinned or checked by vng/setup and vng/lib.sh, which this file runs instead of naming packages anew.

# A Debian 12 or 13 with Rust.
ARG BASE=rust:1.95-trixie
FROM ${BASE}

# The user of the mounted checkout, so that what is built belongs to them.
ARG UID=1000
ARG GID=1000

# What vng/setup takes for granted on a machine.
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends ca-certificates git >/dev/null
RUN groupadd --non-unique --gid "$GID" dev \
    && useradd --non-unique --uid "$UID" --gid "$GID" --create-home --shell /bin/bash dev \
    && install -d -o "$UID" -g "$GID" /var/cache/scx_ml

ENV SCX_ML_CACHE=/var/cache/scx_ml \
    CARGO_HOME=/home/dev/.cargo

# apt's lists stay: by them vng/kernel knows, later and without root, whose archive is whose.
COPY vng /opt/scx_ml/vng
RUN /opt/scx_ml/vng/setup --packages && chown -R "$UID:$GID" /var/cache/scx_ml && apt-get clean

# Formatter and lints, where the base image's Rust comes without them.
RUN (cargo fmt --version && cargo clippy --version) || rustup component add rustfmt clippy

USER dev
# virtme-ng and the kernel, so that a container needs the network for the crates only.
RUN /opt/scx_ml/vng/setup && /opt/scx_ml/vng/kernel

WORKDIR /home/dev/scx_ml
CMD ["bash"]
