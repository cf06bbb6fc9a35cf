//! Images that instances need: pulls are shared, failures are tried again.

use std::collections::BTreeMap;

use api_types::time::Timestamp;

use crate::{
    Settings,
    effect::{Effect, Effects},
    restart::backoff_ms,
};

/// What is known of one image.
#[derive(Clone, Debug)]
enum Image {
    /// Not asked for, or doubted since.
    Unknown,
    /// `EnsureImage` is in flight.
    Pulling,
    /// It is here.
    Ready,
    /// `EnsureImage` failed.
    Failed {
        /// When it is tried again.
        retry_at: Timestamp,
    },
}

/// One image's place on the books.
#[derive(Clone, Debug)]
struct Entry {
    image: Image,
    failures: u32,
    reason: String,
    /// When it was last found not to be there for anybody who asks; `None` = it is not known to be missing.
    missing_at: Option<Timestamp>,
}

impl Entry {
    fn new() -> Self {
        Self { image: Image::Unknown, failures: 0, reason: String::new(), missing_at: None }
    }
}

/// The images of this node's instances, by reference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Images {
    entries: BTreeMap<String, Entry>,
}

impl Images {
    /// Whether the image is here; if not, sees to it that one pull is in flight or waits for its back-off.
    pub(crate) fn ensure(&mut self, now: Timestamp, reference: &str, effects: &mut Effects) -> bool {
        if !self.entries.contains_key(reference) {
            self.entries.insert(reference.to_owned(), Entry::new());
        }
        let Some(entry) = self.entries.get_mut(reference) else { return false };
        let ask = match entry.image {
            Image::Unknown => true,
            Image::Failed { retry_at } => retry_at <= now,
            Image::Pulling | Image::Ready => false,
        };
        if ask {
            entry.image = Image::Pulling;
            effects.push(Effect::EnsureImage { image: reference.to_owned() });
        }
        matches!(entry.image, Image::Ready)
    }

    /// Books that the image is here; a container that runs from it proves it, too.
    pub(crate) fn ready(&mut self, reference: &str) {
        let entry = self.entries.entry(reference.to_owned()).or_insert_with(Entry::new);
        entry.image = Image::Ready;
        entry.failures = 0;
        entry.reason.clear();
        entry.missing_at = None;
    }

    /// Books a failed pull; `is_missing`: the image is not there for anybody who asks.
    pub(crate) fn failed(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        reference: &str,
        (reason, is_missing): (&str, bool),
    ) {
        let Some(entry) = self.entries.get_mut(reference) else { return };
        entry.failures = entry.failures.saturating_add(1);
        let delay_ms = backoff_ms(settings, entry.failures);
        entry.image = Image::Failed { retry_at: now + delay_ms };
        entry.missing_at = is_missing.then_some(now);
        entry.reason = format!("image {reference}: {reason}; next try in {} s", delay_ms.div_ceil(1000));
    }

    /// Doubts that the image is still here, so that the next start asks for it again.
    pub(crate) fn doubt(&mut self, reference: &str) {
        if let Some(entry) = self.entries.get_mut(reference)
            && matches!(entry.image, Image::Ready)
        {
            entry.image = Image::Unknown;
        }
    }

    /// Takes every pull in flight for lost with the connection to containerd.
    pub(crate) fn settle(&mut self) {
        for entry in self.entries.values_mut() {
            if matches!(entry.image, Image::Pulling) {
                entry.image = Image::Unknown;
            }
        }
    }

    /// Forgets images that nobody needs.
    pub(crate) fn retain(&mut self, mut needed: impl FnMut(&str) -> bool) {
        self.entries.retain(|reference, _| needed(reference));
    }

    /// When a failed pull is tried again.
    pub(crate) fn retry_at(&self, reference: &str) -> Option<Timestamp> {
        match self.entries.get(reference)?.image {
            Image::Failed { retry_at } => Some(retry_at),
            Image::Unknown | Image::Pulling | Image::Ready => None,
        }
    }

    /// When the image was last found not to be there for anybody who asks; `None` = it is not known to be missing.
    pub(crate) fn missing_since(&self, reference: &str) -> Option<Timestamp> {
        self.entries.get(reference)?.missing_at
    }

    /// Why the image is not here; empty when nothing went wrong.
    pub(crate) fn reason(&self, reference: &str) -> &str {
        self.entries.get(reference).map_or("", |entry| &entry.reason)
    }
}

#[cfg(test)]
mod tests {
    use api_types::id::NodeId;

    use super::*;

    #[test]
    fn one_pull_serves_all_and_a_failed_one_is_tried_again_after_its_pause() {
        let settings = Settings::new(NodeId::new("edge-1").expect("a name"));
        let (mut images, mut effects) = (Images::default(), Effects::new());
        let now = Timestamp(1000);

        assert!(!images.ensure(now, "a:1", &mut effects) && !images.ensure(now, "a:1", &mut effects));
        assert_eq!(effects.len(), 1, "one pull for two who ask");

        images.failed(&settings, now, "a:1", ("not found", true));
        assert!(!images.ensure(now + 999, "a:1", &mut effects));
        assert_eq!(effects.len(), 1, "not before its pause is over");
        assert_eq!(images.reason("a:1"), "image a:1: not found; next try in 1 s");
        assert_eq!(images.missing_since("a:1"), Some(now));

        images.ensure(now + 1000, "a:1", &mut effects);
        images.ready("a:1");
        assert!(images.ensure(now + 1000, "a:1", &mut effects));
        assert_eq!((effects.len(), images.reason("a:1"), images.missing_since("a:1")), (2, "", None));
    }

    #[test]
    fn a_doubted_image_is_asked_for_again() {
        let (mut images, mut effects) = (Images::default(), Effects::new());
        images.ready("a:1");

        images.doubt("a:1");

        assert!(!images.ensure(Timestamp(0), "a:1", &mut effects));
        assert_eq!(effects, [Effect::EnsureImage { image: "a:1".to_owned() }]);
    }
}
