//! What is mounted, made, masked and read-only; the namespaces.

use super::situation::Situation;

const fn inside(name: &'static str, inside: &'static str) -> Situation {
    Situation::inside(name, inside)
}

/// One more mount.
macro_rules! mount {
    ($json:literal) => {
        ("mounts/+", $json)
    };
}

/// A file of the host bound to a path.
macro_rules! bind {
    ($source:literal, $destination:literal $(, $option:literal)*) => {
        (
            "mounts/+",
            concat!(
                r#"{ "type": "bind", "source": ""#, $source, r#"", "destination": ""#,
                $destination, r#"", "options": ["bind""#, $(", \"", $option, "\"",)* "] }"
            ),
        )
    };
}

const WRITABLE: (&str, &str) = ("root/readonly", "false");

pub(crate) const SITUATIONS: &[Situation] = &[
    // Links in the image.
    inside("a_file_at_a_dangling_link", "cat /etc/resolv.conf; find /run -type f")
        .config(&[WRITABLE, bind!("@BUNDLE/words", "/etc/resolv.conf")])
        .image("echo words >../words; ln -s ../run/resolve/stub.conf etc/resolv.conf"),
    inside("a_file_at_a_dangling_absolute_link", "cat /etc/hosts; find /var -type f")
        .config(&[WRITABLE, bind!("@BUNDLE/words", "/etc/hosts")])
        .image("echo words >../words; ln -s /var/made/hosts etc/hosts"),
    inside("a_directory_below_a_dangling_link", "ls -d /var/run/app /run/app; ls /var/run/app")
        .config(&[WRITABLE, bind!("@BUNDLE/rootfs/home", "/var/run/app")])
        .image("mkdir var; ln -s /run var/run; touch home/seen"),
    inside("a_directory_by_a_chain_of_links", "ls /one; ls -d /four")
        .config(&[WRITABLE, bind!("@BUNDLE/rootfs/home", "/one")])
        .image("ln -s two one; ln -s /three two; ln -s four three; touch home/seen"),
    inside("a_link_that_climbs_above_the_root", "ls /up; ls /outside")
        .config(&[WRITABLE, bind!("@BUNDLE/rootfs/home", "/up")])
        .image("ln -s ../../../../../../outside up; touch home/seen")
        .by("t r run c; ls -d /outside 2>/dev/null"),
    inside("a_loop_of_links", "echo runs")
        .config(&[WRITABLE, bind!("@BUNDLE/rootfs/home", "/a/x")])
        .image("ln -s b a; ln -s a b"),
    inside("a_file_below_a_file", "echo runs")
        .config(&[WRITABLE, bind!("@BUNDLE/rootfs/home", "/etc/passwd/below")]),
    inside("a_mount_point_with_dots", "ls /data")
        .config(&[bind!("@BUNDLE/rootfs/home", "/home/../data")])
        .image("touch home/seen"),
    // Bound files and directories.
    inside("a_bound_file", "cat /etc/motd")
        .config(&[WRITABLE, bind!("@BUNDLE/words", "/etc/motd")])
        .image("echo words >../words"),
    inside("a_bound_directory_is_read_only", "echo x >/data/file; echo $?")
        .config(&[bind!("@BUNDLE/rootfs/home", "/data", "ro")]),
    inside("a_bound_directory_is_writable", "echo x >/data/file; cat /data/file")
        .config(&[bind!("@BUNDLE/rootfs/home", "/data")]),
    inside("a_source_that_is_missing", "echo runs").config(&[bind!("@BUNDLE/missing", "/data")]),
    inside("a_directory_over_a_file", "echo runs")
        .config(&[bind!("@BUNDLE/rootfs/home", "/etc/passwd")]),
    inside("a_file_over_a_directory", "echo runs")
        .config(&[bind!("@BUNDLE/rootfs/etc/passwd", "/data")]),
    inside("flags_of_a_bound_directory", "grep ' /data ' /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1-5")
        .config(&[bind!("@BUNDLE/rootfs/home", "/data", "nosuid", "nodev", "noexec", "ro")]),
    inside("a_relative_destination", "ls /data")
        .config(&[bind!("@BUNDLE/rootfs/home", "data")])
        .image("touch home/seen"),
    inside("a_source_relative_to_the_bundle", "cat /data/words")
        .config(&[bind!("there", "/data")])
        .image("mkdir ../there; echo words >../there/words"),
    inside("a_mount_without_a_type", "ls /data")
        .config(&[mount!(
            r#"{ "destination": "/data", "source": "@BUNDLE/rootfs/home", "options": ["rbind"] }"#
        )])
        .image("touch home/seen"),
    inside("a_source_from_an_earlier_mount", "ls /data")
        .config(&[
            bind!("@BUNDLE/other", "/home"),
            bind!("@BUNDLE/rootfs/home", "/data"),
        ])
        .image("mkdir ../other; touch ../other/of-the-volume home/of-the-image"),
    inside("the_root_as_a_destination", "echo runs")
        .config(&[mount!(r#"{ "destination": "/", "type": "tmpfs", "source": "tmpfs" }"#)]),
    // File systems.
    inside("a_tmpfs_with_size_and_mode", "stat -c %a /data; df -k /data | tail -n 1 | tr -s ' ' | cut -d' ' -f2")
        .config(&[mount!(
            r#"{ "destination": "/data", "type": "tmpfs", "source": "tmpfs",
                 "options": ["size=64k", "mode=1777"] }"#
        )]),
    inside("a_read_only_tmpfs_with_a_mount_below", "ls /data; echo x >/data/file; echo $?")
        .config(&[
            mount!(
                r#"{ "destination": "/data", "type": "tmpfs", "source": "tmpfs",
                     "options": ["ro"] }"#
            ),
            bind!("@BUNDLE/rootfs/home", "/data/below"),
        ]),
    inside("a_read_only_dev", "ls /dev; echo x >/dev/file; echo $?")
        .config(&[("mounts/1/options", r#"["nosuid", "mode=755", "ro"]"#)]),
    inside("a_tmpfs_that_copies_up", "cat /etc/passwd; touch /etc/new && echo made")
        .config(&[mount!(
            r#"{ "destination": "/etc", "type": "tmpfs", "source": "tmpfs",
                 "options": ["tmpcopyup"] }"#
        )]),
    inside("a_wrong_option_of_a_file_system", "echo runs").config(&[mount!(
        r#"{ "destination": "/data", "type": "tmpfs", "source": "tmpfs",
             "options": ["colour=red"] }"#
    )]),
    inside("a_file_system_that_does_not_exist", "echo runs").config(&[mount!(
        r#"{ "destination": "/data", "type": "wishfs", "source": "none" }"#
    )]),
    inside("an_overlay_of_host_directories", "cat /data/lower; echo x >/data/new").config(&[
        mount!(
            r#"{ "destination": "/data", "type": "overlay", "source": "overlay",
                 "options": ["lowerdir=@BUNDLE/low/lower", "upperdir=@BUNDLE/low/upper",
                             "workdir=@BUNDLE/low/work"] }"#
        ),
    ]).image(
        "mkdir ../low && mount -t tmpfs tmpfs ../low && mkdir ../low/lower ../low/upper ../low/work \
         && echo low >../low/lower/lower",
    ).by("t r run c; cat low/upper/new"),
    inside("a_second_proc", "cat /data/self/comm")
        .config(&[mount!(r#"{ "destination": "/data", "type": "proc", "source": "proc" }"#)]),
    inside("a_tmpfs_over_sys", "ls /sys; touch /sys/file && echo made").config(&[(
        "mounts/5",
        r#"{ "destination": "/sys", "type": "tmpfs", "source": "tmpfs" }"#,
    )]),
    inside("a_message_queue", "grep -c ' /dev/mqueue mqueue ' /proc/self/mounts"),
    inside("the_cgroup_mount_is_read_only", "mkdir /sys/fs/cgroup/pids/x; echo $?; ls /sys/fs/cgroup | grep -c pids"),
    inside("a_writable_cgroup_mount", "mkdir /sys/fs/cgroup/pids/x && rmdir /sys/fs/cgroup/pids/x; echo $?")
        .config(&[("mounts/6/options", r#"["nosuid", "noexec", "nodev", "relatime"]"#)]),
    inside("the_cgroups_path", "cut -d: -f3 /proc/self/cgroup | sort -u | head -n 1"),
    // The root.
    inside("the_root_is_read_only", "touch /file; echo $?"),
    inside("the_root_is_writable", "touch /file; echo $?").config(&[WRITABLE]),
    inside("a_missing_root", "echo runs").config(&[("root/path", r#""nowhere""#)]),
    inside("a_root_that_is_a_file", "echo runs").config(&[("root/path", r#""rootfs/etc/passwd""#)]),
    inside("propagation_of_the_root", "grep ' / / ' /proc/self/mountinfo | grep -c shared")
        .config(&[("linux/rootfsPropagation", r#""shared""#)]),
    inside("an_unknown_propagation_of_the_root", "echo runs")
        .config(&[("linux/rootfsPropagation", r#""wishful""#)]),
    inside("run_without_pivot_root", "ls / | tr '\\n' ' '").by("t r run --no-pivot c"),
    // Devices.
    inside("the_default_devices", "cd /dev; ls; stat -c '%n %a %t:%T' null zero full tty random"),
    inside("a_device_by_configuration", "stat -c '%a %t:%T %u %g' /dev/own").config(&[(
        "linux/devices",
        r#"[{ "path": "/dev/own", "type": "c", "major": 10, "minor": 229, "fileMode": 432,
              "uid": 5, "gid": 6 }]"#,
    )]),
    inside("special_bits_of_a_device", "stat -c '%a' /dev/own").config(&[(
        "linux/devices",
        r#"[{ "path": "/dev/own", "type": "c", "major": 10, "minor": 229, "fileMode": 3510 }]"#,
    )]),
    inside("a_redundant_ptmx", "ls -l /dev/ptmx | cut -c1; readlink /dev/ptmx").config(&[(
        "linux/devices",
        r#"[{ "path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 438 }]"#,
    )]),
    inside("a_redundant_null", "stat -c '%t:%T' /dev/null").config(&[(
        "linux/devices",
        r#"[{ "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438 }]"#,
    )]),
    inside("a_file_in_the_place_of_null", "stat -c '%F' /dev/null")
        .config(&[("mounts/1", r#"{ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }"#), WRITABLE])
        .image("echo file >dev/null"),
    inside("a_fifo", "stat -c '%F' /dev/own")
        .config(&[("linux/devices", r#"[{ "path": "/dev/own", "type": "p", "fileMode": 420 }]"#)]),
    // Masked and read-only paths.
    inside("masked_paths", "cat /etc/passwd; ls /home; stat -c %F /home").config(&[
        ("linux/maskedPaths", r#"["/etc/passwd", "/home", "/missing"]"#),
    ]).image("touch home/secret"),
    inside("a_path_that_is_masked_twice", "cat /etc/passwd; echo $?")
        .config(&[("linux/maskedPaths", r#"["/etc/passwd", "/etc/passwd"]"#)]),
    inside("a_directory_that_is_masked_twice", "ls /home; echo $?")
        .config(&[("linux/maskedPaths", r#"["/home", "/home"]"#)])
        .image("touch home/secret"),
    inside("read_only_paths", "touch /data/file; echo $?; touch /home/file; echo $?")
        .config(&[WRITABLE, ("linux/readonlyPaths", r#"["/data", "/missing"]"#)]),
    inside("a_relative_read_only_path", "touch /data/file; echo $?")
        .config(&[WRITABLE, ("linux/readonlyPaths", r#"["data"]"#)]),
    inside("a_relative_masked_path", "cat /etc/passwd; echo $?")
        .config(&[WRITABLE, ("linux/maskedPaths", r#"["etc/passwd"]"#)]),
    // Kernel parameters and names.
    inside("a_parameter_of_the_network", "cat /proc/sys/net/ipv4/ip_forward")
        .config(&[("linux/sysctl", r#"{ "net.ipv4.ip_forward": "1" }"#)]),
    inside("a_parameter_of_messages", "cat /proc/sys/fs/mqueue/msg_max")
        .config(&[("linux/sysctl", r#"{ "fs.mqueue.msg_max": "7" }"#)]),
    inside("a_parameter_of_the_host", "echo runs")
        .config(&[("linux/sysctl", r#"{ "vm.swappiness": "1" }"#)]),
    inside("a_parameter_that_does_not_exist", "echo runs")
        .config(&[("linux/sysctl", r#"{ "net.ipv4.wish": "1" }"#)]),
    inside("host_and_domain_name", "hostname; cat /proc/sys/kernel/domainname")
        .config(&[("hostname", r#""box""#), ("linux/sysctl", r#"{ "kernel.domainname": "home" }"#)]),
    // Namespaces.
    inside("a_user_namespace", "id -u; cat /proc/self/uid_map | tr -s ' '").config(&[
        ("linux/namespaces/+", r#"{ "type": "user" }"#),
        ("linux/uidMappings", r#"[{ "containerID": 0, "hostID": 100000, "size": 65536 }]"#),
        ("linux/gidMappings", r#"[{ "containerID": 0, "hostID": 100000, "size": 65536 }]"#),
    ]).image("chown -R 100000:100000 . && chmod 755 .."),
    inside("the_network_of_the_host", "test $(readlink /proc/self/ns/net) = $(cat /etc/net) && echo same")
        .config(&[("linux/namespaces", r#"[{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }]"#)])
        .image("readlink /proc/self/ns/net >etc/net"),
    inside("a_namespace_that_is_missing", "echo runs").config(&[(
        "linux/namespaces/+",
        r#"{ "type": "cgroup", "path": "/proc/1/ns/missing" }"#,
    )]),
    inside("a_namespace_twice", "echo runs").config(&[("linux/namespaces/+", r#"{ "type": "pid" }"#)]),
    inside("an_unknown_namespace", "echo runs")
        .config(&[("linux/namespaces/+", r#"{ "type": "wish" }"#)]),
    inside("the_processes_of_the_host", "test $(readlink /proc/self/ns/pid) = $(cat /etc/pid) && echo same")
        .config(&[("linux/namespaces", r#"[{ "type": "network" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }]"#)])
        .image("readlink /proc/self/ns/pid >etc/pid"),
    // Properties that are null.
    inside("null_properties", "echo runs").config(&[
        ("hooks", "null"),
        ("annotations", "null"),
        ("process/rlimits", "null"),
        ("process/env", "null"),
        ("linux/resources", "null"),
        ("linux/devices", "null"),
        ("linux/maskedPaths", "null"),
        ("linux/readonlyPaths", "null"),
        ("linux/seccomp", "null"),
        ("linux/sysctl", "null"),
        ("process/args", r#"["/bin/echo", "runs"]"#),
    ]),
];
