//! `pointsman status`: what the running daemon knows and does.

use std::time::Duration;

use super::args::{Output, Status as Args};
use super::{Exit, Failure, answer, colour, json, runtime};
use crate::control::client;
use crate::control::status::Status;
use crate::control::text::render;

/// Between two pictures of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Cursor home, and clear from there to the end.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) fn status(args: &Args) -> Result<Exit, Failure> {
    runtime()?.block_on(async {
        if !args.watch {
            return show(args, "").await;
        }
        let clear = if colour(&std::io::stdout()) { CLEAR } else { "" };
        loop {
            let exit = show(args, clear).await?;
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                _ = tokio::signal::ctrl_c() => return Ok(exit),
            }
        }
    })
}

async fn show(args: &Args, before: &str) -> Result<Exit, Failure> {
    let status: Status = client::get(&args.socket.socket, "/v1/status")
        .await
        .map_err(|error| Failure::new(&error))?;
    let text = match args.output {
        Output::Text => render(&status, colour(&std::io::stdout())),
        Output::Json => json(&status)?,
    };
    answer(&format!("{before}{text}"))?;
    Ok(if status.is_degraded() { Exit::Pending } else { Exit::Done })
}
