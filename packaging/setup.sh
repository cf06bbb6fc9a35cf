#!/bin/sh
# Installs what a fresh Debian 12 lacks to build, test and demonstrate Wherry. Installs only what is missing, and starts
# no registry on the machine. (busybox-static takes the place of busybox, as Debian has it.)
#   packaging/setup.sh build|demo|test|bench
set -eu

main() {
    purpose=${1:-build}
    wanted="gcc libc6-dev make pkg-config protobuf-compiler libprotobuf-dev ca-certificates"
    case $purpose in
        build) ;;
        demo) wanted="$wanted $(running)" ;;
        test) wanted="$wanted $(running) systemd git user-mode-linux iptables ufw musl-tools dbus
            python3-dbus python3-gi python3-nftables gir1.2-glib-2.0" ;;
        bench) wanted="$wanted $(running) wrk haproxy dnsperf dnsmasq-base" ;;
        *) echo "usage: packaging/setup.sh build|demo|test|bench" >&2; exit 2 ;;
    esac

    missing=""
    for package in $wanted; do
        installed "$package" || missing="$missing $package"
    done
    [ -z "$missing" ] || install_packages "$missing"
    [ "$purpose" = build ] || load_modules
    # Installed, they would start and change the machine's own tables and name servers; tests run them beside Wherry.
    [ "$purpose" != test ] || {
        command -v dockerd >/dev/null || unpack docker.io docker usr/sbin/dockerd
        unpack systemd-resolved resolved lib/systemd/systemd-resolved
        unpack firewalld firewalld usr/sbin/firewalld
        unpack python3-firewall python3-firewall usr/lib/python3/dist-packages
    }
    check_cargo
}

# What real nodes on one machine need.
running() {
    echo containerd runc nftables iproute2 procps util-linux mount kmod busybox-static docker-registry curl
}

# containerd and runc may also come from Docker's own package, which Debian's would replace.
installed() {
    case $1 in
        containerd) command -v containerd >/dev/null && command -v ctr >/dev/null && return ;;
        runc) command -v runc >/dev/null && return ;;
    esac
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
    command -v apt-get >/dev/null || { echo "setup: no apt-get here; install by hand:$1" >&2; exit 1; }
    as_root=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "setup: become root to install:$1" >&2; exit 1; }
        as_root="sudo"
    fi
    echo "setup: installing$1"
    # The lists of a new machine are empty, mirrors stumble, and right after the boot others hold apt's lock.
    # shellcheck disable=SC2086 # a list of packages is meant to be split
    get install $1 2>/dev/null || { get update && get install $1; } ||
        { sleep 10; get update && get install $1; } || { sleep 30; get update && get install $1; } || {
        echo "setup: apt-get could not install:$1" >&2
        exit 1
    }
    # A registry for everybody on port 5000 is nothing that a test may leave behind.
    case $1 in *docker-registry*)
        [ ! -d /run/systemd/system ] || $as_root systemctl disable --quiet --now docker-registry || true ;;
    esac
    # Nor a balancer at every boot.
    case $1 in *haproxy*)
        [ ! -d /run/systemd/system ] || $as_root systemctl disable --quiet --now haproxy || true ;;
    esac
}

# Unpacks a package into a folder below target, if the program is not there yet.
unpack() {
    package=$1
    folder=$(dirname "$0")/../target/$2
    [ ! -x "$folder/$3" ] || return 0
    command -v apt-get >/dev/null || { echo "setup: no apt-get here to unpack $package" >&2; exit 1; }
    echo "setup: unpacking $package into target/$2"
    rm -rf "$folder"
    mkdir -p "$folder"
    (
        cd "$folder"
        apt-get -q -o Acquire::Retries=5 download "$package" >/dev/null 2>&1 || {
            as_root=""
            [ "$(id -u)" = 0 ] || as_root="sudo"
            get update && apt-get -q download "$package" >/dev/null
        }
        dpkg-deb -x "$package"_*.deb . && rm "$package"_*.deb
    ) || { rm -rf "$folder"; echo "setup: $package could not be unpacked" >&2; exit 1; }
}

get() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 \
        "$@" -y -q --no-install-recommends >/dev/null
}

# Built into some kernels, modules in others; the programs say so themselves if one is really missing.
load_modules() {
    for module in overlay veth nf_tables nf_nat nft_chain_nat nft_numgen nft_fib_ipv4 nft_masq iptable_filter; do
        modprobe -q "$module" 2>/dev/null || true
    done
}

check_cargo() {
    command -v cargo >/dev/null && return
    [ -x "$HOME/.cargo/bin/cargo" ] && return
    cat >&2 <<'EOF'
setup: no cargo here. Debian 12's own is too old for this project; install rustup (https://rustup.rs), which
       then fetches the toolchain that rust-toolchain.toml names:
           apt-get install curl && curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
EOF
    exit 1
}

main "$@"
