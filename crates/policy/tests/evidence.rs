//! Evidence is not read from anywhere. (What must not compile stands as `compile_fail` examples in the crate's guide.)

/// Compiles only while permits and releases are not read from anywhere: if one of these types could be deserialised, two
/// implementations would apply and the call would be ambiguous.
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
