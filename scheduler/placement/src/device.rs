//! Devices and other countable things of a node.

use std::collections::BTreeSet;

/// Thousandths of one device.
const WHOLE_MILLIS: u64 = 1_000;

/// One device of a node. Its place in the node's list is its name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Of what kind it is, as the owner numbers kinds.
    pub kind: u32,
    /// Which one of that kind, as the owner numbers models.
    pub model: u32,
    /// How many may use it at once, at least 1.
    pub shares: u32,
    /// How many shares are given away.
    pub used: u32,
}

/// What an instance asks for of one kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceAsk {
    /// The kind.
    pub kind: u32,
    /// The model; `None` = any.
    pub model: Option<u32>,
    /// How much.
    pub amount: DeviceAmount,
}

/// How much of a kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceAmount {
    /// So many devices, each alone.
    Whole(u32),
    /// A part of one device in thousandths, rounded up to whole shares of it.
    Millis(u32),
    /// One share of one device, however many it has.
    Share,
}

/// A device, or a part of one, that an instance was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// Its place in the node's list.
    pub slot: u32,
    /// How many shares of it.
    pub shares: u32,
}

impl Slot {
    /// The shares that are free; none beyond what there are.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.shares.saturating_sub(self.used)
    }

    /// How many of its shares an amount of one device is; `None` when it asks for it alone.
    fn shares_of(&self, amount: DeviceAmount) -> Option<u32> {
        match amount {
            DeviceAmount::Whole(_) => None,
            DeviceAmount::Millis(millis) => {
                let shares = (u64::from(millis) * u64::from(self.shares)).div_ceil(WHOLE_MILLIS);
                Some(u32::try_from(shares).unwrap_or(u32::MAX).max(1))
            }
            DeviceAmount::Share => Some(1),
        }
    }
}

/// The kinds of which a free share is there.
pub(crate) fn open_kinds(slots: &[Slot]) -> BTreeSet<u32> {
    slots.iter().filter(|slot| slot.free() > 0).map(|slot| slot.kind).collect()
}

/// What each of `asks` would be given of `slots`; the place of the first that cannot be met otherwise.
///
/// A part goes to the shared device where the fewest shares are left, so that whole ones stay whole, and to one that cannot be
/// shared only where there is no other; a whole device is one with the fewest shares. Asks that name a model are met first. Equals are told apart by their place in the list.
pub(crate) fn grant(slots: &[Slot], asks: &[DeviceAsk]) -> Result<Vec<Grant>, usize> {
    let mut left: Vec<Slot> = slots.to_vec();
    let mut grants = Vec::new();
    let mut order: Vec<usize> = (0..asks.len()).collect();
    order.sort_by_key(|place| (asks[*place].model.is_none(), *place));
    for place in order {
        let ask = asks[place];
        let suits = |slot: &Slot| slot.kind == ask.kind && ask.model.is_none_or(|model| model == slot.model);
        let count = if let DeviceAmount::Whole(count) = ask.amount { count } else { 1 };
        for _ in 0..count {
            let open = (0_u32..).zip(&left).filter(|(_, slot)| suits(slot)).filter_map(|(index, slot)| {
                match slot.shares_of(ask.amount) {
                    None => (slot.used == 0).then_some((false, slot.shares, index, slot.shares)),
                    Some(shares) => {
                        (slot.free() >= shares).then(|| (slot.shares == 1, slot.free() - shares, index, shares))
                    }
                }
            });
            let (_, _, index, shares) = open.min().ok_or(place)?;
            left[index as usize].used += shares;
            grants.push(Grant { slot: index, shares });
        }
    }
    Ok(grants)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: u32 = 1;

    fn slot(model: u32, shares: u32, used: u32) -> Slot {
        Slot { kind: GPU, model, shares, used }
    }

    fn ask(amount: DeviceAmount) -> DeviceAsk {
        DeviceAsk { kind: GPU, model: None, amount }
    }

    #[test]
    fn whole_devices_are_given_alone() {
        let slots = [slot(0, 1, 1), slot(0, 4, 1), slot(0, 4, 0), slot(0, 1, 0)];

        assert_eq!(
            grant(&slots, &[ask(DeviceAmount::Whole(2))]),
            Ok(vec![Grant { slot: 3, shares: 1 }, Grant { slot: 2, shares: 4 }])
        );
        assert_eq!(grant(&slots, &[ask(DeviceAmount::Whole(3))]), Err(0));
    }

    #[test]
    fn a_part_is_rounded_up_to_shares_and_goes_where_least_is_left() {
        let slots = [slot(0, 4, 0), slot(0, 4, 2)];

        assert_eq!(grant(&slots, &[ask(DeviceAmount::Millis(251))]), Ok(vec![Grant { slot: 1, shares: 2 }]));
        assert_eq!(grant(&slots, &[ask(DeviceAmount::Millis(751))]), Ok(vec![Grant { slot: 0, shares: 4 }]));
        assert_eq!(grant(&slots, &[ask(DeviceAmount::Share)]), Ok(vec![Grant { slot: 1, shares: 1 }]));
    }

    #[test]
    fn an_ask_for_a_model_is_met_before_one_for_any() {
        let slots = [slot(7, 1, 0), slot(8, 1, 0)];
        let named = DeviceAsk { model: Some(7), ..ask(DeviceAmount::Whole(1)) };

        let granted = grant(&slots, &[ask(DeviceAmount::Whole(1)), named]);

        assert_eq!(granted, Ok(vec![Grant { slot: 0, shares: 1 }, Grant { slot: 1, shares: 1 }]));
        assert_eq!(grant(&slots, &[ask(DeviceAmount::Share), named, named]), Err(2));
    }
}
