//! How long declaring and binding many durable queues takes, one after the other as a client does.

use anyhow::Result;

use super::load::Load;
use super::peer::Peer;

/// Measures each peer.
pub(super) fn run(load: &Load, peers: &[Peer], count: u64) -> Result<()> {
    let mut rows = Vec::new();
    for peer in peers {
        println!("{count} queues on {}", peer.name());
        let measured =
            load.run(peer, &format!("--topology --durable --queue topology --queues {count}"))?;
        rows.push(format!(
            "| {} | {:.2} s | {:.2} s |",
            peer.name(),
            measured.declare_seconds,
            measured.delete_seconds
        ));
    }
    println!("\n| {count} queues | declared and bound | deleted |\n|---|---|---|");
    for row in rows {
        println!("{row}");
    }
    Ok(())
}
