//! Holds our nftables table equal to what is wanted: loads it whole once, changes elements afterwards, restores it.

use api_types::{fnv, net::Cidr};
use nix::sys::socket::SockProtocol;

use crate::{
    Error,
    collection::Collection,
    element::{self, Sum},
    family::Family,
    foreign::{self, Surroundings},
    memory,
    message::{Requests, attribute, attributes, flag, text},
    plan::TableGuard,
    slots::{Balance, Step, Upset},
    socket::{Refusal, Socket},
    table::{
        self, Base, DELETE_TABLE, DESTROY_TABLE, FAMILY_HEADER_BYTES, GET_CHAIN, GET_RULE, NEW_TABLE, Place, SUBSYSTEM,
        transaction,
    },
    wanted::Wanted,
};

const GET_GENERATION: u16 = SUBSYSTEM | 16;
const GENERATION: u16 = 1;
const OWNED_AND_KEPT: u32 = 0x2 | 0x4;
const RULE_EXPRESSION_NAME: [u16; 2] = [1, 1];
/// Attributes of a listed chain that count and number things, and so differ without anybody having changed anything.
const CHAIN_VARYING: [u16; 3] = [2, 6, 8];

/// Our table and what is in it.
#[derive(Debug)]
pub(crate) struct Balancer {
    socket: Socket,
    table: String,
    family: Family,
    guard: TableGuard,
    rotation: u64,
    loaded: Option<Loaded>,
    upset: Upset,
    /// What others' tables do with what is forwarded, and at which count of nftables' transactions that was seen.
    surroundings: Option<(u32, Surroundings)>,
}

/// What the kernel had when we last looked.
#[derive(Debug)]
struct Loaded {
    base: Base,
    balance: Balance,
    /// Over chains and rules.
    structure: u64,
    /// The kernel's count of nftables transactions, if only ours happened since we looked.
    generation: Option<u32>,
}

impl Balancer {
    /// Opens the way to nftables. The socket is the table's owner, so it lives as long as the agent.
    pub(crate) fn open(table: String, family: Family, guard: TableGuard, rotation: u64) -> Result<Self, Error> {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
        let (loaded, upset, surroundings) = (None, Upset::default(), None);
        let balancer = Self { socket, table, family, guard, rotation, loaded, upset, surroundings };
        balancer.generation().map_err(|error| match error.errno() {
            Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                Error::KernelLacks { what: "nftables".to_owned(), module: "nf_tables".to_owned() }
            }
            Some(libc::EPERM) => Error::NotAllowed,
            _ => error,
        })?;
        Ok(balancer)
    }

    /// Makes the table equal to what is wanted. In the kernel already: only the elements that differ change, so that
    /// every service has an answer at every moment. Else the whole table is replaced in one transaction, which no
    /// established connection notices.
    pub(crate) fn program(&mut self, base: &Base, wanted: &Wanted) -> Result<(), Error> {
        if let Some(loaded) = &self.loaded
            && loaded.base == *base
        {
            match self.change(wanted) {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(%error, "the table is not as it was left; loading it whole"),
            }
        }
        let mut balance = self.loaded.take().map(|loaded| loaded.balance).unwrap_or_default();
        balance.apply(balance.changes_to(wanted, self.rotation));
        self.load(base.clone(), balance)
    }

    /// Compares table and memory, and loads the table again if somebody changed it. Gives whether that was so.
    pub(crate) fn verify(&mut self) -> Result<bool, Error> {
        let Some(loaded) = &self.loaded else { return Ok(false) };
        let generation = self.generation()?;
        if loaded.generation == Some(generation) {
            return Ok(false);
        }
        let elements = Sum::of(self.family, &loaded.balance.elements());
        // A listing of what is gone fails; that too means: load it again.
        let untouched = self.structure().is_ok_and(|found| found == loaded.structure)
            && self.sum().is_ok_and(|sum| sum == elements);
        // Somebody changed rules of theirs: who was let in before may not be now.
        let forgotten = if untouched && loaded.base.asks_input { self.forget_let_in()? } else { 0 };
        let Some(mut loaded) = self.loaded.take() else { return Ok(false) };
        if untouched {
            loaded.generation = Some(generation.wrapping_add(forgotten));
            self.loaded = Some(loaded);
            return Ok(false);
        }
        self.load(loaded.base, loaded.balance)?;
        Ok(true)
    }

    /// What the kernel has otherwise than we left it, by the names of our maps and sets. Repairs nothing.
    pub(crate) fn differences(&self) -> Result<Vec<&'static str>, Error> {
        let Some(loaded) = &self.loaded else { return Err(Error::Unprogrammed) };
        let mut differing = Vec::new();
        if self.structure()? != loaded.structure {
            differing.push("chains and rules");
        }
        let elements = loaded.balance.elements();
        for of in Collection::FILLED {
            let ours: Vec<_> = elements.iter().copied().filter(|element| element::collection(element) == of).collect();
            let mut found = Sum::default();
            self.add_sum(&mut found, of)?;
            if found != Sum::of(self.family, &ours) {
                differing.push(of.name());
            }
        }
        Ok(differing)
    }

    /// What others' tables do with what is forwarded; looks at those of nftables only if somebody changed one. `open`: lets what
    /// is ours, by links of this prefix and addresses of this range, pass where `iptables` drops it.
    pub(crate) fn look_around(&mut self, prefix: &str, range: Cidr, open: bool) -> Result<Surroundings, Error> {
        let generation = self.generation()?;
        let known = self.surroundings.take().filter(|(at, _)| *at == generation);
        let seen = match known {
            Some((_, seen)) => seen,
            None => foreign::look(&self.socket, self.place(), (prefix, range), open)?,
        };
        let mut all = seen.clone();
        self.surroundings = Some((generation, seen));
        foreign::look_at_legacy(&mut all, self.family, prefix);
        Ok(all)
    }

    /// Takes the rules out of others' tables by which ours pass.
    pub(crate) fn close_others(&self) -> Result<(), Error> {
        foreign::close(&self.socket, self.family)
    }

    /// Forgets clients that are remembered with endpoints which left.
    pub(crate) fn forget_clients(&mut self) -> Result<(), Error> {
        let Some(loaded) = self.loaded.as_mut().filter(|loaded| loaded.balance.remembers()) else { return Ok(()) };
        let place = Place { name: &self.table, family: self.family };
        let transactions = memory::forget(&self.socket, place, &loaded.balance)?;
        loaded.generation = loaded.generation.map(|generation| generation.wrapping_add(transactions));
        Ok(())
    }

    /// Has everybody asked again who comes in. Gives how many transactions that took.
    fn forget_let_in(&self) -> Result<u32, Error> {
        self.socket.demand(&transaction(|requests| {
            for of in [Collection::Passed, Collection::LetIn] {
                element::write_emptying(requests, self.place(), of);
            }
        }))?;
        Ok(1)
    }

    /// Removes the table, if there is one.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        self.loaded = None;
        let requests = transaction(|requests| self.write_table(requests, DELETE_TABLE, 0));
        match self.socket.demand(&requests) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// What happened to exchanges that the kernel remembers since this was asked last.
    pub(crate) fn take_upset(&mut self) -> Upset {
        std::mem::take(&mut self.upset)
    }

    /// What the kernel's maps hold, as far as we know.
    pub(crate) fn balance(&self) -> Option<&Balance> {
        self.loaded.as_ref().map(|loaded| &loaded.balance)
    }

    fn change(&mut self, wanted: &Wanted) -> Result<(), Error> {
        let Some(loaded) = &mut self.loaded else { return Err(Error::Unprogrammed) };
        let place = Place { name: &self.table, family: self.family };
        let changes = loaded.balance.changes_to(wanted, self.rotation);
        for step in loaded.balance.steps(&changes).iter().filter(|step| !step.is_empty()) {
            self.socket.demand(&transaction(|requests| element::write(requests, place, step)))?;
            loaded.generation = loaded.generation.map(|generation| generation.wrapping_add(1));
        }
        self.upset = self.upset | loaded.balance.upset(&changes);
        loaded.balance.apply(changes);
        Ok(())
    }

    fn load(&mut self, base: Base, balance: Balance) -> Result<(), Error> {
        let before = self.generation()?;
        let mut refused = None;
        for opening in self.openings() {
            let step = Step { delete: Vec::new(), add: balance.elements() };
            let mut opened = 0;
            let requests = transaction(|requests| {
                for (kind, flags) in *opening {
                    self.write_table(requests, *kind, *flags);
                }
                opened = requests.len();
                table::write(requests, self.place(), &base);
                element::write(requests, self.place(), &step);
            });
            let Some(refusal) = self.socket.send(&requests)?.into_iter().next() else {
                let structure = self.structure()?;
                // If anybody else changed anything meanwhile, the next verify looks at all of it.
                let generation = Some(before.wrapping_add(1));
                // Whatever the kernel remembers may be an earlier run's, or of a time without our table.
                self.upset = Upset { left: true, datagrams: true };
                self.loaded = Some(Loaded { base, balance, structure, generation });
                return Ok(());
            };
            let at_opening = refusal.index < opened;
            refused = Some(explain(refusal, &requests));
            if !at_opening {
                break;
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The ways to begin with an empty table inside one transaction, best first; a kernel that does not know one refuses.
    fn openings(&self) -> &'static [&'static [(u16, u32)]] {
        const OWNED: &[(u16, u32)] = &[(DESTROY_TABLE, 0), (NEW_TABLE, OWNED_AND_KEPT)];
        const PLAIN: &[(u16, u32)] = &[(NEW_TABLE, 0), (DELETE_TABLE, 0), (NEW_TABLE, 0)];
        // The table that an owner left behind cannot be added again without its flags.
        const AFTER_OWNER: &[(u16, u32)] = &[(DELETE_TABLE, 0), (NEW_TABLE, 0)];
        match self.guard {
            TableGuard::Owned => &[OWNED, PLAIN, AFTER_OWNER],
            TableGuard::Watched => &[PLAIN, AFTER_OWNER],
        }
    }

    fn write_table(&self, requests: &mut Requests, kind: u16, flags: u32) {
        let create = if kind == NEW_TABLE { flag::CREATE } else { 0 };
        requests.push("replace our table", (kind, create), &self.family.header(), |attributes| {
            attributes.text(1, &self.table);
            if kind == NEW_TABLE {
                attributes.number(2, flags);
            }
        });
    }

    fn place(&self) -> Place<'_> {
        Place { name: &self.table, family: self.family }
    }

    fn generation(&self) -> Result<u32, Error> {
        let mut requests = Requests::default();
        requests.push("ask nftables for its generation", (GET_GENERATION, 0), &self.family.header(), |_| {});
        self.socket.ask(&requests, |message| {
            let value = attribute(message.payload.get(FAMILY_HEADER_BYTES..)?, GENERATION)?;
            Some(u32::from_be_bytes(value.try_into().ok()?))
        })
    }

    /// A sum over our chains and rules as the kernel lists them.
    fn structure(&self) -> Result<u64, Error> {
        let mut all = Vec::new();
        for (kind, what, varying) in
            [(GET_CHAIN, "list the chains", CHAIN_VARYING.as_slice()), (GET_RULE, "list the rules", &[])]
        {
            let mut requests = Requests::default();
            requests
                .push(what, (kind, flag::DUMP), &self.family.header(), |attributes| attributes.text(1, &self.table));
            let sums = self.socket.dump(&requests, |message| {
                let payload = message.payload.get(FAMILY_HEADER_BYTES..)?;
                // Older kernels list the chains of every table.
                (attribute(payload, 1).map(text) == Some(&self.table)).then(|| {
                    let stable = attributes(payload).filter(|(kind, _)| !varying.contains(kind));
                    fnv::sum(stable.flat_map(|(_, value)| value.iter().copied()))
                })
            })?;
            all.extend(sums.into_iter().flat_map(u64::to_ne_bytes));
        }
        Ok(fnv::sum(all))
    }

    /// The sum over all elements that the kernel has.
    fn sum(&self) -> Result<Sum, Error> {
        let mut sum = Sum::default();
        for collection in Collection::FILLED {
            self.add_sum(&mut sum, collection)?;
        }
        Ok(sum)
    }

    fn add_sum(&self, sum: &mut Sum, collection: Collection) -> Result<(), Error> {
        let requests = element::dump(self.place(), collection);
        self.socket.dump(&requests, |message| {
            sum.add_answer(collection, message.payload);
            None::<()>
        })?;
        Ok(())
    }
}

/// Names the expression that this kernel was built without, where that is the cause.
fn explain(refusal: Refusal, requests: &Requests) -> Error {
    let rule = refusal.offset.map(|offset| requests.at(refusal.index, offset)).and_then(|attribute| {
        let missing =
            matches!(refusal.errno, libc::ENOENT | libc::EOPNOTSUPP) && requests.what(refusal.index) == "add a rule";
        missing.then(|| crate::message::nested(attribute, &RULE_EXPRESSION_NAME)).flatten().map(text)
    });
    match rule {
        Some(name) => Error::KernelLacks { what: format!("nftables' `{name}`"), module: format!("nft_{name}") },
        None => refusal.into_error(requests),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Rule;

    #[test]
    fn what_the_kernel_lacks_is_named() {
        let rule = Rule::of(Family::V4).load_service_key().draw_behind_service_key(3);
        let mut requests = Requests::default();
        table::write_rule(&mut requests, Place { name: "wherry", family: Family::V4 }, "r3", &rule);
        let bytes = requests.as_bytes();
        let name = bytes.windows(6).position(|found| found == b"numgen").expect("an expression");
        let missing = |offset| Refusal { index: 0, errno: libc::ENOENT, detail: String::new(), offset };

        let named = explain(missing(Some(name - 8)), &requests);
        let unnamed = explain(missing(None), &requests);

        let text =
            "this kernel lacks nftables' `numgen`: load or build the module nft_numgen, then start the agent again";
        assert_eq!(named.to_string(), text);
        assert_eq!(unnamed.to_string(), "add a rule: No such file or directory (os error 2)");
    }
}
