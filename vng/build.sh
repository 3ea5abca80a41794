# build.sh: how vng/kernel --build makes a kernel. Sourced by it, not run.
# shellcheck shell=bash

# Beside what vng/setup installs.
BUILD_PACKAGES=(flex bison bc cpio xz-utils perl libelf-dev libssl-dev dwarves)
BUILDS=$CACHE/build
FRAGMENTS=("$ROOT/vng/vm.config" "$ROOT/sched-ext.config")

# The apt that sees every suite with a source of Linux.
sources_world() {
    APT_TYPES='deb deb-src' apt_world sources "$(debian_codename)"{,-security} trixie{,-backports}
    apt_world_update sources 720 || say "could not update the package lists; going on with those of before"
}

# Versions of Linux whose source Debian has, oldest first, each with where it is: "VERSION package NAME=VERSION" is a
# package with a tar file in it, "VERSION source linux=VERSION" the tar file that Debian's own packages were built from.
# For that which sources_world has prepared.
buildable() {
    local names
    mapfile -t names < <(apt-cache "${APT_WORLD[@]}" pkgnames linux-source- | grep -xE 'linux-source-[0-9.]+')
    apt-cache "${APT_WORLD[@]}" madison linux "${names[@]}" | awk -F ' *[|] *' '
        { gsub(/^ +/, "", $1); linux = $2; sub(/-.*/, "", linux); split(linux, part, ".") }
        # sched_ext came with 6.12.
        part[1] < 6 || part[1] == 6 && part[2] < 12 { next }
        / Packages$/ { print linux, "package", $1 "=" $2 }
        / Sources$/ && $1 == "linux" { print linux, "source", $1 "=" $2 }' |
        # Of one version, the package: Debian keeps its patches there.
        sort -k 1,1V -k 2,2r -u
}

makefile_version() { awk -F ' *= *' '/^(VERSION|PATCHLEVEL|SUBLEVEL) /{ v = v "." $2 } END { print substr(v, 2) }' "$1/Makefile"; }

# Where linux/ is checked out and is of the wanted version, it is what is built. Sets SOURCE and LINUX.
use_submodule() {
    [[ -f $ROOT/linux/Makefile ]] || return
    LINUX=$(makefile_version "$ROOT/linux")
    [[ -n $(with_prefix "$WANTED" <<<"$LINUX") ]] || {
        say "linux/ is $LINUX, not $WANTED; looking for Debian's source of that"
        return 1
    }
    SOURCE=$ROOT/linux
    # What it is made of: the commit, and what was changed since.
    ORIGIN=$(git -C "$SOURCE" rev-parse HEAD)-$(git -C "$SOURCE" diff HEAD | sha256sum | cut -c 1-16)
}

use_debian() {
    local found kind
    [[ -n $(debian_codename) ]] ||
        die "linux/ is not checked out at $WANTED, and this is neither Debian 12 nor 13, whose source could be fetched;" \
            "git submodule update --init linux fetches $SUBMODULE_VERSION"
    sources_world
    found=$(buildable | while read -r version rest; do
        [[ -z $(with_prefix "$WANTED" <<<"$version") ]] || echo "$version $rest"
    done | tail -n 1)
    [[ -n $found ]] || die "Debian has no source of Linux $WANTED; vng/kernel --list shows what can be built"
    read -r LINUX kind ORIGIN <<<"$found"
    SOURCE=
    FETCH=fetch_$kind
}

# Both leave the source in the folder $1.
fetch_package() {
    local name=${ORIGIN%%=*}
    apt-get "${APT_WORLD[@]}" -qq download "$ORIGIN"
    dpkg-deb --fsys-tarfile "$name"_*.deb | tar -xO --wildcards "./usr/src/$name.tar.*" | tar -xJ --strip-components=1 -C "$1"
    rm "$name"_*.deb
}
fetch_source() {
    apt-get "${APT_WORLD[@]}" -qq source --download-only --tar-only "$ORIGIN"
    tar -xJf linux_*.orig.tar.xz --strip-components=1 -C "$1"
    rm linux_*.orig.tar.xz
}

install_build_packages() {
    local missing
    mapfile -t missing < <([[ -z $(debian_codename) ]] || missing_packages "${BUILD_PACKAGES[@]}")
    ((${#missing[@]} > 0)) || return 0
    # shellcheck disable=SC2034 # read by install_packages
    INSTALL_BY="apt-get install ${BUILD_PACKAGES[*]}"
    # A shell of its own: APT_WORLD stays as it is. The lock is the one of vng/setup: one apt at a time.
    (
        exec 8>"$CACHE/setup.lock"
        flock 8
        install_packages "$(debian_codename)" "${missing[@]}"
    )
}

# Where a pahole is kept that is newer than Debian 12's and 13's, and where that comes from.
PAHOLE_DIR=$CACHE/pahole
PAHOLE_SUITE=forky

# Sets PAHOLE. Debian 12's pahole 1.24 will do for all but the latest kernels. What older ones than 1.31 leave out of the BTF of
# Linux 7.0 and later makes every scheduler unloadable: they take some of the functions for BPF with an argument too many.
choose_pahole() {
    local version
    PAHOLE=pahole
    version=$(pahole --version)
    ! version_at_least "$LINUX" 7 || version_at_least "${version#v}" 1.31 || {
        [[ -n $(debian_codename) ]] ||
            die "Linux $LINUX needs pahole 1.31 or later, found $version (package dwarves); install that or build an earlier version of Linux"
        PAHOLE=$PAHOLE_DIR/pahole
        [[ -x $PAHOLE ]] || stage "fetching a newer pahole than $version from Debian's $PAHOLE_SUITE, for Linux 7.0 and later" fetch_pahole
    }
}

# A newer Debian's pahole and all libraries that it wants, in a folder that nothing else sees. In a shell of its own: APT_WORLD
# stays as it is.
fetch_pahole() (
    root=$PAHOLE_DIR/root
    apt_world "$PAHOLE_SUITE" "$PAHOLE_SUITE"
    apt_world_update "$PAHOLE_SUITE" 720
    mapfile -t packages < <(apt-cache "${APT_WORLD[@]}" depends --recurse --important pahole | grep '^[a-z0-9]' | sort -u)
    rm -rf "$PAHOLE_DIR"
    unpack_packages "$root" "${packages[@]}" && cd "$PAHOLE_DIR" || exit
    libraries=$(echo "$root"/usr/lib/*-linux-gnu)
    # By its own loader: its C library is newer than the system's, too.
    printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' "$libraries"/ld-linux*.so.* "$libraries" "$root/usr/bin/pahole" >pahole.new
    chmod +x pahole.new && ./pahole.new --version && mv pahole.new pahole
)

# Says which options of the fragments the kernel's own rules have turned into something else. Options come and go, so
# that is no error, but for those without which there is no sched_ext.
check_config() {
    local config=$1 line name lost=()
    while read -r line; do
        case $line in
        CONFIG_*) grep -qxF "$line" "$config" || lost+=("$line") ;;
        '# CONFIG_'*) name=${line#\# } && ! grep -q "^${name%% *}=" "$config" || lost+=("${name%% *}=n") ;;
        esac
    done < <(cat "${FRAGMENTS[@]}")
    for line in CONFIG_SCHED_CLASS_EXT=y CONFIG_DEBUG_INFO_BTF=y CONFIG_BPF_JIT=y; do
        grep -qxF "$line" "$config" || die "Linux $LINUX could not be configured with $line; see $config"
    done
    ((${#lost[@]} == 0)) || say "Linux $LINUX has no ${lost[*]}"
}

# One stage: says what it does; what it prints goes to the log.
stage() {
    local what=$1
    shift
    say "$what"
    "$@" >>"$LOG" 2>&1 </dev/null || {
        { grep -aE 'error:|Error [0-9]|^E:|: not found' "$LOG" || true; tail -n 10 "$LOG"; } | head -n 20 | sed 's/^/    /' >&2
        die "failed: $what; all of the messages are in $LOG"
    }
}

# Prints the folder and succeeds if what is in it was built from this source with these fragments.
is_built() {
    local dir=$1 key=$2
    [[ -e $dir/.complete && $(<"$dir/.built") == "$key" ]] || return
    touch "$dir/.complete" # the newest result, as of now
    echo "$dir"
}

# Builds $WANTED, if that has not been done yet from the same source with the same fragments, and prints its folder.
build_kernel() {
    local name key dir work objects cc=gcc started=$SECONDS
    local SOURCE='' LINUX='' ORIGIN='' FETCH='' PAHOLE='' LOG
    [[ $WANTED =~ ^[0-9]+(\.[0-9]+)*$ ]] || usage_error "--build takes a version such as 6.12 or 6.12.107, not '$WANTED'"
    if $DEBUG; then FRAGMENTS+=("$ROOT/sched-ext-debug.config"); fi
    use_submodule || use_debian
    name=$LINUX-scx
    if $DEBUG; then name+=-debug; fi
    dir=$KERNELS/$name
    key="$ORIGIN $(cat "${FRAGMENTS[@]}" | sha256sum | cut -c 1-16)"
    ! is_built "$dir" "$key" || return 0
    # One build at a time; the second of the same finds what the first has built.
    exec 9>"$KERNELS/.build-lock"
    flock -n 9 || { say "waiting for another build to end" && flock 9; }
    ! is_built "$dir" "$key" || return 0

    LOG=$CACHE/log/build-$name.log
    mkdir -p "$CACHE/log"
    : >"$LOG"
    install_build_packages
    choose_pahole

    # Always in the same place: ccache takes the path for a part of what is compiled. The objects of linux/ are kept, as
    # it is there to be changed and built again; of a Debian source only the result is.
    work=$BUILDS/$name
    objects=$work/objects
    mkdir -p "$objects"
    if [[ -z $SOURCE ]]; then
        rm -rf "$work"
        mkdir -p "$objects" "$work/source"
        # shellcheck disable=SC2064 # the folder's name as it is now
        trap "rm -rf '$work'" EXIT
        SOURCE=$work/source
        stage "fetching and unpacking the source of Linux $LINUX (${ORIGIN/=/ }, 150 MB, 1.6 GB unpacked)" fetch_into "$work" "$SOURCE"
    fi
    if command -v ccache >/dev/null; then cc="ccache gcc"; fi
    local make=(make -C "$SOURCE" "O=$objects" "CC=$cc" "HOSTCC=$cc" "PAHOLE=$PAHOLE" "LOCALVERSION=${name#"$LINUX"}" -j"$(nproc)")
    cat "${FRAGMENTS[@]}" >"$work/fragments"
    stage "configuring it" "${make[@]}" KCONFIG_ALLCONFIG="$work/fragments" allnoconfig
    check_config "$objects/.config"
    stage "compiling it ($cc, $(nproc) CPUs; some minutes; the messages go to $LOG)" "${make[@]}" bzImage

    rm -rf "$dir"
    mkdir -p "$dir/boot"
    cp "$objects/arch/x86/boot/bzImage" "$dir/boot/vmlinuz-$name"
    cp "$objects/.config" "$dir/boot/config-$name"
    echo "$key" >"$dir/.built"
    touch "$dir/.complete"
    say "built Linux $name in $((SECONDS - started)) s"
    echo "$dir"
}
fetch_into() { (cd "$1" && "$FETCH" "$2"); }
