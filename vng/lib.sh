# lib.sh: what the scripts in this folder share. Sourced by them, not run.
# shellcheck shell=bash disable=SC2034 # what it sets is read by the scripts

shopt -s inherit_errexit # a step that fails inside $(...) fails the script

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${SCX_ML_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/scx_ml}
KERNELS=$CACHE/kernels
VENV=$CACHE/venv
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
[[ $TARGET == /* ]] || TARGET=$ROOT/$TARGET

# The kernel everything is tested on. It has CONFIG_SCHED_CLASS_EXT=y, which Debian's own 6.12 has not.
PINNED_KERNEL=6.18.15+deb13-cloud-amd64
# What linux/ is checked out at, and --build builds unless told otherwise.
SUBMODULE_VERSION=6.18

export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # depmod, modprobe and ip are not on a normal user's PATH
PROG=vng/${0##*/}

say() { printf '%s: %s\n' "$PROG" "$*" >&2; }
die() {
    say "$@"
    exit 1
}
usage_error() {
    say "$* (see $PROG --help)"
    exit 2
}

# The comment block that opens the script is its help.
show_help() { awk 'NR > 1 && /^#/ { sub(/^# ?/, ""); print; next } NR > 1 { exit }' "$0"; }

# True if version $1 is at least version $2.
version_at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# Debian's code name, or nothing on a system that is not a Debian we know how to extend.
debian_codename() {
    local ID='' VERSION_CODENAME=''
    # shellcheck source=/dev/null
    [[ -r /etc/os-release ]] && . /etc/os-release
    [[ $ID == debian && $VERSION_CODENAME =~ ^(bookworm|trixie)$ ]] && echo "$VERSION_CODENAME"
    return 0
}

# Runs a command as root, or ends and says what to type.
can_be_root() { ((EUID == 0)) || command -v sudo >/dev/null; }
as_root() {
    can_be_root || die "this needs root, and there is no sudo here; please type: su -c '$*'"
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# debian_archive SUITE: where this machine's own apt gets this suite from; nothing if it does not use it. Whatever mirror
# the machine was given is the right one for us too.
debian_archive() {
    apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' "Codename: $1" 'Component: main' 2>/dev/null | head -n 1 || true
}

# apt_world NAME SUITE...: prepares an apt that sees only these suites of Debian and leaves the user's apt as it is. Sets
# the array APT_WORLD to the options that select it. With APT_TYPES='deb deb-src' it sees source packages, too. Suites
# the machine does not use itself, such as backports, are taken from where its main one is; except its -updates and
# -security, which are then left out.
apt_world() {
    local name=$1 dir=$CACHE/apt/$1 codename suite uri archive wanted=''
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    shift
    codename=$(debian_codename)
    [[ -n $codename ]] || die "looked for Debian 12 or 13, found another system; Debian's packages cannot be fetched from here"
    archive=$(debian_archive "$codename")
    if [[ -z $archive ]]; then
        # A new machine's lists may never have been fetched, and without them apt does not know whose archive is whose.
        say "fetching apt's package lists"
        as_root apt-get -qq update >&2 || true
        archive=$(debian_archive "$codename")
    fi
    [[ -n $archive ]] || die "looked for Debian's archive in apt's sources, found none for '$codename'; add it and try again"
    for suite; do
        uri=$(debian_archive "$suite")
        if [[ -z $uri ]]; then
            [[ $suite != *-updates && $suite != *-security ]] || continue
            uri=$archive
        fi
        printf -v wanted '%sTypes: %s\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' \
            "$wanted" "${APT_TYPES:-deb}" "$uri" "$suite" "$keyring"
    done
    mkdir -p "$dir"/{lists,cache/archives}/partial
    [[ -f $dir/$name.sources && $(<"$dir/$name.sources") == "${wanted%$'\n\n'}" ]] || {
        printf '%s' "$wanted" >"$dir/$name.sources"
        rm -f "$dir/stamp"
    }
    # APT::Sandbox::User: the cache may lie in a home that apt's own user may not enter.
    APT_WORLD=(-o "Dir::Etc::sourcelist=$dir/$name.sources" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$dir/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o "Dir::Cache::archives=$dir/cache/archives" -o APT::Sandbox::User=root -o Acquire::Languages=none
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false)
}

# Fetches the lists of the world that apt_world prepared, unless that was done within the last $2 minutes (default 0).
apt_world_update() {
    local stamp=$CACHE/apt/$1/stamp
    [[ -n $(find "$stamp" -mmin "-${2:-0}" 2>/dev/null) ]] && return 0
    say "fetching the package lists of $1"
    apt-get "${APT_WORLD[@]}" -qq update >&2 && touch "$stamp"
}

# unpack_packages FOLDER PACKAGE...: downloads packages from the world that apt_world prepared, beside the folder, and unpacks them
# into it. Nothing is installed.
unpack_packages() {
    local into=$1 debs=$1.debs deb
    shift
    mkdir -p "$into" "$debs"
    (cd "$debs" && apt-get "${APT_WORLD[@]}" -qq download "$@" >&2) || return
    for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$into" && rm "$deb" || return; done
    rmdir "$debs"
}

# Packages of this list that dpkg does not know as installed.
missing_packages() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p') || true
    comm -23 <(printf '%s\n' "$@" | sort -u) <(sort -u <<<"$installed")
}

# install_packages CODENAME PACKAGE...: installs them in one go, from an apt that sees Debian CODENAME's backports too.
# INSTALL_BY is the command that someone without sudo is told to type.
install_packages() {
    local codename=$1
    shift
    can_be_root ||
        die "packages are missing ($*), and there is no sudo here to install them; please type: su -c '$INSTALL_BY'"
    say "installing packages: $*"
    apt_world "$codename" "$codename" "$codename"-{updates,security,backports}
    apt_world_update "$codename" 720
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${APT_WORLD[@]}" -qq -y \
        -o Dpkg::Use-Pty=0 -o Dir::Cache::archives=/var/cache/apt/archives \
        install --no-install-recommends --no-remove "$@" >"$CACHE/log/apt.log" 2>&1 </dev/null || {
        tail -n 15 "$CACHE/log/apt.log" >&2
        die "apt could not install them; the whole of its output is in $CACHE/log/apt.log"
    }
}

# What can be known about KVM only by using it: does this kernel boot with it? /dev/kvm may exist and be of no use (no
# rights), or run a firmware but no kernel (nested or paravirtual, half there). Kept for each kernel, for as long as the
# host stays up: asking takes up to half a minute.
kvm_works() {
    local image=$1 memo=$CACHE/kvm/${1##*/} asked answer=no
    asked=$(</proc/sys/kernel/random/boot_id)-$EUID
    if [[ -r $memo && $(<"$memo") == "$asked "* ]]; then
        read -r _ answer <"$memo"
    else
        if [[ ! -e /dev/kvm ]]; then
            say "this machine has no KVM, so the VM is emulated, which is slow"
        elif [[ ! -r /dev/kvm || ! -w /dev/kvm ]]; then
            say "you may not use /dev/kvm, so the VM is emulated, which is slow; being in its group helps (then delete $memo)"
        elif kernel_boots kvm "$image"; then
            answer=yes
        else
            say "/dev/kvm is there but does not boot ${image##*/}, so the VM is emulated, which is slow"
        fi
        mkdir -p "${memo%/*}"
        echo "$asked $answer" >"$memo"
    fi
    [[ $answer == yes ]]
}
# Whether the kernel comes as far as it can without a disk: it panics because it has no root.
kernel_boots() {
    grep -q -m 1 'not syncing' < <(timeout -s KILL 30 qemu-system-x86_64 -accel "$1" -cpu max -m 512 -nodefaults \
        -display none -no-reboot -kernel "$2" -append 'console=ttyS0 panic=-1' -serial stdio </dev/null 2>/dev/null)
}

# vm_test_program PACKAGE NAME: builds a test program and names it, as cargo does in its messages. scx_ml's own start a
# scx_ml that fails when asked to. That one lies in a folder of its own, with all else taken from the usual one: what is in
# $TARGET/release, and so on the PATH of every VM, is what would be released.
vm_test_program() {
    local options=()
    [[ $1 != scx_ml ]] || options=(--features fault-injection --target-dir "$TARGET/vm-tests"
        --config "build.build-dir='${CARGO_BUILD_BUILD_DIR:-$TARGET}'")
    cargo test --release -p "$1" --test "$2" "${options[@]}" --no-run --message-format=json-render-diagnostics | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["kind"] == ["test"] and message["target"]["name"] == sys.argv[1]:
        print(message["executable"])' "$2"
}
