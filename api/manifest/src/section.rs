//! Reads a spanned table: each access says what it expects, and what is asked for is what is known.

use std::cell::RefCell;

use api_types::id::Name;
use toml::de::{DeTable, DeValue};

use crate::fault::{Faults, Place, nearest};

/// Words of other formats and what they are called here.
const ALIASES: &[(&str, &str)] = &[
    ("affinity", "with"),
    ("anti_affinity", "without"),
    ("autoscale", "scale"),
    ("autoscaling", "scale"),
    ("concurrencyPolicy", "overlap"),
    ("constraints", "require"),
    ("count", "replicas"),
    ("cron", "schedule"),
    ("entrypoint", "command"),
    ("environment", "env"),
    ("grace", "within"),
    ("healthcheck", "health"),
    ("failure_action", "on_failure"),
    ("instances", "replicas"),
    ("maxReplicas", "max"),
    ("max_per_node", "per_node"),
    ("max_parallel", "parallel"),
    ("minReplicas", "min"),
    ("min_healthy_time", "healthy_for"),
    ("monitor", "healthy_for"),
    ("parallelism", "parallel"),
    ("placement", "place"),
    ("probe", "health"),
    ("readiness", "health"),
    ("retries", "within"),
    ("rollout", "update"),
    ("skew", "max_skew"),
    ("stabilization", "window"),
    ("startingDeadlineSeconds", "catch_up"),
    ("strategy", "update"),
    ("timeZone", "time_zone"),
    ("timezone", "time_zone"),
    ("update_config", "update"),
    ("volumes", "mounts"),
    ("working_dir", "workdir"),
];

/// A table and where its name stands.
pub(crate) struct Section<'a> {
    pub(crate) path: String,
    pub(crate) place: Place,
    pub(crate) faults: &'a Faults<'a>,
    table: &'a DeTable<'a>,
    /// Keys that were asked for: all others are unknown at the end.
    known: RefCell<Vec<&'static str>>,
    /// Keys that a later version will know.
    later: RefCell<Vec<&'static str>>,
}

/// One key of a table with its value.
pub(crate) struct Entry<'a> {
    pub(crate) path: String,
    pub(crate) key: &'a str,
    pub(crate) key_place: Place,
    pub(crate) place: Place,
    pub(crate) faults: &'a Faults<'a>,
    value: &'a DeValue<'a>,
}

impl<'a> Section<'a> {
    pub(crate) fn root(table: &'a DeTable<'a>, faults: &'a Faults<'a>) -> Self {
        Self { path: String::new(), place: 0..0, faults, table, known: RefCell::default(), later: RefCell::default() }
    }

    /// The value of a key, which is known from now on.
    pub(crate) fn get(&self, key: &'static str) -> Option<Entry<'a>> {
        self.known.borrow_mut().push(key);
        self.entries().find(|entry| entry.key == key)
    }

    /// All entries, for tables whose keys people choose.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        self.table.iter().map(|(key, value)| Entry {
            path: if self.path.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{}.{}", self.path, key.get_ref())
            },
            key: key.get_ref(),
            key_place: key.span(),
            place: value.span(),
            faults: self.faults,
            value: value.get_ref(),
        })
    }

    /// Refuses keys of the format that a later version will know.
    pub(crate) fn refuse_later(&self, later: &[&'static str]) {
        self.later.borrow_mut().extend(later);
        for entry in self.entries().filter(|entry| later.contains(&entry.key)) {
            entry.refuse_later(&format!("`{}`", entry.key));
        }
    }

    /// Refuses every key that nobody asked for: call it last.
    pub(crate) fn refuse_unknown(&self) {
        let (known, later) = (self.known.borrow(), self.later.borrow());
        for entry in self.entries().filter(|entry| !known.contains(&entry.key) && !later.contains(&entry.key)) {
            let alias = ALIASES.iter().find(|(word, ours)| *word == entry.key && known.contains(ours));
            let meant = alias.map(|(_, ours)| *ours).or_else(|| nearest(entry.key, known.iter().copied()));
            let help = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here are: {}", sorted(&known).join(", ")),
            };
            let message = format!("unknown key `{}`", entry.key);
            self.faults.report_with_help("unknown_key", &entry.path, entry.key_place, message, help);
        }
    }

    /// Reports that a key is missing.
    pub(crate) fn missing(&self, key: &str, help: &str) {
        let path = format!("{}.{key}", self.path);
        self.faults.report_with_help("missing_key", &path, self.place.clone(), format!("`{key}` is missing"), help);
    }
}

impl<'a> Entry<'a> {
    /// Reports that the value is wrong.
    pub(crate) fn invalid(&self, code: &str, message: impl Into<String>, help: impl Into<String>) {
        self.faults.report_with_help(code, &self.path, self.place.clone(), message, help);
    }

    /// Reports that a later version will understand this.
    pub(crate) fn refuse_later(&self, what: &str) {
        let message = format!("{what} is not supported yet in this version");
        self.faults.report_with_help("not_supported", &self.path, self.key_place.clone(), message, "remove it");
    }

    pub(crate) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub(crate) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        let DeValue::String(text) = self.value else {
            // A bare number or boolean is what YAML taught people to write.
            let help = match self.value {
                DeValue::Integer(number) => format!("write \"{number}\""),
                DeValue::Float(number) => format!("write \"{number}\""),
                DeValue::Boolean(value) => format!("write \"{value}\""),
                DeValue::String(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => String::new(),
            };
            self.wrong_type("a string", help);
            return None;
        };
        if text.contains('\0') {
            self.invalid("invalid_text", "the text holds a NUL character", "");
            return None;
        }
        Some(text)
    }

    /// A number as people write one: an integer, a decimal, or either in a string.
    pub(crate) fn number_text(&self) -> Option<String> {
        match self.value {
            DeValue::Integer(number) => Some(number.to_string()),
            DeValue::Float(number) => Some(number.to_string()),
            DeValue::String(_) => self.text().map(str::to_owned),
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                self.wrong_type("a number or a string", "");
                None
            }
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong_type("true or false", "");
        }
        value
    }

    /// An integer within the given bounds, both included.
    pub(crate) fn integer(&self, low: u64, high: u64) -> Option<u64> {
        let DeValue::Integer(number) = self.value else {
            self.wrong_type("a whole number", "");
            return None;
        };
        let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| (low..=high).contains(value));
        if value.is_none() {
            self.invalid("out_of_range", format!("{number} is not between {low} and {high}"), "");
        }
        value
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.integer(1, u64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
    }

    pub(crate) fn name(&self) -> Option<Name> {
        let text = self.text()?;
        Name::new(text).map_err(|error| self.invalid("invalid_name", error.problem, "")).ok()
    }

    /// The key itself as a name.
    pub(crate) fn key_name(&self) -> Option<Name> {
        let refuse = |problem: String| {
            self.faults.report("invalid_name", &self.path, self.key_place.clone(), problem);
        };
        Name::new(self.key).map_err(|error| refuse(error.problem)).ok()
    }

    /// The items of an array, each under its index.
    pub(crate) fn items(&self) -> Option<Vec<Entry<'a>>> {
        let DeValue::Array(items) = self.value else {
            self.wrong_type("an array", if self.is_text() { "put it into brackets: [\"...\"]" } else { "" });
            return None;
        };
        let item = |(index, value): (usize, &'a toml::Spanned<DeValue<'a>>)| Entry {
            path: format!("{}[{index}]", self.path),
            key: self.key,
            key_place: value.span(),
            place: value.span(),
            faults: self.faults,
            value: value.get_ref(),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The tables of an array, which are written with a header of their own each (`[[service.x.init]]`).
    pub(crate) fn tables(&self) -> Option<Vec<Entry<'a>>> {
        if matches!(self.value, DeValue::Table(_)) {
            self.wrong_type("an array of tables", format!("write [[{}]]", self.path));
            return None;
        }
        self.items()
    }

    /// An array of strings.
    pub(crate) fn texts(&self) -> Option<Vec<String>> {
        Some(self.items()?.iter().filter_map(Entry::text).map(str::to_owned).collect())
    }

    pub(crate) fn section(&self) -> Option<Section<'a>> {
        self.section_or("a table", "")
    }

    /// The table, where a string would have done as well: what is said when it is neither.
    pub(crate) fn section_or(&self, expected: &str, help: &str) -> Option<Section<'a>> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type(expected, help);
            return None;
        };
        Some(Section {
            path: self.path.clone(),
            place: self.key_place.clone(),
            faults: self.faults,
            table,
            known: RefCell::default(),
            later: RefCell::default(),
        })
    }

    fn wrong_type(&self, expected: &str, help: impl Into<String>) {
        let article = if matches!(self.value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
        self.invalid("wrong_type", format!("expected {expected}, found {article} {}", self.value.type_str()), help);
    }
}

fn sorted<'k>(known: &[&'k str]) -> Vec<&'k str> {
    let mut known = known.to_vec();
    known.sort_unstable();
    known.dedup();
    known
}
