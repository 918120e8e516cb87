//! How much there is of something, in all and of each tenant, and whether there is room for more.
//!
//! Owns: the counts. Does not know: what is counted, or who is told that there is no room. What is counted goes by what the
//! broker knows it by, which says whose it is ([`tenant`]).
//!
//! Invariants: what tenants have is part of what there is in all; a tenant that has nothing is not remembered, and who
//! has no tenant costs one number.

use std::collections::BTreeMap;

use super::tenant;

/// A number of things and their bytes; in a limit, 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// How large all of them are together.
    pub bytes: u64,
}

impl Amount {
    /// A number of things of which only that counts.
    pub fn of(count: u64) -> Self {
        Self { count, bytes: 0 }
    }

    /// Whether something of `after` bytes fits, in the place of something of `before` bytes if there is that. At a limit
    /// things may be replaced, by what is not larger.
    fn has_room(self, before: Option<u64>, after: u64, limit: Self) -> bool {
        let count = limit.count == 0 || before.is_some() || self.count < limit.count;
        let before = before.unwrap_or(0);
        let bytes = limit.bytes == 0
            || (before > 0 && after <= before)
            || (self.bytes - before).saturating_add(after) <= limit.bytes;
        count && bytes
    }

    fn replace(&mut self, before: Option<u64>, after: Option<u64>) {
        self.count += u64::from(after.is_some());
        self.count -= u64::from(before.is_some());
        self.bytes += after.unwrap_or(0);
        self.bytes -= before.unwrap_or(0);
    }
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// That of the tenant.
    Tenant,
    /// That of all.
    Total,
}

/// How much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    all: Amount,
    tenants: BTreeMap<Box<str>, Amount>,
}

impl Tally {
    /// How much there is in all.
    pub fn all(&self) -> Amount {
        self.all
    }

    /// How much each tenant has that has something, by name.
    pub fn tenants(&self) -> impl Iterator<Item = (&str, Amount)> {
        self.tenants.iter().map(|(name, has)| (&**name, *has))
    }

    /// Something that is known as `known` came, with so many bytes, changed, or went.
    pub fn replace(&mut self, known: &str, before: Option<u64>, after: Option<u64>) {
        self.all.replace(before, after);
        let Some(name) = tenant::split(known).0 else {
            return;
        };
        let Some(has) = self.tenants.get_mut(name) else {
            let mut has = Amount::default();
            has.replace(before, after);
            if has != Amount::default() {
                self.tenants.insert(name.into(), has);
            }
            return;
        };
        has.replace(before, after);
        if has.count == 0 {
            self.tenants.remove(name);
        }
    }

    /// Whether there is room for something that is known as `known`, of `after` bytes, in the place of something of
    /// `before` bytes if there is that.
    ///
    /// # Errors
    /// Which limit is reached; if both are, the narrower one: that of the tenant, which `of_tenant` tells by its name.
    pub fn room(
        &self,
        known: &str,
        before: Option<u64>,
        after: u64,
        total: Amount,
        of_tenant: impl FnOnce(&str) -> Amount,
    ) -> Result<(), Reached> {
        if let Some(name) = tenant::split(known).0 {
            let has = self.tenants.get(name).copied().unwrap_or_default();
            if !has.has_room(before, after, of_tenant(name)) {
                return Err(Reached::Tenant);
            }
        }
        if !self.all.has_room(before, after, total) {
            return Err(Reached::Total);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["x", "y", "a\0/x", "a\0$x", "b\0/x", "b\0/y", "c\0/x"])
    }

    fn sum<'a>(things: impl Iterator<Item = (&'a &'static str, &'a u64)>) -> Amount {
        things.fold(Amount::default(), |sum, (_, bytes)| Amount {
            count: sum.count + 1,
            bytes: sum.bytes + bytes,
        })
    }

    proptest! {
        #[test]
        fn a_tally_is_the_sum_of_what_is_there_in_all_and_of_each_tenant(
            steps in prop::collection::vec((names(), prop::option::of(0..9_u64)), 0..60),
        ) {
            let (mut tally, mut there) = (Tally::default(), BTreeMap::new());
            for (name, after) in steps {
                let before = match after {
                    Some(bytes) => there.insert(name, bytes),
                    None => there.remove(name),
                };
                tally.replace(name, before, after);
                prop_assert_eq!(tally.all(), sum(there.iter()));
                let expected: Vec<_> = ["a", "b", "c"]
                    .into_iter()
                    .map(|name| (name, sum(there.iter().filter(|(known, _)| tenant::split(known).0 == Some(name)))))
                    .filter(|(_, has)| has.count > 0)
                    .collect();
                prop_assert_eq!(tally.tenants().collect::<Vec<_>>(), expected);
            }
        }

        #[test]
        fn what_is_let_in_never_exceeds_a_limit_and_what_shrinks_is_never_refused(
            steps in prop::collection::vec((names(), prop::option::of(1..9_u64)), 0..60),
            limits in (0..4_u64, 0..20_u64, 0..3_u64, 0..12_u64),
        ) {
            let total = Amount { count: limits.0, bytes: limits.1 };
            let each = Amount { count: limits.2, bytes: limits.3 };
            let within = |has: Amount, limit: Amount| {
                (limit.count == 0 || has.count <= limit.count) && (limit.bytes == 0 || has.bytes <= limit.bytes)
            };
            let (mut tally, mut there) = (Tally::default(), BTreeMap::new());
            for (name, after) in steps {
                let before = there.get(name).copied();
                let room = after.map_or(Ok(()), |after| tally.room(name, before, after, total, |_| each));
                let would = {
                    let mut next = tally.clone();
                    next.replace(name, before, after);
                    next
                };
                let fits = [
                    (Reached::Tenant, would.tenants().all(|(_, has)| within(has, each))),
                    (Reached::Total, within(would.all(), total)),
                ];
                let expected = fits.into_iter().find(|(_, fits)| !fits).map_or(Ok(()), |(reached, _)| Err(reached));
                prop_assert_eq!(room, expected);
                if room.is_ok() {
                    tally = would;
                    match after {
                        Some(after) => there.insert(name, after),
                        None => there.remove(name),
                    };
                }
            }
        }
    }

    #[test]
    fn below_a_lowered_limit_things_may_still_shrink_and_go() {
        let mut tally = Tally::default();
        tally.replace("a\0/x", None, Some(10));
        tally.replace("a\0/y", None, Some(10));
        let one = |_: &str| Amount { count: 1, bytes: 5 };
        let room = |before, after| tally.room("a\0/x", before, after, Amount::default(), one);
        assert_eq!(room(Some(10), 10), Ok(()));
        assert_eq!(room(Some(10), 11), Err(Reached::Tenant));
        assert_eq!(room(None, 1), Err(Reached::Tenant));
    }
}
