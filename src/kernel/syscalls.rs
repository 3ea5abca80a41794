//! Classes of system calls, for the features `sys_*`: which numbers belong to which, on the architecture compiled for.

use crate::kernel::features;

/// Members of each class, by the name of its feature.
const CLASSES: &[(&str, &[libc::c_long])] = &[
    (
        "sys_io",
        &[
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_readv,
            libc::SYS_writev,
            libc::SYS_pread64,
            libc::SYS_pwrite64,
            libc::SYS_openat,
            libc::SYS_close,
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_io_uring_enter,
        ],
    ),
    (
        "sys_net",
        &[
            libc::SYS_sendto,
            libc::SYS_recvfrom,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_accept,
            libc::SYS_accept4,
            libc::SYS_connect,
        ],
    ),
    (
        "sys_wait",
        &[
            libc::SYS_ppoll,
            libc::SYS_pselect6,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
        ],
    ),
    (
        "sys_sleep",
        &[
            libc::SYS_nanosleep,
            libc::SYS_clock_nanosleep,
            libc::SYS_timerfd_settime,
        ],
    ),
    ("sys_futex", &[libc::SYS_futex]),
    (
        "sys_mm",
        &[
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mprotect,
            libc::SYS_madvise,
            libc::SYS_brk,
        ],
    ),
    (
        "sys_proc",
        &[
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_execve,
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_wait4,
        ],
    ),
];

/// Calls that only x86 has beside their newer forms.
#[cfg(target_arch = "x86_64")]
const X86_CLASSES: &[(&str, &[libc::c_long])] = &[
    ("sys_io", &[libc::SYS_open]),
    (
        "sys_wait",
        &[libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait],
    ),
    ("sys_proc", &[libc::SYS_fork, libc::SYS_vfork]),
];

/// No such calls.
#[cfg(not(target_arch = "x86_64"))]
const X86_CLASSES: &[(&str, &[libc::c_long])] = &[];

/// Write the kernel's table: for each number 1 + class, 0 where a call is not counted.
pub fn fill_classes(table: &mut [u8]) {
    let Some(first) = features::index("sys_io") else {
        return;
    };
    for (name, calls) in CLASSES.iter().chain(X86_CLASSES) {
        let Some(class) = features::index(name).map(|i| i - first) else {
            continue;
        };
        for &call in *calls {
            if let Some(entry) = usize::try_from(call).ok().and_then(|c| table.get_mut(c)) {
                *entry = 1 + class as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_a_feature_and_has_its_calls_in_the_table() {
        let mut table = [0; 1024];
        fill_classes(&mut table);
        let first = features::index("sys_io").expect("a feature");
        for (name, calls) in CLASSES {
            let class = features::index(name).expect("a feature") - first;
            for &call in *calls {
                assert_eq!(usize::from(table[call as usize]), class + 1, "{name}");
            }
        }
        assert_eq!(table[libc::SYS_getpid as usize], 0);
    }
}
