//! `run --listen`: the reads on a TCP address, in a thread of its own.
//!
//! Files are read again when they have changed: a look at them comes with each client.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use thiserror::Error;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use super::access::{self, Denied};
use super::clients::{ACCEPT_PAUSE, Admission, Clients};
use super::problem::Problem;
use super::reads::Reads;
use super::routes::routes;
use super::secrets::{self, Kept};
use crate::control::server::Control;
use crate::privileges;

/// Clients at once; each costs a descriptor that probes cannot have.
pub const MOST_CLIENTS: usize = 128;

/// Where to listen, and for whom.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address and port; port 0 is any that is free.
    pub address: SocketAddr,
    /// The file with the token.
    pub token: Option<PathBuf>,
    /// The files with the certificate and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Listen {
    /// Whether strangers are kept out.
    ///
    /// # Errors
    /// [`ListenError::Open`].
    pub fn check(&self) -> Result<(), ListenError> {
        let is_open = !is_loopback(self.address.ip()) && self.token.is_none() && self.tls.is_none();
        if is_open { Err(ListenError::Open(self.address)) } else { Ok(()) }
    }
}

/// Why nobody can be listened to. The daemon does not start.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Anybody could read.
    #[error(
        "--listen {0} is not a loopback address: anybody who reaches it could read; give a token \
         with --listen-token-file, or TLS with --listen-tls-cert and --listen-tls-key (or the \
         settings of these names)"
    )]
    Open(SocketAddr),
    /// A file cannot be used.
    #[error("{0}")]
    File(String),
    /// The system refuses the address.
    #[error("cannot listen on {0}")]
    Bind(SocketAddr, #[source] io::Error),
}

/// A listener that is bound and serves nobody yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    token: Option<Kept<String>>,
    tls: Option<Kept<TlsAcceptor>>,
}

impl Listener {
    /// Reads the files and binds the address.
    ///
    /// # Errors
    /// An address that is open to others, a file that cannot be used, what the system refuses.
    pub fn bind(listen: Listen) -> Result<Self, ListenError> {
        listen.check()?;
        let wanted = listen.address;
        let token = listen.token.map(secrets::token).transpose().map_err(ListenError::File)?;
        let tls = listen.tls.map(|(certificate, key)| secrets::tls(certificate, key));
        let tls = tls.transpose().map_err(ListenError::File)?;
        let bound = |error| ListenError::Bind(wanted, error);
        let socket = TcpListener::bind(wanted).map_err(bound)?;
        socket.set_nonblocking(true).map_err(bound)?;
        let address = socket.local_addr().map_err(bound)?;
        Ok(Self { socket, address, token, tls })
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// What the system refuses of a thread.
    pub(crate) fn start(self, control: Control) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("listener".to_owned()).spawn(move || {
            privileges::none();
            if let Err(error) = runtime.block_on(self.serve(control)) {
                tracing::error!(%error, "the listener has ended");
            }
        })?;
        Ok(())
    }

    async fn serve(mut self, control: Control) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.socket)?;
        info!(
            address = %self.address,
            token = self.token.is_some(),
            tls = self.tls.is_some(),
            "listening"
        );
        let routes = routes(Reads::shared(control));
        let mut clients = Clients::new(MOST_CLIENTS);
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "cannot accept on the listener; trying again");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let gate = Gate {
                token: self.token.as_mut().map(Kept::get),
                only_local: is_loopback(self.address.ip()),
            };
            let routes = gated(routes.clone(), gate);
            match self.tls.as_mut().map(Kept::get) {
                Some(tls) => clients.serve(async move { tls.accept(stream).await }, routes),
                None => clients.serve(async { Ok(stream) }, routes),
            }
        }
    }
}

/// What a request must have.
#[derive(Debug, Clone)]
struct Gate {
    token: Option<Arc<String>>,
    only_local: bool,
}

fn gated(routes: Router, gate: Gate) -> Router {
    routes.layer(from_fn_with_state(gate, enter))
}

async fn enter(
    State(gate): State<Gate>,
    Extension(admission): Extension<Admission>,
    request: Request,
    next: Next,
) -> Response {
    let token = gate.token.as_ref().map(|token| token.as_str());
    match access::check(request.uri(), request.headers(), token, gate.only_local) {
        Ok(()) => {
            admission.grant();
            next.run(request).await
        }
        Err(Denied::Token) => unauthorized(),
        Err(Denied::Host) => {
            let text = "this listener has no token and answers to an IP address or localhost only; \
                        call it so, or give it a token (--listen-token-file)";
            Problem::new(StatusCode::MISDIRECTED_REQUEST, text).into_response()
        }
    }
}

fn unauthorized() -> Response {
    let text = "a token is needed: `Authorization: Bearer TOKEN`, or HTTP Basic with the token as \
                the password";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, text).into_response();
    for scheme in ["Basic realm=\"pointsman\", charset=\"UTF-8\"", "Bearer realm=\"pointsman\""] {
        response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    }
    response
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
