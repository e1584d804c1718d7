use cohortium_messages::{Envelope, Receipt, Verified};
use cohortium_policy::ReceiptEvidence;

fn forge(envelope: Envelope, receipt: Verified<Receipt>) -> ReceiptEvidence {
    ReceiptEvidence { envelope, receipt }
}

fn main() {
    let _ = forge;
}
