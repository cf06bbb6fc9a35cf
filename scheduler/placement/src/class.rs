//! Classes: what nodes have in common that rules ask about, interned by the owner.

/// A class of nodes: all of them have the same static facts (zone, architecture, labels that some rule mentions, kinds of
/// devices). What the facts are only the owner knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u32);

/// A property to spread or to keep apart over, such as the zone or one label: the place of its value in a class's domains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainKey(pub u16);

/// A value of such a property, dense from zero; zero = the classes that have none, together one place.
pub type DomainValue = u32;

/// A set of classes: those on which a demand may be. It grows as classes are added: one it was never told of is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selection {
    words: Vec<u64>,
}

impl Selection {
    /// Whether a class is in it.
    #[must_use]
    pub fn allows(&self, class: ClassId) -> bool {
        self.words.get(class.0 as usize / 64).is_some_and(|word| word >> (class.0 % 64) & 1 == 1)
    }

    /// Puts a class into it.
    pub fn allow(&mut self, class: ClassId) {
        let word = class.0 as usize / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (class.0 % 64);
    }

    /// Its classes, in order.
    pub fn classes(&self) -> impl Iterator<Item = ClassId> + '_ {
        (0_u32..).zip(&self.words).flat_map(|(index, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| ClassId(index * 64 + bit))
        })
    }
}

impl FromIterator<ClassId> for Selection {
    fn from_iter<I: IntoIterator<Item = ClassId>>(classes: I) -> Self {
        let mut selection = Self::default();
        classes.into_iter().for_each(|class| selection.allow(class));
        selection
    }
}

/// A selection that an engine keeps; demands share it. See [`Engine::add_selection`](crate::Engine::add_selection).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SelectionId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_holds_what_it_was_given() {
        let classes = [ClassId(0), ClassId(63), ClassId(64), ClassId(200)];

        let selection: Selection = classes.into_iter().collect();

        assert!(selection.classes().eq(classes));
        assert!(selection.allows(ClassId(64)) && !selection.allows(ClassId(65)) && !selection.allows(ClassId(9_999)));
    }
}
