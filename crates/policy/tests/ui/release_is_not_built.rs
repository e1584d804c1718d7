use cohortium_messages::ReleaseDocument;
use cohortium_policy::Release;

fn forge(document: ReleaseDocument) -> Release {
    Release { document }
}

fn main() {
    let _ = forge;
}
