//! MariaDB: who logs in how, too many connections, a process that does not run, and what probes
//! leave behind.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{Check, CheckKind, MysqlCheck};
use rustix::process::Signal;

use crate::ask::{self, expect, expect_silence};
use crate::program::{Server, as_user, find, free_address, succeed};

/// One that a probe can use, and one that it cannot.
const ACCOUNTS: &str = "
CREATE USER open@'127.0.0.1';
CREATE USER closed@'127.0.0.1' IDENTIFIED BY 'secret';
";

struct Mariadb {
    server: Server,
    address: SocketAddr,
    socket: PathBuf,
}

fn start() -> Option<Mariadb> {
    let (program, install) = (find("mariadbd")?, find("mariadb-install-db")?);
    let directory = ask::directory();
    let [data, socket, accounts] =
        ["data", "data/socket", "accounts.sql"].map(|name| directory.path().join(name));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(&accounts, ACCOUNTS).unwrap();
    let in_data = format!("--datadir={}", data.display());
    let mut installing = as_user("mysql", &install, &data);
    installing.args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"]);
    installing.args(["--auth-root-authentication-method=normal", &in_data]);
    let installed = installing.current_dir(&data).output().unwrap();
    assert!(installed.status.success(), "{installed:?}");
    let address = free_address();
    let mut command = as_user("mysql", &program, &data);
    command.args(["--no-defaults", "--bind-address=127.0.0.1", "--max-connections=10", &in_data]);
    command.arg("--skip-name-resolve");
    command.arg(format!("--port={}", address.port()));
    command.arg(format!("--socket={}", socket.display()));
    command.arg(format!("--init-file={}", accounts.display()));
    let mut server = Server::start(directory, &mut command);
    let log = server.path().join("log");
    server.until("readiness", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready for connections"))
    });
    Some(Mariadb { server, address, socket })
}

impl Mariadb {
    /// The last word of the only row.
    fn query(&self, query: &str) -> String {
        let client = find("mariadb").unwrap();
        let socket = format!("--socket={}", self.socket.display());
        let row = succeed(client, &["--no-defaults", "-uroot", &socket, "-N", "-e", query]);
        row.split_whitespace().last().unwrap().to_owned()
    }

    /// Connections that ended badly, in and before their session.
    fn aborted(&self) -> [u32; 2] {
        let count = |name| self.query(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        ["Aborted_clients", "Aborted_connects"].map(|name| count(name).parse().unwrap())
    }
}

fn login(user: &str) -> CheckKind {
    CheckKind::Mysql(MysqlCheck { user: user.to_owned() })
}

#[tokio::test]
async fn logins_and_the_end() {
    let Some(mariadb) = start() else { return };
    let address = mariadb.address;
    let (before, log) = (mariadb.aborted(), mariadb.server.log());
    // The version begins without the `5.5.5-` that goes over the wire.
    let outcome = ask::ask(address, Check::new(login("open"))).await;
    assert!(outcome.detail.starts_with(&mariadb.query("SELECT VERSION()")), "{outcome:?}");
    expect(address, login("open"), Reason::Ok, ": login accepted").await;
    assert_eq!(
        (mariadb.aborted(), mariadb.server.log()),
        (before, log.clone()),
        "a login and goodbye"
    );
    expect(address, login("closed"), Reason::Ok, "login denied").await;
    expect(address, login("pointsman"), Reason::Ok, "login denied").await;
    let denied = "Access denied for user 'pointsman'@'127.0.0.1' (using password: NO)";
    assert_eq!(mariadb.server.log()[log.len()..].matches(denied).count(), 1);
    assert_eq!(mariadb.aborted(), [before[0], before[1] + 2]);

    let stranger = Check { source: Some([127, 0, 0, 2].into()), ..Check::new(login("open")) };
    let outcome = ask::ask(address, stranger).await;
    let refused = "instead of a greeting, error 1130: Host '127.0.0.2' is not allowed";
    assert!(outcome.detail.contains(refused), "no account is for that address: {outcome:?}");
    assert_eq!(outcome.reason, Reason::Status);

    let clients: Vec<_> = (0..11).map(|_| TcpStream::connect(address).unwrap()).collect();
    let full = "instead of a greeting, error 1040: Too many connections";
    expect(address, login("open"), Reason::Status, full).await;
    drop(clients);

    mariadb.server.send(Signal::STOP);
    expect_silence(address, login("open"), Reason::HeadTimeout, "no greeting within 1s").await;
    drop(mariadb);
    expect(address, login("open"), Reason::Refused, "closed").await;
}
