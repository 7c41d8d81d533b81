//! Text in columns, separated by tabs: what rkt's users see, and what their scripts split on `\t+`.

/// The columns' stops, as terminals have them.
const TAB: usize = 8;

/// Rows with their cells aligned by tabs: each column is as wide as its widest cell and one more, rounded up to a stop.
/// The last cell of a row is not padded. Tabs and line ends in cells become spaces: a cell is one cell.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |text: &str| text.chars().count();
    let stops = |column: usize| {
        let widest = rows
            .iter()
            .filter(|r| r.len() > column + 1)
            .filter_map(|r| r.get(column))
            .map(|c| width(c))
            .max();
        widest.map_or(0, |w| (w + 1).div_ceil(TAB))
    };
    let stops: Vec<usize> = (0..columns).map(stops).collect();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            text.push_str(&cell.replace(['\t', '\n', '\r'], " "));
            if at + 1 < row.len() {
                let end = stops.get(at).copied().unwrap_or(1) * TAB;
                text.extend(std::iter::repeat_n('\t', end.saturating_sub(width(cell)).div_ceil(TAB).max(1)));
            }
        }
        text.push('\n');
    }
    text
}

/// Words in lines of at most `width` characters.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// A number of bytes as rkt shows it: `12MiB`, `1.5KiB`, `7B`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut unit, mut scale) = (0, 1_u64);
    while unit + 1 < UNITS.len() && n / scale >= 1024 {
        (unit, scale) = (unit + 1, scale * 1024);
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    let tenths = (u128::from(n) * 10 + u128::from(scale) / 2) / u128::from(scale);
    if unit == 0 {
        format!("{n}{name}")
    } else if tenths < 100 {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    } else {
        format!("{}{name}", (tenths + 5) / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|c| (*c).to_owned()).collect()
    }

    #[test]
    fn columns_end_at_tab_stops() {
        let rows = [row(&["UUID", "APP", "STATE"]), row(&["12345678", "a", "running"]), row(&["", "b", ""])];
        assert_eq!(aligned(&rows), "UUID\t\tAPP\tSTATE\n12345678\ta\trunning\n\t\tb\t\n");
    }

    #[test]
    fn a_cell_cannot_become_two() {
        assert_eq!(aligned(&[row(&["a\tb\nc", "d"])]), "a b c\td\n");
    }

    #[test]
    fn sizes() {
        let table = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1536, "1.5KiB"),
            (12 << 20, "12MiB"),
            (u64::MAX, "16EiB"),
        ];
        for (n, text) in table {
            assert_eq!(bytes(n), text);
        }
    }

    proptest! {
        #[test]
        fn scripts_get_back_the_cells(cells in prop::collection::vec(prop::collection::vec("[a-zé]{1,20}", 3), 1..8)) {
            let text = aligned(&cells);
            let split = |line: &str| line.split('\t').filter(|c| !c.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(text.lines().map(split).collect::<Vec<_>>(), cells);
        }
    }
}
