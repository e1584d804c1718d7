//! How much of one thing one member may do in a day: what stays in the log for ever must not come without end.
//!
//! Days are those of the hub's clock, and tomorrow there is room again: nothing that somebody does today silences anyone
//! for good.

use cohortium_messages::Timestamp;
use cohortium_store::Batch;
use serde::{Deserialize, Serialize};

use crate::hub::{Hub, No, json, no};
use crate::records::QUOTAS;

/// How many there were on the last day on which there was one.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    /// Days since 1970, by the hub's clock.
    day: i64,
    today: u32,
}

impl Hub {
    /// Counts one more of `what`, or refuses it: so many a day.
    pub(crate) fn count(&self, batch: &mut Batch, what: &str, a_day: u32, now: Timestamp) -> Result<(), No> {
        self.count_more(batch, what, 1, a_day, now)
    }

    /// Counts several more of `what`, or refuses them all.
    pub(crate) fn count_more(
        &self,
        batch: &mut Batch,
        what: &str,
        more: u32,
        a_day: u32,
        now: Timestamp,
    ) -> Result<(), No> {
        let day = now.seconds().div_euclid(86_400);
        let known: Count = self.record(QUOTAS, what)?.unwrap_or_default();
        let today = if known.day == day { known.today } else { 0 };
        if today.saturating_add(more) > a_day {
            return no("limit", format!("{today} today of {what}, and no more are taken before tomorrow (UTC)"));
        }
        batch.put(QUOTAS, what, json(&Count { day, today: today.saturating_add(more) })?);
        Ok(())
    }
}
