use cohortium_policy::Permit;

fn needs_clone<T: Clone>() {}
fn needs_default<T: Default>() {}

fn main() {
    needs_clone::<Permit>();
    needs_default::<Permit>();
}
