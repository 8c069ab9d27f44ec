//! What the flags and settings of the listener say together.

use super::args::Listen;
use crate::web::listener;

/// Where to listen and for whom, if at all; or why not so.
pub(super) fn wanted(args: &Listen) -> Result<Option<listener::Listen>, String> {
    let Listen { listen, listen_token_file: token, listen_tls_cert, listen_tls_key } = args.clone();
    let tls = match (listen_tls_cert, listen_tls_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        _ => return Err("--listen-tls-cert and --listen-tls-key belong together".to_owned()),
    };
    match listen {
        None if token.is_some() || tls.is_some() => {
            Err("a token or TLS for the listener without a listener: say where with --listen"
                .to_owned())
        }
        None => Ok(None),
        Some(address) => {
            let listen = listener::Listen { address, token, tls };
            listen.check().map_err(|error| error.to_string())?;
            Ok(Some(listen))
        }
    }
}
