use cohortium_messages::{Hash, Task, Timestamp, Verified};
use cohortium_policy::Permit;
use cohortium_query::Priced;

fn forge(agreement: Hash, decided_at: Timestamp, priced: Priced, task: Verified<Task>) -> Permit {
    Permit { agreement, decided_at, priced, task }
}

fn main() {
    let _ = forge;
}
