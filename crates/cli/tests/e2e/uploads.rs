//! A vector on its way over a line that breaks, and somebody else at the hub's door meanwhile.
//!
//! Between one node and the hub stands a proxy that carries bytes, as a hospital's would, and cuts a connection after a
//! given number of them. The node's own loop must go on from the last whole piece.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use cohortium_api::{ClientError, Connection};
use cohortium_node::home::Home;
use cohortium_node::view::View;
use serde_json::json;

use crate::sandbox::{Sandbox, run_json, shown, wait_for};

/// 300 × 300 groups: a vector of 720,000 bytes, which leaves in two pieces of 262,144 and one of 195,712.
const CODES: usize = 300;
const VECTOR: u64 = 720_000;
const PIECE: u64 = 262_144;
/// Where the line breaks: in the second piece, whatever else the connection has carried by then (tens of kilobytes).
const CUT_AFTER: u64 = 450_000;

/// What the proxy is told, and tells.
#[derive(Default)]
struct Line {
    /// Whether nothing gets through.
    is_down: AtomicBool,
    /// Whether a connection was cut, which happens once.
    was_cut: AtomicBool,
    /// Bytes from the node since the line was mended.
    sent_since: AtomicU64,
}

#[test]
fn an_upload_that_breaks_off_goes_on_where_it_was() {
    let sandbox = sandbox_of_codes("upload");
    let line = Arc::new(Line::default());
    let home = sandbox.node("one");
    let connection = Connection::load(&home).unwrap();
    let port = proxy(connection.url.rsplit(':').next().unwrap().parse().unwrap(), Arc::clone(&line));
    let file = home.join("connection.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&connection.url, &format!("https://127.0.0.1:{port}"))).unwrap();
    run_json(None, &["sandbox", "start", &sandbox.shown()]).json();

    let question = {
        let researcher = sandbox.researcher();
        let sql = "SELECT a, b, COUNT(*) FROM codes GROUP BY a, b";
        thread::spawn(move || run_json(Some(&researcher), &["query", sql, "--study", "codes", "--epsilon", "1"]))
    };
    wait_for("the line breaks", || line.was_cut.load(Ordering::SeqCst).then_some(()));

    // While it is down somebody who knows the hash of the vector is at the hub's door with garbage.
    let (_, run) = View::open(&Home::new(&home)).unwrap().runs().unwrap().pop().unwrap();
    let stranger = connection.client().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for offset in [0, PIECE] {
        let put = stranger.put_vector(run.masked.unwrap(), offset, vec![7; 57_856]);
        let answer = runtime.block_on(put);
        assert!(matches!(&answer, Err(ClientError::Refused(refused)) if refused.code == "unknown"), "{answer:?}");
    }

    line.is_down.store(false, Ordering::SeqCst);
    let answer = question.join().unwrap().json();
    assert_eq!(answer["survivors"], json!(["one", "three", "two"]));
    assert_eq!(answer["answer"]["rows"].as_array().unwrap().len(), CODES * CODES);
    let sent = line.sent_since.load(Ordering::SeqCst);
    println!("{sent} bytes were sent after the line was mended");
    assert!(
        (VECTOR - PIECE..VECTOR).contains(&sent),
        "the first piece was sent again, or the others never were: {sent} bytes"
    );
}

/// Three organisations of three rows each, over columns with many values.
fn sandbox_of_codes(name: &str) -> Sandbox {
    let sandbox = Sandbox::in_folder(name);
    std::fs::create_dir_all(sandbox.dir()).unwrap();
    let (data, schema) = (sandbox.dir().join("files"), sandbox.dir().join("codes.toml"));
    std::fs::create_dir(&data).unwrap();
    for organisation in ["one", "two", "three"] {
        std::fs::write(data.join(format!("{organisation}.csv")), "a,b\n1,2\n3,4\n5,6\n").unwrap();
    }
    let domain: Vec<String> = (0..CODES).map(|code| code.to_string()).collect();
    let column = |name: &str| {
        let domain = domain.join(", ");
        format!("[[schema.columns]]\nname = \"{name}\"\ntype = \"integer\"\ndomain = [{domain}]\nroles = [\"group\"]\n")
    };
    let text = format!(
        "name = \"codes\"\nquestions = []\n[schema]\nmax_rows_per_person = 1\nmax_groups_per_person = 1\n{}{}",
        column("a"),
        column("b")
    );
    std::fs::write(&schema, text).unwrap();
    let (dir, data, schema) = (sandbox.shown(), shown(&data), shown(&schema));
    run_json(None, &["sandbox", "new", &dir, "--data", &data, "--schema", &schema]).json();
    sandbox
}

/// Carries bytes to the hub, and cuts the first connection that has sent too many. Gives the port it listens on. Its
/// threads end with the test's process.
fn proxy(hub: u16, line: Arc<Line>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for node in listener.incoming().flatten() {
            let Ok(hub) = TcpStream::connect(("127.0.0.1", hub)) else { continue };
            if line.is_down.load(Ordering::SeqCst) {
                continue; // both ends are closed
            }
            let line = Arc::clone(&line);
            let (from_hub, to_node) = (hub.try_clone().unwrap(), node.try_clone().unwrap());
            thread::spawn(move || carry(from_hub, to_node, |_| true));
            thread::spawn(move || {
                let mut sent = 0;
                carry(node, hub, |bytes| {
                    sent += bytes;
                    if line.was_cut.load(Ordering::SeqCst) {
                        line.sent_since.fetch_add(bytes, Ordering::SeqCst);
                        return true;
                    }
                    let is_cut = sent > CUT_AFTER;
                    if is_cut {
                        line.is_down.store(true, Ordering::SeqCst);
                        line.was_cut.store(true, Ordering::SeqCst);
                    }
                    !is_cut
                });
            });
        }
    });
    port
}

/// Carries bytes one way until either end closes, or `may_pass` says no to the next ones.
fn carry(mut from: TcpStream, mut to: TcpStream, mut may_pass: impl FnMut(u64) -> bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !may_pass(read as u64) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
