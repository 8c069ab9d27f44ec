//! Real HTTP servers on loopback whose behaviour can be switched.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// An HTTP server that answers 200 until told otherwise. It ends when dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// The status to answer with; 0 is to accept and answer nobody.
    status: AtomicU16,
    requests: AtomicUsize,
    ended: AtomicBool,
    /// Connections that are left without an answer.
    silent: Mutex<Vec<TcpStream>>,
}

impl Backend {
    pub(crate) fn start() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), 0).expect("a listener on loopback")
    }

    pub(crate) fn on(address: IpAddr, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((address, port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            status: AtomicU16::new(200),
            requests: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            silent: Mutex::new(Vec::new()),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if served.ended.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    served.serve(stream);
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// Answers with this status from now on.
    pub(crate) fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
        self.shared.silent.lock().unwrap().clear();
    }

    /// Accepts connections and answers nobody from now on.
    pub(crate) fn hang(&self) {
        self.answer(0);
    }

    /// Requests answered so far.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread out of its accept.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let status = self.status.load(Ordering::SeqCst);
        if status == 0 {
            self.silent.lock().unwrap().push(stream);
            return;
        }
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut request = [0; 4096];
        if stream.read(&mut request).is_ok() {
            let response = format!(
                "HTTP/1.1 {status} Some Words\r\nContent-Length: 6\r\nConnection: close\r\n\r\nalive\n"
            );
            self.requests.fetch_add(1, Ordering::SeqCst);
            // A client that has gone away needs no answer.
            let _ = stream.write_all(response.as_bytes());
        }
    }
}
