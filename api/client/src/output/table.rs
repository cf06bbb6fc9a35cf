//! Plain tables: aligned columns, no lines, never cut.

use comfy_table::{ContentArrangement, Table, TableStyle};

use crate::output::clean;

/// A narrower last column is not worth breaking.
const LAST_COLUMN_MIN: usize = 20;

/// Lays out rows under headers. Nothing is wrapped or cut, so that what is piped on is whole.
pub(crate) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().copied());
    for row in rows {
        // A line break in a cell would make two rows of one.
        table.add_row(row.iter().map(|cell| dash(&clean(cell).replace(['\n', '\t'], " "))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The same for a screen of this many columns: where a row would be broken anywhere, the last column is broken between
/// words, within itself.
pub(crate) fn table_within(width: Option<usize>, headers: &[&str], rows: &[Vec<String>]) -> String {
    let Some((last, before)) = width.and(headers.len().checked_sub(1)).map(|last| (last, 0..last)) else {
        return table(headers, rows);
    };
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| clean(cell).chars().count());
        cells.chain([headers[column].len(), 1]).max().unwrap_or(1)
    };
    let taken: usize = before.map(|column| widest(column) + 2).sum();
    let room = width.unwrap_or(0).saturating_sub(taken);
    if room < LAST_COLUMN_MIN || widest(last) <= room {
        return table(headers, rows);
    }
    let mut broken: Vec<Vec<String>> = Vec::new();
    for row in rows {
        for (index, part) in parts(&clean(row.get(last).map_or("", String::as_str)), room).into_iter().enumerate() {
            let first = |cell: &String| if index == 0 { dash(cell) } else { " ".to_owned() };
            broken.push(row.iter().take(last).map(first).chain([part]).collect());
        }
    }
    table(headers, &broken)
}

/// Breaks a text between words into lines of at most `room` characters; a longer word stays whole.
pub(crate) fn parts(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a last line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The same text, two columns further in.
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn dash(cell: &str) -> String {
    if cell.is_empty() { "-".to_owned() } else { cell.to_owned() }
}

/// Two columns without headers, for the facts about one thing; those without a value are left out.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let said = || facts.iter().filter(|(_, value)| !value.is_empty());
    let width = said().map(|(name, _)| name.len()).max().unwrap_or(0);
    said().map(|(name, value)| format!("{name:<width$}  {}\n", clean(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_is_cut() {
        let long = "x".repeat(300);
        let rows = vec![vec!["a".to_owned(), long.clone()], vec![String::new(), "b\nc".to_owned()]];
        assert_eq!(table(&["NAME", "REASON"], &rows), format!("NAME  REASON\na     {long}\n-     b c\n"));
    }

    #[test]
    fn on_a_screen_the_last_column_is_broken_within_itself() {
        let rows = vec![
            vec!["n1".to_owned(), "lacks 64 MiB and does not meet the rule".to_owned()],
            vec![String::new(), String::new()],
        ];

        assert_eq!(
            table_within(Some(30), &["NODE", "REASON"], &rows),
            "NODE  REASON\nn1    lacks 64 MiB and does\n      not meet the rule\n-     -\n"
        );
        assert_eq!(table_within(Some(20), &["NODE", "REASON"], &rows), table(&["NODE", "REASON"], &rows));
        assert_eq!(table_within(None, &["NODE", "REASON"], &rows), table(&["NODE", "REASON"], &rows));
    }

    #[test]
    fn facts_without_a_value_are_left_out() {
        assert_eq!(facts(&[("site", "a".into()), ("none", String::new()), ("x", "b".into())]), "site  a\nx     b\n");
    }
}
