//! The history in PostgreSQL: a real server for each test.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use common::server::Server;
use heapgate_core::history::Place;
use heapgate_store::history::{Appended, Kept, Mode, Purpose, Spool, Store, StoreError, append, send};

fn place(server: &Server) -> Place {
    Place::Postgres(server.url())
}

fn on_a_new_one(behaviour: fn(&Place)) {
    let Some(server) = Server::start() else { return };
    behaviour(&place(&server));
}

common::behaviours!(on_a_new_one);

#[test]
fn other_versions_are_refused_with_both() {
    let Some(server) = Server::start() else { return };
    common::other_versions_are_refused_with_both(&place(&server), |version| {
        let mut client = postgres::Client::connect(&server.url(), postgres::NoTls).expect("connect");
        client.execute("UPDATE heapgate.meta SET version = $1", &[&version]).expect("set");
    });
}

#[test]
fn a_database_without_a_history_is_told_and_tables_of_others_are_left_alone() {
    let Some(server) = Server::start() else { return };
    let place = place(&server);
    assert!(matches!(Store::open(&place, Mode::Read), Err(StoreError::Missing { .. })));
    let mut client = postgres::Client::connect(&server.url(), postgres::NoTls).expect("connect");
    client.batch_execute("CREATE TABLE runs (precious TEXT); INSERT INTO runs VALUES ('x')").expect("create");
    common::open(&place).append(&common::run(&common::report(0, 1))).expect("append");
    let there = client.query_one("SELECT COUNT(*) FROM public.runs", &[]).expect("count");
    assert_eq!(there.get::<_, i64>(0), 1);
}

#[test]
fn a_server_that_is_gone_makes_runs_wait_until_it_is_back() {
    let Some(mut server) = Server::start() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (place, spool) = (place(&server), Spool(folder.path().join("spool")));
    let kept = append(&place, &spool, &common::report(0, 1), Purpose::Run, None).expect("kept");
    assert!(matches!(kept, Kept::Stored { run: Appended::New(1), .. }), "{kept:?}");
    server.stop();
    let kept = append(&place, &spool, &common::report(1, 1), Purpose::Run, None).expect("kept");
    let Kept::Waits { path, error } = kept else { panic!("{kept:?}") };
    let said = error.to_string();
    assert!(said.contains(&server.address().to_string()) && said.contains("refused"), "{said}");
    assert!(!said.contains("hush"), "{said}");
    assert!(!std::fs::read_to_string(path).expect("read").contains("hush"), "a password on disk");
    assert!(matches!(send(&place, &spool), Err(StoreError::Unreachable { .. })));
    server.start_again();
    let (sent, problems) = send(&place, &spool).expect("sent");
    assert_eq!((sent, problems.len(), spool.files().expect("files").len()), (1, 0, 0));
    assert_eq!(common::peaks(&mut common::open(&place))[0].len(), 2);
}

/// A way to the server that breaks after so many bytes from us.
fn breaking_way(server: &Server, mut bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let way = listener.local_addr().expect("a port");
    let to = server.address();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut server = TcpStream::connect(to).expect("the server");
        let (mut back, mut answers) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
        std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let mut buffer = [0; 512];
        while let Ok(count @ 1..) = client.read(&mut buffer[..bytes.min(512)]) {
            // A server that went away first is what the test is about too.
            let _ = server.write_all(&buffer[..count]);
            bytes -= count;
        }
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Both);
    });
    way
}

#[test]
fn a_connection_that_breaks_anywhere_leaves_a_whole_run_or_none() {
    let Some(server) = Server::start() else { return };
    let direct = place(&server);
    common::open(&direct).append(&common::run(&common::report(0, 2))).expect("append");
    let (mut broken, mut whole) = (0, 0);
    for number in 1..=40 {
        let run = common::run(&common::report(number, 2));
        let way = breaking_way(&server, number as usize * 500);
        let result = Store::open(&Place::Postgres(Server::url_at(way)), Mode::Append).and_then(|mut s| s.append(&run));
        let mut store = common::open(&direct);
        let before = common::peaks(&mut store);
        assert!(before.iter().all(|s| s.len() == before[0].len()), "half a run");
        // Sent again, as from the spool: there once, whether the first attempt arrived or not.
        let again = store.append(&run).expect("append");
        match (result, again) {
            (Err(_), _) => broken += 1,
            (Ok(_), Appended::Already(_)) => whole += 1,
            (Ok(_), Appended::New(_)) => panic!("it was said to be there"),
        }
        assert!(common::peaks(&mut store).iter().all(|s| s.len() == number as usize + 1));
    }
    assert!(broken > 3 && whole > 3, "{broken} broken, {whole} whole: choose other lengths");
}

#[test]
fn urls_that_cannot_be_served_are_refused_with_the_way_out() {
    for (url, words) in [
        ("postgres://ci:hush@127.0.0.1:1/d?sslmode=require", "without TLS"),
        ("postgres://ci:hush@127.0.0.1:port/d", "postgres://USER@HOST:PORT/DATABASE"),
        ("postgres://ci:hush@127.0.0.1:1/d", "check that the server runs"),
        ("postgres://ci:hush@/d?sesame=open", "sesame"),
    ] {
        let error = Store::open(&Place::Postgres(url.to_owned()), Mode::Append).expect_err(url).to_string();
        assert!(error.contains(words) && !error.contains("hush"), "{error}");
    }
}
