//! Devices and other countable things of a node.

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
