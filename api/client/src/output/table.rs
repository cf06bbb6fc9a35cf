//! Plain tables: aligned columns, no lines, never cut.

use comfy_table::{ContentArrangement, Table, TableStyle};

use crate::output::clean;

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
    fn facts_without_a_value_are_left_out() {
        assert_eq!(facts(&[("site", "a".into()), ("none", String::new()), ("x", "b".into())]), "site  a\nx     b\n");
    }
}
