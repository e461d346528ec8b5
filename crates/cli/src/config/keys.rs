//! Which values each key of the configuration may have: the error texts, and the check itself.

use tracing_subscriber::EnvFilter;

use super::Config;

/// Which values `section.key` may have, for error texts.
pub(super) fn allowed(key: &str) -> &'static str {
    match key {
        "listen.amqp" => "an address and a port such as \"127.0.0.1:5672\"",
        "listen.http" => "an address and a port such as \"127.0.0.1:15672\", or \"off\"",
        "store.data" => "the path of a directory",
        "store.durability" => "\"synced\" or \"relaxed\"",
        "store.segment_bytes" => "a number of bytes from 1048576 (1 MiB) to 1073741824 (1 GiB)",
        "store.body_cache_bytes" | "store.disk_free_bytes_min" => {
            "a number of bytes from 0 to 1099511627776 (1 TiB)"
        }
        "ledger.retention_hours" | "ledger.dedup_window_hours" => {
            "a number of hours from 1 to 87600 (10 years)"
        }
        "ledger.size_bytes_max" => {
            "a number of bytes from 33554432 (32 MiB) to 1099511627776 (1 TiB)"
        }
        "limits.connections_max" => "a number from 1 to 1000000",
        "limits.connections_per_user_max" => "a number from 0 (no limit) to 1000000",
        "limits.channel_max" => "a number from 1 to 65535",
        "limits.frame_max" => "a number of bytes from 4096 to 16777216 (16 MiB)",
        "limits.heartbeat_s" => "a number of seconds from 0 (no heartbeats) to 65535",
        "limits.handshake_timeout_ms" => "a number of milliseconds from 100 to 600000",
        "limits.message_bytes_max" => "a number of bytes from 1 to 536870912 (512 MiB)",
        "limits.memory_bytes_max" => "a number of bytes from 16777216 (16 MiB) on, or 0",
        "limits.connection_unfinished_bytes_max" => {
            "a number of bytes from 65536 (64 KiB) to 1099511627776 (1 TiB)"
        }
        "auth.loopback_users" => "a list of user names such as [\"guest\"]",
        "http.names" => "a list of host names such as [\"queue.example.org\"]",
        "webhooks.allow_private_addresses" => "true or false",
        "log.filter" => "a filter such as \"info\" or \"warn,server=debug\"",
        "listen" | "store" | "ledger" | "limits" | "auth" | "http" | "webhooks" | "log" => {
            "a section"
        }
        _ => "nothing",
    }
}

/// The keys whose values have the right type but are not allowed.
pub(super) fn refused(config: &Config) -> Vec<&'static str> {
    const TIB: u64 = 1 << 40;
    let (store, ledger, limits) = (&config.store, &config.ledger, &config.limits);
    let hours = 1..=87_600;
    let checks = [
        ("store.data", !store.data.as_os_str().is_empty()),
        ("store.segment_bytes", (1 << 20..=1 << 30).contains(&store.segment_bytes)),
        ("store.body_cache_bytes", store.body_cache_bytes <= TIB),
        ("store.disk_free_bytes_min", store.disk_free_bytes_min <= TIB),
        ("ledger.retention_hours", hours.contains(&ledger.retention_hours)),
        ("ledger.size_bytes_max", (32 << 20..=TIB).contains(&ledger.size_bytes_max)),
        ("ledger.dedup_window_hours", hours.contains(&ledger.dedup_window_hours)),
        ("limits.connections_max", (1..=1_000_000).contains(&limits.connections_max)),
        ("limits.connections_per_user_max", limits.connections_per_user_max <= 1_000_000),
        ("limits.channel_max", limits.channel_max >= 1),
        ("limits.frame_max", (4096..=16 << 20).contains(&limits.frame_max)),
        ("limits.handshake_timeout_ms", (100..=600_000).contains(&limits.handshake_timeout_ms)),
        ("limits.message_bytes_max", (1..=512 << 20).contains(&limits.message_bytes_max)),
        (
            "limits.memory_bytes_max",
            limits.memory_bytes_max == 0 || limits.memory_bytes_max >= 16 << 20,
        ),
        (
            "limits.connection_unfinished_bytes_max",
            (64 << 10..=TIB).contains(&limits.connection_unfinished_bytes_max),
        ),
        ("http.names", config.http.names.iter().all(|name| is_host_name(name))),
        ("log.filter", EnvFilter::try_new(&config.log.filter).is_ok()),
    ];
    checks.into_iter().filter(|(_, right)| !right).map(|(key, _)| key).collect()
}

/// Without a scheme, a port or a path.
fn is_host_name(name: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !name.is_empty() && name.bytes().all(is_usual)
}
