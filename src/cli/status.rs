//! `pointsman status`: what the running daemon knows and does.

use std::time::Duration;

use super::args::{Output, Status as Args};
use super::{Exit, Failure, answer, colour, complain, json, json_line, runtime};
use crate::control::client;
use crate::control::status::Status;
use crate::control::text::{private, render};

/// Between two pictures of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Cursor home, and clear from there to the end.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) fn status(args: &Args) -> Result<Exit, Failure> {
    runtime()?.block_on(async {
        if !args.watch {
            return show(args, "").await.map(|shown| shown.exit);
        }
        watch(args).await
    })
}

/// Shows one picture after the other until interrupted or until nobody reads. A daemon that goes
/// away after the first one may come back.
async fn watch(args: &Args) -> Result<Exit, Failure> {
    let clear = if colour(&std::io::stdout()) { CLEAR } else { "" };
    let mut shown = show(args, clear).await?;
    while shown.reader {
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        shown = show(args, clear).await.unwrap_or_else(|failure| {
            complain(&format!("{clear}pointsman: {}", failure.message));
            Shown { exit: failure.exit, reader: true }
        });
    }
    Ok(shown.exit)
}

/// What came of one picture.
struct Shown {
    exit: Exit,
    /// Whether anybody reads on.
    reader: bool,
}

async fn show(args: &Args, before: &str) -> Result<Shown, Failure> {
    let status: Status = client::get(&args.socket.socket, "/v1/status")
        .await
        .map_err(|error| Failure::new(&error))?;
    let text = match args.output {
        Output::Text => {
            let mut text = render(&status, colour(&std::io::stdout()));
            if args.all {
                text += &private(&status);
            }
            text
        }
        Output::Json if args.watch => json_line(&status)?,
        Output::Json => json(&status)?,
    };
    let before = if args.output == Output::Text { before } else { "" };
    let reader = answer(&format!("{before}{text}"))?;
    let exit = if status.is_degraded() { Exit::Pending } else { Exit::Done };
    Ok(Shown { exit, reader })
}
