use cohortium_messages::Hash;
use cohortium_policy::Permit;

fn redirect(mut permit: Permit, agreement: Hash) -> Permit {
    permit.agreement = agreement;
    permit
}

fn main() {
    let _ = redirect;
}
