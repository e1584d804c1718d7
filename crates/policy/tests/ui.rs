//! The walls that are types: what must not compile, does not.

#[test]
fn permits_and_releases_cannot_be_made_outside() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

/// Compiles only while permits and releases are not read from anywhere: if one of these types could be deserialised, two
/// implementations would apply and the call would be ambiguous. (The compiler's message for the plain attempt lists
/// other crates' types and changes with them, so it is no good expectation for a file in `ui/`.)
#[test]
fn permits_and_releases_cannot_be_deserialised() {
    trait IsNotRead<Marker> {
        fn holds() -> bool {
            true
        }
    }
    struct Read;
    impl<T> IsNotRead<()> for T {}
    impl<T: serde::de::DeserializeOwned> IsNotRead<Read> for T {}
    assert!(<cohortium_policy::Permit as IsNotRead<_>>::holds());
    assert!(<cohortium_policy::Release as IsNotRead<_>>::holds());
    assert!(<cohortium_policy::ReceiptEvidence as IsNotRead<_>>::holds());
    assert!(<cohortium_policy::Policy as IsNotRead<_>>::holds());
}
