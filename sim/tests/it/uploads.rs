//! Vectors on their way in: the bytes are not signed, so whoever finds a way to the hub may try to put some there.

use cohortium_messages::{Call, Hash, MaskedHeader, Name, Reply, RoundStep, TaskState};
use cohortium_sim::{Asked, Config, Fate, Seen, SimError, World};

use crate::common::{HOSPITALS, demand_promises};

/// Three members whose vectors have 4,800 bytes and come in three pieces. `c` has announced its own and sent none of it.
fn announced(seed: u64) -> (World, Asked, Call, MaskedHeader) {
    println!("seed {seed}");
    let domain: Vec<String> = (0..600).map(|code| code.to_string()).collect();
    let schema = format!(
        "max_groups_per_person = 1\nmax_rows_per_person = 1\n[[columns]]\nname = \"code\"\ntype = \"integer\"\n\
         roles = [\"group\"]\ndomain = [{}]\n",
        domain.join(", ")
    );
    let hospitals = HOSPITALS.map(|name| (name.to_owned(), String::from("code\n1\n2\n")));
    let mut world = World::new(Config::new(seed, hospitals.to_vec(), &schema)).unwrap();
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Masked { .. } } if node.as_str() == "c" => Fate::Lose,
        _ => Fate::Deliver,
    });
    let asked = world.prepare("SELECT code, COUNT(*) AS n FROM heart GROUP BY code", "2", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    let (_, call) = world.wire.left.iter().rfind(|(node, _)| node.as_str() == "c").unwrap().clone();
    let header = world.wire.masked().into_iter().find(|header| header.from.as_str() == "c").unwrap();
    (world, asked, call, header)
}

fn put(world: &mut World, ticket: Hash, offset: u64, piece: &[u8]) -> Result<u64, SimError> {
    world.put_bytes(ticket, offset, piece)
}

fn refused_as(answer: Result<u64, SimError>, code: &str) {
    assert!(matches!(&answer, Err(SimError::Refused(refused)) if refused.code == code), "not {code}: {answer:?}");
}

fn ticket_of(world: &mut World, call: &Call) -> (u64, Hash) {
    match world.call_as_node("c", call.clone()).unwrap() {
        Reply::Vector { have, ticket } => (have, ticket),
        other => panic!("no ticket: {other:?}"),
    }
}

fn demand_answer(world: &mut World, asked: &Asked) {
    let status = world.settle(asked).unwrap();
    assert_eq!(status.state, TaskState::Released, "{}", status.why);
    let answered = world.verify(asked, &status).unwrap();
    assert!(answered.release.survivors.contains(&Name::new("c").unwrap()));
    demand_promises(world);
}

/// Bytes were taken from anyone who knew the announced hash, which a release makes public and a peer may learn: garbage
/// spoiled the vector, and the member was told that it was the one who lied and gave up.
#[test]
fn repro_who_knows_the_hash_can_put_nothing_there() {
    let (mut world, asked, call, header) = announced(901);
    let (_, ticket) = ticket_of(&mut world, &call);
    let before = world.hub.disk.dump().unwrap();
    for guess in [header.sha256, header.context, asked.hash, Hash::of(ticket.as_bytes())] {
        refused_as(put(&mut world, guess, 0, &[7; 2048]), "unknown");
        refused_as(put(&mut world, guess, 0, &vec![7; 4800]), "unknown");
    }
    assert_eq!(world.hub.disk.dump().unwrap(), before);
    world.honest_again();
    demand_answer(&mut world, &asked);
}

/// Who was told the ticket as well (a member's own proxy, say) delays one vector; what it put there goes as soon as the
/// vector is complete, and the member sends it once more.
#[test]
fn garbage_under_a_ticket_delays_one_vector() {
    let (mut world, asked, call, _) = announced(902);
    let (have, ticket) = ticket_of(&mut world, &call);
    assert_eq!(have, 0);
    assert_eq!(put(&mut world, ticket, 0, &[7; 2048]).unwrap(), 2048);
    assert_eq!(ticket_of(&mut world, &call), (2048, ticket));
    world.honest_again();
    demand_answer(&mut world, &asked);
    let of_c = |seen: &&Seen| matches!(seen, Seen::Vector { from, .. } if from.as_str() == "c");
    // Two pieces after the garbage, and then all three.
    assert_eq!(world.wire.seen.iter().filter(of_c).count(), 2 + 3);
}

/// A member whose bytes are never those it announced is not asked for ever.
#[test]
fn other_bytes_than_announced_are_taken_three_times() {
    let (mut world, asked, call, _) = announced(904);
    let (_, ticket) = ticket_of(&mut world, &call);
    for _ in 0..3 {
        refused_as(put(&mut world, ticket, 0, &[7; 4800]), "conflict");
    }
    refused_as(put(&mut world, ticket, 0, &[7; 4800]), "malformed");
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Expired);
}

/// What is stored is never more than was announced, in few enough pieces, and gone when the round is over.
#[test]
fn pieces_have_limits() {
    let (mut world, asked, call, _) = announced(903);
    let (_, ticket) = ticket_of(&mut world, &call);
    let cases: [(&str, u64, usize, &str); 6] = [
        ("beyond the end", 0, 4801, "conflict"),
        ("from the middle", 2048, 2048, "conflict"),
        ("from nowhere", u64::MAX, 100, "conflict"),
        ("nothing", 0, 0, "malformed"),
        ("one byte", 0, 1, "malformed"),
        ("less than one part in 256", 0, 18, "malformed"),
    ];
    for (what, offset, length, code) in cases {
        println!("{what}");
        refused_as(put(&mut world, ticket, offset, &vec![7; length]), code);
    }
    assert_eq!(put(&mut world, ticket, 0, &[7; 19]).unwrap(), 19);
    assert_eq!(world.hub.disk.table("vectors").unwrap().len(), 3 + 3 + 1);
    // The round goes to its end without `c`: with three of three needed it is void.
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Expired);
    for table in ["vectors", "uploads"] {
        assert_eq!(world.hub.disk.table(table).unwrap(), [], "{table}");
    }
    refused_as(put(&mut world, ticket, 19, &[7; 4781]), "unknown");
}
