//! Words without a rule of their own: those that need none here, and those that lb has nothing for.

/// Words of which the same is to be said.
pub(super) struct Other {
    pub(super) words: &'static [&'static str],
    /// Nothing needs to be done for them.
    pub(super) is_default: bool,
    pub(super) why: &'static str,
}

const fn default(words: &'static [&'static str], why: &'static str) -> Other {
    Other { words, is_default: true, why }
}

const fn unsupported(words: &'static [&'static str], why: &'static str) -> Other {
    Other { words, is_default: false, why }
}

/// What a configuration consists of. The first of these words tells that a file is keepalived's.
pub(super) const TOP: &[&str] = &[
    "global_defs",
    "vrrp_script",
    "vrrp_track_process",
    "track_process",
    "vrrp_track_file",
    "track_file",
    "bfd_instance",
    "static_ipaddress",
    "static_routes",
    "static_rules",
    "vrrp_sync_group",
    "vrrp_instance",
    "virtual_server",
    "virtual_server_group",
    "net_namespace",
    "net_namespace_ipvs",
    "namespace_with_ipsets",
    "instance",
    "use_pid_dir",
    "garp_group",
    "track_group",
    "interface_up_down_delays",
    "linkbeat_interfaces",
    "SSL",
    "include_check",
];

pub(super) const TOP_OTHERS: &[Other] = &[
    unsupported(
        &["net_namespace", "net_namespace_ipvs", "namespace_with_ipsets"],
        "lb works in the network namespace it is started in: ip netns exec NAME lb run, or NetworkNamespacePath= of systemd",
    ),
    unsupported(&["instance"], "one lb runs per network namespace; `runtime_dir` tells several apart"),
    default(&["use_pid_dir"], "lb has no PID files; its lock and socket are in `runtime_dir`"),
    unsupported(
        &["garp_group"],
        "gratuitous ARP is sent at once and repeated every `announce_refresh`; there is no pause between interfaces",
    ),
    unsupported(
        &["track_group"],
        "addresses and routes of the node do not depend on a group; write them into a [[virtual_router.route]]",
    ),
    unsupported(&["interface_up_down_delays"], "a link that goes up or down counts at once"),
    unsupported(
        &["linkbeat_interfaces"],
        "the kernel tells of links; drivers that need polling are not supported",
    ),
    unsupported(
        &["SSL"],
        "checks by TLS show no certificate of their own; `ca` of a check says whose certificates it takes",
    ),
    default(&["include_check"], "a file that cannot be read is always an error"),
];

/// Words about mail.
pub(super) const MAIL: &[&str] = &[
    "notification_email",
    "notification_email_from",
    "smtp_server",
    "smtp_helo_name",
    "smtp_connect_timeout",
    "smtp_alert",
    "smtp_alert_vrrp",
    "smtp_alert_checker",
    "no_email_faults",
    "email_faults",
    "no_checker_emails",
    "checker_emails",
];

/// Words of `global_defs` that have rules.
pub(super) const GLOBAL: &[&str] = &[
    "vrrp_version",
    "script_user",
    "enable_script_security",
    "vrrp_mcast_group4",
    "vrrp_mcast_group6",
    "vrrp_garp_master_refresh",
    "default_interface",
    "notify_fifo",
    "vrrp_notify_fifo",
];

pub(super) const GLOBAL_OTHERS: &[Other] = &[
    default(&["router_id", "lvs_id"], "only names this machine in mails"),
    default(
        &["vrrp_strict", "strict_mode"],
        "lb goes by the RFC, and allows what keepalived refuses then (unicast, passwords, several VIPs); VIPs go on answering ping, which `accept = false` would change",
    ),
    default(
        &[
            "vrrp_garp_master_delay",
            "vrrp_garp_master_repeat",
            "vrrp_garp_master_refresh_repeat",
            "vrrp_garp_lower_prio_delay",
            "vrrp_garp_lower_prio_repeat",
            "vrrp_garp_interval",
            "vrrp_gna_interval",
            "vrrp_garp_extra_if",
            "vrrp_min_garp",
            "vrrp_lower_prio_no_advert",
            "vrrp_higher_prio_send_advert",
        ],
        "an owner announces its VIPs at once, after every conflict, and every `announce_refresh`",
    ),
    default(
        &["vrrp_check_unicast_src", "vrrp_skip_check_adv_addr"],
        "every advert is checked: where it comes from, how far, and what it names",
    ),
    default(
        &[
            "vrrp_priority",
            "checker_priority",
            "bfd_priority",
            "vrrp_rt_priority",
            "checker_rt_priority",
            "bfd_rt_priority",
            "vrrp_rlimit_rttime",
            "checker_rlimit_rttime",
            "bfd_rlimit_rttime",
            "vrrp_rlimit_rtime",
            "vrrp_no_swap",
            "checker_no_swap",
            "bfd_no_swap",
            "max_auto_priority",
            "min_auto_priority_delay",
            "vrrp_process_name",
            "checker_process_name",
            "bfd_process_name",
            "process_names",
        ],
        "adverts and leases have a thread with a real-time class and locked memory of its own ([daemon] realtime)",
    ),
    unsupported(
        &["vrrp_cpu_affinity", "checker_cpu_affinity", "bfd_cpu_affinity"],
        "lb binds itself to no processor; CPUAffinity= of systemd does",
    ),
    default(
        &[
            "nftables",
            "iptables",
            "vrrp_iptables",
            "vrrp_ipsets",
            "nftables_priority",
            "nftables_counters",
            "nftables_ifindex",
            "disable_local_igmp",
        ],
        "what VIPs do not accept is dropped by the XDP program; no packet filter is needed",
    ),
    unsupported(&["nftables_ipvs"], "there are no firewall marks"),
    default(
        &["use_symlink_paths", "set_supplementary_groups", "script_security"],
        "scripts are run as they are written, with all groups of their user",
    ),
    default(
        &[
            "child_wait_time",
            "umask",
            "random_seed",
            "vrrp_rx_bufs_policy",
            "vrrp_rx_bufs_multiplier",
            "rx_bufs_policy",
            "rx_bufs_multiplier",
            "vrrp_netlink_cmd_rcv_bufs",
            "vrrp_netlink_cmd_rcv_bufs_force",
            "vrrp_netlink_monitor_rcv_bufs",
            "vrrp_netlink_monitor_rcv_bufs_force",
            "lvs_netlink_cmd_rcv_bufs",
            "lvs_netlink_cmd_rcv_bufs_force",
            "lvs_netlink_monitor_rcv_bufs",
            "lvs_netlink_monitor_rcv_bufs_force",
            "process_monitor_rcv_bufs",
            "process_monitor_rcv_bufs_force",
            "iproute_usr_dir",
            "iproute_etc_dir",
            "tmp_config_directory",
            "config_save_dir",
            "data_use_instance",
            "fifo_write_vrrp_states_on_reload",
        ],
        "a detail of how keepalived works",
    ),
    unsupported(
        &["reload_time_file", "reload_repeat", "reload_file", "reload_check_config"],
        "lb reloads on SIGHUP and `lb reload`, after checking all of it; start that by a timer",
    ),
    unsupported(
        &["startup_script", "startup_script_timeout", "shutdown_script", "shutdown_script_timeout"],
        "lb starts none; ExecStartPre= and ExecStopPost= of systemd do",
    ),
    unsupported(
        &["dynamic_interfaces"],
        "an interface must exist when lb starts or reloads; one that goes away later may come back",
    ),
    default(
        &["vrrp_startup_delay", "vrrp_delay_after_boot"],
        "a node that starts asks the network before it claims anything",
    ),
    unsupported(&["vrrp_down_timer_adverts"], "a backup waits for three adverts"),
    unsupported(&["vrrp_owner_ignore_adverts"], "a node of priority 255 yields to another of 255"),
    default(&["log_unknown_vrids"], "`lb status` counts them"),
    unsupported(
        &["lvs_notify_fifo", "lvs_notify_fifo_script"],
        "changes of backends are in the log and in `lb status`",
    ),
    unsupported(
        &["notify_fifo_script", "vrrp_notify_fifo_script"],
        "lb starts no reader of the FIFO; start it by your service manager",
    ),
    unsupported(
        &[
            "enable_snmp_keepalived",
            "enable_snmp_vrrp",
            "enable_snmp_checker",
            "enable_snmp_rfc",
            "enable_snmp_rfcv2",
            "enable_snmp_rfcv3",
            "enable_traps",
            "snmp_socket",
            "snmp_vrrp_if_stats_update_interval",
            "snmp_rs_stats_update_interval",
            "snmp_vs_stats_update_interval",
        ],
        "there is no SNMP; `lb status --json` has it all",
    ),
    unsupported(
        &["enable_dbus", "dbus_service_name", "dbus_no_interface_name"],
        "there is no D-Bus; the control socket has it all",
    ),
    unsupported(
        &["lvs_timeouts"],
        "flows are remembered for `flow_timeout` of their service, and only while a ring changes",
    ),
    default(&["lvs_sync_daemon"], "both nodes compute the same ring, so connections need no synchronisation"),
    default(&["lvs_flush", "lvs_flush_on_stop", "lvs_flush_onstop"], "nothing of IPVS is used"),
    default(&["checker_log_all_failures"], "`lb status` has every backend's latest failure"),
    unsupported(
        &["vmac_prefix", "vmac_addr_prefix"],
        "the interface is named vrrp.VRID unless `use_vmac` names it",
    ),
];

/// Words of `vrrp_instance` that have rules.
pub(super) const INSTANCE: &[&str] = &[
    "state",
    "interface",
    "virtual_router_id",
    "priority",
    "advert_int",
    "authentication",
    "version",
    "native_ipv6",
    "unicast_src_ip",
    "unicast_peer",
    "mcast_src_ip",
    "mcast_dst_ip",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "virtual_routes",
    "virtual_rules",
    "track_interface",
    "track_script",
    "track_process",
    "track_file",
    "track_bfd",
    "nopreempt",
    "preempt",
    "preempt_delay",
    "use_vmac",
    "accept",
    "no_accept",
    "garp_master_refresh",
    "v3_checksum_as_v2",
    "notify",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "smtp_alert",
];

pub(super) const INSTANCE_OTHERS: &[Other] = &[
    default(
        &[
            "garp_master_delay",
            "garp_master_repeat",
            "garp_master_refresh_repeat",
            "garp_lower_prio_delay",
            "garp_lower_prio_repeat",
            "garp_interval",
            "gna_interval",
            "garp_extra_if",
            "lower_prio_no_advert",
            "higher_prio_send_advert",
        ],
        "an owner announces its VIPs at once, after every conflict, and every `announce_refresh`",
    ),
    default(
        &[
            "check_unicast_src",
            "unicast_ttl",
            "skip_check_adv_addr",
            "old_unicast_checksum",
            "unicast_fault_no_peer",
        ],
        "adverts are sent with a TTL of 255; where they come from, how far, and what they name is always checked",
    ),
    default(
        &["vmac_xmit_base", "use_vmac_addr"],
        "adverts come from the interface below the virtual MAC address, with its own address",
    ),
    unsupported(&["use_ipvlan"], "VIPs are on the interface, or on a macvlan with `use_vmac`"),
    unsupported(&["vrf"], "name an interface of the VRF"),
    unsupported(
        &["dont_track_primary", "track_src_ip"],
        "the interface of a virtual router is always tracked, its source address never",
    ),
    unsupported(
        &["sync_group_tracking_weight"],
        "members of a group share their trackers, with their weights",
    ),
    default(
        &["strict_mode"],
        "lb goes by the RFC, and allows what keepalived refuses then (unicast, passwords, several VIPs)",
    ),
    default(
        &["promote_secondaries"],
        "VIPs are added without a prefix route of their own, so none depends on another",
    ),
    default(
        &["kernel_rx_buf_size", "debug", "linkbeat_use_polling", "dynamic_interfaces"],
        "a detail of how keepalived works",
    ),
    default(
        &["lvs_sync_daemon_interface", "lvs_sync_daemon_inteface"],
        "both nodes compute the same ring, so connections need no synchronisation",
    ),
    unsupported(&["down_timer_adverts"], "a backup waits for three adverts"),
    unsupported(&["owner_ignore_adverts"], "a node of priority 255 yields to another of 255"),
    unsupported(&["timer_expired_backup"], "a node that was late always steps down first"),
    unsupported(&["notify_deleted"], "a virtual router that a reload removes runs its `stop` command"),
    unsupported(&["notify_master_rx_lower_pri"], "conflicts are in the log and in `lb status`"),
    unsupported(&["notify_priority_changes"], "changes of the priority are in `lb status`"),
    unsupported(
        &["auth_hmac"],
        "keepalived's signature and lb's differ on the wire; [virtual_router.authentication] signs adverts between nodes of lb",
    ),
    unsupported(&["no_virtual_ipaddress"], "a virtual router has a VIP at least"),
];

/// Words of `vrrp_sync_group`.
pub(super) const GROUP: &[&str] = &[
    "group",
    "track_interface",
    "track_script",
    "track_process",
    "track_file",
    "notify",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "smtp_alert",
    "global_tracking",
];

pub(super) const GROUP_OTHERS: &[Other] = &[
    default(&["sync_group_tracking_weight"], "members of a group share their trackers, with their weights"),
    unsupported(&["notify_deleted", "notify_priority_changes"], "changes of the priority are in `lb status`"),
    unsupported(
        &["track_bfd"],
        "BFD is between two nodes, not for a group; it is on anyway where peers are unicast",
    ),
];

/// Words of `virtual_server` that have rules.
pub(super) const SERVER: &[&str] = &[
    "delay_loop",
    "lb_algo",
    "lvs_sched",
    "lb_kind",
    "lvs_method",
    "protocol",
    "ip_family",
    "persistence_timeout",
    "virtualhost",
    "real_server",
    "sorry_server",
    "sorry_server_lvs_method",
    "sorry_server_inhibit",
    "quorum_up",
    "quorum_down",
    "hysteresis",
    "retry",
    "delay_before_retry",
    "connect_timeout",
    "warmup",
    "quorum",
    "inhibit_on_failure",
    "alpha",
];

pub(super) const SERVER_OTHERS: &[Other] = &[
    unsupported(&["persistence_granularity", "persistence_engine"], "there is no persistence"),
    default(&["omega"], "lb tells nobody of backends when it stops"),
    default(
        &["hashed", "ops", "flag-1", "flag-2", "flag-3", "sh-port", "sh-fallback", "mh-port", "mh-fallback"],
        "the ring hashes addresses and ports, and leaves out backends that are down",
    ),
    default(&["ha_suspend"], "every node checks backends, to be ready"),
    unsupported(&["smtp_alert"], "lb sends no mail: a `notify` command can"),
    unsupported(&["uthreshold", "lthreshold"], "connections are not counted by backend"),
    default(&["snmp_name", "service_type", "mh-name", "rs_init_notifies"], "only a name"),
];

pub(super) const REAL_SERVER: &[&str] = &[
    "weight",
    "inhibit_on_failure",
    "notify_up",
    "notify_down",
    "lvs_method",
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "MISC_CHECK",
    "SMTP_CHECK",
    "DNS_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "BFD_CHECK",
    "FILE_CHECK",
    "delay_loop",
    "retry",
    "delay_before_retry",
    "connect_timeout",
    "warmup",
    "virtualhost",
    "alpha",
];

/// Words of a check.
pub(super) const CHECK: &[&str] = &[
    "connect_port",
    "connect_timeout",
    "delay_loop",
    "retry",
    "nb_get_retry",
    "nb_sock_retry",
    "delay_before_retry",
    "warmup",
    "url",
    "virtualhost",
    "http_protocol",
    "enable_sni",
    "sni_name",
    "tls_compliant",
    "misc_path",
    "misc_timeout",
    "misc_dynamic",
    "user",
];

pub(super) const CHECK_OTHERS: &[Other] = &[
    unsupported(
        &["connect_ip", "bindto", "bind_if", "bind_port", "fwmark"],
        "a backend is asked at its own address, from this node's",
    ),
    default(
        &["log_all_failures", "alpha", "fast_recovery"],
        "`lb status` has every backend's latest failure",
    ),
];
